package engine

import (
	"slices"
	"strconv"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// counts are totals since the start.
type counts struct {
	evaluations, publishes, beats, limited, closes, refusals uint64
	repairs, merged, storeErrors                             uint64
}

type cycleCounts struct{ evaluations, publishes, beats, limited, refusals uint64 }

// Status is a picture of the engine at the end of a step.
type Status struct {
	At        time.Time
	Restored  bool
	Symbols   []SymbolStatus // those with a position now or earlier, by name
	Open      int
	Covered   int // open and inside SYMBOLS
	Uncovered int // open and outside SYMBOLS
	Advised   int // covered with advice
	// Refused are positions whose record was there and refused at the last reading, and that are not open: nobody
	// advises them.
	Refused []position.Symbol
	Lease   LeaseStatus

	Evaluations, Publishes, Beats, RateLimited, Closes, Refusals uint64
	Repairs, MergedTicks, StoreErrors                            uint64
}

// SymbolStatus is the picture of one symbol.
type SymbolStatus struct {
	Symbol     position.Symbol
	Open       bool
	Covered    bool
	Side       position.Side
	Episode    string
	Action     kernel.Action
	RNet       float64
	KillScore  float64
	NewStop    float64
	InputState store.InputState
	Waiting    string // why there is no advice yet
	Revision   int64
	Elsewhere  bool // another publisher writes it
	EverOpen   bool
	EverServed bool // the store has confirmed a proposal of it at some time

	// HeartbeatAt and ContentAt are those the store holds; MarketAt and PositionAt those of the inputs.
	HeartbeatAt, ContentAt, MarketAt, PositionAt time.Time

	Evaluations, Publishes, Beats, RateLimited uint64
	Refusals                                   map[feed.Reason]uint64
	LastRefusal                                feed.Refusal
}

// Status returns the picture taken at the last beat. It may be called from any goroutine; the slices are shared: read only.
func (e *Engine) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status
}

// Snapshot takes the picture that Status returns: at every beat, and when the owner wants one at the end.
func (e *Engine) Snapshot(now time.Time) {
	st := Status{
		At: now, Restored: e.restored, Lease: e.leaseStatus(now),
		Evaluations: e.counts.evaluations, Publishes: e.counts.publishes, Beats: e.counts.beats,
		RateLimited: e.counts.limited, Closes: e.counts.closes, Refusals: e.counts.refusals,
		Repairs: e.counts.repairs, MergedTicks: e.counts.merged, StoreErrors: e.counts.storeErrors,
	}
	st.Symbols = make([]SymbolStatus, 0, e.shown)
	for _, s := range e.order {
		if !s.stats.everOpen && len(s.stats.refusals) == 0 {
			continue
		}
		if s.open {
			st.Open++
			switch {
			case !s.covered:
				st.Uncovered++
			case s.advice.have:
				st.Covered++
				st.Advised++
			default:
				st.Covered++
			}
		}
		st.Symbols = append(st.Symbols, e.symbolStatus(s))
	}
	for _, names := range e.refused {
		for _, name := range names {
			if s := e.symbols[name]; s == nil || !s.open {
				st.Refused = append(st.Refused, name)
			}
		}
	}
	slices.Sort(st.Refused)
	st.Refused = slices.Compact(st.Refused)
	e.shown = len(st.Symbols)
	e.met.positions(st)
	e.mu.Lock()
	e.status = st
	e.mu.Unlock()
}

func (e *Engine) symbolStatus(s *symbol) SymbolStatus {
	out := SymbolStatus{
		Symbol: s.name, Open: s.open, Covered: s.covered, InputState: s.advice.state, Waiting: s.advice.why,
		Revision: s.revision, Elsewhere: e.elsewhere(s), EverOpen: s.stats.everOpen, EverServed: s.stats.everServed,
		HeartbeatAt: s.lastBeatAt, ContentAt: s.held.proposal.ComputedAt, MarketAt: s.market.at, PositionAt: s.positionAt,
		Evaluations: s.stats.evaluations, Publishes: s.stats.publishes, Beats: s.stats.beats,
		RateLimited: s.stats.limited, LastRefusal: s.stats.lastRefusal,
	}
	if len(s.stats.refusals) > 0 {
		out.Refusals = make(map[feed.Reason]uint64, len(s.stats.refusals))
		for k, v := range s.stats.refusals {
			out.Refusals[k] = v
		}
	}
	if s.advice.have {
		c := s.advice.content
		out.Side, out.Episode, out.Action = c.Side, c.Episode, c.Action
		out.RNet, out.KillScore, out.NewStop = c.RNet, c.KillScore, c.NewStop
	} else if p, ok := e.book.Get(s.name); ok {
		out.Side, out.Episode = p.Side, p.Episode
	}
	return out
}

// reportCycle writes the line that operators of the earlier publisher look for.
func (e *Engine) reportCycle(now time.Time) {
	c := cycleCounts{e.counts.evaluations, e.counts.publishes, e.counts.beats, e.counts.limited, e.counts.refusals}
	l := e.lastCycle
	e.lastCycle = c
	e.Snapshot(now)
	st := e.Status()
	e.opts.Log.Info("=== Harvest Proposal Publish Cycle ===",
		"open", st.Open, "advised", st.Advised, "uncovered", st.Uncovered,
		"evaluations", c.evaluations-l.evaluations, "published", c.publishes-l.publishes, "beats", c.beats-l.beats,
		"rate_limited", c.limited-l.limited, "refused", c.refusals-l.refusals)
	e.met.cycles.Inc()
	for _, s := range st.Symbols {
		if s.Open && s.Covered && s.Waiting != "" {
			e.opts.Log.Warn("open position has no new advice", "symbol", s.Symbol, "why", s.Waiting)
		}
	}
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
