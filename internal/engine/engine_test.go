package engine_test

import (
	"context"
	"io"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

const (
	btc = position.Symbol("BTCUSDT")
	eth = position.Symbol("ETHUSDT")
)

// desk is an engine on a store, with the clock in the test's hand.
type desk struct {
	t      testing.TB
	eng    *engine.Engine
	store  *store.Store
	redis  *miniredis.Miniredis
	client *redis.Client
	now    time.Time
	prices map[position.Symbol]float64
}

func newDesk(t testing.TB, change ...func(*engine.Options)) *desk {
	t.Helper()
	mr := miniredis.RunT(t)
	d := &desk{t: t, redis: mr, now: time.Date(2026, 1, 23, 1, 32, 18, 0, time.UTC), prices: map[position.Symbol]float64{}}
	d.client = redis.NewClient(&redis.Options{Addr: mr.Addr(), MaxRetries: -1})
	t.Cleanup(func() { d.client.Close() })
	d.restart(change...)
	return d
}

// restart replaces the engine by a fresh one on the same store: a new process.
func (d *desk) restart(change ...func(*engine.Options)) {
	d.t.Helper()
	d.store = store.New(d.client, store.NewKeys(store.KeysOptions{}))
	d.eng = d.another(change...)
	d.restore(d.eng)
}

func (d *desk) another(change ...func(*engine.Options)) *engine.Engine {
	d.t.Helper()
	o := engine.Options{
		Heartbeat: time.Second, Cycle: 10 * time.Second, MarketStale: 120 * time.Second, PositionStale: 30 * time.Second,
		ProduceEvery: time.Minute, Window: 300,
		Market: kernel.DefaultMarketParams(), Stops: kernel.DefaultStopParams(), Harvest: kernel.DefaultHarvestParams(),
		Gate:      kernel.GateParams{ChangeEpsPct: 0.001, MaxPublishAgeSec: 60},
		Publisher: "test-1", MarketSource: "redis", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, c := range change {
		c(&o)
	}
	eng, err := engine.New(o)
	if err != nil {
		d.t.Fatal(err)
	}
	return eng
}

func (d *desk) restore(eng *engine.Engine) {
	d.t.Helper()
	c, err := d.store.Collect(context.Background(), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	eng.Restore(c.Entries, d.now)
}

// run steps one engine until it wants nothing more at this moment, as its owner would.
func (d *desk) run(eng *engine.Engine) {
	d.t.Helper()
	ctx := context.Background()
	for range 10 {
		if eng.WantsFence() {
			f, err := d.store.NewFence(ctx)
			if err != nil {
				eng.Step(d.now, false)
				return
			}
			eng.SetFence(f)
		}
		work := eng.Step(d.now, true)
		if work.Empty() {
			return
		}
		res, err := d.store.Write(ctx, work.Batch)
		eng.Confirm(work, res, err, d.now)
		if err != nil {
			return
		}
		if work.Audit {
			c, err := d.store.Collect(ctx, nil)
			if err != nil {
				d.t.Fatal(err)
			}
			eng.Audit(c.Entries, d.now)
		}
	}
	d.t.Fatal("the engine never came to rest at one moment")
}

// seconds lets time pass: every second the positions are read again, and market ticks arrive where live says so.
func (d *desk) seconds(n int, live bool, records ...position.Record) {
	d.t.Helper()
	for range n {
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		if live {
			for sym, p := range d.prices {
				d.eng.Offer(feed.Price{Symbol: sym, Price: p, At: d.now})
			}
		}
		if records != nil {
			d.eng.Offer(d.snapshot(records...))
		}
		d.run(d.eng)
	}
}

func (d *desk) snapshot(records ...position.Record) feed.Snapshot {
	return feed.Snapshot{Snapshot: position.Snapshot{
		Source: "redis_hash", At: d.now, Instance: "run-1", Complete: true, Records: records,
	}}
}

// market loads a gently swinging history that ends at price.
func (d *desk) market(sym position.Symbol, price float64) {
	candles := make([]feed.Candle, 300)
	start := d.now.Truncate(time.Minute).Add(-300 * time.Minute)
	for i := range candles {
		p := price * (1 + 0.001*math.Sin(float64(i)/7) + 0.0002*math.Sin(float64(i)*2.3))
		if i == len(candles)-1 {
			p = price
		}
		candles[i] = feed.Candle{
			Symbol: sym, OpenTime: start.Add(time.Duration(i) * time.Minute), Interval: time.Minute,
			Open: p, High: p, Low: p, Close: p, Closed: true, At: d.now,
		}
	}
	d.prices[sym] = price
	d.eng.Offer(feed.History{Symbol: sym, Candles: candles, At: d.now})
}

func (d *desk) long(sym position.Symbol, entry, current float64) position.Record {
	return position.Record{
		Symbol: sym, Side: position.Long, Entry: entry, Current: current,
		OpenedAt: time.Date(2026, 1, 23, 0, 32, 18, 0, time.UTC),
	}
}

func (d *desk) hash(sym position.Symbol) map[string]string {
	d.t.Helper()
	h, err := d.client.HGetAll(context.Background(), "quantum:harvest:proposal:"+string(sym)).Result()
	if err != nil {
		d.t.Fatal(err)
	}
	return h
}

// whole checks that a hash has every field of the contract and returns it decoded.
func (d *desk) whole(sym position.Symbol) store.Proposal {
	d.t.Helper()
	h := d.hash(sym)
	p, problems := store.Decode(sym, h)
	if len(h) == 0 || len(problems) > 0 {
		d.t.Fatalf("proposal of %s is not whole: %d fields, problems %v", sym, len(h), problems)
	}
	return p
}

func (d *desk) symbol(sym position.Symbol) engine.SymbolStatus {
	d.t.Helper()
	d.eng.Snapshot(d.now)
	for _, s := range d.eng.Status().Symbols {
		if s.Symbol == sym {
			return s
		}
	}
	d.t.Fatalf("no status of %s", sym)
	return engine.SymbolStatus{}
}

func TestHeartbeatMovesWhileTheGateHolds(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(1, true, rec)
	first := d.whole(btc)
	d.seconds(20, true, rec)
	later := d.whole(btc)

	if got := later.LastUpdate.Sub(first.LastUpdate); got != 20*time.Second {
		t.Errorf("heartbeat moved by %v, want 20s", got)
	}
	if later.Revision != first.Revision {
		t.Errorf("revision went from %d to %d although the gate had nothing to open for", first.Revision, later.Revision)
	}
	if !later.ComputedAt.Equal(first.ComputedAt) {
		t.Errorf("the content's time moved from %v to %v without a publish", first.ComputedAt, later.ComputedAt)
	}
	if got := later.ValidUntil.Sub(later.LastUpdate); got != 5*time.Second {
		t.Errorf("valid for %v after the beat, want 5s", got)
	}
	if !later.MarketAt.After(first.MarketAt) || !later.PositionAt.After(first.PositionAt) {
		t.Errorf("input epochs did not move: market %v, position %v", later.MarketAt, later.PositionAt)
	}
	if later.InputState != store.InputFresh {
		t.Errorf("input state %q", later.InputState)
	}
	if ttl := d.redis.TTL("quantum:harvest:proposal:BTCUSDT"); ttl != 0 {
		t.Errorf("the hash has a TTL of %v: it must never expire", ttl)
	}
	st := d.symbol(btc)
	if st.RateLimited == 0 || st.Beats < 19 {
		t.Errorf("held back %d times with %d beats", st.RateLimited, st.Beats)
	}
}

func TestFullPublishByAgeAndByChange(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99.8, 100)
	d.seconds(1, true, rec)
	first := d.whole(btc)
	d.seconds(65, true, rec)
	aged := d.whole(btc)
	if aged.Revision != first.Revision+1 {
		t.Fatalf("after 65 s the revision is %d, want %d: one publish by age", aged.Revision, first.Revision+1)
	}
	rec.Current = 112 // far into profit: a stop is proposed where there was none
	d.prices[btc] = 112
	d.seconds(1, true, rec)
	changed := d.whole(btc)
	if changed.Revision != aged.Revision+1 || changed.RNet <= aged.RNet {
		t.Fatalf("a new stop was not published: revision %d, R %v", changed.Revision, changed.RNet)
	}
}

func TestPriceEventIsPublishedWithoutWaitingForABeat(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99.8, 100)
	d.seconds(1, true, rec)
	before := d.whole(btc)
	d.now = d.now.Add(300 * time.Millisecond)
	d.eng.Offer(feed.Price{Symbol: btc, Price: 112, At: d.now})
	d.run(d.eng)
	if after := d.whole(btc); after.Revision != before.Revision+1 || after.Current != 112 {
		t.Fatalf("revision %d, price %v: the tick was not published at once", after.Revision, after.Current)
	}
}

func TestStaleMarketKeepsAndMarksTheLastGoodAdvice(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 112)
	rec := d.long(btc, 99, 112)
	d.seconds(5, true, rec)
	live := d.whole(btc)
	d.seconds(118, false, rec)
	if got := d.whole(btc); got.InputState != store.InputFresh {
		t.Fatalf("stale after 118 s, the threshold is 120 s")
	}
	d.seconds(10, false, rec)
	stale := d.whole(btc)
	if stale.InputState != store.InputStaleMarket {
		t.Fatalf("input state %q, want stale_market", stale.InputState)
	}
	if stale.Action != live.Action {
		t.Errorf("action went from %s to %s", live.Action, stale.Action)
	}
	if !stale.MarketAt.Equal(live.MarketAt) {
		t.Errorf("market epoch moved from %v to %v without market data", live.MarketAt, stale.MarketAt)
	}
	d.seconds(100, false, rec)
	later := d.whole(btc)
	if !later.LastUpdate.Equal(d.now) {
		t.Errorf("heartbeat stopped at %v", later.LastUpdate)
	}
	if !later.ComputedAt.Equal(stale.ComputedAt) || later.Revision != stale.Revision {
		t.Errorf("stale content was renewed: computed %v -> %v", stale.ComputedAt, later.ComputedAt)
	}
	d.seconds(1, true, rec)
	back := d.whole(btc)
	if back.InputState != store.InputFresh || !back.ComputedAt.Equal(d.now) {
		t.Errorf("after the market came back: %q, computed %v", back.InputState, back.ComputedAt)
	}
}

