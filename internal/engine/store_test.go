package engine_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/store"
)

func TestCloseDeletesAndLeavesARecord(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 112)
	d.market(eth, 50)
	d.seconds(2, true, d.long(btc, 99, 112), d.long(eth, 49, 50))
	episode := d.whole(btc).Episode
	d.seconds(2, true, d.long(eth, 49, 50))
	if h := d.hash(btc); len(h) != 0 {
		t.Fatalf("hash is still there after two snapshots without the position: %v", h)
	}
	d.whole(eth)
	if members, _ := d.client.SMembers(context.Background(), "quantum:harvest:expected").Result(); len(members) != 1 || members[0] != "ETHUSDT" {
		t.Errorf("expected symbols %v, want only ETHUSDT", members)
	}
	entries, err := d.client.XRange(context.Background(), "quantum:stream:harvest.proposal", "-", "+").Result()
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d closing records, want 1 (%v)", len(entries), err)
	}
	v := entries[0].Values
	if v["event"] != "closed" || v["symbol"] != "BTCUSDT" || v["close_reason"] != "flat" || v["episode"] != episode || v["harvest_action"] != "NONE" {
		t.Errorf("closing record %v", v)
	}
	d.seconds(5, true, d.long(eth, 49, 50))
	if h := d.hash(btc); len(h) != 0 {
		t.Errorf("a beat brought the closed hash back: %v", h)
	}
}

func TestDamagedHashIsRepairedWhole(t *testing.T) {
	ctx := context.Background()
	key := "quantum:harvest:proposal:BTCUSDT"
	for name, damage := range map[string]func(*redis.Client) error{
		"deleted":       func(c *redis.Client) error { return c.Del(ctx, key).Err() },
		"half deleted":  func(c *redis.Client) error { return c.HDel(ctx, key, "kill_score", "R_net").Err() },
		"another type":  func(c *redis.Client) error { c.Del(ctx, key); return c.LPush(ctx, key, "x").Err() },
		"flushed":       func(c *redis.Client) error { return c.FlushAll(ctx).Err() },
		"revision lost": func(c *redis.Client) error { return c.HSet(ctx, key, "revision", "77").Err() },
		"bare timestamp": func(c *redis.Client) error {
			c.Del(ctx, key)
			return c.HSet(ctx, key, "last_update_epoch", "1").Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.market(btc, 100)
			rec := d.long(btc, 99, 100)
			d.seconds(3, true, rec)
			before := d.whole(btc)
			if err := damage(d.client); err != nil {
				t.Fatal(err)
			}
			d.seconds(1, true, rec)
			after := d.whole(btc)
			if after.Revision <= before.Revision {
				t.Errorf("revision went from %d to %d", before.Revision, after.Revision)
			}
			if after.Episode != before.Episode || after.Peak != before.Peak {
				t.Errorf("episode %s peak %v, before %s %v", after.Episode, after.Peak, before.Episode, before.Peak)
			}
			if ok, _ := d.client.SIsMember(ctx, "quantum:harvest:expected", "BTCUSDT").Result(); !ok {
				t.Error("the symbol is no longer expected")
			}
		})
	}
}

func TestAuditRepairsWhatABeatCannotSee(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(3, true, rec)
	good := d.whole(btc)
	if err := d.client.HSet(context.Background(), "quantum:harvest:proposal:BTCUSDT", "kill_score", "0.01").Err(); err != nil {
		t.Fatal(err)
	}
	d.seconds(11, true, rec)
	if got := d.whole(btc); math.Abs(got.KillScore-good.KillScore) > 0.01 {
		t.Fatalf("a foreign kill_score of %v stands after a whole cycle", got.KillScore)
	}
}

func TestFailedWriteIsNotRemembered(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(3, true, rec)
	d.redis.SetError("LOADING")
	d.prices[btc], rec.Current = 112, 112
	d.seconds(5, true, rec)
	if st := d.eng.Status(); st.StoreErrors == 0 {
		t.Error("failures were not counted")
	}
	d.redis.SetError("")
	d.redis.FlushAll()
	d.seconds(1, true, rec)
	if p := d.whole(btc); p.Current != 112 {
		t.Errorf("price %v after the store came back, want 112", p.Current)
	}
}

