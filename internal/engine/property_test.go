package engine_test

import (
	"context"
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

// TestBatchDoesNotGrowWithRoundTrips checks that a thousand symbols are written in as few round trips as one.
func TestBatchDoesNotGrowWithRoundTrips(t *testing.T) {
	for _, n := range []int{1, 1000} {
		d := newDesk(t)
		records := make([]position.Record, n)
		for i := range records {
			sym := position.Symbol("S" + strconv.Itoa(i) + "USDT")
			records[i] = d.long(sym, 99, 100)
			d.market(sym, 100)
		}
		d.eng.Offer(d.snapshot(records...))
		d.run(d.eng) // loads the scripts
		d.now = d.now.Add(time.Second)
		d.redis.FlushDB()
		work := step(t, d.eng, d.now)
		res, err := d.store.Write(context.Background(), work.Batch)
		if err != nil {
			t.Fatal(err)
		}
		if len(work.Batch.Beats) != n || res.RoundTrips != 1 {
			t.Errorf("%d symbols: %d beats in %d round trips, want 1", n, len(work.Batch.Beats), res.RoundTrips)
		}
	}
}

func step(t *testing.T, eng *engine.Engine, now time.Time) engine.Work {
	t.Helper()
	return eng.Step(now, true)
}
