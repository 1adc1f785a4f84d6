package engine_test

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// TestWhateverHappensTheHashIsWholeAndNothingGoesBack drives an engine through random inputs, losses and restarts and
// looks at the store from outside after every second.
func TestWhateverHappensTheHashIsWholeAndNothingGoesBack(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		d := newDesk(outer)
		d.market(btc, 100)
		rec := d.long(btc, 99, 100)
		d.seconds(1, true, rec)
		var last store.Proposal
		fields := len(store.FieldNames())
		for range rapid.IntRange(5, 30).Draw(t, "steps") {
			live := true
			vanished := false
			switch rapid.IntRange(0, 11).Draw(t, "event") {
			case 0: // the price moves
				p := rapid.Float64Range(50, 200).Draw(t, "price")
				d.prices[btc], rec.Current = p, p
			case 1: // the market is silent for a while
				live = false
			case 2: // all positions vanish at once
				vanished = true
			case 3: // the position flips
				if rec.Side == position.Long {
					rec.Side = position.Short
				} else {
					rec.Side = position.Long
				}
				rec.OpenedAt = d.now
			case 4: // somebody deletes the hash
				d.client.Del(context.Background(), "quantum:harvest:proposal:BTCUSDT")
			case 5: // or half of it
				d.client.HDel(context.Background(), "quantum:harvest:proposal:BTCUSDT", "kill_score", "episode")
			case 6: // or everything
				d.client.FlushAll(context.Background())
			case 7: // the store refuses for a moment
				d.redis.SetError("LOADING")
				d.seconds(1, true, rec)
				d.redis.SetError("")
			case 8: // a new process
				d.restart()
				d.market(btc, d.prices[btc])
			case 9: // nonsense from the outside
				d.eng.Offer(feed.Refusal{Symbol: btc, Field: "entry_price", Reason: feed.ReasonDomain})
				d.eng.Offer(feed.Candle{Symbol: btc, Close: -1})
			case 10: // scaling in
				rec.Entry = rapid.Float64Range(90, 110).Draw(t, "entry")
			case 11: // two seconds pass unseen
				d.now = d.now.Add(2 * time.Second)
			}
			if vanished {
				d.seconds(2, live, []position.Record{}...)
			} else {
				d.seconds(2, live, rec)
			}

			h := d.hash(btc)
			if len(h) != 0 && len(h) != fields {
				t.Fatalf("a hash of %d fields, whole ones have %d", len(h), fields)
			}
			if len(h) == 0 {
				t.Fatalf("an open position has no proposal two seconds later")
			}
			p, problems := store.Decode(btc, h)
			if len(problems) > 0 {
				t.Fatalf("problems: %v", problems)
			}
			if p.Revision < last.Revision || p.Fence < last.Fence {
				t.Fatalf("revision %d -> %d, fence %d -> %d", last.Revision, p.Revision, last.Fence, p.Fence)
			}
			if p.LastUpdate.Before(last.LastUpdate) || !p.LastUpdate.Equal(d.now.Truncate(time.Second)) {
				t.Fatalf("heartbeat %v -> %v at %v", last.LastUpdate, p.LastUpdate, d.now)
			}
			if p.Side != rec.Side {
				t.Fatalf("advice for %s stands for a %s", p.Side, rec.Side)
			}
			if p.Episode == last.Episode && (p.Peak < last.Peak || p.Trough > last.Trough) {
				t.Fatalf("extremes narrowed: peak %v -> %v, trough %v -> %v", last.Peak, p.Peak, last.Trough, p.Trough)
			}
			last = p
		}
	})
}

// many opens positions in n symbols and lets everything be published.
func (d *desk) many(n int) []position.Record {
	d.t.Helper()
	records := d.open(n)
	d.run(d.eng)
	return records
}

// open tells the engine of positions in n symbols and their markets.
func (d *desk) open(n int) []position.Record {
	d.t.Helper()
	records := make([]position.Record, n)
	for i := range records {
		sym := position.Symbol("S" + strconv.Itoa(1000+i) + "USDT")
		records[i] = d.long(sym, 99, 100)
		d.market(sym, 100)
	}
	d.eng.Offer(d.snapshot(records...))
	return records
}

// batch lets the engine take one step and carries out what it wants of one kind.
func (d *desk) batch(kind func(time.Time) engine.Work) (engine.Work, store.Results) {
	d.t.Helper()
	d.eng.Step(d.now)
	work := kind(d.now)
	res, err := d.store.Write(context.Background(), work.Batch)
	if err != nil {
		d.t.Fatal(err)
	}
	d.eng.Confirm(work, res, nil, d.now)
	return work, res
}

