package engine

import (
	"iter"
	"slices"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
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

// Empty tells whether there is nothing to write.
func (w Work) Empty() bool {
	b := w.Batch
	return len(b.Publishes)+len(b.Beats)+len(b.Closes)+len(b.Expect)+len(b.Unexpect)+len(b.States)+len(b.Stops) == 0
}

// validIntervals is for how many beat intervals advice stays valid after a beat (wire contract, valid_until_epoch).
const validIntervals = 5

// Heartbeats go in batches, because what a tick leads to waits for the one under way: the smaller, the shorter. Where the
// way to the store is long, larger ones save round trips.
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

// mostPublishesAtOnce bounds the memory of a batch, for proposals and for produced states each. For as many, one round trip
// more and another look at every symbol do not show.
const mostPublishesAtOnce = 1250

// inTurns gives up to most of the symbols, which are in order. Where that is not all of them it goes on behind the last one of
// the batch before, so that under overload no symbol always comes last.
func inTurns(all []*symbol, most int, last *position.Symbol) iter.Seq[*symbol] {
	return func(yield func(*symbol) bool) {
		first := 0
		if len(all) > most {
			first, _ = slices.BinarySearchFunc(all, *last, func(s *symbol, last position.Symbol) int {
				if s.name <= last {
					return -1
				}
				return 1
			})
		}
		for i := range min(len(all), most) {
			s := all[(first+i)%len(all)]
			*last = s.name
			if !yield(s) {
				return
			}
		}
	}
}

func (e *Engine) addPublishes(b *store.Batch, wanting []*symbol, now time.Time) {
	b.Publishes = make([]store.Proposal, 0, min(len(wanting), e.publishesAtOnce))
	for s := range inTurns(wanting, e.publishesAtOnce, &e.lastPublished) {
		if s.held.proposal.Revision == 0 || s.held.distrust {
			b.Expect = append(b.Expect, s.name)
		}
		b.Publishes = append(b.Publishes, store.Proposal{})
		e.stamp(s, &b.Publishes[len(b.Publishes)-1], now)
		s.inFlight, s.beatCarried = true, s.beatDue
	}
}

func (e *Engine) addBeats(b *store.Batch, due []*symbol, now time.Time) {
	b.Beats = make([]store.Beat, 0, min(len(due), e.beatsAtOnce))
	for s := range inTurns(due, e.beatsAtOnce, &e.lastBeaten) {
		b.Beats = append(b.Beats, e.beat(s, now))
		s.inFlight = true
	}
}

// collect gathers what is wanted into a batch and marks it as under way.
func (e *Engine) collect(now time.Time) Work {
	w := Work{sent: now}
	b := &w.Batch
	b.Lease = store.Lease{Holder: e.opts.Holder, Fences: make([]int64, e.opts.Shards)}
	for shard := range b.Lease.Fences {
		if b.Lease.Fences[shard] = e.writable(shard); b.Lease.Fences[shard] == 0 {
			continue
		}
		if until := e.keeper.Until(shard); b.Lease.Until.IsZero() || until.Before(b.Lease.Until) {
			b.Lease.Until = until
		}
	}
	e.producing, e.wanting, e.due = e.producing[:0], e.wanting[:0], e.due[:0]
	for _, s := range e.order {
		if b.Lease.Fences[s.shard] == 0 {
			continue // another publisher writes it, or nobody may at this moment
		}
		if e.mayProduce(s, now) {
			e.producing = append(e.producing, s)
		}
		if s.dropped && !s.inFlight {
			b.Unexpect = append(b.Unexpect, s.name)
			s.dropped = false
		}
		if !s.covered || s.unread || s.inFlight || e.beatNo < s.retryBeat {
			continue
		}
		if s.unexpect && !s.open {
			b.Unexpect = append(b.Unexpect, s.name)
		}
		s.unexpect = false
		if s.expect && (s.open || s.refused) {
			b.Expect = append(b.Expect, s.name)
			s.expect = false
		}
		if len(s.closing) > 0 {
			// One at a time and before anything of a newer episode: the record of the old one must be written first.
			c := s.closing[0]
			c.Fence = e.fenceOf(s)
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
		s.publishing = e.wants(s)
		switch {
		case s.publishing != "":
			e.wanting = append(e.wanting, s)
		case s.beatDue && s.held.proposal.Revision != 0:
			e.due = append(e.due, s)
		}
	}
	for s := range inTurns(e.producing, e.publishesAtOnce, &e.lastProduced) {
		e.produce(s, b, now)
	}
	e.addPublishes(b, e.wanting, now)
	e.addBeats(b, e.due, now)
	clear(e.producing)
	clear(e.wanting)
	clear(e.due)
	return w
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
