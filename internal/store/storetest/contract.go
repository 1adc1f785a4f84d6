package storetest

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

const btc = position.Symbol("BTCUSDT")

func publish(h *harness) {
	p := Proposal(btc, 1)
	p.Revision = 41 // what this writer believes
	if rev := h.published(p); rev != 42 {
		h.Fatalf("first revision is %d, want believed+1", rev)
	}
	p.Revision = 42
	h.equal("hash", h.hash(h.keys.Proposal(btc)), wire(p))

	// A field that is not ours, a time to live and a belief that is behind all go with the next publish.
	h.do("HSET", h.keys.Proposal(btc), "bogus", "1")
	h.do("EXPIRE", h.keys.Proposal(btc), 100)
	q := Proposal(btc, 2)
	q.Revision, q.NewStop = 3, 0
	if rev := h.published(q); rev != 43 {
		h.Fatalf("revision is %d, want stored+1", rev)
	}
	q.Revision = 43
	h.equal("hash", h.hash(h.keys.Proposal(btc)), wire(q))
	if ttl := h.raw.TTL(h.ctx, h.keys.Proposal(btc)).Val(); ttl != -1 {
		h.Fatalf("a proposal has a time to live: %v", ttl)
	}
	if n := h.raw.Exists(h.ctx, h.proposalStream).Val(); n != 0 {
		h.Fatalf("a publish went to the stream although streams are off")
	}

	// Letters of every alphabet are symbols.
	odd := []position.Symbol{"ＢＴＣ-米ドル", "1000PEPE/USDT:USDT", "Ω.X_Y-1"}
	for i, sym := range odd {
		if rev := h.published(Proposal(sym, i)); rev != 1 {
			h.Fatalf("%s: revision %d", sym, rev)
		}
	}

	// What is not whole is not sent, and says which field.
	for field, spoil := range map[string]func(*store.Proposal){
		"harvest_action":    func(p *store.Proposal) { p.Action = "" },
		"position_side":     func(p *store.Proposal) { p.Side = "long" },
		"input_state":       func(p *store.Proposal) { p.InputState = "" },
		"kill_score":        func(p *store.Proposal) { p.KillScore = math.NaN() },
		"new_sl_proposed":   func(p *store.Proposal) { p.NewStop = math.Inf(1) },
		"computed_at_utc":   func(p *store.Proposal) { p.ComputedAt = time.Time{} },
		"last_update_epoch": func(p *store.Proposal) { p.LastUpdate = time.Time{} },
		"symbol":            func(p *store.Proposal) { p.Symbol = "B TC" },
	} {
		bad := Proposal("BADUSDT", 1)
		spoil(&bad)
		r := h.write(store.Batch{Publishes: []store.Proposal{bad}}).Publishes[0]
		h.outcome(r, store.Failed)
		if r.Err == nil || !strings.Contains(r.Err.Error(), field) {
			h.Errorf("error %v does not name %s", r.Err, field)
		}
	}
	if n := h.raw.Exists(h.ctx, h.keys.Proposal("BADUSDT")).Val(); n != 0 {
		h.Fatalf("a proposal that is not whole was written")
	}
}

