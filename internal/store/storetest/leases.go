package storetest

import (
	"fmt"
	"strconv"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// ask says something to the lease key as holder.
func (h *harness) ask(holder string, change func(*store.LeaseAsk)) store.LeaseAnswer {
	h.Helper()
	a := store.LeaseAsk{Holder: holder, Layout: "2 all", TTL: time.Minute}
	if change != nil {
		change(&a)
	}
	ans, err := h.store.AskLease(h.ctx, a)
	if err != nil {
		h.Fatalf("AskLease: %v", err)
	}
	return ans
}

// take makes holder take shards, and gives the fences it then holds by shard.
func (h *harness) take(holder string, shards ...int) map[int]int64 {
	h.Helper()
	held := map[int]int64{}
	for _, t := range h.ask(holder, func(a *store.LeaseAsk) { a.Take = shards }).Held {
		held[t.Shard] = t.Fence
	}
	return held
}

func (h *harness) holders(v store.LeaseView) string {
	text := ""
	for _, l := range v.Shards {
		name := "-"
		if l.Live(v.Now) {
			name = l.Holder
		}
		text += name + " "
	}
	return text
}

// runOut makes the lease of a shard end now.
func (h *harness) runOut(shard int) {
	h.Helper()
	h.do("HSET", h.leaseKey, fmt.Sprintf("%d:until_ms", shard), "1")
}

func leases(h *harness) {
	// A look takes nothing; it makes a member.
	ans := h.ask("a#1", nil)
	if len(ans.Held) != 0 || ans.View.Layout != "2 all" || len(ans.View.Shards) != 2 || len(ans.View.Members) != 1 || ans.View.Members[0].Holder != "a#1" {
		h.Fatalf("a look: %+v", ans)
	}
	now := h.raw.Time(h.ctx).Val()
	if d := now.Sub(ans.View.Now); d < -time.Minute || d > time.Minute {
		h.Fatalf("the view is of %v, the server says %v", ans.View.Now, now)
	}

	a := h.take("a#1", 0, 1)
	if len(a) != 2 || a[0] < noon.UnixMicro() {
		h.Fatalf("a free lease was not taken: %v", a)
	}
	if b := h.take("b#2", 0, 1); len(b) != 0 {
		h.Fatalf("a held lease was taken: %v", b)
	}
	ans = h.ask("b#2", nil)
	if got := h.holders(ans.View); got != "a#1 a#1 " || len(ans.View.Members) != 2 {
		h.Fatalf("what a standby sees: %s %+v", got, ans.View)
	}

	// Renewing keeps the fence; only under the right one.
	before := ans.View.Shards[0].Until
	ans = h.ask("a#1", func(q *store.LeaseAsk) {
		q.TTL = 2 * time.Minute
		q.Renew = []store.Term{{Shard: 0, Fence: a[0]}, {Shard: 1, Fence: a[1] - 1}}
	})
	h.equal("held", ans.Held, []store.Term{{Shard: 0, Fence: a[0]}, {Shard: 1, Fence: a[1]}})
	if !ans.View.Shards[0].Until.After(before) || ans.View.Shards[1].Until.After(before.Add(time.Minute)) {
		h.Fatalf("renewed until %v and %v, before %v", ans.View.Shards[0].Until, ans.View.Shards[1].Until, before)
	}

	// What is given up is free; what is not held cannot be given up.
	h.ask("b#2", func(q *store.LeaseAsk) { q.Give = []store.Term{{Shard: 0, Fence: a[0]}} })
	h.ask("a#1", func(q *store.LeaseAsk) { q.Give = []store.Term{{Shard: 0, Fence: a[0] - 1}, {Shard: 1, Fence: a[1]}} })
	b := h.take("b#2", 0, 1)
	if len(b) != 1 || b[1] <= a[1] {
		h.Fatalf("after giving up: %v, before %v", b, a)
	}

	// What ran out is free, and its holder cannot keep it.
	h.runOut(0)
	if ans = h.ask("a#1", func(q *store.LeaseAsk) { q.Renew = []store.Term{{Shard: 0, Fence: a[0]}} }); len(ans.Held) != 0 {
		h.Fatalf("a lease that ran out was renewed: %+v", ans.Held)
	}
	b = h.take("b#2", 0)
	if b[0] <= a[0] {
		h.Fatalf("the fence went from %d to %d", a[0], b[0])
	}
	// Taking what one holds is a new term.
	if again := h.take("b#2", 0); again[0] <= b[0] {
		h.Fatalf("taken again: fence %d after %d", again[0], b[0])
	}

	// A fence is above the floor and above the one stored, also where that lies ahead of the clock.
	ahead := time.Now().Add(24 * time.Hour).UnixMicro()
	h.runOut(0)
	if got := h.ask("a#1", func(q *store.LeaseAsk) { q.Take, q.Floor = []int{0}, ahead }).Held; got[0].Fence != ahead+1 {
		h.Fatalf("fence %d over a floor of %d", got[0].Fence, ahead)
	}
	h.runOut(0)
	if got := h.take("b#2", 0)[0]; got != ahead+2 {
		h.Fatalf("fence %d after %d", got, ahead+1)
	}

	// Leaving gives everything up at once.
	ans = h.ask("b#2", func(q *store.LeaseAsk) { q.Leave = true })
	if got := h.holders(ans.View); got != "- - " || len(ans.View.Members) != 1 {
		h.Fatalf("after leaving: %s %+v", got, ans.View.Members)
	}
	if c, err := h.store.Collect(h.ctx, nil); err != nil || c.Lease.Layout != "2 all" || len(c.Lease.Shards) != 2 || c.Lease.Shards[0].Fence != ahead+2 {
		h.Fatalf("what a reader sees: %+v, %v", c.Lease, err)
	}

	// Whoever divides the symbols in another way gets nothing while others live, and everything when they do not.
	h.take("a#1", 0)
	other := func(q *store.LeaseAsk) { q.Layout, q.Take = "1 all", []int{0} }
	if ans = h.ask("c#3", other); ans.Conflict != "2 all" || len(ans.Held) != 0 || len(ans.View.Members) != 1 {
		h.Fatalf("another layout: %+v", ans)
	}
	h.ask("a#1", func(q *store.LeaseAsk) { q.Leave = true })
	ans = h.ask("c#3", other)
	if ans.Conflict != "" || len(ans.Held) != 1 || ans.Held[0].Fence <= ahead+2 || len(ans.View.Shards) != 1 {
		h.Fatalf("another layout after the others left: %+v", ans)
	}
	if n := len(h.hash(h.leaseKey)); n != 8 {
		h.Fatalf("the lease key has %d fields: %v", n, h.hash(h.leaseKey))
	}
}

// leaseClocks spoils the lease key as clocks and strangers do. Nothing may lock anybody out, and fences never go back.
func leaseClocks(h *harness) {
	first := h.take("a#1", 0, 1)
	now := h.raw.Time(h.ctx).Val()
	// The clock of the server stepped back by an hour: what is held, and who lives, lies an hour ahead.
	far := strconv.FormatInt(now.Add(time.Hour).UnixMilli(), 10)
	h.do("HSET", h.leaseKey, "0:until_ms", far, "member:dead#9", far+" 30000")
	v := h.ask("b#2", nil).View
	if left := v.Shards[0].Until.Sub(v.Now); left > time.Minute {
		h.Fatalf("a lease of a minute still has %v", left)
	}
	for _, m := range v.Members {
		if left := m.Until.Sub(v.Now); m.Holder == "dead#9" && left > 30*time.Second {
			h.Fatalf("a member of 30 s still has %v", left)
		}
	}
	if d := v.Shards[0].Until.Sub(h.ask("b#2", nil).View.Shards[0].Until); d != 0 {
		h.Fatalf("it is pulled in again at every look: %v", d)
	}

	for _, spoil := range [][]any{
		{}, // everything is gone
		{"HSET", h.leaseKey, "0:fence", "nonsense", "1:fence", "-5", "0:until_ms", "x", "1:until_ms", "x", "member:", "x", "member:c", "x y"},
		{"HSET", h.leaseKey, "0:fence", "99999999999999999999", "0:until_ms", "1", "1:until_ms", "1"},
		{"HDEL", h.leaseKey, "0:fence", "0:holder", "0:until_ms", "1:holder"},
		{"DEL", h.leaseKey},
	} {
		if len(spoil) == 0 {
			h.flush()
		} else {
			h.do(spoil...)
		}
		got := h.take("b#2", 0, 1)
		if len(got) != 2 || got[0] <= first[0] || got[1] <= first[1] {
			h.Fatalf("after %v: %v, before %v", spoil, got, first)
		}
		first = got
	}
	h.do("DEL", h.leaseKey)
	h.do("SET", h.leaseKey, "x")
	if c, err := h.store.Collect(h.ctx, nil); err != nil || c.Lease.Layout != "" {
		h.Fatalf("reading beside a lease key of another type: %+v %v", c.Lease, err)
	}
	if got := h.take("b#2", 0, 1); len(got) != 2 {
		h.Fatalf("a lease key of another type: %v", got)
	}
}

// leaseGuards tries every kind of write without the lease: nothing on the server may change.
func leaseGuards(h *harness) {
	if h.server.spread() {
		fenceGuards(h)
		return
	}
	shard := store.ShardOf(btc, 2)
	fences := h.take("a#1", 0, 1)
	lease := func(holder string, fence int64) store.Lease {
		l := store.Lease{Holder: holder, Fences: make([]int64, 2)}
		l.Fences[shard] = fence
		return l
	}
	good := lease("a#1", fences[shard])
	p := Proposal(btc, 1)
	p.Fence = fences[shard]
	batch := func(l store.Lease, rev int64) store.Batch {
		q := p
		q.Revision = rev
		return store.Batch{
			Lease: l, Expect: []position.Symbol{btc}, Publishes: []store.Proposal{q}, Beats: []store.Beat{Beat(p, rev+1, noon)},
			States: []store.MarketStateRecord{stateRecord(btc)},
			Stops:  []store.StopsRecord{{Symbol: btc, Stops: kernel.StopProposal{ProposedSL: 1}, At: noon, TTL: time.Minute, Publisher: "test-a"}},
		}
	}
	r := h.write(batch(good, 0))
	for _, group := range [][]store.Result{r.Publishes, r.Beats, r.States, r.Stops} {
		h.outcome(group[0], store.Done)
	}
	if r.ExpectErr != nil {
		h.Fatal(r.ExpectErr)
	}
	everything := func() string {
		text := ""
		for _, key := range []string{h.keys.Proposal(btc), h.keys.MarketState(btc), h.keys.Risk(btc), h.expectedKey, h.proposalStream} {
			if h.raw.Type(h.ctx, key).Val() == "hash" {
				text += fmt.Sprint(key, h.hash(key))
				continue
			}
			text += key + h.raw.Dump(h.ctx, key).Val()
		}
		return text + fmt.Sprint(h.raw.SMembers(h.ctx, h.expectedKey).Val(), h.raw.XLen(h.ctx, h.proposalStream).Val())
	}
	before := everything()
	refused := func(what string, l store.Lease) {
		h.Helper()
		b := batch(l, r.Publishes[0].Revision)
		b.Expect, b.Unexpect = []position.Symbol{"ETHUSDT", "SOLUSDT", btc}, []position.Symbol{btc}
		got := h.write(b)
		for i, group := range [][]store.Result{got.Publishes, got.Beats, got.States, got.Stops} {
			if group[0].Outcome != store.Unleased {
				h.Errorf("%s: kind %d: %+v", what, i, group[0])
			}
		}
		closing := h.write(store.Batch{Lease: l, Closes: []store.Close{{Symbol: btc, Episode: p.Episode, Fence: p.Fence, At: noon, Last: p}}}).Closes[0]
		h.outcome(closing, store.Unleased)
		if got.ExpectErr == nil {
			h.Errorf("%s: the expected set was changed without a lease", what)
		}
		h.equal(what, everything(), before)
	}
	refused("another holder", lease("b#2", fences[shard]))
	refused("another fence", lease("a#1", fences[shard]-1))
	refused("no fence", lease("a#1", 0))
	h.runOut(shard)
	refused("it ran out", good)
	taken := h.take("b#2", shard)
	refused("somebody else took it", good)
	got := h.write(batch(good, 0)).Publishes[0]
	h.equal("holder", got.FencedBy, store.FencedBy{Publisher: "b", Fence: taken[shard]})
	h.do("HDEL", h.leaseKey, fmt.Sprintf("%d:fence", shard))
	refused("the lease is damaged", good)
	h.do("DEL", h.leaseKey)
	refused("the lease is gone", good)
	h.do("SET", h.leaseKey, "x")
	refused("the lease has another type", good)
}

// fenceGuards is what is left of leaseGuards where a script cannot see the lease: the fence inside the hash, or beside it
// once it is gone. Whoever held a later lease and wrote the symbol once has shut the earlier holder out; until then the
// clock of that one must.
func fenceGuards(h *harness) {
	shard := store.ShardOf(btc, 2)
	lease := func(holder string, fence int64) store.Lease {
		l := store.Lease{Holder: holder, Fences: make([]int64, 2)}
		l.Fences[shard] = fence
		return l
	}
	first := h.take("a#1", 0, 1)[shard]
	p := Proposal(btc, 1)
	p.Fence = first
	h.outcome(h.write(store.Batch{Lease: lease("a#1", first), Publishes: []store.Proposal{p}}).Publishes[0], store.Done)
	h.runOut(shard)
	second := h.take("b#2", shard)[shard]
	h.outcome(h.write(store.Batch{Lease: lease("a#1", first), Publishes: []store.Proposal{p}}).Publishes[0], store.Done)

	q := Proposal(btc, 2)
	q.Fence, q.Publisher = second, "b"
	r := h.write(store.Batch{Lease: lease("b#2", second), Publishes: []store.Proposal{q}}).Publishes[0]
	h.outcome(r, store.Done)
	before := h.hash(h.keys.Proposal(btc))
	late := h.write(store.Batch{
		Lease: lease("a#1", first), Publishes: []store.Proposal{p}, Beats: []store.Beat{Beat(p, r.Revision, noon)},
	})
	closing := h.write(store.Batch{Closes: []store.Close{{Symbol: btc, Episode: p.Episode, Fence: first, At: noon}}})
	for _, res := range []store.Result{late.Publishes[0], late.Beats[0], closing.Closes[0]} {
		h.outcome(res, store.Fenced)
		h.equal("holder", res.FencedBy, store.FencedBy{Publisher: "b", Fence: second, ValidUntil: q.ValidUntil})
	}
	h.equal("hash", h.hash(h.keys.Proposal(btc)), before)
	if n := len(h.stream(h.proposalStream)); n != 0 {
		h.Errorf("%d closing records of a close that was refused", n)
	}
}

// memory is what a writer learns that follows another.
func memory(h *harness) {
	p := Proposal(btc, 1)
	h.published(p)
	rev := h.published(p)
	h.write(store.Batch{
		Expect: []position.Symbol{btc, "ETHUSDT"},
		Closes: []store.Close{
			{Symbol: btc, Episode: p.Episode, Fence: p.Fence, At: noon},
			{Symbol: "SOLUSDT", Episode: "sol-1", At: noon},
			{Symbol: "ETHUSDT", Episode: "eth-1", At: noon},
			{Symbol: "ETHUSDT", Episode: "eth-2", At: noon},
		},
	})
	m, err := h.store.Remember(h.ctx, []position.Symbol{"XRPUSDT"})
	if err != nil {
		h.Fatal(err)
	}
	h.equal("closed", m.Closed, map[position.Symbol]store.Ended{
		"BTCUSDT": {Episode: p.Episode, Revision: rev}, "SOLUSDT": {Episode: "sol-1"}, "ETHUSDT": {Episode: "eth-2"},
	})
	next := int64(1)
	if h.server.spread() {
		next = rev + 1 // what the close left beside the hash knows, also where the writer does not
	}
	rev = h.published(p)
	if rev != next || len(m.Entries) != 3 || m.Entries[0].Found || m.Entries[1].Found {
		h.Errorf("entries %+v", m.Entries)
	}
	h.do("DEL", h.closedKey)
	h.do("SET", h.closedKey, "x")
	if m, err := h.store.Remember(h.ctx, nil); err != nil || len(m.Closed) != 0 {
		h.Errorf("beside a memory of another type: %+v, %v", m.Closed, err)
	}
}
