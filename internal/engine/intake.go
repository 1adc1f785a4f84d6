package engine

import (
	"context"
	"log/slog"
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
		for _, r := range s.series.Replace(ev.Candles) {
			e.refuse(r)
		}
		s.seriesNew, s.consumed = true, false
		if n := len(ev.Candles); n > 0 {
			e.marketMoved(s, ev.At)
			e.book.Price(s.name, ev.Candles[n-1].Close, ev.At)
		}
		e.touch(s)
	case feed.Candle:
		e.takeCandle(ev)
	case feed.Price:
		s := e.symbol(ev.Symbol)
		if s.series.Revise(ev.Price, ev.At) {
			s.seriesNew = true
		}
		e.marketMoved(s, ev.At)
		e.book.Price(s.name, ev.Price, ev.At)
		e.touch(s)
	case feed.State:
		s := e.symbol(ev.Symbol)
		s.state, s.haveState, s.consumed = ev.State, true, true
		e.marketMoved(s, ev.At)
		e.touch(s)
	case feed.Stops:
		s := e.symbol(ev.Symbol)
		s.stops, s.haveStops = ev, true
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
	changed, refusal := s.series.Apply(c)
	if refusal != nil {
		e.refuse(*refusal)
		if refusal.Reason != feed.ReasonGap {
			return
		}
	}
	s.consumed = false
	s.seriesNew = s.seriesNew || changed
	e.marketMoved(s, c.At)
	e.book.Range(s.name, c.High, c.Low, c.OpenTime, c.At)
	e.book.Price(s.name, c.Close, c.At)
	e.touch(s)
}

// marketMoved notes a valid market input. Its event time never goes back.
func (e *Engine) marketMoved(s *symbol, at time.Time) {
	if at.After(s.marketAt) {
		s.marketAt, s.marketSeen = at, e.now
	}
}

func (e *Engine) takeSnapshot(snap feed.Snapshot) {
	for _, ch := range e.book.Observe(snap.Snapshot, e.clock.Strategy(e.now)) {
		s := e.symbol(ch.Symbol)
		switch ch.Kind {
		case position.Opened:
			e.openPosition(s, ch.After)
		case position.Updated:
			e.touch(s)
		case position.Closed:
			e.closePosition(s, ch.Before, "flat")
		case position.Flipped:
			e.closePosition(s, ch.Before, "flip")
			e.openPosition(s, ch.After)
		case position.Renewed:
			e.closePosition(s, ch.Before, "renewed")
			e.openPosition(s, ch.After)
		}
	}
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

func (e *Engine) openPosition(s *symbol, p position.Position) {
	s.open, s.stats.everOpen = true, true
	s.positionAt, s.positionSeen = p.UpdatedAt, e.now
	s.dirty = false
	e.touch(s)
	e.refreshUniverse()
	if !s.covered {
		e.opts.Log.Warn("open position outside SYMBOLS is not covered", "symbol", s.name, "side", p.Side)
		return
	}
	e.opts.Log.Info("position opened", "symbol", s.name, "side", p.Side, "episode", p.Episode,
		"entry", p.Entry, "source", p.Source)
}

func (e *Engine) closePosition(s *symbol, p position.Position, reason string) {
	s.open = false
	if s.covered {
		s.closing = append(s.closing, store.Close{
			Symbol: s.name, Episode: p.Episode, Reason: reason, At: e.now, Last: s.content,
		})
		e.opts.Log.Info("position closed", "symbol", s.name, "side", p.Side, "episode", p.Episode, "reason", reason)
	}
	s.forgetAdvice()
	e.refreshUniverse()
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
	key := refusalKey{r.Symbol, r.Key, r.Field, r.Reason}
	if last, ok := e.counts.said[key]; ok && e.now.Sub(last) < time.Minute {
		return
	}
	if e.counts.said == nil || len(e.counts.said) >= maxSaid {
		e.counts.said = make(map[refusalKey]time.Time)
	}
	e.counts.said[key] = e.now
	level := slog.LevelWarn
	if r.Reason == feed.ReasonGap || r.Reason == feed.ReasonDuplicate {
		level = slog.LevelInfo
	}
	e.opts.Log.Log(context.Background(), level, "input refused", "symbol", r.Symbol, "source", r.Source, "key", r.Key,
		"field", r.Field, "reason", r.Reason, "value", r.Value)
}

// maxSaid bounds the memory of what was already logged; past it everything may be said once more.
const maxSaid = 4096

type refusalKey struct {
	symbol position.Symbol
	key    string
	field  string
	reason feed.Reason
}