// TestBatchDoesNotGrowWithRoundTrips checks that a batch is one round trip, whatever is in it, and that heartbeats go in
// batches between which there is room for what a tick leads to.
func TestBatchDoesNotGrowWithRoundTrips(t *testing.T) {
	for n, want := range map[int][]int{1: {1}, 100: {100}, 240: {100, 100, 40}} {
		d := newDesk(t)
		d.many(n)
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		d.lease(d.eng)
		seen := map[position.Symbol]bool{}
		for i, beats := range want {
			work, res := d.batch(d.eng.Routine)
			if len(work.Batch.Beats) != beats || res.RoundTrips != 1 {
				t.Errorf("%d symbols, batch %d: %d beats in %d round trips, want %d in 1", n, i, len(work.Batch.Beats), res.RoundTrips, beats)
			}
			for _, b := range work.Batch.Beats {
				seen[b.Symbol] = true
			}
		}
		if work := d.eng.Routine(d.now); len(seen) != n || len(work.Batch.Beats) != 0 {
			t.Errorf("%d symbols: %d were beaten, %d are left", n, len(seen), len(work.Batch.Beats))
		}
	}
}

// More proposals than a batch takes: every symbol gets its turn, also where those that had it want to be published again.
func TestPublishesUnderOverloadTakeTurns(t *testing.T) {
	const symbols, most, batches = 150, 100, 3
	d := newDesk(t)
	d.eng.SetPublishesAtOnce(most)
	records := d.many(symbols)
	d.now = d.now.Add(time.Second)
	d.redis.SetTime(d.now)
	d.lease(d.eng)
	published := map[position.Symbol]int{}
	for i := range batches {
		for _, r := range records { // up and down: there is a stop, and there is none
			d.eng.Offer(feed.Price{Symbol: r.Symbol, Price: 99 + 8*float64(i%2), At: d.now})
		}
		work, _ := d.batch(d.eng.Urgent)
		if n := len(work.Batch.Publishes); n == 0 || n > most {
			t.Errorf("batch %d has %d publishes", i, n)
		}
		for _, p := range work.Batch.Publishes {
			published[p.Symbol]++
		}
	}
	if len(published) != symbols {
		t.Errorf("%d of %d symbols were published in %d batches", len(published), symbols, batches)
	}
}

// Market states that are produced for others go in batches as well, and none is left out.
func TestProducedStatesTakeTurns(t *testing.T) {
	const symbols, most = 25, 10
	d := newDesk(t)
	d.eng.SetPublishesAtOnce(most)
	d.open(symbols)
	d.lease(d.eng)
	d.recall(d.eng)
	produced := map[position.Symbol]int{}
	for i, want := range []int{most, most, symbols - 2*most, 0} {
		work, _ := d.batch(d.eng.Urgent)
		if n := len(work.Batch.States); n != want {
			t.Errorf("batch %d has %d states, want %d", i, n, want)
		}
		for _, s := range work.Batch.States {
			produced[s.Symbol]++
		}
	}
	if len(produced) != symbols {
		t.Errorf("states of %d symbols were produced, not of %d", len(produced), symbols)
	}
}

// What a tick leads to does not wait for heartbeats under way, but for that of its own symbol.
func TestProposalsGoBesideHeartbeats(t *testing.T) {
	d := newDesk(t)
	records := d.many(150)
	d.now = d.now.Add(time.Second)
	d.redis.SetTime(d.now)
	d.lease(d.eng)
	d.eng.Step(d.now)
	if work := d.eng.Urgent(d.now); !work.Empty() {
		t.Fatalf("urgent: %+v", work.Batch)
	}
	beats := d.eng.Routine(d.now)
	if len(beats.Batch.Beats) != 100 {
		t.Fatalf("%d heartbeats", len(beats.Batch.Beats))
	}
	jump := func(r position.Record) { d.eng.Offer(feed.Price{Symbol: r.Symbol, Price: 99, At: d.now}) }
	jump(records[0])   // its heartbeat is under way
	jump(records[149]) // this one's is not
	d.eng.Step(d.now)
	work := d.eng.Urgent(d.now)
	if p := work.Batch.Publishes; len(p) != 1 || p[0].Symbol != records[149].Symbol {
		t.Fatalf("beside heartbeats goes %+v", p)
	}
	for _, w := range []engine.Work{work, beats} {
		res, err := d.store.Write(context.Background(), w.Batch)
		d.eng.Confirm(w, res, err, d.now)
	}
	work, rest := d.eng.Urgent(d.now), d.eng.Routine(d.now)
	if p := work.Batch.Publishes; len(p) != 1 || p[0].Symbol != records[0].Symbol {
		t.Errorf("behind them goes %+v", p)
	}
	if n := len(rest.Batch.Beats); n != 49 { // that of the last one went with its proposal
		t.Errorf("%d heartbeats were left, want 49", n)
	}
}

