package binance_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/feed/binance"
	"quantumharvest/internal/feed/binance/binancetest"
	"quantumharvest/internal/position"
)

func TestLive(t *testing.T) {
	cfg := binancetest.Config{Symbols: symbols(3), KlineEvery: 500 * time.Millisecond, BookEvery: time.Second}
	simulated(t, cfg, binance.Options{}, func(t *testing.T, r *run) {
		time.Sleep(5*time.Minute + 20*time.Second)
		r.compare(t, r.exchange, r.symbols, 0)
		r.offences(t)
		st := r.feed.Stats()
		if st.Outages+st.Reconnects+st.Rotations+st.Silences+st.GapsFilled+st.Duplicates+st.Refusals+st.Unknown != 0 {
			t.Errorf("an undisturbed run had faults: %+v, %v", st, r.said())
		}
		if st.Symbols != 3 || st.Waiting != 0 || st.Connections != 2 || st.Histories != 3 || st.Candles != 15 && st.Candles != 18 {
			t.Errorf("stats %+v", st)
		}
		if d := st.ClockOffset - era; d < -time.Millisecond || d > time.Millisecond {
			t.Errorf("clock offset is wrong by %v", d)
		}
		if d := r.longest(); d > time.Second {
			t.Errorf("a closed candle came %v after its end", d)
		}
		if st.UsedWeight == 0 && st.Requests == 0 {
			t.Error("no request was counted")
		}
		for _, s := range r.symbols {
			if age := time.Since(r.price(s).At); age < 0 || age > 2*time.Second {
				t.Errorf("%s: price is %v old", s, age)
			}
			if n := len(r.rows(s)); n < 305 {
				t.Errorf("%s: %d closed candles", s, n)
			}
		}
	})
}

func TestConnectionsLost(t *testing.T) {
	simulated(t, binancetest.Config{Symbols: symbols(4)}, binance.Options{}, func(t *testing.T, r *run) {
		time.Sleep(70 * time.Second)
		r.exchange.RefuseStreams(150 * time.Second)
		r.exchange.Disconnect(1)
		time.Sleep(5 * time.Minute)
		r.compare(t, r.exchange, r.symbols, 0)
		r.offences(t)
		st := r.feed.Stats()
		if st.Reconnects == 0 || st.Outages == 0 || st.GapsFilled < 8 {
			t.Errorf("two minutes without streams: %+v", st)
		}
		if st.Connections != 2 {
			t.Errorf("%d connections", st.Connections)
		}
	})
}

// A closed candle that the stream loses comes by REST, and one that comes late as well is not handed out again.
func TestNoise(t *testing.T) {
	simulated(t, binancetest.Config{Symbols: symbols(5), KlineEvery: time.Second}, binance.Options{}, func(t *testing.T, r *run) {
		time.Sleep(10 * time.Second)
		r.exchange.SetNoise(binancetest.Noise{Duplicate: 0.3, Drop: 0.3, Reorder: 0.3, Garbage: 0.3})
		for range 10 {
			time.Sleep(47 * time.Second)
			r.exchange.Disconnect(0.3)
		}
		r.exchange.SetNoise(binancetest.Noise{})
		time.Sleep(time.Minute + 20*time.Second)
		r.compare(t, r.exchange, r.symbols, 0)
		r.offences(t)
		st := r.feed.Stats()
		for name, n := range map[string]uint64{
			"gaps filled": st.GapsFilled, "duplicates": st.Duplicates, "late": st.Late, "unknown": st.Unknown,
			"refusals": st.Refusals, "reconnects": st.Reconnects,
		} {
			if n == 0 {
				t.Errorf("%s: none, in spite of the noise", name)
			}
		}
		for _, refusal := range r.refusalsSoFar() {
			if refusal.Source != "binance" || refusal.Key == "" || refusal.Field == "" || refusal.Reason == "" || refusal.At.IsZero() {
				t.Fatalf("refusal %+v", refusal)
			}
			if refusal.Reason == feed.ReasonGap {
				t.Errorf("a gap that does not exist: %+v", refusal)
			}
		}
	})
}

