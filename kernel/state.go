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

	lp     []float64 // log prices, the last of the series
	r      []float64 // their differences
	sorted []float64
	mu     []float64
	slopes theilSen

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
	for i, p := range prices {
		if !(p > 0 && p <= math.MaxFloat64) {
			return MarketState{}, false, checkPositive(indexed("prices", i), p)
		}
	}
	if len(prices) < e.required {
		return MarketState{}, false, nil
	}
	if e.lp == nil {
		e.reserve()
	}
	// Every window ends at the newest price, so older prices than those of the longest window have no effect.
	tail := prices[len(prices)-e.required:]
	for i, p := range tail {
		e.lp[i] = ln(p + e.p.Eps)
		if !finite(e.lp[i]) {
			return MarketState{}, false, refuse(indexed("prices", len(prices)-e.required+i), reasonOverflow)
		}
	}
	for i := range e.r {
		e.r[i] = e.lp[i+1] - e.lp[i]
	}
	if st, err = e.compute(); err != nil {
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

func (e *Estimator) reserve() {
	e.lp = make([]float64, e.required)
	e.r = make([]float64, e.required-1)
	e.sorted = make([]float64, e.p.Vol.Window)
	e.mu = make([]float64, len(e.p.Trend.Windows))
	if e.p.Trend.Method == TrendTheilSen {
		e.slopes.reserve(slices.Max(e.p.Trend.Windows))
	}
}

// compute works on the filled scratch: every window fits into it.
func (e *Estimator) compute() (MarketState, error) {
	var st MarketState
	st.Sigma, st.SpikeProxy = e.volatility(last(e.r, e.p.Vol.Window))
	for i, w := range e.p.Trend.Windows {
		y := last(e.lp, w)
		if e.p.Trend.Method == TrendTheilSen {
			e.mu[i] = e.slopes.slope(y)
		} else {
			e.mu[i] = leastSquares(y)
		}
		st.Mu += float64(e.weights[i] * e.mu[i])
	}
	st.TS = math.Abs(st.Mu) / (st.Sigma + e.p.Eps)
	st.DP = persistence(last(e.r, e.p.Regime.Window))
	st.VR = varianceRatio(last(e.r, e.p.Regime.Window), last(e.lp, e.p.Regime.Window+1), e.p.Regime.VRK, e.p.Eps)
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
	return st, err
}

// volatility is the blend of a moving and a median-based estimate over winsorised returns.
func (e *Estimator) volatility(r []float64) (sigma, spike float64) {
	p := &e.p.Vol
	copy(e.sorted, r)
	slices.Sort(e.sorted)
	low, high := quantile(e.sorted, p.WinsorQLow), quantile(e.sorted, p.WinsorQHigh)

	var first [minPrices - 1]float64
	n := min(len(first), len(r))
	for i, x := range r[:n] {
		first[i] = clip(x, low, high)
	}
	v := populationVariance(first[:n])
	for _, x := range r {
		x = clip(x, low, high)
		v = float64(p.EWMALambda*v) + float64((1-p.EWMALambda)*float64(x*x))
	}
	e.sigmaEWMA = math.Sqrt(v)

	for i, x := range e.sorted { // clipping keeps the order
		e.sorted[i] = clip(x, low, high)
	}
	e.sigmaMAD = 1.4826 * medianDeviation(e.sorted, medianSorted(e.sorted))

	spike = clip(e.sigmaMAD/(e.sigmaEWMA+e.p.Eps), 0, p.SpikeProxyCap)
	e.blend = 1 / (1 + exp(-clip((spike-p.SpikeCenter)/p.SpikeScale, -50, 50)))
	e.sigmaRaw = float64((1-e.blend)*e.sigmaEWMA) + float64(e.blend*e.sigmaMAD)
	return max(p.SigmaFloor, e.sigmaRaw), spike
}

// leastSquares is the slope of y against 0..n-1. Heights are taken from the first point, so that the digits of the
// price level do not cost accuracy.
func leastSquares(y []float64) float64 {
	n := float64(len(y))
	mid := float64(0.5 * (n - 1))
	sum := 0.0
	for i, v := range y {
		sum += float64((float64(i) - mid) * (v - y[0]))
	}
	return sum / (n * (float64(n*n) - 1) / 12)
}

// persistence is the share of neighbouring returns of the same sign, where 0 is a sign of its own.
func persistence(r []float64) float64 {
	if len(r) < 2 {
		return 0.5
	}
	same := 0
	before := sign(r[0])
	for _, x := range r[1:] {
		s := sign(x)
		if s == before {
			same++
		}
		before = s
	}
	return float64(same) / float64(len(r)-1)
}

// varianceRatio compares the variance of the sums of k returns with k times that of single ones. A sum of returns is
// the difference of two log prices, which is cheaper and rounds less; lp has one element more than r.
func varianceRatio(r, lp []float64, k int, eps float64) float64 {
	if len(r) < k+1 {
		return 1
	}
	sums := len(lp) - k
	mean, v := 0.0, 0.0
	for i := range sums {
		mean += lp[i+k] - lp[i]
	}
	mean /= float64(sums)
	for i := range sums {
		d := (lp[i+k] - lp[i]) - mean
		v += float64(d * d)
	}
	return v / float64(sums) / (float64(float64(k)*populationVariance(r)) + eps)
}

// probabilities is the softmax of the three regime scores, shifted by the largest.
func (p *RegimeParams) probabilities(ts, dp, vr float64) (trend, mr, chop float64, err error) {
	c := &p.Score
	away, dp, calm := math.Abs(vr-1), math.Abs(dp), 1-min(ts, 1)
	trend = float64(c.A1*ts) + float64(c.A2*dp) - float64(c.A3*away)
	mr = float64(c.B1*away) - float64(c.B2*ts) - float64(c.B3*dp)
	chop = float64(c.C1*(1-dp)) + float64(c.C2*calm) - float64(c.C3*away)
	if !finite(trend) || !finite(mr) || !finite(chop) {
		return 0, 0, 0, refuse("regime_probs", reasonOverflow)
	}
	top := max(trend, mr, chop)
	trend, mr, chop = exp((trend-top)/p.SoftmaxTemp), exp((mr-top)/p.SoftmaxTemp), exp((chop-top)/p.SoftmaxTemp)
	sum := trend + mr + chop
	return trend / sum, mr / sum, chop / sum, nil
}

// populationVariance divides by the number of values, which must not be 0.
func populationVariance(x []float64) float64 {
	n := float64(len(x))
	mean := 0.0
	for _, v := range x {
		mean += v
	}
	mean /= n
	sum := 0.0
	for _, v := range x {
		d := v - mean
		sum += float64(d * d)
	}
	return sum / n
}

// clip passes NaN on.
func clip(x, low, high float64) float64 { return min(max(x, low), high) }

func sign(x float64) int {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

func last(x []float64, n int) []float64 { return x[len(x)-n:] }
