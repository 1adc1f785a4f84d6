package engine

import (
	"slices"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// take applies one event to what is remembered. It marks what must be evaluated; it evaluates nothing itself.
func (e *Engine) take(ev feed.Event) {
	switch ev := ev.(type) {
	case feed.History:
		s := e.symbol(ev.Symbol)
		for _, r := range s.market.series.Replace(ev.Candles) {
			e.refuse(r)
		}
		s.market.moved, s.market.consumed = true, false
		if n := len(ev.Candles); n > 0 {
			s.marketMoved(ev.At, e.now)
			e.book.Price(s.name, ev.Candles[n-1].Close, ev.At)
			e.pastExtremes(s)
		}
		e.touch(s)
	case feed.Candle:
		e.takeCandle(ev)
	case feed.Price:
		s := e.symbol(ev.Symbol)
		for _, p := range [...]float64{ev.High, ev.Low, ev.Price} {
			if p == 0 {
				continue // not a merged tick
			}
			// A source that revises its open candle itself knows the trades in it; a mark price is none.
			if !e.recent(s.market.revisedAt) && s.market.series.Revise(p, ev.At) {
				s.market.moved = true
			}
			e.book.Price(s.name, p, ev.At)
		}
		s.market.quotedAt = e.now
		s.marketMoved(ev.At, e.now)
		e.touch(s)
	case feed.State:
		s := e.symbol(ev.Symbol)
		s.market.state, s.market.haveState, s.market.consumed = ev.State, true, true
		s.marketMoved(ev.At, e.now)
		e.touch(s)
	case feed.Stops:
		s := e.symbol(ev.Symbol)
		s.market.stops, s.market.haveStops = ev, true
		e.touch(s)
	case feed.Snapshot:
		if !e.restored {
			e.waiting = append(e.waiting, ev)
			if len(e.waiting) > maxWaitingSnapshots {
				e.waiting = append(e.waiting[:0], e.waiting[1:]...)
			}
			return
		}
		e.takeSnapshot(ev)
	case feed.Refusal:
		e.refuse(ev)
	case feed.Outage:
		e.met.outages.WithLabelValues(ev.Source).Inc()
		e.opts.Log.Warn("input source cannot be read", "source", ev.Source, "err", ev.Err)
	case feed.End:
		e.opts.Log.Info("input source has ended", "source", ev.Source)
	}
}

// Absence needs two snapshots in a row, so a few of each source are enough to lose nothing while the store is away.
const maxWaitingSnapshots = 16

func (e *Engine) takeCandle(c feed.Candle) {
	s := e.symbol(c.Symbol)
	changed, refusal := s.market.series.Apply(c)
	if refusal != nil {
		e.refuse(*refusal)
		return
	}
	// After another service's state comes that of the window, even where the window stands as it was.
	s.market.moved = s.market.moved || changed || s.market.consumed
	s.market.consumed = false
	s.marketMoved(c.At, e.now)
	e.book.Range(s.name, c.High, c.Low, c.OpenTime, c.At)
	if !c.Closed {
		s.market.revisedAt = e.now
	}
	// Where the source quotes prices beside its candles, those value the position: the exchange's own mark, not the last
	// trade. Taking both would make the profit swing by the difference.
	if !e.recent(s.market.quotedAt) {
		e.book.Price(s.name, c.Close, c.At)
	}
	e.touch(s)
}

// quoteFresh is for how long prices or open candles count as arriving, after the last one.
const quoteFresh = 10 * time.Second

func (e *Engine) recent(at time.Time) bool { return !at.IsZero() && e.now.Sub(at) < quoteFresh }

// pastExtremes widens the extremes of an open position by the candles since it was opened: what happened before the
// position, or this process, was first seen.
func (e *Engine) pastExtremes(s *symbol) {
	p, ok := e.book.Get(s.name)
	if !ok {
		return
	}
	if high, low, ok := s.market.series.Extremes(p.OpenedAt); ok {
		e.book.Range(s.name, high, low, p.OpenedAt, e.now)
	}
}

func (e *Engine) takeSnapshot(snap feed.Snapshot) {
	turned := false // a position began or ended
	for _, ch := range e.book.Observe(snap.Snapshot, e.clock.Strategy(e.now)) {
		s := e.symbol(ch.Symbol)
		turned = turned || ch.Kind != position.Updated
		switch ch.Kind {
		case position.Opened:
			e.openPosition(s, ch.After)
		case position.Updated:
			e.touch(s)
		case position.Closed:
			e.closePosition(s, ch.Before, reasonFlat)
		case position.Flipped:
			e.closePosition(s, ch.Before, reasonFlip)
			e.openPosition(s, ch.After)
		case position.Renewed:
			e.closePosition(s, ch.Before, reasonRenewed)
			e.openPosition(s, ch.After)
		}
	}
	if turned {
		e.refreshUniverse()
	}
	e.sweep(&snap.Snapshot)
	e.noteRefused(&snap.Snapshot)
	for _, r := range snap.Records {
		s, ok := e.symbols[r.Symbol]
		if !ok || !s.open {
			continue
		}
		if p, ok := e.book.Get(r.Symbol); ok && p.UpdatedAt.After(s.positionAt) {
			s.positionAt, s.positionSeen = p.UpdatedAt, e.now
		}
	}
}

// noteRefused keeps the positions in sight whose record cannot be read: they are expected like any other, so that a
// missing proposal shows, until the record is gone or good.
func (e *Engine) noteRefused(snap *position.Snapshot) {
	refused := snap.Refused
	for _, name := range e.refused[snap.Source] {
		s := e.symbols[name]
		switch {
		case s == nil || !s.refused || slices.Contains(snap.Refused, name):
		case slices.Contains(snap.Lost, name):
			refused = append(slices.Clip(refused), name) // as far as is known it is still there
		default:
			s.refused = false
			s.unexpect = !s.open
		}
	}
	for _, name := range snap.Refused {
		s := e.symbol(name)
		if s.covered && !s.refused {
			s.expect = true
		}
		s.refused, s.unexpect = true, false
	}
	e.refused[snap.Source] = refused
}

func (e *Engine) openPosition(s *symbol, p position.Position) {
	s.endEpisode()
	s.open, s.expect, s.stats.everOpen = true, true, true
	s.positionAt, s.positionSeen = p.UpdatedAt, e.now
	e.pastExtremes(s)
	e.touch(s)
	if !s.covered {
		e.opts.Log.Warn("open position outside SYMBOLS is not covered", "symbol", s.name, "side", p.Side)
		return
	}
	e.opts.Log.Info("position opened", "symbol", s.name, "side", p.Side, "episode", p.Episode,
		"entry", p.Entry, "source", p.Source)
}

// Why an episode ended, in its closing record.
const (
	reasonFlat      = "flat"
	reasonFlip      = "flip"      // the other side took its place
	reasonRenewed   = "renewed"   // another position of the same side took its place
	reasonSynthetic = "synthetic" // made up for a demonstration that is over
	reasonOrphan    = "orphan"    // what was left of a position that no living source knows
)

func (e *Engine) closePosition(s *symbol, p position.Position, reason string) {
	s.open = false
	// Where another publisher writes this symbol it leaves the record. If that fails to see the end, it shows when the
	// lease comes here.
	if s.covered && !e.elsewhere(s) {
		s.closing = append(s.closing, store.Close{
			Symbol: s.name, Episode: p.Episode, Reason: reason, At: e.now, Last: s.held.proposal,
		})
		e.opts.Log.Info("position closed", "symbol", s.name, "side", p.Side, "episode", p.Episode, "reason", reason)
	}
	s.endEpisode()
}

// refuse counts one refused input and says so, at most once a minute for the same symbol, field and reason.
func (e *Engine) refuse(r feed.Refusal) {
	if r.At.IsZero() {
		r.At = e.now
	}
	e.counts.refusals++
	e.met.countRefusal(r)
	if s, ok := e.symbols[r.Symbol]; ok {
		s.refuse(r)
	}
	if r.Reason == feed.ReasonGap || r.Reason == feed.ReasonDuplicate {
		e.opts.Log.Debug("input refused", "symbol", r.Symbol, "source", r.Source, "key", r.Key, "field", r.Field, "reason", r.Reason, "value", r.Value)
		return
	}
	e.say("refused "+r.Key+" "+r.Field+" "+string(r.Reason), r.Symbol, "input refused",
		"source", r.Source, "key", r.Key, "field", r.Field, "reason", r.Reason, "value", r.Value)
}
