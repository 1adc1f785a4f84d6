package engine

import (
	"errors"
	"math"
	"strings"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// settleTime is how long a fresh process waits for the first word of its sources before it calls what it restored
// stale: a restart is no fault of the inputs.
const settleTime = 5 * time.Second

// evaluate considers one open position: it renews the advice where the inputs are live and usable, and keeps and marks
// the last good one where they are not.
func (e *Engine) evaluate(s *symbol) {
	p, ok := e.book.Get(s.name)
	if !ok {
		return
	}
	s.stats.evaluations++
	e.counts.evaluations++
	e.met.evaluations.Inc()

	if (s.market.seen.IsZero() || s.positionSeen.IsZero()) && e.now.Sub(e.restoredAt) < settleTime {
		return
	}
	a := &s.advice
	state, why := e.judgeInputs(s)
	if state == store.InputFresh {
		state, why = e.advise(s, &p)
	}
	a.state, a.why = state, why
	a.content.InputState = state
	if a.have && state == store.InputFresh && e.writable(s.shard) != 0 && e.wants(s) == "" {
		s.stats.limited++
		e.counts.limited++
		e.met.limited.Inc()
	}
}

// judgeInputs compares the ages of both inputs with their thresholds, on the event time and on the monotonic clock.
func (e *Engine) judgeInputs(s *symbol) (store.InputState, string) {
	stale := func(at, seen time.Time, limit time.Duration) bool {
		return e.now.Sub(at) > limit || (!seen.IsZero() && e.now.Sub(seen) > limit)
	}
	switch {
	case stale(s.positionAt, s.positionSeen, e.opts.PositionStale):
		return store.InputStalePosition, "position data has not moved for " + e.opts.PositionStale.String()
	case s.market.at.IsZero():
		return store.InputStaleMarket, "no market data from " + e.opts.MarketSource + e.opts.MarketHint
	case stale(s.market.at, s.market.seen, e.opts.MarketStale):
		return store.InputStaleMarket, "market data has not moved for " + e.opts.MarketStale.String()
	}
	return store.InputFresh, ""
}

// advise runs the kernels on inputs that live. Where they turn out to be unusable all the same, the last good content
// stays, and the input at fault is called stale: nothing may look fresh that does not rest on what arrives now.
func (e *Engine) advise(s *symbol, p *position.Position) (store.InputState, string) {
	e.refreshState(s)
	if !s.market.haveState {
		return store.InputStaleMarket, "not enough candles for a market state yet"
	}
	kp, why := e.kernelPosition(s, p)
	if why != "" {
		return store.InputStaleMarket, why
	}
	stopDist := 0.0 // none known: the harvest kernel falls back (FALLBACK_STOP_PCT)
	switch {
	case s.market.haveStops && e.now.Sub(s.market.stops.At) <= e.opts.MarketStale:
		stopDist = s.market.stops.StopDistPct
	case !s.market.consumed: // market state and stops come from one hand: ours, or another service's
		stops, err := kernel.Stops(kp, s.market.state, e.opts.Stops)
		if err != nil {
			return e.kernelRefused(s, "stops", err)
		}
		stopDist, s.market.ownStops, s.market.haveOwn = stops.StopDistPct, stops, true
	}
	prop, err := kernel.Propose(kp, s.market.state, stopDist, e.opts.Harvest)
	if err != nil {
		return e.kernelRefused(s, "harvest", err)
	}
	e.checkReported(s, p, prop.RiskUnit)
	e.fill(s, p, &kp, &prop)
	return store.InputFresh, ""
}

// refreshState computes the market state anew where the candles moved. A window that gives none leaves none: the state
// of an earlier window says nothing about this one.
func (e *Engine) refreshState(s *symbol) {
	m := &s.market
	if !m.moved || m.consumed {
		return
	}
	m.moved = false
	st, ok, err := m.followed.state(e.est, e.opts.Window, m.series)
	if err != nil {
		e.kernelRefused(s, "market_state", err)
	}
	m.state, m.haveState = st, ok && err == nil
}

// kernelPosition puts a position into the kernel's units. Where no price is known the reported profit stands in for
// it; where that is missing too, nothing can be said.
func (e *Engine) kernelPosition(s *symbol, p *position.Position) (kernel.Position, string) {
	sign := p.Side.Sign()
	current := p.Current
	if current == 0 && p.HasPnL {
		current = p.Entry + sign*p.ReportedPnL
	}
	if !(current > 0) {
		return kernel.Position{}, "no current price, neither from the position's source nor from the market"
	}
	side := kernel.Long
	if p.Side == position.Short {
		side = kernel.Short
	}
	return kernel.Position{
		Side: side, Entry: p.Entry, Current: current,
		Peak: math.Max(p.Peak, current), Trough: math.Min(p.Trough, current),
		AgeSec:        e.book.Age(s.name, e.now, e.clock.Strategy(e.now)).Seconds(),
		UnrealizedPnL: sign * (current - p.Entry),
		Stop:          p.Stop, Target: p.Target,
	}, ""
}

// checkReported counts a reported profit that differs by more than 0.1 R from what the same record's own price gives
// (spec, "Units"), once for each record that says so.
func (e *Engine) checkReported(s *symbol, p *position.Position, riskUnit float64) {
	if !p.HasPnL || p.ReportedPrice == 0 || s.checkedPnL == [2]float64{p.ReportedPnL, p.ReportedPrice} {
		return
	}
	s.checkedPnL = [2]float64{p.ReportedPnL, p.ReportedPrice}
	if math.Abs(p.ReportedPnL-p.Side.Sign()*(p.ReportedPrice-p.Entry)) <= 0.1*riskUnit {
		return
	}
	e.refuse(feed.Refusal{
		Symbol: s.name, Source: p.Source, Key: string(s.name), Field: "unrealized_pnl",
		Reason: feed.ReasonPnL, Value: formatFloat(p.ReportedPnL), At: e.now,
	})
}

// kernelRefused counts a combination that the kernel refused, and says which input is at fault.
func (e *Engine) kernelRefused(s *symbol, part string, err error) (store.InputState, string) {
	field, state := part, store.InputStaleMarket
	var fe *kernel.FieldError
	if errors.As(err, &fe) {
		field = part + "." + fe.Field
		if strings.HasPrefix(fe.Field, "position") {
			state = store.InputStalePosition
		}
	}
	e.refuse(feed.Refusal{
		Symbol: s.name, Source: "engine", Key: string(s.name), Field: field,
		Reason: feed.ReasonKernel, Value: err.Error(), At: e.now,
	})
	return state, part + ": " + err.Error()
}

// fill makes the content of the advice.
func (e *Engine) fill(s *symbol, p *position.Position, kp *kernel.Position, prop *kernel.Proposal) {
	st := &s.market.state
	s.advice.reasons, s.advice.have = prop.Reasons, true
	s.advice.content = store.Proposal{
		Symbol: s.name,
		Action: prop.Action, NewStop: prop.NewStop, RNet: prop.RNet, RiskUnit: prop.RiskUnit, CostEst: prop.CostEst,
		KillScore: prop.KillScore, K: prop.K,
		Sigma: st.Sigma, TS: st.TS, PTrend: st.PTrend, PMR: st.PMR, PChop: st.PChop,
		ComputedAt: e.now,
		Side:       p.Side, AgeSec: kp.AgeSec, Current: kp.Current, Entry: p.Entry, UnrealizedPnL: kp.UnrealizedPnL,
		SchemaVersion: store.SchemaVersion, Episode: p.Episode, OpenedAt: p.OpenedAt, Stop: p.Stop,
		ContentMarketAt: s.market.at, ContentPositionAt: s.positionAt,
		MarketSource: e.opts.MarketSource, PositionSource: p.Source, Publisher: e.opts.Publisher,
		PublisherVersion: e.opts.Version,
	}
}

// wants tells whether the store's copy must be written in full, and why.
func (e *Engine) wants(s *symbol) PublishReason {
	a, h := &s.advice, &s.held
	switch {
	case !a.have || a.state == "":
		return ""
	case h.proposal.Revision == 0:
		return PublishFirst
	case h.distrust:
		return PublishRepair
	case a.state != h.proposal.InputState:
		return PublishInputState
	case a.state != store.InputFresh:
		// The last good content is kept, not renewed: its age is to be seen.
		return ""
	}
	return PublishReason(kernel.Gate(
		kernel.Published{Action: h.proposal.Action, NewStop: h.proposal.NewStop, KillScore: h.proposal.KillScore, AtSec: h.at}, true,
		kernel.Published{Action: a.content.Action, NewStop: a.content.NewStop, KillScore: a.content.KillScore, AtSec: e.elapsed(e.now)},
		e.opts.Gate,
	))
}
