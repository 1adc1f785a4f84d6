package engine_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

func usualTuning(symbols ...position.Symbol) engine.Tuning {
	return engine.Tuning{
		Cycle: 10 * time.Second, MarketStale: 120 * time.Second, PositionStale: 30 * time.Second, ProduceEvery: time.Minute,
		Harvest: kernel.DefaultHarvestParams(), Gate: kernel.GateParams{ChangeEpsPct: 0.001, MaxPublishAgeSec: 60}, Symbols: symbols,
	}
}

// TestReconfigureKeepsTheHeartbeat makes any number of changes at any moments, also while both batches are under way: what is
// covered beats every second with the episode it had, what is not stands still and is not expected, and thresholds are those of
// the last tuning.
func TestReconfigureKeepsTheHeartbeat(t *testing.T) {
	bothUnderWay := false
	rapid.Check(t, func(rt *rapid.T) {
		d := newDesk(t)
		all := []position.Symbol{btc, eth, "SOLUSDT"}
		var records []position.Record
		for _, sym := range all {
			d.market(sym, 100)
			records = append(records, d.long(sym, 99, 100))
		}
		d.seconds(2, true, records...)
		episodes := map[position.Symbol]string{}
		for _, sym := range all {
			episodes[sym] = d.whole(sym).Episode
		}
		for range rapid.IntRange(1, 8).Draw(rt, "changes") {
			covered := rapid.SliceOfDistinct(rapid.SampledFrom(all), rapid.ID[position.Symbol]).Draw(rt, "symbols")
			tuning := usualTuning(covered...)
			tuning.Gate.MaxPublishAgeSec = rapid.SampledFrom([]float64{1, 60, 3600}).Draw(rt, "max_publish_age")
			tuning.Cycle = time.Duration(rapid.IntRange(1, 20).Draw(rt, "cycle")) * time.Second
			change := func() {
				if err := d.eng.Reconfigure(tuning, d.now); err != nil {
					rt.Fatal(err)
				}
			}
			if rapid.Bool().Draw(rt, "batches under way") {
				// One symbol is to be published, the others beat: both batches have something in them.
				d.prices[rapid.SampledFrom(all).Draw(rt, "moves")] = rapid.Float64Range(95, 105).Draw(rt, "price")
				d.underWay = func(urgent, routine engine.Work) {
					bothUnderWay = bothUnderWay || len(urgent.Batch.Publishes) > 0 && len(routine.Batch.Beats) > 0
					d.underWay = nil
					change()
				}
				d.seconds(1, true, records...)
				if d.underWay != nil { // nothing was: all are left out
					d.underWay = nil
					change()
				}
			} else {
				change()
			}
			if len(covered) == 0 {
				covered = all
			}
			for second := range rapid.IntRange(1, 5).Draw(rt, "seconds") {
				d.seconds(1, true, records...)
				expected, err := d.client.SMembers(t.Context(), "quantum:harvest:expected").Result()
				if err != nil {
					rt.Fatal(err)
				}
				for _, sym := range all {
					p := d.whole(sym)
					if p.Episode != episodes[sym] {
						rt.Fatalf("%s: episode %s became %s", sym, episodes[sym], p.Episode)
					}
					is := slices.Contains(covered, sym)
					if beats := p.LastUpdate.Equal(d.now.Truncate(time.Second)); beats != is {
						rt.Fatalf("%s: covered %v, and beaten %v at %s (last %s)", sym, is, beats, d.now, p.LastUpdate)
					}
					if slices.Contains(expected, string(sym)) != is {
						rt.Fatalf("%s: covered %v, and expected are %v", sym, is, expected)
					}
					if is && tuning.Gate.MaxPublishAgeSec == 1 && second >= 3 && d.now.Sub(p.ComputedAt) > 2*time.Second {
						rt.Fatalf("%s: content is of %s at %s, although it may be a second old", sym, p.ComputedAt, d.now)
					}
				}
			}
		}
	})
	if !bothUnderWay {
		t.Error("no change was made with proposals and heartbeats under way")
	}
}

func TestReconfigureRefusesAndKeeps(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(2, true, rec)
	for name, spoil := range map[string]func(*engine.Tuning){
		"no cycle":           func(o *engine.Tuning) { o.Cycle = 0 },
		"no stale threshold": func(o *engine.Tuning) { o.MarketStale = -1 },
		"gate":               func(o *engine.Tuning) { o.Gate.ChangeEpsPct = -1 },
		"fallback":           func(o *engine.Tuning) { o.Harvest.FallbackStopPct = -1 },
	} {
		bad := usualTuning(eth)
		spoil(&bad)
		if err := d.eng.Reconfigure(bad, d.now); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	was := d.whole(btc)
	d.seconds(3, true, rec)
	if is := d.whole(btc); is.Revision != was.Revision || is.LastUpdate.Sub(was.LastUpdate) != 3*time.Second {
		t.Errorf("a refused tuning shows: revision %d to %d, heartbeat by %s", was.Revision, is.Revision, is.LastUpdate.Sub(was.LastUpdate))
	}
}

func TestThresholdsAreNoReasonToPublish(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	rec := d.long(btc, 99, 100)
	d.seconds(2, true, rec)
	was := d.whole(btc)
	tuning := usualTuning()
	tuning.PositionStale = 20 * time.Second
	if err := d.eng.Reconfigure(tuning, d.now); err != nil {
		t.Fatal(err)
	}
	d.seconds(5, true, rec)
	if is := d.whole(btc); is.Revision != was.Revision || is.Fence != was.Fence {
		t.Errorf("another threshold cost the lease or the gate's memory: revision %d to %d, fence %d to %d", was.Revision, is.Revision, was.Fence, is.Fence)
	}
}
