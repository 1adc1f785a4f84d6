package kernel

// Action is what the harvest kernel proposes; the zero value is no action at all (not even NONE).
type Action string

// The actions, spelled as on the wire.
const (
	ActionNone      Action = "NONE"
	ActionPartial25 Action = "PARTIAL_25"
	ActionPartial50 Action = "PARTIAL_50"
	ActionPartial75 Action = "PARTIAL_75"
	ActionFullClose Action = "FULL_CLOSE_PROPOSED"
)

// Actions lists every action in rising order.
var Actions = [...]Action{ActionNone, ActionPartial25, ActionPartial50, ActionPartial75, ActionFullClose}

// Valid tells whether a is one of Actions.
func (a Action) Valid() bool {
	switch a {
	case ActionNone, ActionPartial25, ActionPartial50, ActionPartial75, ActionFullClose:
		return true
	}
	return false
}

// KillComponents are the four terms of the kill score, before their weights.
type KillComponents struct {
	RegimeFlip float64
	SigmaSpike float64
	TSDrop     float64
	AgePenalty float64
}

// Proposal is the output of the harvest kernel ("P2"). Every number is finite.
type Proposal struct {
	Action         Action
	NewStop        float64 // proposed new stop price; 0 = no proposal
	RNet           float64 // profit after cost in units of risk
	RiskUnit       float64 // quote currency per unit of base
	CostEst        float64 // quote currency per unit of base
	KillScore      float64 // K, [0,1)
	K              KillComponents
	Reasons        Reasons
	TrancheWeights [3]float64 // of the three tiers, summing to 1; for the audit record only
}

const (
	minRiskUnit = 1e-9
	// flipRest is the probability that mr and chop together must exceed for a flip.
	flipRest = 0.5
	// minTrancheSum is the sum of exponentials below which the tranche weights are uniform.
	minTrancheSum = 1e-9
	// maxKillScore is the largest number below 1: rounding must not turn a score into certainty.
	maxKillScore = 1 - 0x1p-53
)

// The size from which a component of the kill score counts as one of its causes.
const (
	causeSigmaSpike = 0.5
	causeTSDrop     = 0.2
	causeAgePenalty = 0.5
)

// Propose decides whether to harvest a position (specification v1.0, section 3). stopDistPct is the distance of the
// stop as a fraction of entry, 0 where there is none: p.FallbackStopPct stands in. Profit is per unit of base. Of the
// market state it reads Sigma, TS and the probabilities, which need not be complete: only their sizes matter here. A
// stop is proposed only where it is strictly tighter than the existing one. The error is a *FieldError.
func Propose(pos Position, ms MarketState, stopDistPct float64, p HarvestParams) (Proposal, error) {
	if err := p.Validate(); err != nil {
		return Proposal{}, err
	}
	if err := pos.check(); err != nil {
		return Proposal{}, err
	}
	if err := ms.checkForHarvest(); err != nil {
		return Proposal{}, err
	}
	if err := checkNonNegative("p1_proposal.stop_dist_pct", stopDistPct); err != nil {
		return Proposal{}, err
	}
	if stopDistPct == 0 {
		stopDistPct = p.FallbackStopPct
	}

	h := Proposal{Action: ActionNone}
	h.RiskUnit = max(pos.Entry*stopDistPct, minRiskUnit)
	h.CostEst = float64(p.CostBps / 10000 * pos.Entry)
	h.RNet = (pos.UnrealizedPnL - h.CostEst) / h.RiskUnit
	for _, c := range [...]struct {
		field string
		value float64
	}{
		{"risk_unit", h.RiskUnit}, {"cost_est", h.CostEst}, {"R_net", h.RNet},
	} {
		if err := checkResult(c.field, c.value); err != nil {
			return Proposal{}, err
		}
	}

	switch {
	case h.RNet >= p.T3R:
		h.Action, h.Reasons = ActionPartial75, ReasonPartial75
	case h.RNet >= p.T2R:
		h.Action, h.Reasons = ActionPartial50, ReasonPartial50
	case h.RNet >= p.T1R:
		h.Action, h.Reasons = ActionPartial25, ReasonPartial25
	}
	if h.RNet >= p.LockR {
		breakEven := float64(pos.Entry * (1 + float64(float64(pos.Side)*p.BEPlusPct)))
		if err := checkResult("new_sl_proposed", breakEven); err != nil {
			return Proposal{}, err
		}
		if pos.Stop == 0 || tightness(pos.Side, breakEven, pos.Stop) > 0 {
			h.NewStop = breakEven
			h.Reasons |= ReasonProfitLock
		}
	}
	if err := h.kill(&pos, &ms, &p); err != nil {
		return Proposal{}, err
	}
	if err := h.tranches(&p); err != nil {
		return Proposal{}, err
	}
	return h, nil
}