func TestEvaluationGoesOnWithoutAStore(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	d.eng.Offer(d.snapshot(d.long(btc, 99, 100)))
	for range 5 {
		d.now = d.now.Add(time.Second)
		d.eng.Offer(feed.Price{Symbol: btc, Price: 100, At: d.now})
		d.eng.Offer(d.snapshot(d.long(btc, 99, 100)))
		d.eng.Step(d.now)
	}
	if st := d.eng.Status(); st.Evaluations < 5 || st.Advised != 1 {
		t.Fatalf("evaluations %d, advised %d", st.Evaluations, st.Advised)
	}
}

func TestRestartKeepsIdentityExtremesAndGate(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	rec.OpenedAt = time.Time{} // nothing but our memory knows when it was opened
	d.seconds(2, true, rec)
	d.prices[btc], rec.Current = 120, 120
	d.seconds(2, true, rec)
	d.prices[btc], rec.Current = 110, 110
	d.seconds(5, true, rec)
	before := d.whole(btc)
	if before.Peak != 120 {
		t.Fatalf("peak %v before the restart", before.Peak)
	}

	d.now = d.now.Add(20 * time.Second)
	d.restart()
	d.market(btc, 110)
	d.seconds(3, true, rec)
	after := d.whole(btc)
	if after.Episode != before.Episode || after.Peak != 120 || after.Trough != before.Trough {
		t.Errorf("episode %s peak %v trough %v, before %s %v %v",
			after.Episode, after.Peak, after.Trough, before.Episode, before.Peak, before.Trough)
	}
	if after.Revision <= before.Revision || after.Fence <= before.Fence {
		t.Errorf("revision %d fence %d, before %d %d", after.Revision, after.Fence, before.Revision, before.Fence)
	}
	if after.AgeSec < before.AgeSec {
		t.Errorf("the position got younger: %v s, before %v s", after.AgeSec, before.AgeSec)
	}
}

func TestRestartWithoutInputsKeepsTheAdviceMarked(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 112)
	d.seconds(3, true, d.long(btc, 99, 112))
	before := d.whole(btc)
	d.now = d.now.Add(10 * time.Minute)
	d.restart()
	d.seconds(10, false)
	after := d.whole(btc)
	if after.InputState != store.InputStalePosition || after.Action != before.Action || !after.ComputedAt.Equal(before.ComputedAt) {
		t.Errorf("state %q action %s computed %v; before action %s computed %v",
			after.InputState, after.Action, after.ComputedAt, before.Action, before.ComputedAt)
	}
	if !after.LastUpdate.Equal(d.now) {
		t.Errorf("heartbeat at %v, now %v", after.LastUpdate, d.now)
	}
}

func TestProducedMarketStateIsMarkedAndNeverOverwritesAnothers(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	if err := d.client.HSet(ctx, "quantum:marketstate:ETHUSDT", "sigma", "0.5").Err(); err != nil {
		t.Fatal(err)
	}
	d.market(btc, 100)
	d.market(eth, 50)
	d.seconds(3, true, d.long(btc, 99, 100), d.long(eth, 49, 50))
	h, err := d.client.HGetAll(ctx, "quantum:marketstate:BTCUSDT").Result()
	if err != nil || h["publisher"] == "" || h["p_trend"] == "" || h["p_trend"] == "0" {
		t.Errorf("produced market state %v (%v)", h, err)
	}
	if ttl := d.redis.TTL("quantum:marketstate:BTCUSDT"); ttl != 10*time.Minute {
		t.Errorf("TTL %v, want 10 intervals", ttl)
	}
	if got, _ := d.client.HGet(ctx, "quantum:marketstate:ETHUSDT", "sigma").Result(); got != "0.5" {
		t.Errorf("another service's market state was overwritten: sigma %q", got)
	}
	if h, _ := d.client.HGetAll(ctx, "quantum:risk:proposal:BTCUSDT").Result(); h["proposed_sl"] == "" || h["publisher"] == "" {
		t.Errorf("produced stops %v", h)
	}
}
