package kernel

import (
	"math"
	"strconv"
)

// Limits on windows, so that a parameter cannot ask for more memory or time than any market data is worth.
const (
	maxWindow         = 1 << 20
	maxTheilSenWindow = 1 << 12 // pairwise slopes grow with the square
	maxTrendWindows   = 64
)

// MarketParams are the parameters of the market state (specification v1.0, section 1).
type MarketParams struct {
	Eps    float64 // added inside logarithms and denominators
	Vol    VolParams
	Trend  TrendParams
	Regime RegimeParams
}

// VolParams are the parameters of the robust volatility.
type VolParams struct {
	Window        int     // returns looked at
	WinsorQLow    float64 // quantiles to which returns are clipped
	WinsorQHigh   float64
	EWMALambda    float64 // weight of the past in the moving variance, [0,1]
	SigmaFloor    float64 // smallest sigma, fraction per bar
	SpikeProxyCap float64
	SpikeCenter   float64 // where the blend of the two estimates is even
	SpikeScale    float64 // how sharply it turns
}

// TrendMethod names how the slope of one window is found.
type TrendMethod string

// The trend methods. Huber's loss never binds on log prices of this scale, so TrendHuber is computed as TrendOLS.
const (
	TrendTheilSen TrendMethod = "theil_sen"
	TrendOLS      TrendMethod = "ols"
	TrendHuber    TrendMethod = "huber"
)

// TrendParams are the parameters of the robust trend. Weights belong to Windows one by one and need not sum to 1.
type TrendParams struct {
	Windows []int
	Weights []float64
	Method  TrendMethod
}

// RegimeParams are the parameters of the regime probabilities.
type RegimeParams struct {
	Window      int // returns looked at
	VRK         int // bars per sum in the variance ratio
	SoftmaxTemp float64
	Score       ScoreParams
}

// ScoreParams are the coefficients of the three regime scores: A of trend, B of mean reversion, C of chop.
type ScoreParams struct {
	A1, A2, A3 float64
	B1, B2, B3 float64
	C1, C2, C3 float64
}

// DefaultMarketParams are the defaults of the specification.
func DefaultMarketParams() MarketParams {
	return MarketParams{
		Eps: 1e-12,
		Vol: VolParams{
			Window: 256, WinsorQLow: 0.01, WinsorQHigh: 0.99, EWMALambda: 0.94, SigmaFloor: 1e-6,
			SpikeProxyCap: 5, SpikeCenter: 1.2, SpikeScale: 0.3,
		},
		Trend: TrendParams{
			Windows: []int{64, 128, 256}, Weights: []float64{0.5, 0.3, 0.2}, Method: TrendTheilSen,
		},
		Regime: RegimeParams{
			Window: 256, VRK: 5, SoftmaxTemp: 1,
			Score: ScoreParams{A1: 1, A2: 1, A3: 1, B1: 1, B2: 1, B3: 1, C1: 1, C2: 1, C3: 1},
		},
	}
}

// Validate returns a *FieldError for the first parameter outside its domain.
func (p MarketParams) Validate() error {
	if err := checkNonNegative("theta.eps", p.Eps); err != nil {
		return err
	}
	if err := p.Vol.validate(); err != nil {
		return err
	}
	if err := p.Trend.validate(); err != nil {
		return err
	}
	return p.Regime.validate()
}

func (p VolParams) validate() error {
	if err := checkWindow("theta.vol.window", p.Window, 1, maxWindow); err != nil {
		return err
	}
	if err := checkUnit("theta.vol.winsor_q_low", p.WinsorQLow); err != nil {
		return err
	}
	if err := checkUnit("theta.vol.winsor_q_high", p.WinsorQHigh); err != nil {
		return err
	}
	if p.WinsorQHigh < p.WinsorQLow {
		return refuse("theta.vol.winsor_q_high", "must not be below winsor_q_low")
	}
	if err := checkUnit("theta.vol.ewma_lambda", p.EWMALambda); err != nil {
		return err
	}
	if err := checkNonNegative("theta.vol.sigma_floor", p.SigmaFloor); err != nil {
		return err
	}
	if err := checkNonNegative("theta.vol.spike_proxy_cap", p.SpikeProxyCap); err != nil {
		return err
	}
	if err := checkFinite("theta.vol.spike_center", p.SpikeCenter); err != nil {
		return err
	}
	return checkPositive("theta.vol.spike_scale", p.SpikeScale)
}