func TestSilence(t *testing.T) {
	one := func(stream string) bool { return strings.HasPrefix(stream, "s001usdt@") }
	for name, tc := range map[string]struct {
		match  func(string) bool
		text   string
		within time.Duration
		stays  bool // the others notice nothing
	}{
		"mark price of one symbol": {
			func(s string) bool { return one(s) && strings.Contains(s, "@markPrice") }, "s001usdt@markPrice@1s", 11 * time.Second, true,
		},
		"candles of one symbol": {
			func(s string) bool { return one(s) && strings.Contains(s, "@kline") }, "s001usdt@kline_1m", 15 * time.Second, true,
		},
		"all candles":     {binancetest.Kind("kline"), "@kline_1m", 15 * time.Second, false},
		"all mark prices": {binancetest.Kind("markPrice"), "@markPrice@1s", 11 * time.Second, false},
		"all market data": {func(s string) bool { return !strings.Contains(s, "@book") }, "silent for", 11 * time.Second, false},
		"all quotes":      {binancetest.Kind("bookTicker"), "no quotes for", 61 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := binancetest.Config{Symbols: symbols(3), KlineEvery: time.Second, BookEvery: time.Second}
			simulated(t, cfg, binance.Options{}, func(t *testing.T, r *run) {
				time.Sleep(40 * time.Second)
				r.exchange.Silence(3*time.Minute, tc.match)
				time.Sleep(tc.within)
				if r.outagesWith(tc.text) == 0 {
					t.Errorf("not seen within %v: %v, stats %+v", tc.within, r.said(), r.feed.Stats())
				}
				if r.feed.Stats().Silences == 0 {
					t.Error("no silence was counted")
				}
				for range 8 {
					time.Sleep(10 * time.Second)
					for i, s := range r.symbols {
						if age := time.Since(r.price(s).At); tc.stays && i != 1 && age > 2*time.Second {
							t.Errorf("%s, which was not silent, has a price %v old", s, age)
						}
					}
				}
				if tc.stays && r.feed.Stats().Rotations == 0 {
					t.Errorf("the connection was not replaced: %v, stats %+v", r.said(), r.feed.Stats())
				}
				time.Sleep(8 * time.Minute)
				before := len(r.said())
				time.Sleep(2 * time.Minute)
				if after := r.said(); len(after) != before {
					t.Errorf("still reported long after: %v", after[len(after)-1].Err)
				}
				r.compare(t, r.exchange, r.symbols, 1)
				r.offences(t)
			})
		})
	}
}

// While the mark price is late, the middle of the quotes stands in.
func TestQuotesStandIn(t *testing.T) {
	simulated(t, binancetest.Config{Symbols: symbols(1)}, binance.Options{}, func(t *testing.T, r *run) {
		time.Sleep(20 * time.Second)
		r.exchange.Silence(9*time.Second, binancetest.Kind("markPrice"))
		for range 8 {
			time.Sleep(time.Second)
			if age := time.Since(r.price(r.symbols[0]).At); age > 4*time.Second {
				t.Errorf("price is %v old", age)
			}
		}
		if outages := r.said(); len(outages) != 0 {
			t.Errorf("%d outages: %v", len(outages), outages)
		}
	})
}

// A market without trades is no dead stream.
func TestQuietMarket(t *testing.T) {
	all := symbols(3)
	quiet := map[position.Symbol]bool{all[0]: true, all[1]: true}
	cfg := binancetest.Config{Symbols: all, Quiet: quiet, KlineEvery: 2 * time.Second, MarkEvery: 2 * time.Second, BookEvery: time.Minute}
	simulated(t, cfg, binance.Options{}, func(t *testing.T, r *run) {
		time.Sleep(20*time.Minute + 30*time.Second)
		r.compare(t, r.exchange, r.symbols, 0)
		r.offences(t)
		st := r.feed.Stats()
		if st.Outages+st.Silences+st.Reconnects+st.Rotations != 0 {
			t.Errorf("a quiet market was taken for a fault: %+v, %v", st, r.said())
		}
		if d := r.longest(); d > 9*time.Second {
			t.Errorf("a closed candle came %v after its end", d)
		}
		if perMinute := st.Requests / 20; perMinute > 3*3+2 {
			t.Errorf("%d requests for three symbols", st.Requests)
		}
	})
}

