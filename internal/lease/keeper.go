package lease

import (
	"errors"
	"fmt"
	"time"

	"quantumharvest/internal/store"
)

const (
	// lifeIntervals is for how many intervals a lease holds from its last renewal.
	lifeIntervals = 2
	// asksPerInterval is how often the lease key is asked within one interval. A lease that ran out is seen after a third
	// of an interval at the latest.
	asksPerInterval = 3
	// freeForAll is for how many asks in a row a shard may stay free before anybody takes it, whoever's turn it is.
	freeForAll = 3
)

// Options say who keeps leases, and of what.
type Options struct {
	Holder   string        // unique for every process, see store.NewHolder
	Layout   string        // see store.NewLayout
	Shards   int           // 1 to store.MaxShards
	Interval time.Duration // lease interval, > 0
}

// Keeper knows which shards are held. It is not safe for concurrent use.
type Keeper struct {
	o     Options
	terms []term
	free  []int // by shard: asks in a row that found it free

	view     store.LeaseView
	floor    int64  // the highest fence seen: after a failover the server may know of lower ones only
	known    bool   // the server answered since the start
	conflict string // layout of others that stands against ours
	left     bool
	leaving  string // a layout that is to be left before the one of now is followed; blank: none

	take, give []int // to be asked for next
	taking     bool  // asked for, not answered
	next       time.Time
}

// term is one shard as we hold it.
type term struct {
	fence int64     // 0: not held
	until time.Time // by our own clock, counted from before the ask was sent
}

// New checks the options.
func New(o Options) (*Keeper, error) {
	switch {
	case o.Holder == "":
		return nil, errors.New("lease: the holder has no name")
	case o.Shards < 1 || o.Shards > store.MaxShards:
		return nil, fmt.Errorf("lease: %d shards: there are 1 to %d", o.Shards, store.MaxShards)
	case o.Interval <= 0:
		return nil, fmt.Errorf("lease: an interval of %v: it must be positive", o.Interval)
	}
	return &Keeper{o: o, terms: make([]term, o.Shards), free: make([]int, o.Shards)}, nil
}

// life is for how long a lease holds from its last renewal.
func (k *Keeper) life() time.Duration { return lifeIntervals * k.o.Interval }

// Next is when the server wants to be asked again.
func (k *Keeper) Next() time.Time { return k.next }

// Hurry makes the next ask due at once: something was seen that it may explain.
func (k *Keeper) Hurry() { k.next = time.Time{} }

// Fence is the fence under which a shard is held at this moment, 0 where it is not.
func (k *Keeper) Fence(shard int, now time.Time) int64 {
	if t := k.terms[shard]; now.Before(t.until) {
		return t.fence
	}
	return 0
}

// Until is until when a shard is held, by the clock of whoever asks; without meaning where it is not.
func (k *Keeper) Until(shard int) time.Time { return k.terms[shard].until }

// Held counts the shards that are held at this moment.
func (k *Keeper) Held(now time.Time) int {
	n := 0
	for shard := range k.terms {
		if k.Fence(shard, now) != 0 {
			n++
		}
	}
	return n
}

// Settled tells that the server was asked and that nothing is about to be taken.
func (k *Keeper) Settled() bool { return k.known && len(k.take) == 0 && !k.taking }

// View is what the lease key held at the last answer.
func (k *Keeper) View() store.LeaseView { return k.view }

// Conflict is the layout of living publishers that stands against ours; blank where there is none.
func (k *Keeper) Conflict() string { return k.conflict }

// Ask is one question to the server, and when it was asked.
type Ask struct {
	store.LeaseAsk
	sent time.Time
}

// Sent is when it was asked: what the answer says was so then or later.
func (a Ask) Sent() time.Time { return a.sent }

// Patience is how long to wait for the answer: long enough for a slow server, and short enough to ask once more before
// the lease has run out.
func (a Ask) Patience() time.Duration { return a.TTL * 3 / 4 }

// Ask says what to ask now, at or after Next. What is given up is no longer held from here on.
func (k *Keeper) Ask(now time.Time) Ask {
	if k.leaving != "" {
		a := Ask{LeaseAsk: store.LeaseAsk{Holder: k.o.Holder, Layout: k.leaving, TTL: k.life(), Leave: true}, sent: now}
		clear(k.terms)
		k.take, k.give, k.taking, k.leaving = nil, nil, false, ""
		k.next = now.Add(k.o.Interval / asksPerInterval)
		return a
	}
	a := Ask{
		LeaseAsk: store.LeaseAsk{Holder: k.o.Holder, Layout: k.o.Layout, TTL: k.life(), Floor: k.floor, Take: k.take},
		sent:     now,
	}
	for _, shard := range k.give {
		if fence := k.terms[shard].fence; fence != 0 {
			a.Give = append(a.Give, store.Term{Shard: shard, Fence: fence})
			k.terms[shard] = term{}
		}
	}
	for shard, t := range k.terms {
		if t.fence != 0 {
			a.Renew = append(a.Renew, store.Term{Shard: shard, Fence: t.fence})
		}
	}
	k.taking = len(k.take) > 0
	k.take, k.give = nil, nil
	k.next = now.Add(k.o.Interval / asksPerInterval)
	return a
}