func beat(h *harness) {
	p := Proposal(btc, 1)
	key := h.keys.Proposal(btc)
	send := func(b store.Beat) store.Result {
		h.Helper()
		return h.write(store.Batch{Beats: []store.Beat{b}}).Beats[0]
	}
	h.outcome(send(Beat(p, 1, noon)), store.Missing)
	if n := h.raw.Exists(h.ctx, key).Val(); n != 0 {
		h.Fatalf("a beat made a hash")
	}

	rev := h.published(p)
	later := noon.Add(7 * time.Second)
	b := Beat(p, rev, later)
	b.MarketAt, b.PositionAt, b.InputState = noon.Add(6*time.Second), noon.Add(5*time.Second), store.InputFresh
	h.outcome(send(b), store.Done)
	want := p
	want.Revision, want.LastUpdate, want.MarketAt, want.PositionAt = rev, b.LastUpdate, b.MarketAt, b.PositionAt
	want.ValidUntil, want.Peak, want.Trough = b.ValidUntil, b.Peak, b.Trough
	h.equal("hash after a beat", h.hash(key), wire(want))

	// Not ours, not what we believe, not whole: nothing moves.
	before := h.hash(key)
	refuse := func(name string, want store.Outcome, b store.Beat) {
		h.Helper()
		h.outcome(send(b), want)
		h.equal(name, h.hash(key), before)
	}
	refuse("wrong revision", store.Superseded, Beat(p, rev+1, later.Add(time.Second)))
	refuse("old revision", store.Superseded, Beat(p, rev-1, later.Add(time.Second)))
	higher := Beat(p, rev, later.Add(time.Second))
	higher.Fence = p.Fence + 1
	refuse("our own new fence", store.Superseded, higher)
	lower := higher
	lower.Fence = p.Fence - 1
	refuse("a lower fence", store.Fenced, lower)

	h.do("HDEL", key, "sigma")
	before = h.hash(key)
	refuse("one field gone", store.Incomplete, Beat(p, rev, later.Add(time.Second)))
	h.do("HDEL", key, "fence", "revision", "publisher")
	before = h.hash(key)
	h.do("HSET", key, "junk", "1", "more junk", "2")
	before = h.hash(key)
	refuse("one field gone and two of somebody else's there", store.Incomplete, Beat(p, rev, later.Add(time.Second)))
	refuse("half deleted", store.Incomplete, Beat(p, rev, later.Add(time.Second)))

	h.do("DEL", key)
	h.do("SET", key, "garbage")
	h.outcome(send(Beat(p, rev, later)), store.Missing)
	h.flush()
	h.outcome(send(Beat(p, rev, later)), store.Missing)
	if n := h.raw.Exists(h.ctx, key).Val(); n != 0 {
		h.Fatalf("a beat made a hash after a flush")
	}

	for name, spoil := range map[string]func(*store.Beat){
		"time":  func(b *store.Beat) { b.LastUpdate = time.Time{} },
		"state": func(b *store.Beat) { b.InputState = "unknown" },
		"peak":  func(b *store.Beat) { b.Peak = math.NaN() },
	} {
		bad := Beat(p, rev, later)
		spoil(&bad)
		if r := send(bad); r.Outcome != store.Failed || r.Err == nil {
			h.Errorf("a beat with a bad %s: %+v", name, r)
		}
	}
}