// A connection is replaced before the exchange ends it, and nothing is lost.
func TestRotation(t *testing.T) {
	cfg := binancetest.Config{Symbols: symbols(1), KlineEvery: 9 * time.Second, MarkEvery: 5 * time.Second, BookEvery: 30 * time.Second}
	opts := binance.Options{Timing: binance.Timing{Tick: time.Second, Universe: 10 * time.Second, MarkLate: 8 * time.Second}}
	lasts := 25 * time.Hour
	if os.Getenv("HARVEST_LONG") == "" {
		cfg.MaxAge, opts.Timing.Rotate, lasts = time.Hour, 57*time.Minute, 150*time.Minute
	}
	simulated(t, cfg, opts, func(t *testing.T, r *run) {
		time.Sleep(lasts)
		r.compare(t, r.exchange, r.symbols, 1)
		r.offences(t)
		st := r.feed.Stats()
		if st.Rotations < 2 || st.Outages != 0 || st.Reconnects != 0 {
			t.Errorf("a day: %+v", st)
		}
		if got := r.exchange.Stats(); got.Aged != 0 || got.Open != 2 {
			t.Errorf("the exchange ended connections for their age: %+v", got)
		}
	})
}

func TestUniverse(t *testing.T) {
	all := symbols(120)
	cfg := binancetest.Config{Symbols: all, KlineEvery: 8 * time.Second, MarkEvery: 4 * time.Second, BookEvery: 20 * time.Second}
	simulated(t, cfg, binance.Options{HistoryBars: 20}, func(t *testing.T, r *run) {
		r.setUniverse(all[:1]...)
		time.Sleep(10 * time.Second)
		r.setUniverse(append([]position.Symbol{"NOBODY", all[5], all[5]}, all[:5]...)...)
		time.Sleep(90 * time.Second)
		if st := r.feed.Stats(); st.Symbols != 6 || st.Waiting != 0 || st.Outages != 0 {
			t.Errorf("stats %+v", st)
		}
		list := r.refused("NOBODY")
		if len(list) < 1 || len(list) > 2 || list[0].Reason != feed.ReasonSymbol || list[0].Key != "exchangeInfo" {
			t.Errorf("refusals %+v", list)
		}
		r.setUniverse(all...)
		time.Sleep(130 * time.Second)
		if st := r.feed.Stats(); st.Symbols != 120 || st.Waiting != 0 || st.Connections != 3 || st.Outages != 0 {
			t.Errorf("stats %+v", st)
		}
		r.compare(t, r.exchange, all, 1)

		r.setUniverse(all[110:]...)
		time.Sleep(5 * time.Second)
		before := r.price(all[0])
		time.Sleep(30 * time.Second)
		if r.price(all[0]) != before {
			t.Error("a price of a symbol that nobody asks for any more")
		}
		r.setUniverse()
		time.Sleep(5 * time.Second)
		if st := r.feed.Stats(); st.Symbols != 0 || st.Connections != 0 {
			t.Errorf("stats %+v", st)
		}
		r.setUniverse(all[:3]...)
		time.Sleep(2 * time.Minute)
		r.compare(t, r.exchange, all[:3], 0)
		r.offences(t)
		if outages := r.said(); len(outages) != 0 {
			t.Errorf("%d outages: %v", len(outages), outages)
		}
	})
}

// A symbol that ceases to trade is refused; the others go on.
func TestSymbolCeasesToTrade(t *testing.T) {
	simulated(t, binancetest.Config{Symbols: symbols(2), KlineEvery: time.Second}, binance.Options{}, func(t *testing.T, r *run) {
		time.Sleep(70 * time.Second)
		r.exchange.SetStatus(r.symbols[1], "SETTLING")
		time.Sleep(4 * time.Minute)
		if r.outagesWith("s001usdt@markPrice@1s") == 0 {
			t.Error("the silence was not seen")
		}
		list := r.refused(r.symbols[1])
		if len(list) == 0 || list[0].Field != "status" || list[0].Value != "SETTLING" {
			t.Errorf("refusals %+v", list)
		}
		before := len(r.said())
		time.Sleep(3 * time.Minute)
		if after := r.said(); len(after) != before {
			t.Errorf("outages go on: %v", after[len(after)-1].Err)
		}
		r.compare(t, r.exchange, r.symbols[:1], 0)
	})
}

