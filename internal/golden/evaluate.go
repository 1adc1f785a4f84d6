package golden

import (
	"strconv"

	"quantumharvest/kernel"
)

type probabilities struct {
	Trend float64 `json:"trend"`
	MR    float64 `json:"mr"`
	Chop  float64 `json:"chop"`
}

type marketStateOutput struct {
	Sigma       float64       `json:"sigma"`
	Mu          float64       `json:"mu"`
	TS          float64       `json:"ts"`
	RegimeProbs probabilities `json:"regime_probs"`
	Features    struct {
		DP         float64 `json:"dp"`
		VR         float64 `json:"vr"`
		SpikeProxy float64 `json:"spike_proxy"`
	} `json:"features"`
	Windows struct {
		ReturnsN     int   `json:"returns_n"`
		TrendWindows []int `json:"trend_windows"`
		RegimeWindow int   `json:"regime_window"`
	} `json:"windows"`
	TSComponents struct {
		MuAbs     float64 `json:"mu_abs"`
		SigmaUsed float64 `json:"sigma_used"`
	} `json:"ts_components"`
}

type stopsOutput struct {
	ProposedSL    float64  `json:"proposed_sl"`
	ProposedTP    float64  `json:"proposed_tp"`
	ReasonCodes   []string `json:"reason_codes"`
	Intermediates struct {
		KSLWeighted       float64 `json:"k_sl_weighted"`
		KTPWeighted       float64 `json:"k_tp_weighted"`
		KTrailWeighted    float64 `json:"k_trail_weighted"`
		StopDistPct       float64 `json:"stop_dist_pct"`
		TPDistPct         float64 `json:"tp_dist_pct"`
		TrailGapPct       float64 `json:"trail_gap_pct"`
		TPExtensionFactor float64 `json:"tp_extension_factor"`
		RawSL             float64 `json:"raw_sl"`
		RawTP             float64 `json:"raw_tp"`
		TrailSL           float64 `json:"trail_sl"`
	} `json:"intermediates"`
}

type harvestOutput struct {
	HarvestAction kernel.Action `json:"harvest_action"`
	NewSLProposed *float64      `json:"new_sl_proposed"`
	RNet          float64       `json:"R_net"`
	RiskUnit      float64       `json:"risk_unit"`
	CostEst       float64       `json:"cost_est"`
	KillScore     float64       `json:"kill_score"`
	ReasonCodes   []string      `json:"reason_codes"`
	KComponents   struct {
		RegimeFlip float64 `json:"regime_flip"`
		SigmaSpike float64 `json:"sigma_spike"`
		TSDrop     float64 `json:"ts_drop"`
		AgePenalty float64 `json:"age_penalty"`
	} `json:"k_components"`
	TrancheWeights [3]float64 `json:"tranche_weights"`
}

type chainOutput struct {
	MarketState marketStateOutput `json:"market_state"`
	P1          stopsOutput       `json:"p1"`
	Harvest     harvestOutput     `json:"harvest"`
}

type gateOutput struct {
	Publish []bool `json:"publish"`
}

func evalMarketState(c object) (any, error) {
	p, err := marketTheta(c)
	if err != nil {
		return nil, err
	}
	d, ok, err := stateOf(c, p)
	if err != nil || !ok {
		return nil, err
	}
	return renderState(d), nil
}

func stateOf(c object, p kernel.MarketParams) (d kernel.Detail, ok bool, err error) {
	prices, err := c.numbers("prices")
	if err != nil {
		return d, false, err
	}
	e, err := kernel.NewEstimator(p)
	if err != nil {
		return d, false, err
	}
	return e.Detail(prices)
}

func evalStops(c object) (any, error) {
	p, err := stopTheta(c)
	if err != nil {
		return nil, err
	}
	pos, err := readPosition(c)
	if err != nil {
		return nil, err
	}
	o, err := c.object("market_state")
	if err != nil {
		return nil, err
	}
	var ms kernel.MarketState
	if err := o.required("sigma", &ms.Sigma); err != nil {
		return nil, err
	}
	if err := o.number("mu", &ms.Mu); err != nil {
		return nil, err
	}
	if err := o.required("ts", &ms.TS); err != nil {
		return nil, err
	}
	probs, err := o.object("regime_probs")
	if err != nil {
		return nil, err
	}
	if err := probs.required("trend", &ms.PTrend); err != nil {
		return nil, err
	}
	if err := probs.required("mr", &ms.PMR); err != nil {
		return nil, err
	}
	if err := probs.required("chop", &ms.PChop); err != nil {
		return nil, err
	}
	s, err := kernel.Stops(pos, ms, p)
	if err != nil {
		return nil, err
	}
	return renderStops(s), nil
}

