package engine_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

const btcKey = "quantum:harvest:proposal:BTCUSDT"

// age is how long ago the heartbeat of a symbol was, by the test's clock.
func (d *desk) age(sym position.Symbol) time.Duration {
	d.t.Helper()
	return d.now.Sub(d.whole(sym).LastUpdate)
}

func TestACorruptFenceLocksNobodyOutAndTouchesNobodyElse(t *testing.T) {
	ctx := context.Background()
	for name, fields := range map[string][]any{
		"ahead of the clock of the server": {"fence", "1999999999999999"},
		"with a validity for ever":         {"fence", "1999999999999999", "valid_until_epoch", "99999999999"},
		"beyond what a double holds":       {"fence", "99999999999999999999"},
		"no number":                        {"fence", "NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.market(btc, 100)
			d.market(eth, 50)
			recs := []position.Record{d.long(btc, 99, 100), d.long(eth, 49, 50)}
			d.seconds(3, true, recs...)
			other := d.whole(eth)
			if err := d.client.HSet(ctx, btcKey, fields...).Err(); err != nil {
				t.Fatal(err)
			}
			d.seconds(15, true, recs...)
			if a := d.age(btc); a != 0 {
				t.Errorf("15 s later the heartbeat is %v old", a)
			}
			if p := d.whole(eth); p.Revision != other.Revision || p.Fence != other.Fence {
				t.Errorf("another symbol went from revision %d fence %d to %d %d", other.Revision, other.Fence, p.Revision, p.Fence)
			}
			if err := d.client.HSet(ctx, btcKey, "kill_score", "0.1").Err(); err != nil {
				t.Fatal(err)
			}
			d.seconds(11, true, recs...)
			if p := d.whole(btc); p.KillScore == 0.1 {
				t.Error("the symbol is no longer repaired")
			}
		})
	}
}

func TestStandbyTakesOverWhateverItsClockSays(t *testing.T) {
	for _, skew := range []time.Duration{0, 2 * time.Minute, -2 * time.Minute} {
		t.Run(skew.String(), func(t *testing.T) {
			d := newDesk(t)
			rec := d.long(btc, 99, 100)
			type publisher struct {
				eng  *engine.Engine
				skew time.Duration
			}
			begin := func(id string, skew time.Duration) publisher {
				p := publisher{d.another(func(o *engine.Options) { o.Publisher = id }), skew}
				base, eng := d.now, d.eng
				d.now, d.eng = d.now.Add(skew), p.eng
				d.market(btc, 100)
				d.restore(p.eng)
				d.now, d.eng = base, eng
				return p
			}
			second := func(alive ...publisher) {
				base := d.now.Add(time.Second)
				d.redis.SetTime(base)
				for _, p := range alive {
					d.now = base.Add(p.skew)
					p.eng.Offer(feed.Price{Symbol: btc, Price: 100, At: d.now})
					p.eng.Offer(d.snapshot(rec))
					d.run(p.eng)
				}
				d.now = base
			}
			old := begin("old", skew)
			for range 3 {
				second(old)
			}
			young := begin("young", 0)
			for range 30 {
				second(old, young)
			}
			before := d.whole(btc)
			if before.Publisher != "young" {
				t.Fatalf("%s holds the key, not the one that started last", before.Publisher)
			}
			for range 10 { // it dies
				second(old)
			}
			after := d.whole(btc)
			if after.Publisher != "old" || after.Fence <= before.Fence || after.Revision <= before.Revision {
				t.Fatalf("10 s after its death %s holds fence %d revision %d (was %d %d)",
					after.Publisher, after.Fence, after.Revision, before.Fence, before.Revision)
			}
			for range 30 { // it wakes up again
				second(old, young)
				if p := d.whole(btc); p.Publisher != "old" || p.Fence != after.Fence {
					t.Fatalf("the woken one took the key: %s, fence %d", p.Publisher, p.Fence)
				}
			}
		})
	}
}

func TestAnswerThatComesAfterTheEpisodeEnded(t *testing.T) {
	for _, kind := range []string{"beat", "publish"} {
		t.Run(kind, func(t *testing.T) {
			ctx := context.Background()
			d := newDesk(t)
			d.market(btc, 100)
			rec := d.long(btc, 99, 100)
			d.seconds(2, true, rec)
			d.seconds(130, false, rec) // the market is stale: a new episode will have no advice
			if kind == "publish" {
				d.prices[btc] = 120
				d.eng.Offer(feed.Price{Symbol: btc, Price: 120, At: d.now.Add(time.Second)})
			}
			d.client.Del(ctx, btcKey)
			d.now = d.now.Add(time.Second)
			work := d.eng.Step(d.now, true)
			rec.Side, rec.OpenedAt = position.Short, d.now
			d.eng.Offer(d.snapshot(rec))
			d.eng.Step(d.now, false)
			res, err := d.store.Write(ctx, work.Batch)
			d.eng.Confirm(work, res, err, d.now)
			d.seconds(5, false, rec)
			if h := d.hash(btc); len(h) > 0 && h["position_side"] == "LONG" {
				t.Errorf("advice for the long stands for the short: %v", h)
			}
			d.seconds(3, true, rec)
			if p := d.whole(btc); p.Side != position.Short {
				t.Errorf("side %s", p.Side)
			}
		})
	}
}

func TestAFailureBeforeAClockStepDoesNotSilenceASymbol(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(3, true, rec)
	d.now = d.now.Add(time.Second)
	work := d.eng.Step(d.now, true)
	res, err := d.store.Write(ctx, work.Batch)
	if err != nil {
		t.Fatal(err)
	}
	for i := range res.Beats {
		res.Beats[i] = store.Result{Symbol: btc, Outcome: store.Failed}
	}
	d.eng.Confirm(work, res, nil, d.now)
	d.now = d.now.Add(-10 * time.Minute)
	d.seconds(3, true, rec)
	if a := d.age(btc); a != 0 {
		t.Errorf("3 s after the step the heartbeat is %v away from now", a)
	}
}

func TestStandbyKeepsNoEndlessQueue(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(3, true, rec)
	for i := range 40 {
		// Somebody else holds the key and lives.
		d.client.HSet(context.Background(), btcKey, "fence", "9000000000000000", "publisher", "other", "valid_until_epoch", strconv.Itoa(1_900_000_000+i))
		if i%3 == 0 {
			rec.Side, rec.OpenedAt = position.Short, d.now
		} else {
			rec.Side, rec.OpenedAt = position.Long, d.now
		}
		d.seconds(1, true, rec)
	}
	d.client.Del(context.Background(), btcKey)
	d.seconds(15, true, rec)
	if n := d.client.XLen(context.Background(), "quantum:stream:harvest.proposal").Val(); n > 10 {
		t.Errorf("%d closing records came out of the queue of a standby", n)
	}
	if a := d.age(btc); a != 0 {
		t.Errorf("after the holder was gone the heartbeat is %v old", a)
	}
}
