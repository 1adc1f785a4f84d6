package engine_test

import (
	"context"
	"io"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

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

func TestNewChecksItsOptions(t *testing.T) {
	good := engine.Options{
		Heartbeat: time.Second, Cycle: time.Second, MarketStale: time.Second, PositionStale: time.Second,
		ProduceEvery: time.Second, Window: 300, Market: kernel.DefaultMarketParams(), Stops: kernel.DefaultStopParams(),
		Harvest: kernel.DefaultHarvestParams(), Gate: kernel.GateParams{ChangeEpsPct: 0.001, MaxPublishAgeSec: 60},
		Publisher: "p", Holder: "p#1", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for name, tc := range map[string]struct {
		change func(*engine.Options)
		want   string
	}{
		"fraction of a second": {func(o *engine.Options) { o.Heartbeat = 1500 * time.Millisecond }, "whole number of seconds"},
		"no heartbeat":         {func(o *engine.Options) { o.Heartbeat = 0 }, "heartbeat"},
		"blank holder":         {func(o *engine.Options) { o.Holder = "" }, "holder"},
		"too many shards":      {func(o *engine.Options) { o.Shards = 65 }, "shards"},
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

func TestAWindowThatGivesNoMarketStateIsStaleNotFresh(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(3, true, rec)
	last := d.now
	var short []feed.Candle
	for i := range 20 {
		p := 100.0 + 20*float64(i%2)
		short = append(short, feed.Candle{
			Symbol: btc, OpenTime: d.now.Truncate(time.Minute).Add(time.Duration(i-20) * time.Minute), Interval: time.Minute,
			Open: p, High: p, Low: p, Close: p, Closed: true, At: d.now,
		})
	}
	d.eng.Offer(feed.History{Symbol: btc, Candles: short, At: d.now})
	d.seconds(100, true, rec)
	p := d.whole(btc)
	if p.InputState != store.InputStaleMarket || p.ComputedAt.After(last) {
		t.Errorf("state %s, computed at %v; the last usable window was there at %v", p.InputState, p.ComputedAt, last)
	}
	if !p.LastUpdate.Equal(d.now) {
		t.Errorf("heartbeat at %v, now %v", p.LastUpdate, d.now)
	}
}

func TestContentWithoutAPriceIsNotRenewed(t *testing.T) {
	d := newDesk(t)
	st := kernel.MarketState{Sigma: 0.001, TS: 0.2, PTrend: 0.4, PMR: 0.3, PChop: 0.3}
	rec := d.long(btc, 99, 0)
	rec.HasPnL, rec.PnL = true, 1
	for i := range 200 {
		d.eng.Offer(feed.State{Symbol: btc, State: st, At: d.now})
		rec.HasPnL = i <= 5
		d.seconds(1, false, rec)
	}
	p := d.whole(btc)
	if p.InputState == store.InputFresh || p.Revision > 3 {
		t.Errorf("state %s, revision %d: old content was published as fresh", p.InputState, p.Revision)
	}
}

func TestExtremesBeforeAndBetweenLooks(t *testing.T) {
	d := newDesk(t)
	rec := d.long(btc, 99, 100) // opened an hour ago
	start := d.now.Truncate(time.Minute).Add(-300 * time.Minute)
	var candles []feed.Candle
	for i := range 300 {
		p := 100 + 0.1*float64(i%3)
		c := feed.Candle{
			Symbol: btc, OpenTime: start.Add(time.Duration(i) * time.Minute), Interval: time.Minute,
			Open: p, High: p, Low: p, Close: p, Closed: true, At: d.now,
		}
		switch i {
		case 290: // ten minutes ago
			c.High = 120
		case 100: // long before it was opened
			c.High, c.Low = 500, 1
		}
		candles = append(candles, c)
	}
	d.eng.Offer(feed.History{Symbol: btc, Candles: candles, At: d.now})
	d.prices[btc] = 100
	d.seconds(2, true, rec)
	if p := d.whole(btc); p.Peak != 120 || p.Trough < 98 {
		t.Errorf("peak %v trough %v, want 120 and that of the entry", p.Peak, p.Trough)
	}
	d.eng.Offer(feed.Price{Symbol: btc, Price: 130, At: d.now.Add(time.Millisecond)})
	d.eng.Offer(feed.Price{Symbol: btc, Price: 100, At: d.now.Add(2 * time.Millisecond)})
	d.seconds(2, true, rec)
	if p := d.whole(btc); p.Peak != 130 {
		t.Errorf("peak %v: a high that was merged away is lost", p.Peak)
	}
}

func TestReportedProfitIsComparedWithItsOwnPrice(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	rec.HasPnL, rec.PnL = true, 1
	d.seconds(2, true, rec)
	d.prices[btc] = 103 // the market moves before the source writes its record anew
	d.seconds(10, true, rec)
	if n := d.symbol(btc).Refusals[feed.ReasonPnL]; n != 0 {
		t.Errorf("a right profit was counted as wrong %d times", n)
	}
	rec.PnL = 500
	d.seconds(10, true, rec)
	if n := d.symbol(btc).Refusals[feed.ReasonPnL]; n != 1 {
		t.Errorf("a wrong profit was counted %d times, want once for the record", n)
	}
}

func TestQuotesValueThePositionNotTheLastTrade(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 0)
	open := feed.Candle{
		Symbol: btc, OpenTime: d.now.Truncate(time.Minute), Interval: time.Minute, Open: 100, High: 104, Low: 100, Close: 104,
	}
	for range 5 {
		open.At = d.now
		d.eng.Offer(open)
		d.prices[btc] = 101 // the mark
		d.seconds(1, true, rec)
	}
	d.client.Del(context.Background(), btcKey)
	d.seconds(1, true, rec)
	if p := d.whole(btc); p.Current != 101 {
		t.Errorf("valued at %v, want the mark 101", p.Current)
	}
	for range 12 { // the quotes stop
		open.At = d.now
		open.Close += 0.01
		open.High = open.Close
		d.eng.Offer(open)
		d.seconds(1, false, rec)
	}
	d.client.Del(context.Background(), btcKey)
	d.seconds(1, false, rec)
	if p := d.whole(btc); p.Current < 104 {
		t.Errorf("valued at %v after the quotes stopped, want the last trade", p.Current)
	}
}

func TestStopsAreNeverOurOwnBesideAConsumedMarketState(t *testing.T) {
	d := newDesk(t)
	st := kernel.MarketState{Sigma: 0.001, TS: 0.2, PTrend: 0.4, PMR: 0.3, PChop: 0.3}
	rec := d.long(btc, 100, 101)
	look := func() store.Proposal {
		d.eng.Offer(feed.State{Symbol: btc, State: st, At: d.now})
		d.seconds(1, false, rec)
		return d.whole(btc)
	}
	if p := look(); p.RiskUnit != 2 {
		t.Errorf("risk unit %v without a stop proposal, want the fallback of 2 %%", p.RiskUnit)
	}
	d.eng.Offer(feed.Stops{Symbol: btc, StopDistPct: 0.03, ProposedSL: 97, At: d.now})
	d.client.Del(context.Background(), btcKey)
	if p := look(); p.RiskUnit != 3 {
		t.Errorf("risk unit %v with a stop proposal of 3 %%", p.RiskUnit)
	}
}