func TestLimits(t *testing.T) {
	for name, status := range map[string]int{"limited": http.StatusTooManyRequests, "banned": http.StatusTeapot} {
		t.Run(name, func(t *testing.T) {
			cfg := binancetest.Config{Symbols: symbols(8), KlineEvery: time.Second}
			simulated(t, cfg, binance.Options{}, func(t *testing.T, r *run) {
				r.setUniverse(r.symbols[:2]...)
				time.Sleep(10 * time.Second)
				r.exchange.Limit(status, 150*time.Second)
				r.setUniverse(r.symbols...)
				time.Sleep(60 * time.Second)
				st := r.feed.Stats()
				if st.Waiting != 6 || st.BlockedUntil.IsZero() || st.Outages == 0 {
					t.Errorf("stats %+v", st)
				}
				time.Sleep(150 * time.Second)
				if st := r.feed.Stats(); st.Waiting != 0 || !st.BlockedUntil.IsZero() {
					t.Errorf("stats %+v", st)
				}
				r.compare(t, r.exchange, r.symbols, 1)
				r.offences(t)
			})
		})
	}
}

// Histories of many symbols are spread over minutes where the limit is low.
func TestHistoryIsPaced(t *testing.T) {
	cfg := binancetest.Config{Symbols: symbols(100), KlineEvery: 20 * time.Second, MarkEvery: 4 * time.Second, BookEvery: 20 * time.Second, Weight: 150}
	opts := binance.Options{WeightShare: 0.8, Timing: binance.Timing{KlineSilence: 50 * time.Second}}
	simulated(t, cfg, opts, func(t *testing.T, r *run) {
		time.Sleep(35 * time.Second)
		if st := r.feed.Stats(); st.Waiting == 0 || st.WeightLimit != 120 {
			t.Errorf("stats %+v", st)
		}
		time.Sleep(100 * time.Second)
		if st := r.feed.Stats(); st.Waiting != 0 || st.Outages != 0 {
			t.Errorf("stats %+v", st)
		}
		r.compare(t, r.exchange, r.symbols, 1)
		r.offences(t)
		if peak := r.exchange.Stats().Weight; peak > 120 {
			t.Errorf("used weight %d in a minute", peak)
		}
	})
}

func TestClockStep(t *testing.T) {
	simulated(t, binancetest.Config{Symbols: symbols(2)}, binance.Options{}, func(t *testing.T, r *run) {
		time.Sleep(40 * time.Second)
		for i, step := range []time.Duration{37 * time.Second, 30 * time.Second, 10 * time.Minute} {
			r.exchange.SetClockOffset(era + step)
			time.Sleep(95 * time.Second)
			if d := r.feed.Stats().ClockOffset; d < era+step-time.Millisecond || d > era+step+time.Millisecond {
				t.Errorf("step %d: offset %v", i, d-era)
			}
			for _, s := range r.symbols {
				if age := time.Since(r.price(s).At); age < 0 || age > 2*time.Second {
					t.Errorf("step %d: price of %s is %v old", i, s, age)
				}
			}
		}
		time.Sleep(time.Minute)
		r.compare(t, r.exchange, r.symbols, 1)
	})
}

// Our clock runs ahead of what was measured, so that a candle which is still open seems long ended: it is not closed
// before the exchange closes it.
func TestClockStepsBeforeTheEndOfACandle(t *testing.T) {
	simulated(t, binancetest.Config{Symbols: symbols(2)}, binance.Options{}, func(t *testing.T, r *run) {
		time.Sleep(31 * time.Second) // just after the offset was looked at, nine seconds before the candle ends
		r.exchange.SetClockOffset(era - 20*time.Second)
		time.Sleep(5 * time.Minute)
		r.compare(t, r.exchange, r.symbols, 1)
	})
}

// Nothing is there at the start; everything heals by itself.
func TestStartsBeforeTheExchange(t *testing.T) {
	simulated(t, binancetest.Config{Symbols: symbols(2)}, binance.Options{}, func(t *testing.T, r *run) {
		r.exchange.RefuseREST(100 * time.Second)
		r.exchange.RefuseStreams(130 * time.Second)
		r.exchange.Slow(3*time.Second, 3*time.Minute)
		time.Sleep(60 * time.Second)
		if outages := r.said(); len(outages) < 2 {
			t.Errorf("%d outages: %v", len(outages), outages)
		}
		if !r.feed.Stats().ClockMeasured.IsZero() {
			t.Error("the clock offset is known")
		}
		time.Sleep(4 * time.Minute)
		r.compare(t, r.exchange, r.symbols, 1)
		r.offences(t)
	})
}