func TestPositionsThatVanishAllAtOnceAreStaleNeverFlat(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 112)
	d.market(eth, 50)
	d.seconds(2, true, d.long(btc, 99, 112), d.long(eth, 49, 50))
	before := d.whole(btc)
	for range 60 {
		d.seconds(1, true, []position.Record{}...)
	}
	for _, sym := range []position.Symbol{btc, eth} {
		p := d.whole(sym)
		if p.InputState != store.InputStalePosition {
			t.Errorf("%s: input state %q, want stale_position", sym, p.InputState)
		}
		if !p.LastUpdate.Equal(d.now) {
			t.Errorf("%s: heartbeat stopped", sym)
		}
	}
	if after := d.whole(btc); after.Action != before.Action {
		t.Errorf("action went from %s to %s", before.Action, after.Action)
	}
}

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

func TestFlipEndsOneEpisodeAndStartsAnother(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	d.seconds(2, true, d.long(btc, 99, 100))
	long := d.whole(btc)
	short := d.long(btc, 101, 100)
	short.Side, short.OpenedAt = position.Short, d.now
	d.seconds(1, true, short)
	p := d.whole(btc)
	if p.Side != position.Short || p.Episode == long.Episode || p.Entry != 101 {
		t.Fatalf("after the flip: side %s, episode %s (was %s)", p.Side, p.Episode, long.Episode)
	}
	if p.Peak > 101 {
		t.Errorf("the peak of the old episode leaked into the new one: %v", p.Peak)
	}
	n, err := d.client.XLen(context.Background(), "quantum:stream:harvest.proposal").Result()
	if err != nil || n != 1 {
		t.Errorf("%d closing records, want 1 (%v)", n, err)
	}
}

