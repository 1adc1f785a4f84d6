package engine

import (
	"math"
	"slices"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// Restore takes in what the store remembers from before this process: episodes, extremes, revisions, and the last
// advice, which stands until there is better. It must come before anything is written.
//
// What the store holds without being memory of ours (a hash that is not whole, an expected symbol without a hash) is
// unclaimed: it is cleared away once a living source has twice been seen without such a position.
func (e *Engine) Restore(c store.Collection, now time.Time) {
	e.keepTime(now)
	e.restoredAt = now
	for _, en := range c.Entries {
		s := e.symbol(en.Symbol)
		if en.Found {
			s.revision = max(s.revision, en.Proposal.Revision)
		}
		switch {
		case !s.covered:
		case en.Found && en.Proposal.Publisher == "" && len(en.Problems) < len(store.FieldNames())/2 && en.Proposal.SchemaVersion == 0:
			// An earlier writer's hash: nothing of ours to keep or to clear away.
		case en.Found && en.Err == nil && len(en.Problems) == 0 && e.restoreOne(s, en.Proposal):
		default:
			e.unclaimed[en.Symbol] = 0
		}
	}
	e.restored = true
	e.refreshUniverse()
	for _, snap := range e.waiting {
		e.takeSnapshot(snap)
	}
	e.waiting = nil
}

// restoreOne puts one proposal back. It tells whether there is a position in it that may be kept.
func (e *Engine) restoreOne(s *symbol, p store.Proposal) bool {
	if p.PositionSource == feed.DemoName && !e.opts.DemoPositions {
		// Made-up positions exist only where somebody asked for them: a demonstration ends with its run.
		s.closing = append(s.closing, store.Close{Symbol: s.name, Episode: p.Episode, Reason: "synthetic", At: e.now, Last: p})
		return true
	}
	e.book.Restore(position.Position{
		Symbol: s.name, Side: p.Side, Episode: p.Episode, Entry: p.Entry, Current: p.Current,
		Peak: p.Peak, Trough: p.Trough, Stop: p.Stop, OpenedAt: p.OpenedAt,
		CurrentAt: p.ContentPositionAt, UpdatedAt: p.PositionAt, Source: p.PositionSource, Strategy: e.opts.StrategyPositions,
	})
	if _, ok := e.book.Get(s.name); !ok {
		return false
	}
	s.open, s.stats.everOpen, s.stats.everServed = true, true, true
	s.advice = advice{content: p, have: true}
	s.market.at, s.positionAt = p.MarketAt, p.PositionAt
	// Whole, but under another fence: the first write is a full one.
	s.held = held{
		proposal: p, distrust: true,
		at: e.elapsed(e.now) - math.Max(0, e.now.Round(0).Sub(p.ComputedAt).Seconds()),
	}
	e.touch(s)
	return true
}

// Restored tells whether the durable memory was read.
func (e *Engine) Restored() bool { return e.restored }

// sweep clears unclaimed entries away that a living, complete snapshot does not know: after the second in a row.
func (e *Engine) sweep(snap *position.Snapshot) {
	if len(e.unclaimed) == 0 {
		return
	}
	lives := snap.Complete && (snap.Alive || len(snap.Records)+len(snap.Refused) > 0)
	for name, absences := range e.unclaimed {
		s := e.symbols[name]
		known := s.open || slices.Contains(snap.Refused, name) ||
			slices.ContainsFunc(snap.Records, func(r position.Record) bool { return r.Symbol == name && !r.Flat() })
		switch {
		case s.open:
			delete(e.unclaimed, name)
		case known, !lives:
			e.unclaimed[name] = 0
		case absences+1 >= 2:
			delete(e.unclaimed, name)
			s.closing = append(s.closing, store.Close{Symbol: name, Reason: "orphan", At: e.now})
			e.opts.Log.Info("clearing away what is left of a position that is gone", "symbol", name)
		default:
			e.unclaimed[name] = absences + 1
		}
	}
}

// Audit compares what the store holds with what was confirmed. A hash that differs in content was changed by someone
// else: it is counted and written in full at the next step. Symbols that somebody took out of the expected set come
// back into it, and those whose position has ended leave it.
func (e *Engine) Audit(c store.Collection, now time.Time) {
	e.keepTime(now)
	expected := make(map[position.Symbol]bool, len(c.Expected))
	for _, name := range c.Expected {
		expected[name] = true
	}
	for _, s := range e.order {
		_, unclaimed := e.unclaimed[s.name]
		switch here := s.open || s.refused; {
		case !s.covered:
		case here && !expected[s.name]:
			s.expect = true
		case !here && expected[s.name] && s.stats.everOpen && len(s.closing) == 0 && !unclaimed:
			s.unexpect = true // it was ours and has ended; taking it out had failed
		}
	}
	for _, en := range c.Entries {
		s, ok := e.symbols[en.Symbol]
		if !ok || s.held.proposal.Revision == 0 || s.held.distrust || s.inFlight {
			continue
		}
		if en.Found && en.Err == nil && len(en.Problems) == 0 && sameContent(en.Proposal, s.held.proposal) {
			continue
		}
		s.held.distrust = true
		e.met.auditMismatches.Inc()
		e.repaired(s, "other content than was published")
	}
}

// sameContent compares everything that only a full publish may change.
func sameContent(got, want store.Proposal) bool {
	for _, p := range []*store.Proposal{&got, &want} {
		p.LastUpdate, p.MarketAt, p.PositionAt, p.ValidUntil = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		p.Peak, p.Trough = 0, 0
	}
	return slices.Equal(store.Encode(got), store.Encode(want))
}
