package storetest

import (
	"time"

	"quantumharvest/internal/store"
)

func fences(h *harness) {
	p := Proposal(btc, 1)
	p.Fence, p.Publisher = 1000, "winner"
	rev := h.published(p)
	before := h.hash(h.keys.Proposal(btc))
	zombie := Proposal(btc, 2)
	zombie.Fence, zombie.Publisher, zombie.Revision = 999, "zombie", rev+100
	other, _ := h.open()
	r := h.writeTo(other, store.Batch{Publishes: []store.Proposal{zombie}}).Publishes[0]
	h.outcome(r, store.Fenced)
	h.equal("holder", r.FencedBy, store.FencedBy{Publisher: "winner", Fence: 1000, ValidUntil: p.ValidUntil})
	h.equal("hash", h.hash(h.keys.Proposal(btc)), before)

	own := Beat(p, rev, noon.Add(time.Second))
	h.outcome(h.write(store.Batch{Beats: []store.Beat{own}}).Beats[0], store.Done)
	low := own
	low.Fence = 999
	h.outcome(h.writeTo(other, store.Batch{Beats: []store.Beat{low}}).Beats[0], store.Fenced)
	h.outcome(h.writeTo(other, store.Batch{Closes: []store.Close{{Symbol: btc, Episode: p.Episode, Fence: 999, At: noon}}}).Closes[0], store.Fenced)

	// A higher fence takes over, and the revision goes on.
	zombie.Fence, zombie.Revision = 1001, 0
	r = h.writeTo(other, store.Batch{Publishes: []store.Proposal{zombie}}).Publishes[0]
	h.outcome(r, store.Done)
	if r.Revision != rev+1 {
		h.Fatalf("revision went from %d to %d", rev, r.Revision)
	}
	h.outcome(h.write(store.Batch{Beats: []store.Beat{own}}).Beats[0], store.Fenced)

	// Nonsense in the fence or revision field locks nobody out.
	for _, nonsense := range []string{"inf", "nan", "9e99", "-1", "", "99999999999999999999", "0x7fffffffffff", "1 2"} {
		h.do("HSET", h.keys.Proposal(btc), "fence", nonsense, "revision", nonsense)
		q := Proposal(btc, 3)
		q.Revision = 7
		r := h.write(store.Batch{Publishes: []store.Proposal{q}}).Publishes[0]
		h.outcome(r, store.Done)
		if r.Revision != 8 {
			h.Errorf("after revision %q: %d, want 8", nonsense, r.Revision)
		}
	}
}

func repair(h *harness) {
	key := h.keys.Proposal(btc)
	for name, spoil := range map[string]func(){
		"string": func() { h.do("SET", key, "x") },
		"list":   func() { h.do("RPUSH", key, "x") },
		"set":    func() { h.do("SADD", key, "x") },
		"zset":   func() { h.do("ZADD", key, 1, "x") },
		"stream": func() { h.do("XADD", key, "*", "a", "b") },
	} {
		h.do("DEL", key)
		spoil()
		p := Proposal(btc, 1)
		r := h.write(store.Batch{Publishes: []store.Proposal{p}}).Publishes[0]
		h.outcome(r, store.Done)
		p.Revision = r.Revision
		if !r.Repaired || r.Revision != 1 {
			h.Errorf("%s: %+v", name, r)
		}
		h.equal(name, h.hash(key), wire(p))
	}

	// An earlier writer's hash is simply overwritten.
	h.do("DEL", key)
	h.do("HSET", key, "harvest_action", "NONE", "new_sl_proposed", "None", "last_update_epoch", "1769129938", "kill_score", "0.5")
	h.outcome(h.write(store.Batch{Beats: []store.Beat{Beat(Proposal(btc, 1), 0, noon)}}).Beats[0], store.Incomplete)
	p := Proposal(btc, 5)
	r := h.write(store.Batch{Publishes: []store.Proposal{p}}).Publishes[0]
	p.Revision = r.Revision
	if r.Repaired || r.Revision != 1 {
		h.Errorf("over a legacy hash: %+v", r)
	}
	h.equal("over a legacy hash", h.hash(key), wire(p))
}