func TestFlipWhileTheMarketIsStaleDropsTheOldSidesAdvice(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 112)
	d.seconds(2, true, d.long(btc, 99, 112))
	d.seconds(130, false, d.long(btc, 99, 112))
	short := d.long(btc, 101, 100)
	short.Side, short.OpenedAt = position.Short, d.now
	d.seconds(2, false, short)
	if h := d.hash(btc); len(h) != 0 {
		t.Fatalf("advice for the long stands for the short: %v", h)
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
		if w := d.eng.Step(d.now, false); len(w.Batch.Publishes)+len(w.Batch.Beats) > 0 {
			t.Fatal("a step that may not write wanted to")
		}
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

func TestTwoPublishersDoNotFlap(t *testing.T) {
	d := newDesk(t)
	rec := d.long(btc, 99, 100)
	d.market(btc, 100)
	d.seconds(3, true, rec)

	second := d.another(func(o *engine.Options) { o.Publisher = "test-2" })
	d.restore(second)
	first := d.eng
	beat := func(engines ...*engine.Engine) {
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		for _, e := range engines {
			e.Offer(feed.Price{Symbol: btc, Price: 100, At: d.now})
			e.Offer(d.snapshot(rec))
			d.run(e)
		}
	}
	d.eng = second
	d.market(btc, 100)
	d.eng = first
	beat(first, second)
	took := d.whole(btc)
	if took.Publisher != "test-2" {
		t.Fatalf("the newer publisher did not take over: %s writes", took.Publisher)
	}
	for range 30 {
		beat(first, second)
		if p := d.whole(btc); p.Publisher != "test-2" || p.Fence < took.Fence {
			t.Fatalf("%s writes under fence %d although test-2 holds %d", p.Publisher, p.Fence, took.Fence)
		}
	}
	if st := d.symbol(btc); !st.Fenced {
		t.Error("the older publisher does not know that it stands by")
	}
	for range 10 { // the newer one dies
		beat(first)
	}
	back := d.whole(btc)
	if back.Publisher != "test-1" || back.Fence <= took.Fence || !back.LastUpdate.Equal(d.now) {
		t.Errorf("10 s after its death %s writes, fence %d, heartbeat %v", back.Publisher, back.Fence, back.LastUpdate)
	}
}

func TestPositionsOutsideSymbolsAreCountedNotPublished(t *testing.T) {
	d := newDesk(t, func(o *engine.Options) { o.Symbols = []position.Symbol{btc} })
	d.market(btc, 100)
	d.market(eth, 50)
	d.seconds(3, true, d.long(btc, 99, 100), d.long(eth, 49, 50))
	d.whole(btc)
	if h := d.hash(eth); len(h) != 0 {
		t.Errorf("a symbol outside SYMBOLS was published: %v", h)
	}
	if st := d.eng.Status(); st.Uncovered != 1 || st.Covered != 1 {
		t.Errorf("covered %d, uncovered %d", st.Covered, st.Uncovered)
	}
}

func TestClockStepsDoNotStopTheHeartbeat(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(3, true, rec)
	d.now = d.now.Add(-time.Hour)
	d.seconds(3, true, rec)
	if p := d.whole(btc); !p.LastUpdate.Equal(d.now) {
		t.Errorf("after a step back the heartbeat says %v, now is %v", p.LastUpdate, d.now)
	}
	d.now = d.now.Add(2 * time.Hour)
	d.seconds(2, true, rec)
	if p := d.whole(btc); !p.LastUpdate.Equal(d.now) {
		t.Errorf("after a step forward the heartbeat says %v, now is %v", p.LastUpdate, d.now)
	}
}

func TestReportedProfitIsComparedNotBelieved(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	rec.Quantity, rec.HasQuantity = 2, true
	rec.PnL, rec.HasPnL = 2, true // 1 per unit: right
	d.seconds(2, true, rec)
	if n := d.symbol(btc).Refusals[feed.ReasonPnL]; n != 0 {
		t.Fatalf("a right profit was counted as wrong %d times", n)
	}
	rec.PnL = 500
	d.seconds(1, true, rec)
	p := d.whole(btc)
	if p.UnrealizedPnL != 1 {
		t.Errorf("profit per unit %v, want 1 from the prices", p.UnrealizedPnL)
	}
	if n := d.symbol(btc).Refusals[feed.ReasonPnL]; n == 0 {
		t.Error("a wrong profit was not counted")
	}
}

func TestProfitStandsInForAMissingPrice(t *testing.T) {
	d := newDesk(t)
	st := kernel.MarketState{Sigma: 0.008, TS: 0.5, PTrend: 0.5, PMR: 0.2, PChop: 0.3}
	rec := position.Record{Symbol: btc, Side: position.Short, Entry: 100, PnL: 10, HasPnL: true, OpenedAt: d.now}
	for range 3 {
		d.eng.Offer(feed.State{Symbol: btc, State: st, At: d.now})
		d.seconds(1, true, rec)
	}
	if p := d.whole(btc); p.Current != 90 || p.UnrealizedPnL != 10 {
		t.Errorf("current %v profit %v, want 90 and 10", p.Current, p.UnrealizedPnL)
	}
}

func TestRefusedInputChangesNothingElse(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 112)
	d.market(eth, 50)
	recs := []position.Record{d.long(btc, 99, 112), d.long(eth, 49, 50)}
	d.seconds(2, true, recs...)
	before := d.whole(btc)
	for range 5 {
		d.eng.Offer(feed.Refusal{Symbol: btc, Source: "redis", Key: "k", Field: "sigma", Reason: feed.ReasonNotFinite})
		d.seconds(1, true, recs...)
	}
	if after := d.whole(btc); after.Action != before.Action {
		t.Errorf("action went from %s to %s", before.Action, after.Action)
	}
	if n := d.symbol(btc).Refusals[feed.ReasonNotFinite]; n != 5 {
		t.Errorf("%d refusals counted, want 5", n)
	}
	if n := len(d.symbol(eth).Refusals); n != 0 {
		t.Errorf("another symbol was charged: %v", d.symbol(eth).Refusals)
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

func TestNewChecksItsOptions(t *testing.T) {
	good := engine.Options{
		Heartbeat: time.Second, Cycle: time.Second, MarketStale: time.Second, PositionStale: time.Second,
		ProduceEvery: time.Second, Window: 300, Market: kernel.DefaultMarketParams(), Stops: kernel.DefaultStopParams(),
		Harvest: kernel.DefaultHarvestParams(), Gate: kernel.GateParams{ChangeEpsPct: 0.001, MaxPublishAgeSec: 60},
		Publisher: "p", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for name, tc := range map[string]struct {
		change func(*engine.Options)
		want   string
	}{
		"fraction of a second": {func(o *engine.Options) { o.Heartbeat = 1500 * time.Millisecond }, "whole number of seconds"},
		"no heartbeat":         {func(o *engine.Options) { o.Heartbeat = 0 }, "heartbeat"},
		"blank publisher":      {func(o *engine.Options) { o.Publisher = "" }, "publisher"},
		"short window":         {func(o *engine.Options) { o.Window = 100 }, "MARKETSTATE_WINDOW_SIZE"},
		"bad gate":             {func(o *engine.Options) { o.Gate.MaxPublishAgeSec = math.NaN() }, "max_publish_age"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			tc.change(&o)
			_, err := engine.New(o)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v does not mention %q", err, tc.want)
			}
		})
	}
	if _, err := engine.New(good); err != nil {
		t.Errorf("good options refused: %v", err)
	}
}
