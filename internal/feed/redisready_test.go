package feed

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/kernel"
)

// setState writes a ready market state as another service would.
func (b *redisBench) setState(symbol string, pairs ...string) {
	b.Helper()
	fields := map[string]string{
		"sigma": "0.01", "mu": "0.0001", "ts": "0.35", "p_trend": "0.5", "p_mr": "0.25", "p_chop": "0.25", "dp": "0.5",
		"vr": "1", "spike_proxy": "1.1", "ts_timestamp": fmt.Sprintf("%.3f", float64(b.now.UnixMilli())/1000),
	}
	for i := 0; i < len(pairs); i += 2 {
		fields[pairs[i]] = pairs[i+1]
	}
	key := "quantum:marketstate:" + symbol
	b.server.Del(key)
	for name, value := range fields {
		if value != "-" {
			b.server.HSet(key, name, value)
		}
	}
}

func TestRedisReadyState(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketAuto)
		const key = "quantum:marketstate:BTCUSDT"
		b.setState("BTCUSDT")
		b.expect(time.Second, "state BTCUSDT 0.01 @0")
		b.expect(time.Second) // nothing new
		b.push("candles:BTCUSDT:1m", "1", "2")
		b.expect(time.Second) // consumed: candles are not looked at
		b.setState("BTCUSDT", "sigma", "0.02")
		b.expect(time.Second, "state BTCUSDT 0.02 @3")
		// Bad content does not end it, and is not candles' turn.
		b.setState("BTCUSDT", "sigma", "NaN", "ts", "", "p_trend", "-")
		b.expect(time.Second, "refused "+key+" sigma not_finite", "refused "+key+" ts missing_field", "refused "+key+" p_trend missing_field")
		b.expect(defectRepeat / 2)
		b.poll(30*time.Second - defectRepeat/2) // what stands is said again
		b.setState("BTCUSDT", "sigma", "0.03")
		b.expect(0, "state BTCUSDT 0.03 @35")
		b.server.Del(key)
		b.server.Set(key, "text")
		b.expect(time.Second, "refused "+key+" type wrong_redis_type")
		b.setState("BTCUSDT", "ts_timestamp", "-")
		b.expect(time.Second, "state BTCUSDT 0.01 @37") // no stamp of its own: when it was seen to change
		// Gone: from the next poll on the candles are read, and both never count at a time.
		b.server.Del(key)
		b.expect(time.Second)
		b.expect(time.Second, "history BTCUSDT 1 2 @39")
		// What carries a publisher is ours, never input.
		b.setState("BTCUSDT", "publisher", "quantum-harvest/x")
		b.expect(time.Second)
		// Without its mark it looks foreign, but nobody moves it.
		b.server.HDel(key, "publisher")
		b.expect(time.Second)
		b.expect(time.Minute)
		// A service that lives takes over.
		b.setState("BTCUSDT", "sigma", "0.04")
		b.expect(time.Second, "state BTCUSDT 0.04 @101")
		b.push("candles:BTCUSDT:1m", "3")
		b.expect(time.Second)
	})
}

func TestRedisReadyStateAtStart(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		for name, tc := range map[string]struct {
			mode    MarketMode
			candles bool
			pairs   []string
			want    []string
		}{
			"fresh":                  {MarketAuto, true, nil, []string{"state BTCUSDT 0.01 @0"}},
			"left behind":            {MarketAuto, true, []string{"ts_timestamp", "1746300000"}, []string{"history BTCUSDT 1 @0"}},
			"left behind, all alone": {MarketAuto, false, []string{"ts_timestamp", "1746372720"}, []string{"state BTCUSDT 0.01 @-60"}},
			"bad":                    {MarketAuto, true, []string{"vr", "-1"}, []string{"refused quantum:marketstate:BTCUSDT vr out_of_domain", "history BTCUSDT 1 @0"}},
			"candles wanted":         {MarketCandles, true, nil, []string{"history BTCUSDT 1 @0"}},
			"states wanted":          {MarketReady, true, []string{"ts_timestamp", "1746372720"}, []string{"state BTCUSDT 0.01 @-60"}},
			"ours":                   {MarketReady, true, []string{"publisher", ""}, nil},
		} {
			t.Run(name, func(t *testing.T) {
				r.FlushAll()
				b := newRedisBench(t, r, tc.mode)
				b.setState("BTCUSDT", tc.pairs...)
				if tc.candles {
					b.push("candles:BTCUSDT:1m", "1")
				}
				b.expect(0, tc.want...)
			})
		}
	})
}