func evalHarvest(c object) (any, error) {
	p, err := harvestTheta(c)
	if err != nil {
		return nil, err
	}
	pos, err := readHarvestPosition(c)
	if err != nil {
		return nil, err
	}
	o, err := c.object("market_state")
	if err != nil {
		return nil, err
	}
	var ms kernel.MarketState
	for _, f := range [...]struct {
		key string
		dst *float64
	}{
		{"sigma", &ms.Sigma}, {"ts", &ms.TS}, {"p_trend", &ms.PTrend}, {"p_mr", &ms.PMR}, {"p_chop", &ms.PChop},
	} {
		if err := o.required(f.key, f.dst); err != nil {
			return nil, err
		}
	}
	stopDistPct := 0.0
	if c.has("p1_proposal") {
		p1, err := c.object("p1_proposal")
		if err != nil {
			return nil, err
		}
		if err := p1.number("stop_dist_pct", &stopDistPct); err != nil {
			return nil, err
		}
	}
	h, err := kernel.Propose(pos, ms, stopDistPct, p)
	if err != nil {
		return nil, err
	}
	return renderHarvest(h), nil
}

// evalChain runs prices through all three kernels with default parameters.
func evalChain(c object) (any, error) {
	if c.has("theta") {
		return nil, c.refuse("theta", "must be null: a chain is evaluated with the defaults")
	}
	d, ok, err := stateOf(c, kernel.DefaultMarketParams())
	if err != nil {
		return nil, err
	}
	pos, err := readHarvestPosition(c)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, nil
	}
	s, err := kernel.Stops(pos, d.MarketState, kernel.DefaultStopParams())
	if err != nil {
		return nil, err
	}
	h, err := kernel.Propose(pos, d.MarketState, s.StopDistPct, kernel.DefaultHarvestParams())
	if err != nil {
		return nil, err
	}
	return chainOutput{MarketState: renderState(d), P1: renderStops(s), Harvest: renderHarvest(h)}, nil
}

// evalGate plays the steps through one gate, whose memory is per symbol and moves only with a publication.
func evalGate(c object) (any, error) {
	p := kernel.DefaultGateParams()
	if err := c.number("change_eps_pct", &p.ChangeEpsPct); err != nil {
		return nil, err
	}
	if err := c.number("max_publish_age_sec", &p.MaxPublishAgeSec); err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	steps, err := c.array("steps")
	if err != nil {
		return nil, err
	}
	published := map[string]kernel.Published{}
	out := gateOutput{Publish: make([]bool, len(steps))}
	for i, raw := range steps {
		path := indexed("steps", i)
		step, err := parseObject(path, raw)
		if err != nil {
			return nil, c.refuse(path, err.Error())
		}
		symbol, next, err := readStep(step)
		if err != nil {
			return nil, err
		}
		last, have := published[symbol]
		if kernel.Gate(last, have, next, p).Open() {
			published[symbol], out.Publish[i] = next, true
		}
	}
	return out, nil
}

func readStep(o object) (symbol string, next kernel.Published, err error) {
	if symbol, err = o.text("symbol"); err != nil {
		return "", next, err
	}
	if err = o.required("t", &next.AtSec); err != nil {
		return "", next, err
	}
	action, err := o.text("harvest_action")
	if err != nil {
		return "", next, err
	}
	next.Action = kernel.Action(action)
	if err = o.number("new_sl_proposed", &next.NewStop); err != nil {
		return "", next, err
	}
	if err = o.required("kill_score", &next.KillScore); err != nil {
		return "", next, err
	}
	if fe := asFieldError(next.Validate()); fe != nil {
		return "", next, o.refuse(fe.Field, fe.Reason)
	}
	return symbol, next, nil
}