func closing(h *harness) {
	p := Proposal(btc, 1)
	key, stream := h.keys.Proposal(btc), h.proposalStream
	send := func(c store.Close) store.Result {
		h.Helper()
		return h.write(store.Batch{Closes: []store.Close{c}}).Closes[0]
	}
	flat := store.Close{Symbol: btc, Episode: p.Episode, Fence: p.Fence, Reason: "flat", At: noon.Add(time.Minute), Last: p}

	anyEpisode := flat
	anyEpisode.Episode = ""
	h.outcome(send(anyEpisode), store.Missing)

	h.published(p)
	h.outcome(send(flat), store.Done)
	if n := h.raw.Exists(h.ctx, key).Val(); n != 0 {
		h.Fatalf("the hash is still there")
	}
	entries := h.stream(stream)
	if len(entries) != 1 {
		h.Fatalf("%d closing records, want one although streams are off", len(entries))
	}
	got := entries[0].Values
	for field, want := range map[string]any{
		"symbol": "BTCUSDT", "event": "closed", "close_reason": "flat", "closed_at_epoch": "1769169660",
		"harvest_action": "NONE", "last_action": "PARTIAL_50", "episode": "episode-1", "kill_score": "0.527",
	} {
		if got[field] != want {
			h.Errorf("closing record: %s = %v, want %v", field, got[field], want)
		}
	}
	for _, name := range store.FieldNames() {
		if _, ok := got[name]; !ok {
			h.Errorf("closing record lacks %s", name)
		}
	}

	// A close is replayable: the answer may have been lost.
	h.outcome(send(flat), store.Done)
	if n := len(h.stream(stream)); n != 1 {
		h.Fatalf("%d closing records after a repeated close", n)
	}

	// The hash may be gone before the position is: the record is left all the same, once.
	second := flat
	second.Episode = "episode-2"
	h.outcome(send(second), store.Done)
	h.outcome(send(second), store.Done)
	if n := len(h.stream(stream)); n != 2 {
		h.Fatalf("%d closing records, want 2", n)
	}

	// A newer episode is left alone; the older one is still recorded.
	p.Episode = "episode-4"
	rev := h.published(p)
	old := flat
	old.Episode = "episode-3"
	h.outcome(send(old), store.OtherEpisode)
	if n := len(h.hash(key)); n != len(store.FieldNames()) {
		h.Fatalf("closing an old episode touched the new one: %d fields", n)
	}
	if n := len(h.stream(stream)); n != 3 {
		h.Fatalf("%d closing records, want 3", n)
	}
	h.outcome(h.write(store.Batch{Beats: []store.Beat{Beat(p, rev, noon)}}).Beats[0], store.Done)

	// Not under a lower fence; any episode where none is named; also where the key is of another type.
	zombie := flat
	zombie.Episode, zombie.Fence = "episode-4", p.Fence-1
	r := send(zombie)
	h.outcome(r, store.Fenced)
	h.equal("holder", r.FencedBy, store.FencedBy{Publisher: "test-a", Fence: 10, ValidUntil: noon.Add(5 * time.Second)})
	h.outcome(send(anyEpisode), store.Done)
	h.outcome(send(anyEpisode), store.Missing)
	if n := len(h.stream(stream)); n != 4 {
		h.Fatalf("%d closing records, want 4", n)
	}
	h.do("RPUSH", key, "garbage")
	fifth := flat
	fifth.Episode = "episode-5"
	if r := send(fifth); r.Outcome != store.Done || !r.Repaired {
		h.Fatalf("close of a key of another type: %+v", r)
	}
	if n := h.raw.Exists(h.ctx, key).Val(); n != 0 {
		h.Fatalf("the key of another type is still there")
	}

	// Without anything known of the last content there is still a record.
	bare := store.Close{Symbol: "ETHUSDT", Episode: "e", Reason: "flat", At: noon}
	h.outcome(send(bare), store.Done)
}

func restarts(h *harness) {
	syms := symbols(50)
	var b store.Batch
	for i, sym := range syms {
		b.Publishes = append(b.Publishes, Proposal(sym, i))
	}
	b.Expect = syms
	loading := 0 // the scripts go to every node of a Cluster beforehand, and to a server with the rest
	if len(h.server.Client.Cluster) > 0 {
		loading = 1
	}
	if r := h.write(b); r.RoundTrips != 1+loading {
		h.Fatalf("first write took %d round trips", r.RoundTrips)
	}
	one := h.runID()
	if again := h.runID(); again != one {
		h.Fatalf("the run id changed from %q to %q without a restart", one, again)
	}

	h.server.Restart()
	// A connection that was lost may show once; nothing is confirmed then.
	deadline := time.Now().Add(time.Minute)
	trips := 0
	for again := b; len(again.Publishes) > 0; {
		if time.Now().After(deadline) {
			h.Fatal("the store does not come back")
		}
		r, err := h.store.Write(h.ctx, again)
		if err != nil {
			continue
		}
		trips = r.RoundTrips
		var failed []store.Proposal
		for i, res := range r.Publishes {
			switch {
			case res.Outcome == store.Failed:
				failed = append(failed, again.Publishes[i])
			case res.Outcome != store.Done || res.Revision != 1:
				h.Errorf("%s was written %d times: %+v", res.Symbol, res.Revision, res)
			}
		}
		again.Publishes = failed
	}
	if loading == 0 && trips != 2 {
		h.Errorf("after a restart: %d round trips, want 2", trips)
	}
	if h.runID() == one {
		h.Fatalf("the run id after a restart is %s again", one)
	}

	// Scripts lost while everything else is there: only what was not run is sent again.
	h.onAll("SCRIPT", "FLUSH")
	r := h.write(b)
	if r.RoundTrips != 2+loading || r.Publishes[0].Revision != 2 {
		h.Errorf("after SCRIPT FLUSH: %d round trips, revision %d", r.RoundTrips, r.Publishes[0].Revision)
	}
	h.flush()
	if r = h.write(b); r.RoundTrips != 1 || r.Publishes[0].Outcome != store.Done {
		h.Errorf("after FLUSHALL: %+v in %d round trips", r.Publishes[0], r.RoundTrips)
	}
}

