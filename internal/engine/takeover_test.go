package engine_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

const (
	closesKey = "quantum:stream:harvest.proposal"
	leaseKey  = "quantum:harvest:lease"
)

// What lies ahead of our clock was written by a clock that was ahead, or by nobody in his right mind: it must not keep the
// inputs of now out, and must not look alive for ever.
func TestTimesAheadOfTheClockAreNotBelieved(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"two minutes": 2 * time.Minute, "for ever": 200 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.market(btc, 100)
			rec := d.long(btc, 99, 100)
			d.seconds(3, true, rec)
			text := strconv.FormatInt(d.now.Add(ahead).Unix(), 10)
			d.client.HSet(context.Background(), btcKey, "market_epoch", text, "position_epoch", text, "content_market_epoch", text, "content_position_epoch", text)
			d.restart()
			d.seconds(125, false)
			if p := d.whole(btc); p.InputState == store.InputFresh || p.MarketAt.After(d.now) || p.PositionAt.After(d.now) {
				t.Errorf("two minutes without any input: %s, market of %v, position of %v at %v", p.InputState, p.MarketAt, p.PositionAt, d.now)
			}

			d.client.HSet(context.Background(), btcKey, "content_position_epoch", text, "market_epoch", text)
			d.restart()
			d.market(btc, 78)
			d.seconds(3, true, d.long(btc, 99, 0))
			if p := d.whole(btc); p.Current != 78 || p.InputState != store.InputFresh {
				t.Errorf("the price is 78, the proposal rests on %v and is %s", p.Current, p.InputState)
			}
		})
	}
}

// A symbol without a position is not known to a process that starts; what the store remembers of its end is.
func TestAnEndIsRememberedOfASymbolThatNobodyKnows(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(3, true, rec)
	d.client.HSet(context.Background(), btcKey, "kill_score", "0.1") // a few revisions
	d.seconds(12, true, rec)
	before := d.whole(btc)
	d.seconds(5, true, d.long(eth, 49, 50)) // it is gone
	if h := d.hash(btc); len(h) != 0 {
		t.Fatalf("the hash stands: %v", h)
	}
	d.restart()
	d.seconds(5, false, d.long(eth, 49, 50))
	d.market(btc, 100)
	d.seconds(3, true, d.long(eth, 49, 50), rec)
	after := d.whole(btc)
	if after.Revision <= before.Revision || after.Episode == before.Episode {
		t.Errorf("revision %d of episode %s came after %d of %s", after.Revision, after.Episode, before.Revision, before.Episode)
	}
	d.seconds(5, true, d.long(eth, 49, 50))
	if n := d.client.XLen(context.Background(), closesKey).Val(); n != 2 {
		t.Errorf("two episodes ended, %d records were left", n)
	}
}

// A standby whose market is dead takes over: the advice of the one that could see stands.
func TestAStandbyWithDeadInputsKeepsNewerAdvice(t *testing.T) {
	d := newDesk(t)
	d.leave()
	d.prices[btc] = 100
	sees := d.join("sees", 0)
	blind := d.join("blind", 0)
	for range 3 {
		d.second([]position.Record{d.long(btc, 99, d.prices[btc])}, sees, blind)
	}
	price := 112.0
	for range 150 {
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		rec := d.long(btc, 99, 0)
		for _, p := range []*peer{sees, blind} {
			if p == sees {
				p.eng.Offer(feed.Price{Symbol: btc, Price: price, At: d.now})
			}
			p.eng.Offer(d.snapshot(rec))
			d.run(p.eng)
		}
	}
	before := d.whole(btc)
	if before.Publisher != "sees" || before.Current != price {
		t.Fatalf("%s published %v", before.Publisher, before.Current)
	}
	for range 8 {
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		blind.eng.Offer(d.snapshot(d.long(btc, 99, 0)))
		d.run(blind.eng)
	}
	after := d.whole(btc)
	if after.Publisher != "blind" || after.InputState != store.InputStaleMarket {
		t.Fatalf("%s writes, %s", after.Publisher, after.InputState)
	}
	if after.Action != before.Action || after.ComputedAt.Before(before.ComputedAt) || after.Current != before.Current {
		t.Errorf("advice %s of %v on %v gave way to %s of %v on %v", before.Action, before.ComputedAt, before.Current, after.Action, after.ComputedAt, after.Current)
	}
}

// The scripts count in doubles. A number that they do not take for one is none to us either.
func TestNumbersBeyondADoubleLockNobodyOut(t *testing.T) {
	ctx := context.Background()
	for _, fence := range []string{"9223372036854775807", "9007199254740993"} {
		d := newDesk(t)
		d.market(btc, 100)
		rec := d.long(btc, 99, 100)
		d.seconds(3, true, rec)
		d.client.HSet(ctx, leaseKey, "0:fence", fence)
		d.seconds(10, true, rec)
		if a := d.age(btc); a > time.Second {
			t.Errorf("fence %s of the lease: the heartbeat is %v old", fence, a)
		}
		d.client.HSet(ctx, leaseKey, "0:fence", fence)
		d.started++
		d.eng = d.another(func(o *engine.Options) { o.Publisher = "second" }) // the first one dies
		d.market(btc, 100)
		d.seconds(10, true, rec)
		if p := d.whole(btc); p.Publisher != "second" || d.age(btc) != 0 {
			t.Errorf("fence %s of the lease, and its holder died: %s writes, the heartbeat is %v old", fence, p.Publisher, d.age(btc))
		}

		d.client.HSet(ctx, btcKey, "revision", fence)
		d.restart()
		d.market(btc, 100)
		d.seconds(3, true, rec)
		was := d.whole(btc)
		d.client.HSet(ctx, btcKey, "kill_score", "0.1")
		d.seconds(12, true, rec)
		if p := d.whole(btc); p.Revision != was.Revision+1 {
			t.Errorf("revision %s: it went from %d to %d", fence, was.Revision, p.Revision)
		}
	}
}

