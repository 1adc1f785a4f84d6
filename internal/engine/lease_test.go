package engine_test

import (
	"context"
	"maps"
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

// peer is one of several publishers on the same store, with a clock of its own.
type peer struct {
	eng  *engine.Engine
	skew time.Duration
}

// join starts another publisher beside those there are.
func (d *desk) join(id string, skew time.Duration, change ...func(*engine.Options)) *peer {
	d.t.Helper()
	d.started++
	p := &peer{d.another(append(change, func(o *engine.Options) { o.Publisher = id })...), skew}
	base, eng := d.now, d.eng
	d.now, d.eng = d.now.Add(skew), p.eng
	for sym, price := range d.prices {
		d.market(sym, price)
	}
	d.run(p.eng)
	d.now, d.eng = base, eng
	return p
}

// second lets one second pass for those that are alive, one after the other.
func (d *desk) second(recs []position.Record, alive ...*peer) {
	d.t.Helper()
	base := d.now.Add(time.Second)
	d.redis.SetTime(base)
	for _, p := range alive {
		d.now = base.Add(p.skew)
		for sym, price := range d.prices {
			p.eng.Offer(feed.Price{Symbol: sym, Price: price, At: d.now})
		}
		p.eng.Offer(d.snapshot(recs...))
		d.run(p.eng)
	}
	d.now = base
}

func TestStandbyTakesOverWhateverItsClockSays(t *testing.T) {
	for _, skew := range []time.Duration{0, 2 * time.Minute, -2 * time.Minute} {
		t.Run(skew.String(), func(t *testing.T) {
			d := newDesk(t)
			d.leave()
			d.prices[btc] = 100
			recs := []position.Record{d.long(btc, 99, 100)}
			old := d.join("old", 0)
			for range 3 {
				d.second(recs, old)
			}
			young := d.join("young", skew)
			for range 30 {
				d.second(recs, old, young)
				if p := d.whole(btc); p.Publisher != "old" {
					t.Fatalf("%s took the key from a living publisher", p.Publisher)
				}
			}
			if st := young.status(d, btc); !st.Elsewhere {
				t.Error("the standby does not know that it stands by")
			}
			before := d.whole(btc)
			for range 6 { // it dies: three intervals of two seconds
				d.second(recs, young)
			}
			after := d.whole(btc)
			if after.Publisher != "young" || after.Fence <= before.Fence || after.Revision <= before.Revision || after.Episode != before.Episode {
				t.Fatalf("6 s after its death %s holds fence %d revision %d episode %s (was %d %d %s)",
					after.Publisher, after.Fence, after.Revision, after.Episode, before.Fence, before.Revision, before.Episode)
			}
			for range 30 { // it wakes up again
				d.second(recs, old, young)
				if p := d.whole(btc); p.Publisher != "young" || p.Fence != after.Fence {
					t.Fatalf("the woken one took the key: %s, fence %d", p.Publisher, p.Fence)
				}
			}
			// Told to stop, it hands over without anybody waiting.
			if _, err := d.store.AskLease(context.Background(), young.eng.LeaveLease(d.now).LeaseAsk); err != nil {
				t.Fatal(err)
			}
			d.second(recs, old)
			if p := d.whole(btc); p.Publisher != "old" {
				t.Errorf("a second after it was given up %s writes", p.Publisher)
			}
		})
	}
}

func (p *peer) status(d *desk, sym position.Symbol) engine.SymbolStatus {
	eng := d.eng
	defer func() { d.eng = eng }()
	d.eng = p.eng
	return d.symbol(sym)
}

// leave takes the desk's own engine out of the way.
func (d *desk) leave() {
	d.t.Helper()
	if _, err := d.store.AskLease(context.Background(), d.eng.LeaveLease(d.now).LeaseAsk); err != nil {
		d.t.Fatal(err)
	}
}

func TestAPausedHolderThatWakesWritesNothing(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	d.leave()
	d.prices[btc] = 100
	recs := []position.Record{d.long(btc, 99, 100)}
	old, young := d.join("old", 0), d.join("young", 0)
	for range 5 {
		d.second(recs, old, young)
	}
	// It is stopped with a batch in its hands.
	d.now = d.now.Add(time.Second)
	old.eng.Offer(d.snapshot(recs...))
	old.eng.Step(d.now)
	work := old.eng.Routine(d.now)
	if len(work.Batch.Beats) != 1 {
		t.Fatalf("%d beats in hand", len(work.Batch.Beats))
	}
	// Where no script can look at the lease, the batch says how long its writer may believe in it.
	if left := work.Batch.Lease.Until.Sub(d.now); left <= 0 || left > 4*time.Second {
		t.Errorf("a batch under a lease for another %v", left)
	}
	for range 8 {
		d.second(recs, young)
	}
	before := d.hash(btc)
	if before["publisher"] != "young" {
		t.Fatalf("%s writes", before["publisher"])
	}
	res, err := d.store.Write(ctx, work.Batch)
	if err != nil || res.Beats[0].Outcome != store.Unleased {
		t.Fatalf("the batch of the woken one: %+v, %v", res.Beats, err)
	}
	if d := d.hash(btc); d["last_update_epoch"] != before["last_update_epoch"] || d["revision"] != before["revision"] {
		t.Errorf("it changed the hash: %v", d)
	}
	old.eng.Confirm(work, res, err, d.now)
	d.second(recs, old, young)
	if p := d.whole(btc); p.Publisher != "young" {
		t.Errorf("%s writes", p.Publisher)
	}
}

func TestShardsAreSharedAndFollowTheLiving(t *testing.T) {
	const shards = 4
	d := newDesk(t)
	d.leave()
	var recs []position.Record
	for i := range 24 {
		sym := position.Symbol("S" + strconv.Itoa(i) + "USDT")
		d.prices[sym] = 100
		recs = append(recs, d.long(sym, 99, 100))
	}
	share := func(o *engine.Options) { o.Shards = shards }
	writers := func() map[string]int {
		by := map[string]int{}
		fence := map[int]string{}
		for _, r := range recs {
			p := d.whole(r.Symbol)
			by[p.Publisher]++
			if age := d.now.Sub(p.LastUpdate); age > time.Second {
				t.Fatalf("the heartbeat of %s is %v old", r.Symbol, age)
			}
			shard := store.ShardOf(r.Symbol, shards)
			if w := fence[shard]; w != "" && w != p.Publisher {
				t.Fatalf("shard %d is written by %s and %s", shard, w, p.Publisher)
			}
			fence[shard] = p.Publisher
		}
		return by
	}
	a := d.join("a", 0, share)
	for range 2 {
		d.second(recs, a)
	}
	if w := writers(); w["a"] != 24 {
		t.Fatalf("alone: %v", w)
	}
	b := d.join("b", 0, share)
	for range 3 {
		d.second(recs, a, b)
	}
	if w := writers(); w["a"] == 0 || w["b"] == 0 {
		t.Fatalf("two: %v", w)
	}
	c := d.join("c", 0, share)
	for range 3 {
		d.second(recs, a, b, c)
	}
	three := writers()
	if len(three) != 3 {
		t.Fatalf("three: %v", three)
	}
	for range 30 {
		d.second(recs, a, b, c)
		if now := writers(); !maps.Equal(now, three) {
			t.Fatalf("shards wander: %v, then %v", three, now)
		}
	}
	for range 7 { // a dies
		d.second(recs, b, c)
	}
	if w := writers(); w["a"] != 0 || w["b"] == 0 || w["c"] == 0 {
		t.Fatalf("after a death: %v", w)
	}

	// One that divides them in another way stays out of it.
	odd := d.join("odd", 0, func(o *engine.Options) { o.Shards = 2 })
	for range 10 {
		d.second(recs, b, c, odd)
	}
	if st := odd.eng.Status().Lease; st.Conflict != "4 all" || st.Held != 0 {
		t.Errorf("status of the odd one: %+v", st)
	}
	if w := writers(); w["odd"] != 0 {
		t.Errorf("it writes all the same: %v", w)
	}
	// When the others are gone it takes all.
	for range 8 {
		d.second(recs, odd)
	}
	for _, r := range recs {
		if p := d.whole(r.Symbol); p.Publisher != "odd" || !p.LastUpdate.Equal(d.now) {
			t.Fatalf("%s is written by %s", r.Symbol, p.Publisher)
		}
	}
}

func TestTakingOverKeepsWhatTheOtherKnew(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	d.leave()
	d.prices[btc], d.prices[eth] = 100, 50
	rec := d.long(btc, 99, 100)
	rec.OpenedAt = time.Time{} // only our memory knows when it was opened
	closes := d.long(eth, 49, 50)
	old, young := d.join("old", 0), d.join("young", 0)
	d.second([]position.Record{rec, closes}, old, young)
	d.prices[btc] = 130
	d.second([]position.Record{rec, closes}, old) // the other one does not see the peak
	d.prices[btc] = 110
	for range 3 {
		d.second([]position.Record{rec, closes}, old, young)
	}
	before := d.whole(btc)
	// ETH ends; the standby looks away.
	for range 3 {
		d.second([]position.Record{rec}, old)
	}
	if h := d.hash(eth); len(h) != 0 {
		t.Fatal("the closed one is still there")
	}
	for range 7 {
		d.second([]position.Record{rec}, young)
	}
	after := d.whole(btc)
	if after.Publisher != "young" || after.Peak != 130 || after.Episode != before.Episode || !after.OpenedAt.Equal(before.OpenedAt) {
		t.Errorf("taken over: %s peak %v episode %s opened %v; before %v %s %v",
			after.Publisher, after.Peak, after.Episode, after.OpenedAt, before.Peak, before.Episode, before.OpenedAt)
	}
	if h := d.hash(eth); len(h) != 0 {
		t.Errorf("the standby brought a closed position back: %v", h)
	}
	if n := d.client.XLen(ctx, "quantum:stream:harvest.proposal").Val(); n != 1 {
		t.Errorf("%d closing records, want one", n)
	}
}

func TestTakingOverClosesWhatOnlyTheStandbySawEnd(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	d.leave()
	d.prices[btc], d.prices[eth], d.prices["SOLUSDT"] = 100, 50, 20
	all := []position.Record{d.long(btc, 99, 100), d.long(eth, 49, 50), d.long("SOLUSDT", 19, 20)}
	old, young := d.join("old", 0), d.join("young", 0)
	for range 3 {
		d.second(all, old, young)
	}
	episode := d.whole(eth).Episode
	// The holder is dead; meanwhile one position ends and one is turned round.
	flipped := all[1]
	flipped.Side, flipped.OpenedAt = position.Short, d.now
	for range 8 {
		d.second([]position.Record{all[0], flipped}, young)
	}
	if h := d.hash("SOLUSDT"); len(h) != 0 {
		t.Errorf("advice for a position that ended stands: %v", h)
	}
	if p := d.whole(eth); p.Side != position.Short || p.Episode == episode {
		t.Errorf("the flipped one: %s %s", p.Side, p.Episode)
	}
	entries := d.client.XRange(ctx, "quantum:stream:harvest.proposal", "-", "+").Val()
	reasons := map[any]any{}
	for _, e := range entries {
		reasons[e.Values["symbol"]] = e.Values["close_reason"]
	}
	if len(entries) != 2 || reasons["SOLUSDT"] != "flat" || reasons["ETHUSDT"] != "flip" {
		t.Errorf("closing records %v", reasons)
	}
	if members := d.client.SMembers(ctx, "quantum:harvest:expected").Val(); len(members) != 2 {
		t.Errorf("expected %v", members)
	}
}

func TestAPositionThatIsOpenAfterItsRecordedEndIsANewEpisode(t *testing.T) {
	d := newDesk(t)
	d.leave()
	d.prices[btc] = 100
	recs := []position.Record{d.long(btc, 99, 100)}
	old, young := d.join("old", 0), d.join("young", 0)
	for range 3 {
		d.second(recs, old, young)
	}
	episode := d.whole(btc).Episode
	// The holder records its end and dies; for the standby it was open all along.
	close := store.Close{Symbol: btc, Episode: episode, Fence: 1 << 52, Reason: "flat", At: d.now}
	if _, err := d.store.Write(context.Background(), store.Batch{Closes: []store.Close{close}}); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		d.second(recs, young)
	}
	if p := d.whole(btc); p.Episode != episode+".2" || !p.LastUpdate.Equal(d.now) {
		t.Errorf("episode %s after the record of %s", p.Episode, episode)
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
			d.eng.Step(d.now)
			work := map[string]func(time.Time) engine.Work{"beat": d.eng.Routine, "publish": d.eng.Urgent}[kind](d.now)
			if work.Empty() {
				t.Fatal("nothing is under way")
			}
			rec.Side, rec.OpenedAt = position.Short, d.now
			d.eng.Offer(d.snapshot(rec))
			d.eng.Step(d.now)
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
	d.eng.Step(d.now)
	work := d.eng.Routine(d.now)
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

func TestRevisionGoesOnWhereTheNextWriterNeverSawIt(t *testing.T) {
	d := newDesk(t)
	d.leave()
	d.prices[btc], d.prices[eth] = 100, 50
	rec, other := d.long(btc, 99, 100), d.long(eth, 49, 50)
	old, young := d.join("old", 0), d.join("young", 0)
	for range 10 {
		d.second([]position.Record{rec, other}, old, young)
		d.client.HDel(context.Background(), btcKey, "sigma") // repaired by a full publish
		d.second([]position.Record{rec, other}, old, young)
	}
	last := d.whole(btc).Revision
	if last < 5 {
		t.Fatalf("revision %d after 10 s", last)
	}
	for range 3 {
		d.second([]position.Record{other}, old, young)
	}
	for range 8 {
		d.second([]position.Record{other}, young)
	}
	rec.OpenedAt = d.now
	for range 3 {
		d.second([]position.Record{rec, other}, young)
	}
	if p := d.whole(btc); p.Revision <= last || p.Publisher != "young" {
		t.Errorf("revision %d of %s after %d", p.Revision, p.Publisher, last)
	}
}

func TestStandbyLeavesRecordsToTheHolder(t *testing.T) {
	d := newDesk(t)
	d.leave()
	d.prices[btc] = 100
	rec := d.long(btc, 99, 100)
	old, young := d.join("old", 0), d.join("young", 0)
	for i := range 40 {
		rec.OpenedAt = d.now
		if rec.Side = position.Long; i%2 == 0 {
			rec.Side = position.Short
		}
		d.second([]position.Record{rec}, old, young)
		d.second([]position.Record{rec}, old, young)
	}
	n := d.client.XLen(context.Background(), "quantum:stream:harvest.proposal").Val()
	if n != 39 {
		t.Errorf("%d closing records of 39 positions that ended", n)
	}
	for range 8 {
		d.second([]position.Record{rec}, young)
	}
	if got := d.client.XLen(context.Background(), "quantum:stream:harvest.proposal").Val(); got != n {
		t.Errorf("the standby left %d records again", got-n)
	}
	if p := d.whole(btc); p.Publisher != "young" || p.Side != rec.Side {
		t.Errorf("%s writes for %s", p.Publisher, p.Side)
	}
}