func roundTrips(h *harness) {
	h.onAll("PING")
	h.write(store.Batch{Unexpect: []position.Symbol{btc}}) // the handshake of a new connection counts, too
	// Symbols leave the expected set of a Cluster after all that may be needed to find what is left of them, and of a
	// Cluster one node is asked for the time, which the store counts and an onlooker does not see.
	unexpecting, collecting := int64(1), 2
	if h.server.spread() {
		unexpecting = 2
	}
	if len(h.server.Client.Cluster) > 0 {
		collecting = 3
	}
	for _, n := range []int{1, 10, 1200} {
		h.flush()
		syms := symbols(n)
		var b store.Batch
		for i, sym := range syms {
			b.Publishes = append(b.Publishes, Proposal(sym, i))
			b.States = append(b.States, stateRecord(sym))
		}
		b.Expect = syms
		count := func(what string, want int64, f func()) {
			h.Helper()
			before := h.trips.n.Load()
			f()
			if got := h.trips.n.Load() - before; got != want {
				h.Errorf("%s of %d symbols: %d round trips, want %d", what, n, got, want)
			}
		}
		var r store.Results
		count("publish", 1, func() { r = h.write(b) })
		if r.RoundTrips != 1 {
			h.Errorf("the store says %d round trips", r.RoundTrips)
		}
		beats := store.Batch{}
		for i, p := range b.Publishes {
			h.outcome(r.Publishes[i], store.Done)
			beats.Beats = append(beats.Beats, Beat(p, r.Publishes[i].Revision, noon.Add(time.Second)))
		}
		count("beat", 1, func() { r = h.write(beats) })
		beats.Unexpect = syms[:n/2]
		if n > 1 {
			count("beat and unexpect", unexpecting, func() { r = h.write(beats) })
		}
		for i := range r.Beats {
			h.outcome(r.Beats[i], store.Done)
		}
		count("collect", 2, func() {
			c, err := h.store.Collect(h.ctx, syms[:1])
			if err != nil {
				h.Fatal(err)
			}
			want := n - n/2
			if n/2 > 0 {
				want++ // the first was taken out of the set and asked for by name
			}
			if len(c.Entries) != want || c.RoundTrips != collecting {
				h.Errorf("collected %d entries in %d round trips, want %d", len(c.Entries), c.RoundTrips, want)
			}
		})
		count("nothing", 0, func() { h.write(store.Batch{}) })
	}
}