func (p TrendParams) validate() error {
	longest := maxWindow
	switch p.Method {
	case TrendTheilSen:
		longest = maxTheilSenWindow
	case TrendOLS, TrendHuber:
	default:
		return refuse("theta.trend.method", strconv.Quote(string(p.Method))+" is none of theil_sen, ols, huber")
	}
	if len(p.Windows) == 0 || len(p.Windows) > maxTrendWindows {
		return refuse("theta.trend.windows", "must have 1 to "+strconv.Itoa(maxTrendWindows)+" entries")
	}
	for i, w := range p.Windows {
		if w < 2 || w > longest {
			return checkWindow(indexed("theta.trend.windows", i), w, 2, longest)
		}
	}
	if len(p.Weights) != len(p.Windows) {
		return refuse("theta.trend.weights", "must have one entry for each window")
	}
	sum := 0.0
	for i, w := range p.Weights {
		if !(w >= 0 && w <= math.MaxFloat64) {
			return checkNonNegative(indexed("theta.trend.weights", i), w)
		}
		sum += w
	}
	return checkPositive("theta.trend.weights", sum)
}

func (p RegimeParams) validate() error {
	if err := checkWindow("theta.regime.window", p.Window, 1, maxWindow); err != nil {
		return err
	}
	if err := checkWindow("theta.regime.vr_k", p.VRK, 1, maxWindow); err != nil {
		return err
	}
	if err := checkPositive("theta.regime.softmax_temp", p.SoftmaxTemp); err != nil {
		return err
	}
	s := p.Score
	for i, c := range [...]float64{s.A1, s.A2, s.A3, s.B1, s.B2, s.B3, s.C1, s.C2, s.C3} {
		if !finite(c) {
			return refuse("theta.regime.score."+string("abc"[i/3])+string("123"[i%3]), reasonNotFinite)
		}
	}
	return nil
}

// StopParams are the parameters of the stop kernel (specification v1.0, section 2).
type StopParams struct {
	SLMinPct     float64 // smallest stop distance and trail gap, fraction of the price
	TPMinPct     float64 // smallest target distance
	KSL          RegimeWeights
	KTP          RegimeWeights
	KTrail       RegimeWeights
	TPExtendGain float64
	TPExtendMax  float64
	MonotonicSL  bool    // an existing stop is never loosened by more than Eps
	Eps          float64 // price difference below which two stops are the same
}

// RegimeWeights are the multiples of sigma for each regime.
type RegimeWeights struct{ Trend, MR, Chop float64 }

// DefaultStopParams are the defaults of the specification.
func DefaultStopParams() StopParams {
	return StopParams{
		SLMinPct: 0.005, TPMinPct: 0.01,
		KSL:    RegimeWeights{Trend: 1.5, MR: 0.8, Chop: 1.0},
		KTP:    RegimeWeights{Trend: 2.5, MR: 1.2, Chop: 1.5},
		KTrail: RegimeWeights{Trend: 1.2, MR: 1.5, Chop: 1.3},

		TPExtendGain: 0.5, TPExtendMax: 0.3, MonotonicSL: true, Eps: 1e-8,
	}
}

// Validate returns a *FieldError for the first parameter outside its domain.
func (p StopParams) Validate() error {
	for _, c := range [...]struct {
		field string
		value float64
	}{
		{"theta.sl_min_pct", p.SLMinPct},
		{"theta.tp_min_pct", p.TPMinPct},
		{"theta.k_sl.trend", p.KSL.Trend},
		{"theta.k_sl.mr", p.KSL.MR},
		{"theta.k_sl.chop", p.KSL.Chop},
		{"theta.k_tp.trend", p.KTP.Trend},
		{"theta.k_tp.mr", p.KTP.MR},
		{"theta.k_tp.chop", p.KTP.Chop},
		{"theta.k_trail.trend", p.KTrail.Trend},
		{"theta.k_trail.mr", p.KTrail.MR},
		{"theta.k_trail.chop", p.KTrail.Chop},
		{"theta.tp_extend_gain", p.TPExtendGain},
		{"theta.tp_extend_max", p.TPExtendMax},
		{"theta.eps", p.Eps},
	} {
		if err := checkNonNegative(c.field, c.value); err != nil {
			return err
		}
	}
	return nil
}