// A replica that has not heard of a close is promoted; the lease lives on.
func TestACloseThatTheServerForgotIsClosedAgain(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	d.market(btc, 100)
	d.market(eth, 50)
	other := d.long(eth, 49, 50)
	d.seconds(3, true, d.long(btc, 99, 100), other)
	stood := d.hash(btc)
	d.seconds(4, true, other)
	if h := d.hash(btc); len(h) != 0 {
		t.Fatalf("the hash stands: %v", h)
	}
	for _, key := range []string{"quantum:harvest:closed", closesKey} {
		d.client.Del(ctx, key)
	}
	fields := []any{}
	for name, value := range stood {
		fields = append(fields, name, value)
	}
	d.client.HSet(ctx, btcKey, fields...)
	d.client.SAdd(ctx, "quantum:harvest:expected", "BTCUSDT")
	d.seconds(12, true, other)
	if h := d.hash(btc); len(h) != 0 {
		t.Errorf("a cycle later the hash of a closed position stands, its heartbeat of %s", h["last_update_epoch"])
	}
	if set := d.client.SMembers(ctx, "quantum:harvest:expected").Val(); strings.Join(set, " ") != "ETHUSDT" {
		t.Errorf("expected %v", set)
	}
	if n := d.client.XLen(ctx, closesKey).Val(); n != 1 {
		t.Errorf("%d closing records", n)
	}
}

// A close that could not be written waits; meanwhile another publisher leaves the records of this episode and of the next.
func TestACloseThatOthersHaveLeftIsNotLeftAgain(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	d.leave()
	d.prices[btc], d.prices[eth] = 100, 50
	other := d.long(eth, 49, 50)
	first, second := d.long(btc, 99, 100), d.long(btc, 98, 100)
	second.OpenedAt = second.OpenedAt.Add(20 * time.Minute)
	a, b := d.join("a", 0), d.join("b", 0)
	for range 3 {
		d.second([]position.Record{first, other}, a, b)
	}
	if p := d.whole(btc); p.Publisher != "a" {
		t.Fatalf("%s writes", p.Publisher)
	}
	// a is cut off from the store and sees the position go.
	cut := func(recs ...position.Record) {
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		a.eng.Offer(d.snapshot(recs...))
		a.eng.Step(d.now)
		for _, work := range []engine.Work{a.eng.Urgent(d.now), a.eng.Routine(d.now)} {
			if !work.Empty() {
				a.eng.Confirm(work, store.Results{}, context.DeadlineExceeded, d.now)
			}
		}
	}
	for range 3 {
		cut(other)
	}
	for _, recs := range [][]position.Record{{other}, {second, other}, {other}} {
		for range 8 {
			d.second(recs, b)
		}
	}
	if n := d.client.XLen(ctx, closesKey).Val(); n != 2 {
		t.Fatalf("b left %d records", n)
	}
	closed := d.client.HGet(ctx, "quantum:harvest:closed", "BTCUSDT").Val()
	for range 8 { // b dies, a is back
		d.second([]position.Record{other}, a)
	}
	if p := d.whole(eth); p.Publisher != "a" {
		t.Fatalf("%s writes", p.Publisher)
	}
	if n := d.client.XLen(ctx, closesKey).Val(); n != 2 {
		t.Errorf("%d records of two episodes", n)
	}
	if now := d.client.HGet(ctx, "quantum:harvest:closed", "BTCUSDT").Val(); now != closed {
		t.Errorf("the last episode that ended went from %s to %s", closed, now)
	}
}

// A renewal that the server refuses is none.
func TestARefusedRenewalIsNotCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	d := newDesk(t)
	d.leave()
	eng := d.another(func(o *engine.Options) { o.Metrics = engine.NewMetrics(reg) })
	renewed := func() float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, mf := range families {
			for _, m := range mf.Metric {
				if mf.GetName() == "quantum_harvest_lease_events_total" && m.Label[0].GetValue() == "renewed" {
					return m.Counter.GetValue()
				}
			}
		}
		return 0
	}
	tick := func() {
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		d.lease(eng)
	}
	tick()
	tick()
	before := renewed()
	if before == 0 {
		t.Fatal("nothing was renewed")
	}
	d.client.HSet(context.Background(), leaseKey, "0:holder", "another#1", "0:until_ms", d.now.Add(4*time.Second).UnixMilli())
	tick()
	if after := renewed(); after != before {
		t.Errorf("%v renewals, then %v", before, after)
	}
}