func concurrency(h *harness) {
	const writers, rounds = 4, 15
	var wg sync.WaitGroup
	errs := make(chan error, writers+1)
	done := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				p := Proposal(btc, i)
				p.Publisher = fmt.Sprintf("writer-%d", w)
				r, err := h.store.Write(h.ctx, store.Batch{Publishes: []store.Proposal{p}})
				if err != nil {
					errs <- err
					return
				}
				if r.Publishes[0].Outcome != store.Done {
					errs <- fmt.Errorf("outcome %+v", r.Publishes[0])
					return
				}
				b := Beat(p, r.Publishes[0].Revision, noon.Add(time.Duration(i)*time.Second))
				if _, err := h.store.Write(h.ctx, store.Batch{Beats: []store.Beat{b}}); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		last := int64(0)
		for {
			select {
			case <-done:
				return
			default:
			}
			e, err := h.store.Read(h.ctx, []position.Symbol{btc})
			if err != nil {
				errs <- err
				return
			}
			if !e[0].Found && last == 0 {
				continue
			}
			if !e[0].Found || len(e[0].Problems) > 0 || e[0].Proposal.Revision < last {
				errs <- fmt.Errorf("a reader saw revision %d after %d, problems %v", e[0].Proposal.Revision, last, e[0].Problems)
				return
			}
			last = e[0].Proposal.Revision
		}
	})
	wg.Wait()
	close(done)
	reader.Wait()
	close(errs)
	for err := range errs {
		h.Error(err)
	}
	if got := h.hash(h.keys.Proposal(btc))["revision"]; got != fmt.Sprint(writers*rounds) {
		h.Errorf("revision %s after %d publishes", got, writers*rounds)
	}
}

func faultsStay(h *harness) {
	// One spoilt member of every kind in a batch: the others do not notice.
	h.do("SET", h.keys.Proposal("BADUSDT"), "x")
	h.do("HSET", h.keys.MarketState("BADUSDT"), "sigma", "1")
	bad := Proposal("NANUSDT", 1)
	bad.RNet = math.NaN()
	good := Proposal(btc, 1)
	r := h.write(store.Batch{
		Expect:    []position.Symbol{btc},
		Publishes: []store.Proposal{bad, good},
		Beats:     []store.Beat{Beat(Proposal("BADUSDT", 1), 1, noon), Beat(good, 1, noon)},
		Closes:    []store.Close{{Symbol: "GONEUSDT", At: noon}},
		States:    []store.MarketStateRecord{stateRecord("BADUSDT"), stateRecord(btc)},
	})
	got := []store.Outcome{
		r.Publishes[0].Outcome, r.Publishes[1].Outcome, r.Beats[0].Outcome, r.Beats[1].Outcome, r.Closes[0].Outcome,
		r.States[0].Outcome, r.States[1].Outcome,
	}
	want := []store.Outcome{store.Failed, store.Done, store.Missing, store.Done, store.Missing, store.Foreign, store.Done}
	h.equal("outcomes", got, want)
	if r.ExpectErr != nil || r.StreamErr != nil {
		h.Errorf("errors without a cause: %v, %v", r.ExpectErr, r.StreamErr)
	}
}

func expected(h *harness) {
	syms := symbols(2500) // more than one script call takes
	h.write(store.Batch{Expect: syms})
	h.do("SADD", h.expectedKey, "btc", "", "A'B", " ETHUSDT")
	h.expect(syms, 4)
	h.write(store.Batch{Unexpect: syms[1:]})
	h.expect(syms[:1], 4)
	// Another type under that name: readers say so and go on, the next writer makes it a set again.
	h.do("DEL", h.expectedKey)
	h.do("SET", h.expectedKey, "x")
	h.published(Proposal(btc, 1))
	c, err := h.store.Collect(h.ctx, []position.Symbol{btc})
	if err != nil || c.ExpectedErr == nil || len(c.Entries) != 1 || !c.Entries[0].Found {
		h.Fatalf("Collect beside a broken set: %+v, %v", c, err)
	}
	if r := h.write(store.Batch{Expect: syms[:2]}); r.ExpectErr != nil {
		h.Fatal(r.ExpectErr)
	}
	h.expect(syms[:2], 0)
}

func stateRecord(sym position.Symbol) store.MarketStateRecord {
	return store.MarketStateRecord{
		Symbol: sym, At: noon, BufferSize: 300, TTL: 10 * time.Minute, Publisher: "test-a", Source: "synthetic",
		State: kernel.MarketState{Sigma: 0.004, Mu: -1e-5, TS: 0.0025, PTrend: 0.2, PMR: 0.3, PChop: 0.5, DP: 0.5, VR: 1.1, SpikeProxy: 0.9},
	}
}