// HarvestParams are the parameters of the harvest kernel (specification v1.0, section 3).
type HarvestParams struct {
	FallbackStopPct float64 // stop distance where none is given, fraction of entry
	CostBps         float64 // round-trip cost, basis points of entry
	T1R, T2R, T3R   float64 // tiers, in units of risk
	U1, U2, U3      float64 // utilities behind the tranche weights
	SoftmaxTemp     float64
	LockR           float64 // profit from which the stop moves to break-even
	BEPlusPct       float64 // how far beyond entry, fraction
	TrendMin        float64 // probability of trend below which the regime counts as flipped
	SigmaRef        float64 // sigma regarded as usual, fraction per bar
	SigmaSpikeCap   float64
	TSRef           float64 // trend strength regarded as usual
	TSDropCap       float64
	MaxAgeSec       float64
	KRegimeFlip     float64 // weights of the kill score
	KSigmaSpike     float64
	KTSDrop         float64
	KAgePenalty     float64
	KillThreshold   float64 // kill score from which a full close is proposed, (0,1]
}

// DefaultHarvestParams are the defaults of the specification.
func DefaultHarvestParams() HarvestParams {
	return HarvestParams{
		FallbackStopPct: 0.02, CostBps: 10, T1R: 2, T2R: 4, T3R: 6, SoftmaxTemp: 1, LockR: 1.5, BEPlusPct: 0.002,
		TrendMin: 0.3, SigmaRef: 0.01, SigmaSpikeCap: 2, TSRef: 0.3, TSDropCap: 0.5, MaxAgeSec: 86400,
		KRegimeFlip: 1, KSigmaSpike: 0.5, KTSDrop: 0.5, KAgePenalty: 0.3, KillThreshold: 0.6,
	}
}

// Validate returns a *FieldError for the first parameter outside its domain. Tiers must not fall; two equal tiers are
// allowed and skip the lower action.
func (p HarvestParams) Validate() error {
	for _, c := range [...]struct {
		field string
		value float64
	}{
		{"theta.fallback_stop_pct", p.FallbackStopPct},
		{"theta.softmax_temp", p.SoftmaxTemp},
		{"theta.sigma_ref", p.SigmaRef},
		{"theta.max_age_sec", p.MaxAgeSec},
		{"theta.kill_threshold", p.KillThreshold},
	} {
		if err := checkPositive(c.field, c.value); err != nil {
			return err
		}
	}
	for _, c := range [...]struct {
		field string
		value float64
	}{
		{"theta.cost_bps", p.CostBps},
		{"theta.be_plus_pct", p.BEPlusPct},
		{"theta.sigma_spike_cap", p.SigmaSpikeCap},
		{"theta.ts_drop_cap", p.TSDropCap},
	} {
		if err := checkNonNegative(c.field, c.value); err != nil {
			return err
		}
	}
	for _, c := range [...]struct {
		field string
		value float64
	}{
		{"theta.T1_R", p.T1R},
		{"theta.T2_R", p.T2R},
		{"theta.T3_R", p.T3R},
		{"theta.u1", p.U1},
		{"theta.u2", p.U2},
		{"theta.u3", p.U3},
		{"theta.lock_R", p.LockR},
		{"theta.trend_min", p.TrendMin},
		{"theta.ts_ref", p.TSRef},
		{"theta.k_regime_flip", p.KRegimeFlip},
		{"theta.k_sigma_spike", p.KSigmaSpike},
		{"theta.k_ts_drop", p.KTSDrop},
		{"theta.k_age_penalty", p.KAgePenalty},
	} {
		if err := checkFinite(c.field, c.value); err != nil {
			return err
		}
	}
	switch {
	case p.T2R < p.T1R:
		return refuse("theta.T2_R", "must not be below T1_R")
	case p.T3R < p.T2R:
		return refuse("theta.T3_R", "must not be below T2_R")
	case p.BEPlusPct >= 1:
		return refuse("theta.be_plus_pct", "must be below 1: a short's break-even stop would not be a price")
	case p.KillThreshold > 1:
		return refuse("theta.kill_threshold", "must not be above 1")
	}
	return nil
}

// GateParams are the parameters of the publish gate.
type GateParams struct {
	ChangeEpsPct     float64 // relative change of the stop, absolute change of the kill score
	MaxPublishAgeSec float64
}

// DefaultGateParams are the defaults of the specification.
func DefaultGateParams() GateParams {
	return GateParams{ChangeEpsPct: 0.001, MaxPublishAgeSec: 60}
}

// Validate returns a *FieldError for the first parameter outside its domain.
func (p GateParams) Validate() error {
	if err := checkNonNegative("change_eps_pct", p.ChangeEpsPct); err != nil {
		return err
	}
	return checkNonNegative("max_publish_age_sec", p.MaxPublishAgeSec)
}

func checkWindow(field string, w, shortest, longest int) error {
	if w < shortest || w > longest {
		return refuse(field, "must be between "+strconv.Itoa(shortest)+" and "+strconv.Itoa(longest))
	}
	return nil
}

func indexed(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }
