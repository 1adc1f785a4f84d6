package engine

import (
	"math"
	"slices"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// Recall is one reading of what the store remembers, under way: it counts for the leases that were held when it began.
type Recall struct {
	fences []int64
	late   bool
}

// Late tells that the reading is only about symbols that were out of reach before, so that others can go on without it.
func (r Recall) Late() bool { return r.late }

// recallEvery is how often symbols that are out of reach are looked for again.
const recallEvery = time.Second

// WantsRecall tells that the memory of the store must be read before anything more can be written: at the start, once it
// is known who writes, and whenever a lease was taken since the last reading. Another process may have written under it.
// In a Cluster some of it may have been out of reach: then the symbols concerned wait for another reading, and no others.
func (e *Engine) WantsRecall(now time.Time) bool {
	if !e.restored {
		return e.keeper.Settled()
	}
	return e.newTerm(now) || e.unread > 0 && now.Sub(e.recalledAt) >= recallEvery
}

// newTerm tells whether a lease is held that was taken since the memory was read.
func (e *Engine) newTerm(now time.Time) bool {
	for shard, known := range e.remembered {
		if fence := e.keeper.Fence(shard, now); fence != 0 && fence != known {
			return true
		}
	}
	return false
}

// BeginRecall must be called before the reading begins; what is read goes to Restore.
func (e *Engine) BeginRecall(now time.Time) Recall {
	r := Recall{fences: make([]int64, len(e.remembered)), late: e.restored && !e.newTerm(now)}
	e.recalledAt = now
	for shard := range r.fences {
		r.fences[shard] = e.keeper.Fence(shard, now)
	}
	return r
}

// Restore takes in what the store remembers from before this process, or from another one that wrote until now:
// episodes, extremes, revisions, and the last advice, which stands until there is better. It must come before anything is
// written.
//
// What the store holds without being memory of ours (a hash that is not whole, an expected symbol without a hash) is
// unclaimed: it is cleared away once a living source has twice been seen without such a position.
func (e *Engine) Restore(r Recall, m store.Memory, now time.Time) {
	e.keepTime(now)
	first := !e.restored
	if first {
		e.restoredAt = now
	}
	// Before any symbol is made: of those without a position the store remembers nothing but their last end.
	for name, last := range m.Closed {
		if last.Revision >= e.ended[name].Revision {
			e.ended[name] = last
		}
	}
	found := make(map[position.Symbol]*store.Entry, len(m.Entries))
	for i := range m.Entries {
		en := &m.Entries[i]
		s := e.symbol(en.Symbol)
		if en.Found {
			s.revision = max(s.revision, en.Proposal.Revision)
		}
		found[en.Symbol] = en
	}
	taken := func(shard int) bool { return r.fences[shard] != 0 && r.fences[shard] != e.remembered[shard] }
	for _, s := range e.order {
		if s.unread && !s.recalled {
			s.closing = nil // of what nobody was told of; what the store holds says what has ended
		}
	}
	for _, c := range m.Pending {
		s := e.symbol(c.Symbol)
		known := slices.ContainsFunc(s.closing, func(own store.Close) bool { return own.Episode == c.Episode })
		if (taken(s.shard) || s.unread) && s.covered && !known {
			s.closing = append(s.closing, c)
		}
	}
	e.unread = 0
	var left newerRelease
	for _, s := range e.order {
		if !s.covered || !first && !taken(s.shard) && !s.unread {
			continue
		}
		en := found[s.name]
		late := s.unread
		if s.unread = en != nil && en.Lost; s.unread {
			e.unread++
			e.say("unread", s.name, "what the store holds of it is out of reach: nothing is written before it was read", "err", en.Err)
			continue
		}
		if late && !s.recalled && en != nil {
			e.forget(s, en)
		}
		e.recall(s, en, m.Closed[s.name])
		s.recalled = true
		if taken(s.shard) {
			left.see(en)
		}
	}
	left.report(e.opts.Log)
	for shard := range r.fences {
		if taken(shard) {
			e.remembered[shard] = r.fences[shard]
		}
	}
	e.restored, e.routineLeft = true, true
	e.refreshUniverse()
	for _, snap := range e.waiting {
		e.takeSnapshot(snap)
	}
	e.waiting = nil
}

// forget drops what this process made of a position whose memory it could not read so far, where that memory is whole: it
// was to come first, and the next reading of the source confirms it or not.
func (e *Engine) forget(s *symbol, en *store.Entry) {
	p := en.Proposal
	pos, open := e.book.Get(s.name)
	if open && en.Found && len(en.Problems) == 0 && pos.Side == p.Side && pos.Episode != p.Episode && e.book.Ended(s.name) != p.Episode {
		e.book.Forget(s.name)
		s.open = false
	}
}

// recall puts what the store holds of one symbol beside what this process knows of it. A nil entry: nothing, and it is
// not expected. closed is what its last closing record was about.
func (e *Engine) recall(s *symbol, en *store.Entry, closed store.Ended) {
	s.revision = max(s.revision, closed.Revision)
	s.closing = slices.DeleteFunc(s.closing, func(c store.Close) bool { return isPast(c, en, closed) })
	s.held, s.challenge = held{}, 0
	s.expect = s.open || s.refused
	delete(e.unclaimed, s.name)
	pos, open := e.book.Get(s.name)
	if !open && closed.Episode != "" {
		e.book.NoteEnded(s.name, closed.Episode)
	}
	if en == nil || !en.Found && en.Err == nil {
		switch {
		case open && pos.Episode == closed.Episode:
			// Another process saw its end. If it is there all the same, the next reading of its source opens it anew.
			e.book.End(s.name)
			s.open = false
			s.endEpisode()
		case !open && en != nil:
			e.unclaimed[s.name] = 0
		}
		return
	}
	p := notAhead(en.Proposal, e.now)
	whole := isWhole(en)
	switch {
	case en.Found && !en.Newer() && p.Publisher == "" && len(en.Problems) < len(store.FieldNames())/2 && p.SchemaVersion == 0:
		// An earlier writer's hash: nothing of ours to keep or to clear away.
	case whole && p.PositionSource == feed.DemoName && !e.opts.DemoPositions:
		// Made-up positions exist only where somebody asked for them: a demonstration ends with its run.
		e.endRecalled(s, p, reasonSynthetic)
	case whole && open && e.book.Adopt(remembered(p, e.opts.StrategyPositions)):
		e.keepRecalled(s, p)
	case whole && open && pos.Side != p.Side:
		e.endRecalled(s, p, reasonFlip)
	case whole && open:
		e.endRecalled(s, p, reasonRenewed)
	case whole && e.book.Ended(s.name) == p.Episode:
		e.endRecalled(s, p, reasonFlat) // its end was seen here, and not by whoever wrote it last
	case whole && e.restoreOne(s, p):
	case !open:
		e.unclaimed[s.name] = 0
	}
}

// isPast tells that a close that waits is of no use any more: its record was left, or another publisher has left that of a
// later episode since.
func isPast(c store.Close, en *store.Entry, closed store.Ended) bool {
	if c.Episode == "" || closed.Episode == "" {
		return false
	}
	stands := en != nil && en.Found && en.Proposal.Episode == c.Episode
	return c.Episode == closed.Episode || !stands && closed.Revision >= c.Last.Revision
}

// notAhead draws what lies ahead of the clock of this process back to it: the clock of whoever wrote it was ahead, or the
// field was spoilt. Inputs of the future would never age, and would keep those of now out.
func notAhead(p store.Proposal, now time.Time) store.Proposal {
	for _, at := range []*time.Time{&p.MarketAt, &p.PositionAt, &p.ContentMarketAt, &p.ContentPositionAt} {
		if at.After(now) {
			*at = now.Round(0).UTC()
		}
	}
	return p
}

// endRecalled queues the close of an episode that the store still holds.
func (e *Engine) endRecalled(s *symbol, p store.Proposal, reason string) {
	if slices.ContainsFunc(s.closing, func(c store.Close) bool { return c.Episode == p.Episode }) {
		return
	}
	s.closing = append(s.closing, store.Close{Symbol: s.name, Episode: p.Episode, Reason: reason, At: e.now, Last: p})
}

// keepRecalled takes a proposal for what the store holds of an open position. The first write is a full one: what stands
// there is whole, but was written under another fence.
func (e *Engine) keepRecalled(s *symbol, p store.Proposal) {
	s.stats.everServed = true
	// Advice on inputs that do not move here gives way to that of whoever wrote until now and saw more.
	if !s.advice.have || s.advice.state != store.InputFresh && restsOnNewer(p, s.advice.content) {
		s.advice = advice{content: p, have: true}
	}
	s.advice.content.Episode = p.Episode
	s.held = held{
		proposal: p, distrust: true,
		at: e.elapsed(e.now) - math.Max(0, e.now.Round(0).Sub(p.ComputedAt).Seconds()),
	}
	e.touch(s)
}

// restoreOne puts one proposal back as an open position. It tells whether there is one in it that may be kept.
func (e *Engine) restoreOne(s *symbol, p store.Proposal) bool {
	e.book.Restore(remembered(p, e.opts.StrategyPositions))
	if _, ok := e.book.Get(s.name); !ok {
		return false
	}
	s.open, s.stats.everOpen = true, true
	if p.MarketAt.After(s.market.at) {
		s.market.at = p.MarketAt
	}
	s.positionAt = p.PositionAt
	e.keepRecalled(s, p)
	return true
}

// remembered is the position in a proposal.
func remembered(p store.Proposal, strategy bool) position.Position {
	return position.Position{
		Symbol: p.Symbol, Side: p.Side, Episode: p.Episode, Entry: p.Entry, Current: p.Current,
		Peak: p.Peak, Trough: p.Trough, Stop: p.Stop, OpenedAt: p.OpenedAt,
		CurrentAt: p.ContentPositionAt, UpdatedAt: p.PositionAt, Source: p.PositionSource, Strategy: strategy,
	}
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
		if e.writable(s.shard) == 0 {
			continue // whoever writes it clears it away
		}
		known := s.open || slices.Contains(snap.Refused, name) || slices.Contains(snap.Lost, name) ||
			slices.ContainsFunc(snap.Records, func(r position.Record) bool { return r.Symbol == name && !r.Flat() })
		switch {
		case s.open:
			delete(e.unclaimed, name)
		case known, !lives:
			e.unclaimed[name] = 0
		case absences+1 >= 2:
			delete(e.unclaimed, name)
			s.closing = append(s.closing, store.Close{Symbol: name, Reason: reasonOrphan, At: e.now})
			e.opts.Log.Info("clearing away what is left of a position that is gone", "symbol", name)
		default:
			e.unclaimed[name] = absences + 1
		}
	}
}

// restsOnNewer tells whether p rests on newer inputs than q.
func restsOnNewer(p, q store.Proposal) bool {
	return p.ContentMarketAt.After(q.ContentMarketAt) || p.ContentPositionAt.After(q.ContentPositionAt)
}
