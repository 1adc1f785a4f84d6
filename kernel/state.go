package kernel

import (
	"math"
	"slices"
)

// MarketState is the output of the market-state kernel ("P0"). Every number is finite.
type MarketState struct {
	Sigma      float64 // robust volatility: standard deviation of one log return, fraction per bar, >= 0
	Mu         float64 // robust trend: slope of the log price per bar
	TS         float64 // trend strength |Mu|/(Sigma+eps), >= 0
	PTrend     float64 // regime probabilities; they sum to 1
	PMR        float64
	PChop      float64
	DP         float64 // directional persistence, [0,1]
	VR         float64 // variance ratio, >= 0
	SpikeProxy float64
}

// Detail is a market state with what led to it.
type Detail struct {
	MarketState
	ReturnsN     int       // returns in the series given
	TrendWindows []int     // points per trend window
	RegimeWindow int       // returns looked at for the regime
	SigmaEWMA    float64   // moving standard deviation of the clipped returns
	SigmaMAD     float64   // from their median absolute deviation
	BlendWeight  float64   // of SigmaMAD in the blend
	SigmaRaw     float64   // the blend before the floor
	MuPerWindow  []float64 // slope per trend window
}

// minPrices is the least number of prices of any market state: ten returns.
const minPrices = 11

// Estimator computes market states for one set of parameters. It holds nothing but parameters and scratch: the result
// depends on the prices given alone. It must not be used by several goroutines at once.
type Estimator struct {
	p        MarketParams
	weights  []float64 // of the trend windows, summing to 1
	required int

	lp      []float64 // log prices, the last of the series
	r       []float64 // their differences, those that volatility looks at
	sorted  []float64
	drawers drawers
	mu      []float64
	slopes  theilSen

	sigmaEWMA, sigmaMAD, blend, sigmaRaw float64
}

// NewEstimator checks the parameters; the error is a *FieldError.
func NewEstimator(p MarketParams) (*Estimator, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	p.Trend.Windows = slices.Clone(p.Trend.Windows)
	p.Trend.Weights = slices.Clone(p.Trend.Weights)
	e := &Estimator{
		p:        p,
		weights:  make([]float64, len(p.Trend.Weights)),
		required: max(minPrices, 1+max(p.Vol.Window, p.Regime.Window, slices.Max(p.Trend.Windows))),
	}
	sum := 0.0
	for _, w := range p.Trend.Weights {
		sum += w
	}
	for i, w := range p.Trend.Weights {
		e.weights[i] = w / sum
	}
	return e, nil
}

// ComputeState is State with an Estimator for one call.
func ComputeState(prices []float64, p MarketParams) (MarketState, bool, error) {
	e, err := NewEstimator(p)
	if err != nil {
		return MarketState{}, false, err
	}
	return e.State(prices)
}

// Required is the number of prices that State needs: one more than the longest window, and at least 11.
func (e *Estimator) Required() int { return e.required }

// State computes the market state of close prices, oldest first, all > 0 (specification v1.0, section 1). ok is false
// where there are fewer prices than Required, which is normal and not an error. The error is a *FieldError. After the
// first call with enough prices State does not allocate.
func (e *Estimator) State(prices []float64) (st MarketState, ok bool, err error) {
	if err := checkPrices(prices); err != nil {
		return MarketState{}, false, err
	}
	if len(prices) < e.required {
		return MarketState{}, false, nil
	}
	e.reserve()
	// Every window ends at the newest price, so older prices than those of the longest window have no effect.
	unused := len(prices) - e.required
	for i, p := range prices[unused:] {
		if e.lp[i], err = e.logPrice(unused+i, p); err != nil {
			return MarketState{}, false, err
		}
	}
	sorted := sortedReturns{values: e.sortReturns(e.lp)}
	for i, w := range e.p.Trend.Windows {
		e.mu[i] = e.trend(last(e.lp, w))
	}
	same := sameSigns(last(e.lp, e.p.Regime.Window+1))
	if st, err = e.state(e.lp, sorted, same, &movingVariance{}); err != nil {
		return MarketState{}, false, err
	}
	return st, true, nil
}