// Where there are more proposals than a batch takes, others go beside it: each once, and none that changes the expected set.
func TestProposalsGoBesideAFullBatch(t *testing.T) {
	const symbols, most = 50, 20
	d := newDesk(t)
	records := d.many(symbols)
	d.eng.SetPublishesAtOnce(most)
	fresh := d.long("S1025BUSDT", 99, 100) // among those that go beside
	d.market(fresh.Symbol, 100)
	d.now = d.now.Add(time.Second)
	d.redis.SetTime(d.now)
	d.lease(d.eng)
	d.eng.Offer(d.snapshot(append(records, fresh)...))
	for _, r := range records {
		d.eng.Offer(feed.Price{Symbol: r.Symbol, Price: 99, At: d.now})
	}
	d.eng.Step(d.now)
	published := map[position.Symbol]int{}
	for range 2 {
		urgent, routine := d.eng.Urgent(d.now), d.eng.Routine(d.now)
		if len(routine.Batch.Expect)+len(routine.Batch.Unexpect) != 0 {
			t.Errorf("routine changes the expected set: %v, %v", routine.Batch.Expect, routine.Batch.Unexpect)
		}
		if slices.ContainsFunc(routine.Batch.Publishes, func(p store.Proposal) bool { return p.Symbol == fresh.Symbol }) {
			t.Error("routine begins a proposal, which belongs into the expected set")
		}
		for _, w := range []engine.Work{routine, urgent} {
			for _, p := range w.Batch.Publishes {
				published[p.Symbol]++
			}
			res, err := d.store.Write(context.Background(), w.Batch)
			d.eng.Confirm(w, res, err, d.now)
		}
	}
	for _, r := range append(records, fresh) {
		if published[r.Symbol] != 1 {
			t.Errorf("%s was published %d times", r.Symbol, published[r.Symbol])
		}
	}
}

// Where one batch fails while another gets through, what got through may be gone again: it is written once more.
func TestOneBatchFailsBesideAnother(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	d.market(eth, 50)
	records := []position.Record{d.long(btc, 99, 100), d.long(eth, 49, 50)}
	d.seconds(3, true, records...)
	d.now = d.now.Add(time.Second)
	d.redis.SetTime(d.now)
	d.lease(d.eng)
	d.eng.Offer(feed.Price{Symbol: btc, Price: 99, At: d.now})
	d.eng.Step(d.now)
	urgent, routine := d.eng.Urgent(d.now), d.eng.Routine(d.now)
	if len(urgent.Batch.Publishes) != 1 || len(routine.Batch.Beats) != 1 {
		t.Fatalf("%+v, %+v", urgent.Batch, routine.Batch)
	}
	res, err := d.store.Write(context.Background(), urgent.Batch)
	if err != nil {
		t.Fatal(err)
	}
	d.redis.FlushAll() // the server was restarted, and remembers nothing
	d.eng.Confirm(routine, store.Results{}, context.DeadlineExceeded, d.now)
	d.eng.Confirm(urgent, res, nil, d.now)
	if !d.eng.Urgent(d.now).Empty() || !d.eng.Routine(d.now).Empty() {
		t.Error("something is written before the memory of the store was read again")
	}
	d.seconds(1, false)
	for _, sym := range []position.Symbol{btc, eth} {
		d.whole(sym)
		if !d.client.SIsMember(context.Background(), "quantum:harvest:expected", string(sym)).Val() {
			t.Errorf("%s is not expected", sym)
		}
	}
}

// A store that is too slow for all heartbeats of a second: every symbol gets its turn. Where it is the way to it that is
// long, the batches are larger.
func TestHeartbeatsUnderOverloadTakeTurns(t *testing.T) {
	for _, c := range []struct {
		trip             time.Duration
		batches, largest int
	}{{0, 20, 100}, {3 * time.Millisecond, 20, 100}, {9 * time.Millisecond, 6, 400}, {time.Second, 3, 1000}} {
		d := newDesk(t)
		d.eng.SetPublishesAtOnce(1000) // all have a proposal after one batch
		d.many(1000)
		beaten, largest := map[position.Symbol]int{}, 0
		for range c.batches {
			for range 8 {
				d.now = d.now.Add(700 * time.Millisecond)
				d.redis.SetTime(d.now)
				if ask, due := d.eng.AskLease(d.now); due {
					ans, err := d.store.AskLease(context.Background(), ask.LeaseAsk)
					d.eng.ConfirmLease(ask, ans, err, d.now.Add(c.trip))
				}
			}
			d.batch(d.eng.Urgent) // what has become stale says so
			work, _ := d.batch(d.eng.Routine)
			largest = max(largest, len(work.Batch.Beats))
			for _, b := range work.Batch.Beats {
				beaten[b.Symbol]++
			}
		}
		least, most := 1000, 0
		for _, s := range d.eng.Symbols() {
			least, most = min(least, beaten[s]), max(most, beaten[s])
		}
		if most-least > 1 || least == 0 || largest != c.largest {
			t.Errorf("round trips of %s: a symbol was beaten %d to %d times, in batches of up to %d", c.trip, least, most, largest)
		}
	}
}
