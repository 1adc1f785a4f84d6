package engine

import (
	"iter"
	"slices"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// Work is what one look at the symbols wants done outside: a batch for the store and, once a cycle, a read-back of what it holds.
type Work struct {
	Batch store.Batch
	Audit bool // a read-back is due: AuditExpected begins it

	sent time.Time
}

// Empty tells whether there is nothing to write.
func (w Work) Empty() bool {
	b := w.Batch
	return len(b.Publishes)+len(b.Beats)+len(b.Closes)+len(b.Expect)+len(b.Unexpect)+len(b.States)+len(b.Stops) == 0
}

// validIntervals is for how many beat intervals advice stays valid after a beat (wire contract, valid_until_epoch).
const validIntervals = 5

// Heartbeats go in batches, because a tick of a symbol that is in the one under way waits for it: the smaller, the shorter. Where
// the way to the store is long, larger ones save round trips.
const (
	leastBeatsAtOnce = 100
	mostBeatsAtOnce  = 1 << 16
	// shortTrip is about what a server needs for the smallest batch.
	shortTrip = 2 * time.Millisecond
)

// noteTrip takes in how long the smallest round trip took lately: an ask for the lease. Of the last ones the shortest
// counts, because the others may have waited for a batch.
func (e *Engine) noteTrip(took time.Duration) {
	e.trips[e.tripNo%len(e.trips)] = max(took, 0)
	e.tripNo++
	trip := slices.Min(e.trips[:min(e.tripNo, len(e.trips))])
	e.beatsAtOnce = int(min(mostBeatsAtOnce, leastBeatsAtOnce*max(1, trip/shortTrip)))
}

// mostPublishesAtOnce bounds the memory of a batch of proposals. There may be two batches under way. For as many, one round trip
// more does not show, unless the way to the store is long: then they are twice as large.
const mostPublishesAtOnce = 625

// turn is where looking at the symbols in order goes on, when a batch could not take all: under overload none always comes
// last.
type turn struct {
	last position.Symbol // of the last batch that was full
	full bool            // the last batch was, so that others were left
}

// from gives the symbols in order, from the one behind the last of the last full batch, and around.
func (t *turn) from(order []*symbol) iter.Seq[*symbol] {
	first := behind(order, t.last)
	t.full = false
	return func(yield func(*symbol) bool) {
		for i := range order {
			if first+i >= len(order) {
				first = -i
			}
			if !yield(order[first+i]) {
				return
			}
		}
	}
}

// behind is the place of the first symbol whose name comes after another.
func behind(order []*symbol, name position.Symbol) int {
	first, _ := slices.BinarySearchFunc(order, name, func(s *symbol, name position.Symbol) int {
		if s.name <= name {
			return -1
		}
		return 1
	})
	return first
}

// fill ends a look at the symbols, because a batch is full.
func (t *turn) fill(last *symbol) { t.last, t.full = last.name, true }

// work is a batch with nothing in it, under the leases of this moment.
func (e *Engine) work(now time.Time) Work {
	w := Work{sent: now}
	l := &w.Batch.Lease
	*l = store.Lease{Holder: e.opts.Holder, Fences: make([]int64, e.opts.Shards)}
	for shard := range l.Fences {
		if l.Fences[shard] = e.writable(shard); l.Fences[shard] == 0 {
			continue
		}
		if until := e.keeper.Until(shard); l.Until.IsZero() || until.Before(l.Until) {
			l.Until = until
		}
	}
	return w
}

// Urgent gathers what is to be written beside heartbeats, as far as a batch takes it, and marks it as under way: proposals in
// full, closes, the expected set, produced records. It goes to the store one piece at a time, and what became of it comes back
// through Confirm. A read-back and a reading of the memory must have the store to themselves.
func (e *Engine) Urgent(now time.Time) Work {
	e.keepTime(now)
	if !e.restored {
		return Work{}
	}
	w := e.work(now)
	b := &w.Batch
	most := max(e.publishesAtOnce, min(e.beatsAtOnce, 2*e.publishesAtOnce)) // more where the way is long
	w.Audit, e.auditDue = e.auditDue, false
	e.wanting = e.wanting[:0]
	for s := range e.urgentTurn.from(e.order) {
		if b.Lease.Fences[s.shard] == 0 {
			continue // another publisher writes it, or nobody may at this moment
		}
		if len(b.States) < min(e.publishesAtOnce, e.beatsAtOnce) && e.mayProduce(s, now) {
			e.produce(s, b, now) // as many as a batch of heartbeats has: nothing urgent waits for them
		}
		if s.dropped && !s.inFlight {
			b.Unexpect = append(b.Unexpect, s.name)
			s.dropped = false
		}
		if e.mayWrite(s) {
			e.expectations(s, b)
			switch {
			case len(s.closing) > 0:
				e.addClose(s, b)
			case s.open:
				if why := e.wants(s); why != "" {
					if s.held.proposal.Revision == 0 || s.held.distrust {
						b.Expect = append(b.Expect, s.name)
					}
					e.want(s, why)
				}
			}
		}
		if len(e.wanting) >= most {
			e.urgentTurn.fill(s)
			e.routineLeft = true
			break
		}
	}
	e.addPublishes(b, now)
	return w
}

// Routine gathers heartbeats, and proposals that Urgent left because its batch was full: what may be under way beside that
// batch. It goes to the store one piece at a time as well.
func (e *Engine) Routine(now time.Time) Work {
	e.keepTime(now)
	if !e.restored || !e.routineLeft {
		return Work{}
	}
	w := e.work(now)
	b := &w.Batch
	e.wanting = e.wanting[:0]
	e.routineLeft = false
	for s := range e.routineTurn.from(e.order) {
		if !s.open || b.Lease.Fences[s.shard] == 0 || len(s.closing) > 0 || s.held.proposal.Revision == 0 || !e.mayWrite(s) {
			continue
		}
		switch why := e.wants(s); {
		case why == "" && s.beatDue:
			if b.Beats == nil {
				b.Beats = make([]store.Beat, 0, min(e.beatsAtOnce, len(e.order)))
			}
			b.Beats = append(b.Beats, e.beat(s, now))
			s.inFlight = true
		case why != "" && e.urgentTurn.full && !s.held.distrust:
			e.want(s, why)
		}
		if len(b.Beats) >= e.beatsAtOnce || len(e.wanting) >= e.publishesAtOnce {
			e.routineTurn.fill(s)
			e.routineLeft = true
			break
		}
	}
	e.addPublishes(b, now)
	return w
}

// mayWrite tells whether the hash of a symbol may be written now.
func (e *Engine) mayWrite(s *symbol) bool {
	return s.covered && !s.unread && !s.inFlight && e.beatNo >= s.retryBeat
}

// expectations puts what changes in the expected set, without a position that begins or ends, into a batch.
func (e *Engine) expectations(s *symbol, b *store.Batch) {
	if s.unexpect && !s.open {
		b.Unexpect = append(b.Unexpect, s.name)
	}
	s.unexpect = false
	if s.expect && (s.open || s.refused) {
		b.Expect = append(b.Expect, s.name)
		s.expect = false
	}
}

// addClose puts one close into a batch, before anything of a newer episode: the record of the old one must be written first.
func (e *Engine) addClose(s *symbol, b *store.Batch) {
	c := s.closing[0]
	c.Fence = e.fenceOf(s)
	b.Closes = append(b.Closes, c)
	if !s.open && len(s.closing) == 1 {
		b.Unexpect = append(b.Unexpect, s.name)
	}
	s.inFlight = true
}

// want notes that a proposal goes in full into the batch under way.
func (e *Engine) want(s *symbol, why PublishReason) {
	e.wanting = append(e.wanting, s)
	s.publishing, s.inFlight, s.beatCarried = why, true, s.beatDue
}

// addPublishes puts the proposals that were wanted into a batch.
func (e *Engine) addPublishes(b *store.Batch, now time.Time) {
	b.Publishes = make([]store.Proposal, len(e.wanting))
	for i, s := range e.wanting {
		e.stamp(s, &b.Publishes[i], now)
	}
	clear(e.wanting)
}

func (e *Engine) stamp(s *symbol, p *store.Proposal, now time.Time) {
	*p = s.advice.content
	if p.Reasons == nil {
		p.Reasons = s.advice.reasons.Codes()
	}
	p.Revision, p.Fence, p.SchemaVersion = s.revision, e.fenceOf(s), store.SchemaVersion
	p.Publisher, p.PublisherVersion = e.opts.Publisher, e.opts.Version
	p.LastUpdate, p.ValidUntil = e.beatTimes(now)
	p.MarketAt, p.PositionAt = s.market.at, s.positionAt
	p.Peak, p.Trough = e.extremes(s)
}

func (e *Engine) beat(s *symbol, now time.Time) store.Beat {
	last, until := e.beatTimes(now)
	peak, trough := e.extremes(s)
	return store.Beat{
		Symbol: s.name, Revision: s.held.proposal.Revision, Fence: s.held.proposal.Fence,
		LastUpdate: last, ValidUntil: until,
		MarketAt: s.market.at, PositionAt: s.positionAt, InputState: s.advice.state,
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

// mayProduce tells whether the market state and stops of a symbol are due, for those who read the legacy keys, at their own
// interval. What another service supplies, and what rests on stale data, is never written.
func (e *Engine) mayProduce(s *symbol, now time.Time) bool {
	m := &s.market
	wanted := m.produces || (len(e.opts.StateSymbols) == 0 && s.open && s.covered)
	return wanted && !e.opts.NoProducing && !m.consumed && now.Sub(m.producedAt) >= e.opts.ProduceEvery && now.Sub(m.at) <= e.opts.MarketStale
}

func (e *Engine) produce(s *symbol, b *store.Batch, now time.Time) {
	m := &s.market
	e.refreshState(s)
	if !m.haveState {
		return
	}
	m.producedAt = now
	ttl := 10 * e.opts.ProduceEvery
	b.States = append(b.States, store.MarketStateRecord{
		Symbol: s.name, State: m.state, At: m.at, BufferSize: len(m.series.Closes()), TTL: ttl,
		Publisher: e.opts.Publisher, Source: e.opts.MarketSource,
	})
	if p, ok := e.book.Get(s.name); ok && m.haveOwn && s.advice.state == store.InputFresh {
		b.Stops = append(b.Stops, store.StopsRecord{
			Symbol: s.name, Stops: m.ownStops, State: m.state, Position: p,
			AgeSec: s.advice.content.AgeSec, At: s.advice.content.ComputedAt, TTL: ttl,
			Publisher: e.opts.Publisher, Source: e.opts.MarketSource,
		})
	}
}
