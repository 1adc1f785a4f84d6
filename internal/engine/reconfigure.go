package engine

import (
	"fmt"
	"slices"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// Tuning are the options that may change while an engine runs.
type Tuning struct {
	Cycle, MarketStale, PositionStale, ProduceEvery time.Duration

	Harvest kernel.HarvestParams
	Gate    kernel.GateParams

	Symbols, StateSymbols []position.Symbol
}

// Reconfigure puts another tuning in force, between two steps. A tuning that is refused changes nothing. Memory is kept: of
// the gate, of positions and their episodes.
//
// A symbol that Symbols leaves out is not written any more and leaves the expected set. Its hash stays, and with it the episode:
// the position has not ended, and whoever reads it sees by valid_until_epoch that nobody vouches for it. It counts as
// uncovered for as long as it is open.
func (e *Engine) Reconfigure(t Tuning, now time.Time) error {
	o := e.opts
	o.Cycle, o.MarketStale, o.PositionStale, o.ProduceEvery = t.Cycle, t.MarketStale, t.PositionStale, t.ProduceEvery
	o.Harvest, o.Gate, o.Symbols, o.StateSymbols = t.Harvest, t.Gate, t.Symbols, t.StateSymbols
	if err := o.validate(); err != nil {
		return err
	}
	for _, v := range []interface{ Validate() error }{o.Harvest, o.Gate} {
		if err := v.Validate(); err != nil {
			return fmt.Errorf("engine: parameters: %w", err)
		}
	}
	e.keepTime(now)
	if o.Cycle != e.opts.Cycle {
		e.nextCycle = now.Truncate(o.Cycle).Add(o.Cycle)
	}
	before := store.NewLayout(e.opts.Shards, e.opts.Symbols)
	e.opts = o
	for _, s := range e.order {
		s.market.produces = slices.Contains(o.StateSymbols, s.name)
	}
	for _, name := range o.StateSymbols {
		e.symbol(name).market.produces = true
	}
	if layout := store.NewLayout(o.Shards, o.Symbols); layout != before {
		e.cover()
		e.keeper.Relayout(layout)
	}
	for _, s := range e.order {
		e.touch(s)
	}
	e.routineLeft = true
	e.refreshUniverse()
	return nil
}

// cover settles anew which symbols are covered.
func (e *Engine) cover() {
	e.filter = nil
	if len(e.opts.Symbols) > 0 {
		e.filter = make(map[position.Symbol]bool, len(e.opts.Symbols))
		for _, name := range e.opts.Symbols {
			e.filter[name] = true
			e.symbol(name)
		}
	}
	for _, s := range e.order {
		was := s.covered
		s.covered = e.filter == nil || e.filter[s.name]
		switch {
		case was && !s.covered:
			s.dropped, s.expect, s.unexpect, s.beatDue = true, false, false, false
			s.advice, s.held = advice{}, held{}
			if s.unread {
				s.unread = false
				e.unread--
			}
			if s.open {
				e.opts.Log.Warn("open position is outside SYMBOLS from now on: it is not covered", "symbol", s.name)
			}
		case !was && s.covered:
			s.dropped, s.expect = false, s.open || s.refused
		}
	}
}

// redrop has symbols that are not covered any more taken out of the expected set once more, after a try that failed.
func (e *Engine) redrop(names []position.Symbol) {
	for _, name := range names {
		if s := e.symbols[name]; s != nil && !s.covered {
			s.dropped = true
		}
	}
}
