package kernel

// StopProposal is the output of the stop kernel ("P1"). Every number is finite. Where a distance is above 100 % the
// formula gives a price below zero; that is a result, and not a price to act on.
type StopProposal struct {
	ProposedSL float64
	ProposedTP float64
	Reasons    Reasons

	// Intermediates, for the audit record.
	KSL, KTP, KTrail                    float64 // weighted multipliers
	StopDistPct, TPDistPct, TrailGapPct float64 // fractions
	TPExtension                         float64
	RawSL, RawTP, TrailSL               float64
}

// The trend needed before a target is extended (specification v1.0, section 2).
const (
	extendAbovePTrend = 0.3
	extendAboveTS     = 0.1
)

// Stops proposes stop and target of a position (specification v1.0, section 2). It needs the current price and, for a
// long, the peak, for a short, the trough; of the market state it reads Sigma, TS and the probabilities, which must sum
// to 1. With p.MonotonicSL an existing stop is never loosened by more than p.Eps. The error is a *FieldError.
func Stops(pos Position, ms MarketState, p StopParams) (StopProposal, error) {
	if err := p.Validate(); err != nil {
		return StopProposal{}, err
	}
	if err := pos.check(); err != nil {
		return StopProposal{}, err
	}
	if err := checkPositive("position.current_price", pos.Current); err != nil {
		return StopProposal{}, err
	}
	if err := ms.checkForStops(); err != nil {
		return StopProposal{}, err
	}
	var s StopProposal
	s.KSL, s.KTP, s.KTrail = p.KSL.of(&ms), p.KTP.of(&ms), p.KTrail.of(&ms)
	s.StopDistPct = max(p.SLMinPct, s.KSL*ms.Sigma)
	s.TrailGapPct = max(p.SLMinPct, s.KTrail*ms.Sigma)
	s.TPExtension = 1
	if ms.PTrend > extendAbovePTrend && ms.TS > extendAboveTS {
		s.TPExtension = 1 + min(float64(p.TPExtendGain*clip(ms.TS, 0, 1)*ms.PTrend), p.TPExtendMax)
	}
	s.TPDistPct = max(p.TPMinPct, s.KTP*ms.Sigma*s.TPExtension)

	side := float64(pos.Side)
	extreme := pos.Peak
	switch pos.Side {
	case Long:
		if err := checkPositive("position.peak_price", extreme); err != nil {
			return StopProposal{}, err
		}
	default:
		extreme = pos.Trough
		if err := checkPositive("position.trough_price", extreme); err != nil {
			return StopProposal{}, err
		}
	}
	// A product with +1 or -1 is exact: one set of formulas gives the bits of both.
	s.RawSL = float64(pos.Current * (1 - float64(side*s.StopDistPct)))
	s.TrailSL = float64(extreme * (1 - float64(side*s.TrailGapPct)))
	s.RawTP = float64(pos.Current * (1 + float64(side*s.TPDistPct)))
	s.ProposedSL, s.ProposedTP = tighter(pos.Side, s.RawSL, s.TrailSL), s.RawTP
	if err := s.checkResults(); err != nil {
		return StopProposal{}, err
	}

	if tightness(pos.Side, s.TrailSL, s.RawSL) > p.Eps {
		s.Reasons |= ReasonTrailActive
	}
	if p.MonotonicSL && pos.Stop > 0 {
		switch gain := tightness(pos.Side, s.ProposedSL, pos.Stop); {
		case gain < -p.Eps:
			s.ProposedSL = pos.Stop
			s.Reasons |= ReasonTightenedMonotonic
		case gain > p.Eps:
			s.Reasons |= ReasonTightening
		}
	}
	s.Reasons |= ms.dominantRegime()
	if s.TPExtension > 1+p.Eps {
		s.Reasons |= ReasonTPExtended
	}
	return s, nil
}

func (w RegimeWeights) of(ms *MarketState) float64 {
	return float64(w.Trend*ms.PTrend) + float64(w.MR*ms.PMR) + float64(w.Chop*ms.PChop)
}

// tighter is the stop that leaves less room to the price.
func tighter(side Side, a, b float64) float64 {
	if side == Long {
		return max(a, b)
	}
	return min(a, b)
}

// tightness is how much tighter stop a is than stop b, in price; negative where it is looser.
func tightness(side Side, a, b float64) float64 {
	if side == Long {
		return a - b
	}
	return b - a
}

// dominantRegime is the reason of the most probable regime, the first of trend, mr, chop on a tie.
func (ms *MarketState) dominantRegime() Reasons {
	switch {
	case ms.PTrend >= ms.PMR && ms.PTrend >= ms.PChop:
		return ReasonRegimeTrend
	case ms.PMR >= ms.PChop:
		return ReasonRegimeMR
	}
	return ReasonRegimeChop
}

// probabilityTolerance is how far a sum of probabilities may be off 1 through rounding in what carried them.
const probabilityTolerance = 1e-6

// checkForStops: TS may be negative, it is clipped where it is used.
func (ms *MarketState) checkForStops() error {
	if err := checkNonNegative("market_state.sigma", ms.Sigma); err != nil {
		return err
	}
	if err := checkFinite("market_state.mu", ms.Mu); err != nil {
		return err
	}
	if err := checkFinite("market_state.ts", ms.TS); err != nil {
		return err
	}
	if err := checkUnit("market_state.regime_probs.trend", ms.PTrend); err != nil {
		return err
	}
	if err := checkUnit("market_state.regime_probs.mr", ms.PMR); err != nil {
		return err
	}
	if err := checkUnit("market_state.regime_probs.chop", ms.PChop); err != nil {
		return err
	}
	if sum := ms.PTrend + ms.PMR + ms.PChop; sum < 1-probabilityTolerance || sum > 1+probabilityTolerance {
		return refuse("market_state.regime_probs", "must sum to 1")
	}
	return nil
}

func (s *StopProposal) checkResults() error {
	for _, c := range [...]struct {
		field string
		value float64
	}{
		{"intermediates.k_sl_weighted", s.KSL},
		{"intermediates.k_tp_weighted", s.KTP},
		{"intermediates.k_trail_weighted", s.KTrail},
		{"intermediates.stop_dist_pct", s.StopDistPct},
		{"intermediates.tp_dist_pct", s.TPDistPct},
		{"intermediates.trail_gap_pct", s.TrailGapPct},
		{"intermediates.raw_sl", s.RawSL},
		{"intermediates.trail_sl", s.TrailSL},
		{"proposed_sl", s.ProposedSL},
		{"proposed_tp", s.ProposedTP},
	} {
		if err := checkResult(c.field, c.value); err != nil {
			return err
		}
	}
	return nil
}