// readPosition reads what every position must have and whatever else it has. A symbol on the case itself must be that
// of the position.
func readPosition(c object) (pos kernel.Position, err error) {
	o, err := c.object("position")
	if err != nil {
		return pos, err
	}
	if c.has("symbol") && o.has("symbol") {
		want, err := c.text("symbol")
		if err != nil {
			return pos, err
		}
		got, err := o.text("symbol")
		if err != nil {
			return pos, err
		}
		if got != want {
			return pos, o.refuse("symbol", "is "+strconv.Quote(got)+", but the case is about "+strconv.Quote(want))
		}
	}
	side, err := o.text("side")
	if err != nil {
		return pos, err
	}
	switch side {
	case kernel.Long.String():
		pos.Side = kernel.Long
	case kernel.Short.String():
		pos.Side = kernel.Short
	default:
		return pos, o.refuse("side", strconv.Quote(side)+" is neither LONG nor SHORT")
	}
	if err := o.required("entry_price", &pos.Entry); err != nil {
		return pos, err
	}
	for _, f := range [...]struct {
		key string
		dst *float64
	}{
		{"current_price", &pos.Current},
		{"peak_price", &pos.Peak},
		{"trough_price", &pos.Trough},
		{"current_sl", &pos.Stop},
		{"current_tp", &pos.Target},
	} {
		if err := o.priceOrNone(f.key, f.dst); err != nil {
			return pos, err
		}
	}
	if err := o.number("age_sec", &pos.AgeSec); err != nil {
		return pos, err
	}
	err = o.number("unrealized_pnl", &pos.UnrealizedPnL)
	return pos, err
}

// readHarvestPosition also insists on profit and age, which the harvest kernel cannot do without.
func readHarvestPosition(c object) (kernel.Position, error) {
	pos, err := readPosition(c)
	if err != nil {
		return pos, err
	}
	o, err := c.object("position")
	if err != nil {
		return pos, err
	}
	for _, key := range [...]string{"age_sec", "unrealized_pnl"} {
		if !o.has(key) {
			return pos, o.refuse(key, "is missing")
		}
	}
	return pos, nil
}

func renderState(d kernel.Detail) marketStateOutput {
	out := marketStateOutput{
		Sigma: d.Sigma, Mu: d.Mu, TS: d.TS,
		RegimeProbs: probabilities{Trend: d.PTrend, MR: d.PMR, Chop: d.PChop},
	}
	out.Features.DP, out.Features.VR, out.Features.SpikeProxy = d.DP, d.VR, d.SpikeProxy
	out.Windows.ReturnsN, out.Windows.TrendWindows, out.Windows.RegimeWindow = d.ReturnsN, d.TrendWindows, d.RegimeWindow
	out.TSComponents.MuAbs, out.TSComponents.SigmaUsed = max(d.Mu, -d.Mu), d.Sigma
	return out
}

func renderStops(s kernel.StopProposal) stopsOutput {
	out := stopsOutput{ProposedSL: s.ProposedSL, ProposedTP: s.ProposedTP, ReasonCodes: s.Reasons.Codes()}
	i := &out.Intermediates
	i.KSLWeighted, i.KTPWeighted, i.KTrailWeighted = s.KSL, s.KTP, s.KTrail
	i.StopDistPct, i.TPDistPct, i.TrailGapPct = s.StopDistPct, s.TPDistPct, s.TrailGapPct
	i.TPExtensionFactor = s.TPExtension
	i.RawSL, i.RawTP, i.TrailSL = s.RawSL, s.RawTP, s.TrailSL
	return out
}

func renderHarvest(h kernel.Proposal) harvestOutput {
	out := harvestOutput{
		HarvestAction: h.Action, RNet: h.RNet, RiskUnit: h.RiskUnit, CostEst: h.CostEst, KillScore: h.KillScore,
		ReasonCodes: h.Reasons.Codes(), TrancheWeights: h.TrancheWeights,
	}
	if h.NewStop > 0 {
		out.NewSLProposed = &h.NewStop
	}
	k := &out.KComponents
	k.RegimeFlip, k.SigmaSpike, k.TSDrop, k.AgePenalty = h.K.RegimeFlip, h.K.SigmaSpike, h.K.TSDrop, h.K.AgePenalty
	return out
}