func TestRedisReadyStops(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketAuto)
		const key = "quantum:risk:proposal:BTCUSDT"
		set := func(dist, sl, tp, at string) {
			b.server.Del(key)
			b.server.HSet(key, "stop_dist_pct", dist, "proposed_sl", sl, "proposed_tp", tp, "computed_at_utc", at)
		}
		set("0.01", "99", "102", "2025-05-04T15:33:00")
		b.setState("BTCUSDT")
		b.expect(time.Second, "state BTCUSDT 0.01 @0", "stops BTCUSDT 0.01 @0")
		set("0.02", "98", "None", "2025-05-04T15:33:01.5")
		b.expect(time.Second, "stops BTCUSDT 0.02 @1.5")
		set("2", "0", "x", "2025-05-04T17:33:00")
		b.expect(time.Second, "refused "+key+" stop_dist_pct out_of_domain", "refused "+key+" proposed_sl out_of_domain",
			"refused "+key+" proposed_tp unreadable_value", "refused "+key+" computed_at_utc from_the_future")
		b.server.HSet(key, "publisher", "us")
		b.expect(time.Minute)
	})
}

func TestDecodeMarketState(t *testing.T) {
	good := func() readyFields {
		return readyFields{"sigma": "0.01", "ts": "0.3", "p_trend": "0.2", "p_mr": "0.3", "p_chop": "0.5"}
	}
	st, at, flaws := decodeMarketState(good(), candleStart)
	want := kernel.MarketState{Sigma: 0.01, TS: 0.3, PTrend: 0.2, PMR: 0.3, PChop: 0.5}
	if diff := cmp.Diff(want, st); diff != "" || len(flaws) > 0 || !at.Equal(candleStart) {
		t.Errorf("%v, %v, %s", at, flaws, diff)
	}
	for name, tc := range map[string]struct {
		field, value string
		want         flaw
	}{
		"negative sigma":     {"sigma", "-1", flaw{"sigma", ReasonDomain, "-1"}},
		"infinite mu":        {"mu", "inf", flaw{"mu", ReasonNotFinite, "inf"}},
		"empty mu":           {"mu", "", flaw{"mu", ReasonMissing, ""}},
		"probability":        {"p_mr", "1.5", flaw{"p_mr", ReasonDomain, "1.5"}},
		"sum":                {"p_chop", "0.6", flaw{"p_trend+p_mr+p_chop", ReasonDomain, "1.1"}},
		"persistence":        {"dp", "2", flaw{"dp", ReasonDomain, "2"}},
		"garbage":            {"spike_proxy", "x", flaw{"spike_proxy", ReasonUnreadable, "x"}},
		"no time":            {"ts_timestamp", "", flaw{"ts_timestamp", ReasonMissing, ""}},
		"future":             {"ts_timestamp", "1746372841", flaw{"ts_timestamp", ReasonFuture, "1746372841"}},
		"time of the Romans": {"ts_timestamp", "-1", flaw{"ts_timestamp", ReasonDomain, "-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := good()
			f[tc.field] = tc.value
			if _, _, flaws := decodeMarketState(f, candleStart); len(flaws) != 1 || flaws[0] != tc.want {
				t.Errorf("flaws %+v, want %+v", flaws, tc.want)
			}
		})
	}
	f := good()
	f["p_chop"], f["ts_timestamp"] = "0.5005", "1746372800"
	st, at, flaws = decodeMarketState(f, candleStart)
	if sum := st.PTrend + st.PMR + st.PChop; len(flaws) > 0 || math.Abs(sum-1) > 1e-15 {
		t.Errorf("rounded probabilities: sum %v, %v", sum, flaws)
	}
	if !at.Equal(candleStart) {
		t.Errorf("a clock 20 s ahead makes an event time of %v", at)
	}
}

func FuzzReadyHash(f *testing.F) {
	f.Add("0.01", "0.3", "0.2", "0.3", "0.5", "1", "1746372780")
	f.Add("NaN", "inf", "", "-1", "2", "None", "2025-05-04T15:33:00")
	f.Fuzz(func(t *testing.T, sigma, ts, trend, mr, chop, vr, stamp string) {
		fields := readyFields{
			"sigma": sigma, "ts": ts, "p_trend": trend, "p_mr": mr, "p_chop": chop, "vr": vr, "ts_timestamp": stamp,
			"stop_dist_pct": sigma, "proposed_sl": ts, "proposed_tp": vr, "computed_at_utc": stamp,
		}
		st, at, flaws := decodeMarketState(fields, candleStart)
		if len(flaws) == 0 {
			sum := st.PTrend + st.PMR + st.PChop
			if !(st.Sigma >= 0 && st.TS >= 0 && st.VR >= 0 && math.Abs(sum-1) < 1e-8) ||
				math.IsInf(st.Sigma+st.TS, 0) || at.IsZero() || at.After(candleStart) {
				t.Fatalf("accepted %+v at %v", st, at)
			}
		}
		s, flaws := decodeStops(fields, candleStart)
		if len(flaws) == 0 && (!(s.StopDistPct >= 0 && s.StopDistPct < 1 && s.ProposedSL > 0 && s.ProposedTP >= 0) || s.At.After(candleStart)) {
			t.Fatalf("accepted %+v", s)
		}
	})
}