// Detail is State with the quantities behind the result, for audits and tests. It allocates.
func (e *Estimator) Detail(prices []float64) (Detail, bool, error) {
	st, ok, err := e.State(prices)
	if !ok || err != nil {
		return Detail{}, ok, err
	}
	return Detail{
		MarketState:  st,
		ReturnsN:     len(prices) - 1,
		TrendWindows: slices.Clone(e.p.Trend.Windows),
		RegimeWindow: e.p.Regime.Window,
		SigmaEWMA:    e.sigmaEWMA, SigmaMAD: e.sigmaMAD, BlendWeight: e.blend, SigmaRaw: e.sigmaRaw,
		MuPerWindow: slices.Clone(e.mu),
	}, true, nil
}

// checkPrices refuses the first price outside its domain.
func checkPrices(prices []float64) error {
	for i, p := range prices {
		if !(p > 0 && p <= math.MaxFloat64) {
			return checkPositive(indexed("prices", i), p)
		}
	}
	return nil
}

// logPrice is the logarithm of a price, which stands at the given index of a series.
func (e *Estimator) logPrice(index int, price float64) (float64, error) {
	if !(price > 0 && price <= math.MaxFloat64) {
		return 0, checkPositive(indexed("prices", index), price)
	}
	y := ln(price + e.p.Eps)
	if !finite(y) {
		return 0, refuse(indexed("prices", index), reasonOverflow)
	}
	return y, nil
}

// reserve makes room for the scratch, once.
func (e *Estimator) reserve() {
	if e.lp != nil {
		return
	}
	e.lp = make([]float64, e.required)
	e.r = make([]float64, e.p.Vol.Window)
	e.sorted = make([]float64, e.p.Vol.Window)
	e.drawers.reserve(min(e.p.Vol.Window, drawersLimit))
	e.mu = make([]float64, len(e.p.Trend.Windows))
	if e.p.Trend.Method == TrendTheilSen {
		e.slopes.reserve(slices.Max(e.p.Trend.Windows))
	}
}

// sortReturns gives the returns that volatility looks at in rising order. They are scratch.
func (e *Estimator) sortReturns(lp []float64) []float64 {
	e.takeReturns(lp)
	e.drawers.sortInto(e.sorted, e.r)
	return e.sorted
}

// orderReturns puts the same returns into order.
func (e *Estimator) orderReturns(o returnOrder, h heights) {
	e.takeReturns(h.y)
	e.drawers.orderInto(o, h.first+uint16(len(h.y)-len(o)), e.r)
}

func (e *Estimator) takeReturns(lp []float64) {
	lp = last(lp, e.p.Vol.Window+1)
	for i := range e.r {
		e.r[i] = lp[i+1] - lp[i]
	}
}

// state puts a market state together from log prices, the returns of volatility in order, the number of neighbouring
// returns of the same sign, and the slopes in e.mu.
func (e *Estimator) state(lp []float64, sorted sortedReturns, same int, v *movingVariance) (MarketState, error) {
	var st MarketState
	st.Sigma, st.SpikeProxy = e.volatility(last(lp, e.p.Vol.Window+1), sorted, v)
	for i, w := range e.weights {
		st.Mu += float64(w * e.mu[i])
	}
	st.TS = math.Abs(st.Mu) / (st.Sigma + e.p.Eps)
	st.DP = e.p.Regime.persistence(same)
	st.VR = e.p.Regime.varianceRatio(last(lp, e.p.Regime.Window+1), e.p.Eps)
	for _, c := range [...]struct {
		field string
		value float64
	}{
		{"features.spike_proxy", st.SpikeProxy},
		{"sigma", st.Sigma},
		{"mu", st.Mu},
		{"ts", st.TS},
		{"features.dp", st.DP},
		{"features.vr", st.VR},
	} {
		if err := checkResult(c.field, c.value); err != nil {
			return MarketState{}, err
		}
	}
	var err error
	st.PTrend, st.PMR, st.PChop, err = e.p.Regime.probabilities(st.TS, st.DP, st.VR)
	if err != nil {
		return MarketState{}, err
	}
	return st, nil
}

func last(x []float64, n int) []float64 { return x[len(x)-n:] }