// kill scores the reasons to leave altogether, and overrides the action where they suffice.
func (h *Proposal) kill(pos *Position, ms *MarketState, p *HarvestParams) error {
	if ms.PTrend < p.TrendMin && ms.PChop+ms.PMR > flipRest {
		h.K.RegimeFlip = 1
	}
	h.K.SigmaSpike = clip(ms.Sigma/p.SigmaRef-1, 0, p.SigmaSpikeCap)
	h.K.TSDrop = clip(p.TSRef-ms.TS, 0, p.TSDropCap)
	h.K.AgePenalty = clip(pos.AgeSec/p.MaxAgeSec, 0, 1)
	z := float64(p.KRegimeFlip*h.K.RegimeFlip) + float64(p.KSigmaSpike*h.K.SigmaSpike) +
		float64(p.KTSDrop*h.K.TSDrop) + float64(p.KAgePenalty*h.K.AgePenalty)
	if err := checkResult("kill_score", z); err != nil {
		return err
	}
	h.KillScore = min(1/(1+exp(-z)), maxKillScore)
	if h.KillScore < p.KillThreshold {
		return nil
	}
	h.Action = ActionFullClose
	h.Reasons |= ReasonKill
	if h.K.RegimeFlip > 0 {
		h.Reasons |= ReasonRegimeFlip
	}
	if h.K.SigmaSpike > causeSigmaSpike {
		h.Reasons |= ReasonSigmaSpike
	}
	if h.K.TSDrop > causeTSDrop {
		h.Reasons |= ReasonTSDrop
	}
	if h.K.AgePenalty > causeAgePenalty {
		h.Reasons |= ReasonAgePenalty
	}
	return nil
}

// tranches is a softmax without the usual shift by the maximum, which the uniform fallback makes
// visible.
func (h *Proposal) tranches(p *HarvestParams) error {
	third := 1.0 / 3
	h.TrancheWeights = [3]float64{third, third, third}
	if p.U1 == 0 && p.U2 == 0 && p.U3 == 0 {
		return nil
	}
	w := [3]float64{exp(p.U1 / p.SoftmaxTemp), exp(p.U2 / p.SoftmaxTemp), exp(p.U3 / p.SoftmaxTemp)}
	sum := w[0] + w[1] + w[2]
	if err := checkResult("tranche_weights", sum); err != nil {
		return err
	}
	if sum < minTrancheSum {
		return nil
	}
	for i := range w {
		h.TrancheWeights[i] = w[i] / sum
	}
	return nil
}

func (ms *MarketState) checkForHarvest() error {
	if err := checkNonNegative("market_state.sigma", ms.Sigma); err != nil {
		return err
	}
	if err := checkNonNegative("market_state.ts", ms.TS); err != nil {
		return err
	}
	if err := checkUnit("market_state.p_trend", ms.PTrend); err != nil {
		return err
	}
	if err := checkUnit("market_state.p_mr", ms.PMR); err != nil {
		return err
	}
	if err := checkUnit("market_state.p_chop", ms.PChop); err != nil {
		return err
	}
	switch sum := ms.PTrend + ms.PMR + ms.PChop; {
	case sum == 0:
		return refuse("market_state.p_trend", "no regime has a probability")
	case sum > 1+probabilityTolerance:
		return refuse("market_state.p_trend", "the regime probabilities sum to more than 1")
	}
	return nil
}
