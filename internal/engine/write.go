package engine

import (
	"errors"
	"math"
	"reflect"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// Work is what one step wants done outside: a batch for the store and, once a cycle, a read-back of what it holds.
type Work struct {
	Batch store.Batch
	Audit bool // read all proposals back and hand them to Audit

	// What the step did, for whoever measures it: Step itself reads no clock.
	Beat      bool // everything open was evaluated, because a beat was due
	Evaluated int  // open positions evaluated

	sent time.Time
}

// Empty tells whether there is nothing to do.
func (w Work) Empty() bool {
	b := w.Batch
	return !w.Audit && len(b.Publishes)+len(b.Beats)+len(b.Closes)+len(b.Expect)+len(b.Unexpect)+len(b.States)+len(b.Stops) == 0
}

// validIntervals is for how many beat intervals advice stays valid after a beat (wire contract, valid_until_epoch).
const validIntervals = 5

// collect gathers what is wanted into a batch and marks it as under way.
func (e *Engine) collect(now time.Time) Work {
	w := Work{sent: now}
	b := &w.Batch
	for _, s := range e.order {
		e.produce(s, b, now)
		if !s.covered || s.inFlight || now.Before(s.retryAt) {
			continue
		}
		if len(s.closing) > 0 {
			// One at a time and before anything of a newer episode: the record of the old one must be written first.
			c := s.closing[0]
			c.Fence = e.fence
			b.Closes = append(b.Closes, c)
			if !s.open && len(s.closing) == 1 {
				b.Unexpect = append(b.Unexpect, s.name)
			}
			s.inFlight = true
			continue
		}
		if !s.open {
			continue
		}
		switch {
		case s.want != "":
			b.Publishes = append(b.Publishes, e.stamp(s, now))
			s.inFlight, s.beatCarried = true, s.beatDue
		case s.beatDue:
			b.Beats = append(b.Beats, e.beat(s, now))
			s.inFlight = true
		}
		if s.want == PublishFirst || s.want == PublishRepair || (!s.haveContent && s.beatWish(e, now)) {
			b.Expect = append(b.Expect, s.name)
		}
	}
	return w
}

// beatWish tells, once a cycle, that a position without any advice must still be expected.
func (s *symbol) beatWish(e *Engine, now time.Time) bool {
	if now.Sub(s.lastBeatAt) < e.opts.Cycle {
		return false
	}
	s.lastBeatAt = now
	return true
}

func (e *Engine) stamp(s *symbol, now time.Time) store.Proposal {
	p := s.content
	if p.Reasons == nil {
		p.Reasons = s.reasons.Codes()
	}
	p.Revision = s.revision
	p.InputState = s.inputState
	p.Publisher, p.Fence = e.opts.Publisher, e.fence
	p.SchemaVersion = store.SchemaVersion
	p.LastUpdate, p.ValidUntil = e.beatTimes(now)
	p.MarketAt, p.PositionAt = s.marketAt, s.positionAt
	p.Peak, p.Trough = e.extremes(s)
	return p
}

func (e *Engine) beat(s *symbol, now time.Time) store.Beat {
	last, until := e.beatTimes(now)
	peak, trough := e.extremes(s)
	return store.Beat{
		Symbol: s.name, Revision: s.revision, Fence: e.fence,
		LastUpdate: last, ValidUntil: until,
		MarketAt: s.marketAt, PositionAt: s.positionAt, InputState: s.inputState,
		Peak: peak, Trough: trough,
	}
}

func (e *Engine) beatTimes(now time.Time) (last, until time.Time) {
	last = now.Truncate(time.Second)
	return last, last.Add(validIntervals * e.opts.Heartbeat)
}

func (e *Engine) extremes(s *symbol) (peak, trough float64) {
	p, _ := e.book.Get(s.name)
	return p.Peak, p.Trough
}

// produce adds the market state and stops of one symbol, for those who read the legacy keys, at their own interval.
// What another service supplies, and what rests on stale data, is never written.
func (e *Engine) produce(s *symbol, b *store.Batch, now time.Time) {
	wanted := s.produces || (len(e.opts.StateSymbols) == 0 && s.open && s.covered)
	if !wanted || s.consumed || now.Sub(s.producedAt) < e.opts.ProduceEvery || now.Sub(s.marketAt) > e.opts.MarketStale {
		return
	}
	e.refreshState(s)
	if !s.haveState {
		return
	}
	s.producedAt = now
	ttl := 10 * e.opts.ProduceEvery
	b.States = append(b.States, store.MarketStateRecord{
		Symbol: s.name, State: s.state, At: s.marketAt, BufferSize: len(s.series.Closes()), TTL: ttl, Publisher: e.opts.Publisher,
	})
	if p, ok := e.book.Get(s.name); ok && s.haveLast && s.inputState == store.InputFresh {
		b.Stops = append(b.Stops, store.StopsRecord{
			Symbol: s.name, Stops: s.lastStops, State: s.state, Position: p,
			AgeSec: s.content.AgeSec, At: s.content.ComputedAt, TTL: ttl, Publisher: e.opts.Publisher,
		})
	}
}

// Confirm takes in what became of a Work that Step returned. With a non-nil err nothing is known to have been written:
// everything open is written in full when the store is back.
func (e *Engine) Confirm(w Work, res store.Results, err error, now time.Time) {
	if err != nil {
		e.storeFailed(w)
		return
	}
	e.met.roundTrips.Add(float64(res.RoundTrips))
	if err := errors.Join(res.ExpectErr, res.StreamErr); err != nil {
		e.met.sideErrors.Inc()
		e.opts.Log.Warn("proposals were written, but not everything beside them", "err", err)
	}
	for i, r := range res.Publishes {
		e.confirmPublish(w, w.Batch.Publishes[i], r, now)
	}
	for i, r := range res.Beats {
		e.confirmBeat(w.Batch.Beats[i], r, now)
	}
	for i, r := range res.Closes {
		e.confirmClose(w.Batch.Closes[i], r, now)
	}
	for _, group := range [2][]store.Result{res.States, res.Stops} {
		for _, r := range group {
			e.met.produced.WithLabelValues(string(r.Outcome)).Inc()
			if r.Outcome == store.Failed {
				e.opts.Log.Warn("produced record was refused by the store", "symbol", r.Symbol, "err", r.Err)
			}
		}
	}
}

func (e *Engine) storeFailed(w Work) {
	e.counts.storeErrors++
	b := w.Batch
	for _, p := range b.Publishes {
		e.symbols[p.Symbol].inFlight = false
		e.met.publishes.WithLabelValues(resultError).Inc()
	}
	for _, t := range b.Beats {
		e.symbols[t.Symbol].inFlight = false
		e.met.beats.WithLabelValues(resultError).Inc()
	}
	for _, c := range b.Closes {
		e.symbols[c.Symbol].inFlight = false
	}
	// A write whose answer was lost may or may not have arrived, and the store may come back empty or old.
	for _, s := range e.order {
		if s.published && !s.repair {
			s.repair = true
		}
		if s.open && s.covered && s.haveContent && s.evaluated {
			s.want = PublishRepair
			if !s.published {
				s.want = PublishFirst
			}
		}
		s.producedAt = time.Time{}
	}
}

func (e *Engine) confirmPublish(w Work, p store.Proposal, r store.Result, now time.Time) {
	s := e.symbols[p.Symbol]
	s.inFlight = false
	e.met.publishes.WithLabelValues(string(r.Outcome)).Inc()
	switch r.Outcome {
	case store.Done:
		e.counts.publishes++
		s.stats.publishes++
		s.isFenced, s.stats.everServed = false, true
		s.revision = r.Revision
		s.lastPublishAt, s.lastBeatAt = w.sent, w.sent
		if !s.open || s.content.Episode != p.Episode {
			return // closed or flipped while the write was under way: the close follows
		}
		s.published, s.repair = true, false
		s.confirmed = p
		s.confirmed.Revision = r.Revision
		s.last = kernel.Published{Action: p.Action, NewStop: p.NewStop, KillScore: p.KillScore, AtSec: e.elapsed(w.sent)}
		s.lastState = p.InputState
		s.want = ""
		if s.beatCarried {
			s.beatDue = false
			s.stats.beats++
			e.counts.beats++
			e.met.beats.WithLabelValues(resultPublished).Inc()
		}
		if r.Repaired {
			e.counts.repairs++
			e.opts.Log.Warn("proposal key had another type and was replaced", "symbol", s.name)
		}
	case store.Fenced:
		e.fencedBy(s, r, now)
	default:
		s.repair = s.published
		s.retryAt = e.nextBeat
		e.opts.Log.Warn("proposal was not written", "symbol", s.name, "outcome", r.Outcome, "err", r.Err)
	}
}

func (e *Engine) confirmBeat(b store.Beat, r store.Result, now time.Time) {
	s := e.symbols[b.Symbol]
	s.inFlight = false
	e.met.beats.WithLabelValues(string(r.Outcome)).Inc()
	switch r.Outcome {
	case store.Done:
		e.counts.beats++
		s.stats.beats++
		s.isFenced = false
		s.beatDue = false
		s.lastBeatAt = b.LastUpdate
	case store.Fenced:
		e.fencedBy(s, r, now)
	case store.Failed:
		s.repair, s.want = true, PublishRepair
		s.retryAt = e.nextBeat
		e.opts.Log.Warn("heartbeat was not written", "symbol", s.name, "err", r.Err)
	default: // missing, incomplete, superseded: the copy in the store is not ours or not whole
		s.repair, s.want = true, PublishRepair
		e.counts.repairs++
		e.opts.Log.Info("proposal in the store is not whole: publishing in full", "symbol", s.name, "found", r.Outcome)
	}
}

func (e *Engine) confirmClose(c store.Close, r store.Result, now time.Time) {
	s := e.symbols[c.Symbol]
	s.inFlight = false
	e.met.closes.WithLabelValues(string(r.Outcome)).Inc()
	switch r.Outcome {
	case store.Fenced:
		e.fencedBy(s, r, now)
		return
	case store.Failed:
		s.retryAt = e.nextBeat
		e.opts.Log.Warn("closing record was not written", "symbol", s.name, "err", r.Err)
		return
	}
	s.closing = s.closing[1:]
	e.counts.closes++
	if s.open {
		e.touch(s)
	}
}

// fencedBy stands by: another writer holds the key. Its advice is valid until a stated moment; only when that passes
// without a new beat is the key taken over, under a new and higher fence.
func (e *Engine) fencedBy(s *symbol, r store.Result, now time.Time) {
	if !s.isFenced {
		e.opts.Log.Warn("another publisher holds this symbol: standing by", "symbol", s.name,
			"holder", r.FencedBy.Publisher, "valid_until", r.FencedBy.ValidUntil)
	}
	s.isFenced, s.fenced = true, r.FencedBy
	s.published = false // what stands there is not ours: it will be written in full or not at all
	if s.evaluated && s.haveContent {
		s.want = PublishFirst
	}
	if now.After(r.FencedBy.ValidUntil) {
		e.wantFence = true
		s.retryAt = time.Time{}
		return
	}
	s.retryAt = r.FencedBy.ValidUntil.Add(e.opts.Heartbeat)
}

// WantsFence tells that a new fence must be taken from the store before the next write.
func (e *Engine) WantsFence() bool { return e.wantFence }

// SetFence hands over a fence taken from the store. It never goes back.
func (e *Engine) SetFence(f int64) {
	if f > e.fence {
		e.fence = f
	}
	e.wantFence = false
}

// Restore takes in what the store remembers from before this process: episodes, extremes, revisions, and the last
// advice, which stands until there is better. Entries that cannot be read whole are only overwritten.
func (e *Engine) Restore(entries []store.Entry, now time.Time) {
	e.keepTime(now)
	for _, en := range entries {
		s := e.symbol(en.Symbol)
		if !en.Found || en.Err != nil {
			continue
		}
		p := en.Proposal
		s.revision = max(s.revision, p.Revision)
		if len(en.Problems) > 0 || p.Episode == "" || !s.covered {
			continue // an earlier writer's hash carries no episode: there is nothing of ours to keep
		}
		e.book.Restore(position.Position{
			Symbol: en.Symbol, Side: p.Side, Episode: p.Episode, Entry: p.Entry, Current: p.Current,
			Peak: p.Peak, Trough: p.Trough, Stop: p.Stop, OpenedAt: p.OpenedAt,
			CurrentAt: p.ContentPositionAt, UpdatedAt: p.PositionAt, Source: p.PositionSource, Strategy: e.opts.StrategyPositions,
		})
		s.open, s.stats.everOpen, s.stats.everServed = true, true, true
		s.content, s.haveContent = p, true
		s.marketAt, s.positionAt = p.MarketAt, p.PositionAt
		s.inputState, s.lastState = p.InputState, p.InputState
		s.last = kernel.Published{
			Action: p.Action, NewStop: p.NewStop, KillScore: p.KillScore,
			AtSec: e.elapsed(now) - math.Max(0, now.Round(0).Sub(p.ComputedAt).Seconds()),
		}
		s.published, s.repair = true, true // whole, but under another fence: the first write is a full one
		e.touch(s)
	}
	e.restored = true
	e.refreshUniverse()
	for _, snap := range e.waiting {
		e.takeSnapshot(snap)
	}
	e.waiting = nil
}

// Restored tells whether the durable memory was read.
func (e *Engine) Restored() bool { return e.restored }

// Audit compares what the store holds with what was confirmed. A hash that differs in content was changed by someone
// else: it is counted and written in full at the next step.
func (e *Engine) Audit(entries []store.Entry, now time.Time) {
	e.now = now
	for _, en := range entries {
		s, ok := e.symbols[en.Symbol]
		if !ok || !s.published || s.repair || s.inFlight || s.want != "" || s.isFenced {
			continue
		}
		if en.Found && en.Err == nil && len(en.Problems) == 0 && sameContent(en.Proposal, s.confirmed) {
			continue
		}
		s.repair, s.want = true, PublishRepair
		e.counts.repairs++
		e.met.auditMismatches.Inc()
		e.opts.Log.Warn("proposal in the store differs from what was published: publishing in full", "symbol", s.name,
			"found", en.Found, "problems", len(en.Problems))
	}
}

// sameContent compares everything that only a full publish may change.
func sameContent(got, want store.Proposal) bool {
	for _, p := range []*store.Proposal{&got, &want} {
		p.LastUpdate, p.MarketAt, p.PositionAt, p.ValidUntil = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		p.Peak, p.Trough = 0, 0
	}
	return reflect.DeepEqual(store.Encode(got), store.Encode(want))
}
