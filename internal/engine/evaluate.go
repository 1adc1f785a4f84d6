package engine

import (
	"errors"
	"math"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// evaluate considers one open position: it renews the advice where the inputs are live and whole, keeps the last good
// advice where they are not, and decides whether the store's copy must be written in full.
func (e *Engine) evaluate(s *symbol) {
	p, ok := e.book.Get(s.name)
	if !ok {
		return
	}
	s.stats.evaluations++
	e.counts.evaluations++
	e.met.evaluations.Inc()

	if e.settling(s) {
		return
	}
	state := e.judgeInputs(s)
	if state == store.InputFresh {
		s.waiting = e.advise(s, p)
		if s.waiting != "" {
			// The inputs move but give no valid advice: what stands, stands, and its content ages. Where it was never
			// looked at by this process there is nothing that could claim to be alive.
			if !s.evaluated {
				return
			}
		}
	}
	if !s.haveContent {
		if s.marketAt.IsZero() {
			s.waiting = "no market data from " + e.opts.MarketSource + e.opts.MarketHint
		} else if s.waiting == "" {
			s.waiting = "inputs went stale before there was any advice: " + string(state)
		}
		return
	}
	s.evaluated = true
	s.inputState = state
	s.content.InputState = state
	s.want = e.decide(s)
}

// settleTime is how long a fresh process waits for the first word of its sources before it calls what it restored
// stale: a restart is no fault of the inputs.
const settleTime = 5 * time.Second

func (e *Engine) settling(s *symbol) bool {
	return (s.marketSeen.IsZero() || s.positionSeen.IsZero()) && e.now.Sub(e.started) < settleTime
}

// judgeInputs compares the ages of both inputs with their thresholds, on the event time and on the monotonic clock.
func (e *Engine) judgeInputs(s *symbol) store.InputState {
	stale := func(at, seen time.Time, limit time.Duration) bool {
		return e.now.Sub(at) > limit || (!seen.IsZero() && e.now.Sub(seen) > limit)
	}
	switch {
	case stale(s.positionAt, s.positionSeen, e.opts.PositionStale):
		return store.InputStalePosition
	case stale(s.marketAt, s.marketSeen, e.opts.MarketStale):
		return store.InputStaleMarket
	}
	return store.InputFresh
}

// advise runs the kernels. It returns why there is no new advice, or blank.
func (e *Engine) advise(s *symbol, p position.Position) string {
	e.refreshState(s)
	if !s.haveState {
		return "market state: not enough candles yet"
	}
	kp, why := e.kernelPosition(s, p)
	if why != "" {
		return why
	}
	stopDist := 0.0
	if s.haveStops && e.now.Sub(s.stops.At) <= e.opts.MarketStale {
		stopDist = s.stops.StopDistPct
	} else {
		stops, err := kernel.Stops(kp, s.state, e.opts.Stops)
		if err != nil {
			e.kernelRefused(s, "stops", err)
			return "stops: " + err.Error()
		}
		stopDist, s.lastStops, s.haveLast = stops.StopDistPct, stops, true
	}
	prop, err := kernel.Propose(kp, s.state, stopDist, e.opts.Harvest)
	if err != nil {
		e.kernelRefused(s, "harvest", err)
		return "harvest: " + err.Error()
	}
	e.checkReported(s, p, kp.UnrealizedPnL, prop.RiskUnit)
	s.content, s.reasons = e.content(s, p, kp, prop), prop.Reasons
	s.haveContent = true
	return ""
}

// refreshState computes the market state anew where the candles moved.
func (e *Engine) refreshState(s *symbol) {
	if !s.seriesNew || s.consumed {
		return
	}
	st, ok, err := e.est.State(s.series.Closes())
	switch {
	case err != nil:
		e.kernelRefused(s, "market_state", err)
	case ok:
		s.state, s.haveState = st, true
	}
	s.seriesNew = false
}

// kernelPosition puts a position into the kernel's units. Where no price is known the reported profit stands in for
// it; where that is missing too, nothing can be said.
func (e *Engine) kernelPosition(s *symbol, p position.Position) (kernel.Position, string) {
	sign := p.Side.Sign()
	current := p.Current
	if current == 0 && p.HasPnL {
		current = p.Entry + sign*p.ReportedPnL
	}
	if !(current > 0) {
		return kernel.Position{}, "position: no current price from its source or the market"
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

// checkReported counts a reported profit that differs from price arithmetic by more than 0.1 R (spec, "Units").
func (e *Engine) checkReported(s *symbol, p position.Position, pnl, riskUnit float64) {
	if !p.HasPnL || p.Current == 0 || math.Abs(p.ReportedPnL-pnl) <= 0.1*riskUnit {
		return
	}
	e.refuse(feed.Refusal{
		Symbol: s.name, Source: p.Source, Key: string(s.name), Field: "unrealized_pnl",
		Reason: feed.ReasonPnL, Value: formatFloat(p.ReportedPnL), At: e.now,
	})
}

func (e *Engine) kernelRefused(s *symbol, part string, err error) {
	field := part
	var fe *kernel.FieldError
	if errors.As(err, &fe) {
		field = part + "." + fe.Field
	}
	e.refuse(feed.Refusal{
		Symbol: s.name, Source: "engine", Key: string(s.name), Field: field,
		Reason: feed.ReasonKernel, Value: err.Error(), At: e.now,
	})
}

func (e *Engine) content(s *symbol, p position.Position, kp kernel.Position, prop kernel.Proposal) store.Proposal {
	return store.Proposal{
		Symbol: s.name,
		Action: prop.Action, NewStop: prop.NewStop, RNet: prop.RNet, RiskUnit: prop.RiskUnit, CostEst: prop.CostEst,
		KillScore: prop.KillScore, K: prop.K,
		Sigma: s.state.Sigma, TS: s.state.TS, PTrend: s.state.PTrend, PMR: s.state.PMR, PChop: s.state.PChop,
		ComputedAt: e.now,
		Side:       p.Side, AgeSec: kp.AgeSec, Current: kp.Current, Entry: p.Entry, UnrealizedPnL: kp.UnrealizedPnL,
		SchemaVersion: store.SchemaVersion, Episode: p.Episode, OpenedAt: p.OpenedAt, Stop: p.Stop,
		ContentMarketAt: s.marketAt, ContentPositionAt: s.positionAt,
		MarketSource: e.opts.MarketSource, PositionSource: p.Source, Publisher: e.opts.Publisher,
	}
}

// decide asks whether the store's copy must be written in full, and why.
func (e *Engine) decide(s *symbol) PublishReason {
	switch {
	case !s.published:
		return PublishFirst
	case s.repair:
		return PublishRepair
	case s.inputState != s.lastState:
		return PublishInputState
	case s.inputState != store.InputFresh:
		// The last good content is kept, not renewed: its age is to be seen.
		return ""
	}
	reason := kernel.Gate(s.last, true, kernel.Published{
		Action: s.content.Action, NewStop: s.content.NewStop, KillScore: s.content.KillScore, AtSec: e.elapsed(e.now),
	}, e.opts.Gate)
	if reason == kernel.GateHeld {
		s.stats.limited++
		e.counts.limited++
		e.met.limited.Inc()
		return ""
	}
	return PublishReason(reason.String())
}