// Relayout divides the symbols in another way from now on. What is held is given up first, so that neither this publisher
// nor another one that changes at the same moment has to wait until the old layout has run out.
func (k *Keeper) Relayout(layout string) {
	if k.leaving == "" {
		k.leaving = k.o.Layout
	}
	k.o.Layout = layout
	k.Hurry()
}

// Leave is the last ask: everything is given up at once, so that nobody has to wait for it to run out.
func (k *Keeper) Leave(now time.Time) Ask {
	k.left = true
	clear(k.terms)
	return Ask{LeaseAsk: store.LeaseAsk{Holder: k.o.Holder, Layout: k.o.Layout, TTL: k.life(), Leave: true}, sent: now}
}

// Drop notes that the server refused a write under this fence: the shard is not held.
func (k *Keeper) Drop(shard int, fence int64) {
	if k.terms[shard].fence == fence {
		k.terms[shard] = term{}
		k.Hurry()
	}
}

// Failed notes that an ask got no answer. What it did to the server shows at the next.
func (k *Keeper) Failed() { k.taking = false }

// Answer takes in what the server said to an ask.
func (k *Keeper) Answer(a Ask, ans store.LeaseAnswer, now time.Time) {
	k.taking = false
	k.view, k.known, k.conflict = ans.View, true, ans.Conflict
	for _, l := range ans.View.Shards {
		k.floor = max(k.floor, l.Fence)
	}
	held := make(map[int]int64, len(ans.Held))
	for _, t := range ans.Held {
		held[t.Shard] = t.Fence
	}
	for shard := range k.terms {
		fence := held[shard]
		if fence == 0 || k.left {
			k.terms[shard] = term{}
			continue
		}
		k.terms[shard] = term{fence: fence, until: a.sent.Add(k.life())}
	}
	if k.conflict != "" || k.left {
		return
	}
	if a.Leave {
		k.next = now // the layout was left: the new one is followed at once
		return
	}
	k.plan()
	if len(k.take)+len(k.give) > 0 && len(a.Take)+len(a.Give) == 0 {
		k.next = now // what was learned is acted on at once; what that brings waits for its turn
	}
}

// plan compares who holds what with who lives, and says what to take and to give up. Every publisher that sees the same
// plans the same.
func (k *Keeper) plan() {
	counts := make(map[string]int, len(k.view.Members))
	for _, m := range k.view.Members {
		counts[m.Holder] = 0
	}
	var mine, free []int
	for shard := range k.terms {
		holder := k.holder(shard)
		if holder == k.o.Holder && k.terms[shard].fence == 0 {
			holder = "" // taken by an ask whose answer was lost: to be taken anew, under a fence we know
		}
		switch _, lives := counts[holder]; {
		case holder == "":
			k.free[shard]++
			free = append(free, shard)
			continue
		case lives:
			counts[holder]++
		}
		k.free[shard] = 0
		if holder == k.o.Holder {
			mine = append(mine, shard)
		}
	}
	for _, shard := range free {
		who := k.least(counts)
		counts[who]++
		if who == k.o.Holder || k.free[shard] >= freeForAll {
			k.take = append(k.take, shard)
		}
	}
	if len(free) > 0 {
		return // first everything is held by somebody
	}
	for {
		rich, poor := k.most(counts), k.least(counts)
		if counts[rich]-counts[poor] < 2 {
			return
		}
		counts[rich]--
		counts[poor]++
		if rich == k.o.Holder && len(mine) > 0 {
			k.give = append(k.give, mine[len(mine)-1])
			mine = mine[:len(mine)-1]
		}
	}
}

// holder is who holds a shard by the clock of the server, blank where nobody does.
func (k *Keeper) holder(shard int) string {
	if shard >= len(k.view.Shards) {
		return ""
	}
	if l := k.view.Shards[shard]; l.Live(k.view.Now) {
		return l.Holder
	}
	return ""
}

// least is the living publisher with the fewest shards, the first by name where several have as few.
func (k *Keeper) least(counts map[string]int) string {
	best := ""
	for _, m := range k.view.Members {
		if best == "" || counts[m.Holder] < counts[best] {
			best = m.Holder
		}
	}
	return best
}

// most is the living publisher with the most shards, the last by name where several have as many.
func (k *Keeper) most(counts map[string]int) string {
	best := ""
	for _, m := range k.view.Members {
		if best == "" || counts[m.Holder] >= counts[best] {
			best = m.Holder
		}
	}
	return best
}
