package engine_test

import (
	"context"
	"testing"
	"time"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

func TestExpectedSetHeals(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	d.market(btc, 100)
	recs := []position.Record{d.long(btc, 99, 100), d.long(eth, 49, 50)} // no market for the second: no advice
	d.seconds(3, true, recs...)
	d.client.Del(ctx, "quantum:harvest:expected")
	d.seconds(11, true, recs...)
	got, err := d.client.SMembers(ctx, "quantum:harvest:expected").Result()
	if err != nil || len(got) != 2 {
		t.Errorf("a cycle later the expected set holds %v (%v)", got, err)
	}
	d.seconds(3, true, recs[0])
	d.client.SAdd(ctx, "quantum:harvest:expected", "ETHUSDT") // as if taking it out had failed
	d.seconds(11, true, recs[0])
	if got := d.client.SMembers(ctx, "quantum:harvest:expected").Val(); len(got) != 1 || got[0] != "BTCUSDT" {
		t.Errorf("expected %v after one position ended", got)
	}
}

func TestWhatNoLivingSourceKnowsIsClearedAway(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	d.market(btc, 100)
	d.market(eth, 50)
	d.seconds(3, true, d.long(btc, 99, 100), d.long(eth, 49, 50))
	d.client.HDel(ctx, btcKey, "kill_score")                                                              // half a hash
	d.client.SAdd(ctx, "quantum:harvest:expected", "SOLUSDT")                                             // expected without a hash
	d.client.HSet(ctx, "quantum:harvest:proposal:XRPUSDT", "harvest_action", "NONE", "kill_score", "0.5") // an earlier writer's
	d.restart()
	d.market(eth, 50)
	d.seconds(5, true, d.long(eth, 49, 50))
	if h := d.hash(btc); len(h) != 0 {
		t.Errorf("half a hash of a closed position stands: %v", h)
	}
	if got := d.client.SMembers(ctx, "quantum:harvest:expected").Val(); len(got) != 1 || got[0] != "ETHUSDT" {
		t.Errorf("expected %v, want only ETHUSDT", got)
	}
	if h := d.hash("XRPUSDT"); len(h) != 2 {
		t.Errorf("an earlier writer's hash was touched: %v", h)
	}
}

func TestUnclaimedIsNotClearedWithoutEvidence(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	d.market(btc, 100)
	d.seconds(3, true, d.long(btc, 99, 100))
	d.client.HDel(ctx, btcKey, "kill_score")
	d.restart()
	for range 60 { // everything vanished at once: that is no evidence
		d.seconds(1, true, []position.Record{}...)
	}
	if h := d.hash(btc); len(h) == 0 {
		t.Error("half a hash was cleared away although nobody said that the position is gone")
	}
}

func TestAnEntryThatCannotBeAPositionIsNotOpen(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	d.market(eth, 50)
	d.seconds(3, true, d.long(btc, 99, 100), d.long(eth, 49, 50))
	d.client.HSet(context.Background(), btcKey, "position_entry_price", "0")
	d.restart()
	d.market(eth, 50)
	d.seconds(5, true, d.long(eth, 49, 50))
	if h := d.hash(btc); len(h) != 0 {
		t.Errorf("a position that cannot be stands for ever: %v", h)
	}
}

func TestADemonstrationEndsWithItsRun(t *testing.T) {
	d := newDesk(t, func(o *engine.Options) { o.DemoPositions = true })
	d.market(btc, 100)
	snap := d.snapshot(d.long(btc, 99, 100))
	snap.Source = feed.DemoName
	d.eng.Offer(snap)
	d.seconds(2, true)
	if p := d.whole(btc); p.PositionSource != feed.DemoName {
		t.Fatalf("position source %q", p.PositionSource)
	}
	d.restart()
	d.seconds(2, true)
	if h := d.hash(btc); len(h) != 0 {
		t.Errorf("a publisher of real positions carries on a demonstration: %v", h)
	}
}

func TestRestartWithoutUsableMarketBeatsAndSaysSo(t *testing.T) {
	for name, market := range map[string]func(*desk){
		"no market at all": func(*desk) {},
		"one candle": func(d *desk) {
			d.eng.Offer(feed.History{Symbol: btc, At: d.now, Candles: []feed.Candle{{
				Symbol: btc, OpenTime: d.now.Truncate(time.Minute), Interval: time.Minute, Open: 100, High: 100, Low: 100, Close: 100, At: d.now,
			}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.market(btc, 100)
			rec := d.long(btc, 99, 100)
			d.seconds(3, true, rec)
			before := d.whole(btc)
			d.restart()
			market(d)
			worst := time.Duration(0)
			for range 60 {
				d.seconds(1, name != "no market at all", rec)
				worst = max(worst, d.age(btc))
			}
			if worst > 7*time.Second {
				t.Errorf("the heartbeat stood still for %v", worst)
			}
			p := d.whole(btc)
			if !p.ComputedAt.Equal(before.ComputedAt) || p.Action != before.Action {
				t.Errorf("content %s of %v, before the restart %s of %v", p.Action, p.ComputedAt, before.Action, before.ComputedAt)
			}
			if name == "one candle" && p.InputState != store.InputStaleMarket {
				t.Errorf("input state %q although there is no market state", p.InputState)
			}
			if d.symbol(btc).Waiting == "" && name == "one candle" {
				t.Error("nobody says why there is no new advice")
			}
		})
	}
}

func TestAStoreThatIsLateIsNoStaleInput(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(3, true, rec)
	before := d.whole(btc)
	d.leave()
	d.started++
	d.eng = d.another()
	for range 20 {
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		d.eng.Step(d.now)
	}
	d.run(d.eng)
	if p := d.whole(btc); p.Revision != before.Revision {
		t.Errorf("revision %d -> %d, state %s: written before the sources had a word", before.Revision, p.Revision, p.InputState)
	}
}

func TestClosingRecordIsWhatWasPublished(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 112)
	d.market(eth, 50)
	d.seconds(3, true, d.long(btc, 99, 112), d.long(eth, 49, 50))
	last := d.whole(btc)
	d.seconds(3, true, d.long(eth, 49, 50))
	msgs, err := d.client.XRange(context.Background(), "quantum:stream:harvest.proposal", "-", "+").Result()
	if err != nil || len(msgs) != 1 {
		t.Fatalf("%d closing records (%v)", len(msgs), err)
	}
	fields := make(map[string]string)
	for k, v := range msgs[0].Values {
		fields[k], _ = v.(string)
	}
	fields["harvest_action"] = fields["last_action"]
	got, problems := store.Decode(btc, fields)
	if len(problems) > 0 {
		t.Fatalf("problems %v", problems)
	}
	if got.Action != last.Action || got.Revision != last.Revision || got.KillScore != last.KillScore ||
		len(got.Reasons) != len(last.Reasons) || got.LastUpdate.IsZero() || got.Peak != last.Peak {
		t.Errorf("closing record %+v\nlast published %+v", got, last)
	}
}

func TestARefusedPositionIsExpectedUntilItIsGone(t *testing.T) {
	ctx := context.Background()
	d := newDesk(t)
	d.market(btc, 100)
	expected := func() []string { return d.client.SMembers(ctx, "quantum:harvest:expected").Val() }
	look := func(refused ...position.Symbol) {
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		snap := d.snapshot(d.long(btc, 99, 100))
		snap.Refused = refused
		d.eng.Offer(snap)
		d.run(d.eng)
	}
	look(eth)
	look(eth)
	if got := expected(); len(got) != 2 {
		t.Errorf("expected %v: a position that cannot be read is not in sight", got)
	}
	d.eng.Snapshot(d.now)
	if got := d.eng.Status().Refused; len(got) != 1 || got[0] != eth {
		t.Errorf("refused %v", got)
	}
	look()
	look()
	if got := expected(); len(got) != 1 {
		t.Errorf("expected %v after the record was gone", got)
	}
}
