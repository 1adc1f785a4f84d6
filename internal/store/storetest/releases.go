package storetest

import (
	"fmt"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// otherReleases has an older and a newer release beside this one: their hashes are read as far as they are known, neither is
// locked out, revision and fence go on, and what they keep elsewhere is left alone.
func otherReleases(h *harness) {
	const btc = position.Symbol("BTCUSDT")
	key := h.keys.Proposal(btc)
	p := Proposal(btc, 1)
	read := func() store.Entry {
		h.Helper()
		entries, err := h.store.Read(h.ctx, []position.Symbol{btc})
		if err != nil {
			h.Fatal(err)
		}
		return entries[0]
	}

	// A newer release wrote last: one field more, and a schema one step ahead.
	revision := h.published(p)
	h.do("HSET", key, "new_tp_proposed", "123", "a_note", "x", "schema_version", fmt.Sprint(store.MaxSchema))
	e := read()
	if len(e.Problems) > 0 || e.Newer() || e.Proposal.SchemaVersion != store.MaxSchema || e.Proposal.Episode != p.Episode {
		h.Fatalf("one step ahead: %+v", e)
	}
	h.equal("fields that are not known", e.Unknown, []string{"a_note", "new_tp_proposed"})

	// It beats on; somebody below its fence writes nothing.
	h.outcome(h.write(store.Batch{Beats: []store.Beat{Beat(p, revision, noon.Add(time.Second))}}).Beats[0], store.Done)
	low := p
	low.Fence = p.Fence - 1
	h.outcome(h.write(store.Batch{Publishes: []store.Proposal{low}}).Publishes[0], store.Fenced)
	if got := h.hash(key); got["new_tp_proposed"] != "123" || got["schema_version"] != fmt.Sprint(store.MaxSchema) {
		h.Fatalf("what was refused changed the hash: %v", got)
	}

	// This release takes over: the whole hash is of one moment and one schema, revision and fence go on.
	next := Proposal(btc, 2)
	next.Fence = p.Fence + 1
	r := h.write(store.Batch{Publishes: []store.Proposal{next}}).Publishes[0]
	h.outcome(r, store.Done)
	next.Revision = revision + 1
	h.equal("taken over", h.hash(key), wire(next))

	// And the other way round: an earlier release lacks a field that came later.
	h.do("HDEL", key, "publisher_version")
	next.PublisherVersion = ""
	h.equal("of an earlier release", read(), store.Entry{Symbol: btc, Found: true, Proposal: next})

	// Two steps ahead: the fields of the earlier services keep their meaning, of ours nothing is known.
	h.do("HSET", key, "schema_version", fmt.Sprint(store.MaxSchema+1), "episode", "another format")
	e = read()
	h.equal("problems", e.Problems, []store.Problem{{Field: "schema_version", Kind: store.FieldNewer, Value: fmt.Sprint(store.MaxSchema + 1)}})
	if got := e.Proposal; !e.Newer() || got.Action != p.Action || !got.LastUpdate.Equal(next.LastUpdate) || got.Episode != "" || got.Fence != 0 || !got.MarketAt.IsZero() {
		h.Fatalf("two steps ahead: %+v", got)
	}
	next.Fence, next.Revision = next.Fence+1, 0
	r = h.write(store.Batch{Publishes: []store.Proposal{next}}).Publishes[0]
	h.outcome(r, store.Done)
	if r.Revision != revision+2 {
		h.Fatalf("revision %d after %d", r.Revision, revision+1)
	}

	// The lease key: what others keep there stays, and the shards are counted all the same.
	h.do("HSET", h.leaseKey, "0:rank", "7", "member_version:new#1", "v9", "version", "2")
	fences := h.take("old#1", 0, 1)
	if len(fences) != 2 {
		h.Fatalf("beside fields of a newer release the shards %v were taken", fences)
	}
	if got := h.hash(h.leaseKey); got["0:rank"] != "7" || got["member_version:new#1"] != "v9" || got["version"] != "2" {
		h.Fatalf("the lease key lost what a newer release keeps there: %v", got)
	}
	h.ask("old#1", func(a *store.LeaseAsk) { a.Leave = true })
	if again := h.take("new#1", 0, 1); again[0] <= fences[0] || again[1] <= fences[1] {
		h.Fatalf("fences %v after %v", again, fences)
	}

	// Scripts of several releases lie side by side, each known by its own sum.
	h.onAll("SCRIPT", "LOAD", "-- of another release\nreturn {'fenced'}")
	h.outcome(h.write(store.Batch{Publishes: []store.Proposal{next}}).Publishes[0], store.Done)
}
