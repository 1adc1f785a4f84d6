package engine

import (
	"slices"
	"time"

	"quantumharvest/internal/lease"
	"quantumharvest/internal/store"
)

// LeaseStatus is how this publisher shares the symbols with others.
type LeaseStatus struct {
	Shards   int
	Held     int    // shards that this publisher writes for
	Members  int    // publishers that live, this one included
	Holder   string // publisher of the first shard that is not held here; blank where there is none
	Conflict string // how others divide the symbols, where that stands against ours
}

// LeaseAsk is one ask for the lease key, on its way to the server.
type LeaseAsk = lease.Ask

// NextLease is when AskLease wants to be called at the latest.
func (e *Engine) NextLease() time.Time { return e.keeper.Next() }

// AskLease gives the next ask for the lease key, where one is due. It goes to the server beside any other work, one at a
// time, and its answer comes back through ConfirmLease.
func (e *Engine) AskLease(now time.Time) (LeaseAsk, bool) {
	if now.Before(e.keeper.Next()) {
		return LeaseAsk{}, false
	}
	ask := e.keeper.Ask(now)
	for _, t := range ask.Give {
		e.met.leases.WithLabelValues(leaseReleased).Inc()
		e.opts.Log.Info("lease given up: another publisher has fewer shards", "shard", t.Shard, "of", e.opts.Shards, "fence", t.Fence)
		e.noted[t.Shard] = 0
	}
	return ask, true
}

// LeaveLease is the ask with which a publisher that ends gives everything up. Nothing may be written after it.
func (e *Engine) LeaveLease(now time.Time) LeaseAsk { return e.keeper.Leave(now) }

// ConfirmLease takes in what became of an ask.
func (e *Engine) ConfirmLease(ask LeaseAsk, ans store.LeaseAnswer, err error, now time.Time) {
	e.keepTime(now)
	if err != nil {
		e.counts.storeErrors++
		e.keeper.Failed()
		e.met.leases.WithLabelValues(leaseError).Inc()
		return
	}
	e.keeper.Answer(ask, ans, now)
	e.noteTrip(now.Sub(ask.Sent()))
	if slices.ContainsFunc(ask.Renew, func(t store.Term) bool { return slices.Contains(ans.Held, t) }) {
		e.met.leases.WithLabelValues(leaseRenewed).Inc()
	}
	e.noteLeases()
	if layout := e.keeper.Conflict(); layout != "" {
		e.met.leases.WithLabelValues(leaseConflict).Inc()
		e.say("layout", "", "other publishers divide the symbols in another way: nothing is written",
			"theirs", layout, "ours", ask.Layout, "hint", "give all publishers of this prefix the same SYMBOLS and HARVEST_SHARDS, or this one a KEY_PREFIX of its own")
	}
	e.raiseFences(ask.Sent())
	e.routineLeft = true // a lease may be held again
}

// noteLeases says which leases came and went since it was last called.
func (e *Engine) noteLeases() {
	for shard, had := range e.noted {
		has := e.keeper.Fence(shard, e.now)
		switch {
		case has == had:
			continue
		case has != 0:
			e.met.leases.WithLabelValues(leaseAcquired).Inc()
			e.opts.Log.Info("lease taken", "shard", shard, "of", e.opts.Shards, "fence", has)
		default:
			e.met.leases.WithLabelValues(leaseLost).Inc()
			e.opts.Log.Warn("lease lost", "shard", shard, "of", e.opts.Shards, "fence", had)
		}
		e.noted[shard] = has
	}
	e.met.leasesHeld.Set(float64(e.keeper.Held(e.now)))
}

// writable is the fence of the lease under which symbols of a shard may be written now: it is held, and what the store
// remembers of them was read since it was taken. 0: they may not.
func (e *Engine) writable(shard int) int64 {
	if fence := e.keeper.Fence(shard, e.now); fence == e.remembered[shard] {
		return fence
	}
	return 0
}

// unleased notes that the server refused a write because the lease is not ours.
func (e *Engine) unleased(s *symbol, under store.Lease, r store.Result) {
	s.held.distrust = true
	if shard := s.shard; shard < len(under.Fences) {
		e.keeper.Drop(shard, under.Fences[shard])
	}
	e.say("unleased", "", "a write was refused: the lease is not held any more", "symbol", s.name, "holder", r.FencedBy.Publisher)
}

// fencedBy notes that a hash carries a higher fence than the one it was to get, although the lease is ours as far as we
// know: its writer came before a clock stepped back, the field was spoilt, or, in a Cluster, the lease was lost just now.
// Once the lease is confirmed again this symbol, and no other, is written under a higher one.
func (e *Engine) fencedBy(s *symbol, r store.Result) {
	s.held.distrust = true
	s.challenge, s.challengedAt = r.FencedBy.Fence, e.now
	s.retryBeat = e.beatNo + 1
	e.keeper.Hurry()
	e.say("fenced", s.name, "the hash carries a higher fence than ours", "writer", r.FencedBy.Publisher, "fence", r.FencedBy.Fence)
}

// raiseFences answers the challenges of symbols whose lease is held, by what was asked after they came up.
func (e *Engine) raiseFences(asked time.Time) {
	for _, s := range e.order {
		if s.challenge != 0 && !asked.Before(s.challengedAt) && e.keeper.Fence(s.shard, e.now) != 0 {
			s.fence, s.challenge = s.challenge+1, 0
			s.retryBeat = e.beatNo
		}
	}
}

// fenceOf is the fence that goes into the hash of one symbol.
func (e *Engine) fenceOf(s *symbol) int64 { return max(e.keeper.Fence(s.shard, e.now), s.fence) }

func (e *Engine) leaseStatus(now time.Time) LeaseStatus {
	v := e.keeper.View()
	st := LeaseStatus{Shards: e.opts.Shards, Held: e.keeper.Held(now), Members: len(v.Members), Conflict: e.keeper.Conflict()}
	for _, l := range v.Shards {
		if l.Shard < e.opts.Shards && e.keeper.Fence(l.Shard, now) == 0 && l.Live(v.Now) {
			st.Holder = store.HolderName(l.Holder)
			break
		}
	}
	return st
}

// elsewhere tells that another publisher writes this symbol.
func (e *Engine) elsewhere(s *symbol) bool {
	v := e.keeper.View()
	if e.keeper.Fence(s.shard, e.now) != 0 || s.shard >= len(v.Shards) {
		return false
	}
	l := v.Shards[s.shard]
	return l.Live(v.Now) && l.Holder != e.opts.Holder
}
