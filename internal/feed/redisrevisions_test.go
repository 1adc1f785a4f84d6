package feed

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// kline is one revision of a candle as an exchange's stream has it.
func kline(minute int, price float64, volume int, closed bool) string {
	open := candleStart.Add(time.Duration(minute) * time.Minute).UnixMilli()
	return fmt.Sprintf(`{"c":%v,"h":%v,"l":1,"t":%d,"v":%d,"x":%v}`, price, 10000.0, open, volume, closed)
}

func candleScore(minute, sec int) float64 {
	return float64(candleStart.Unix() + int64(minute)*60 + int64(sec))
}

// closes are the close prices of the only event, which has to be a history.
func (b *redisBench) closes(events []Event) []float64 {
	b.Helper()
	if len(events) != 1 {
		b.Fatalf("%d events: %v", len(events), brief(events))
	}
	h, ok := events[0].(History)
	if !ok {
		b.Fatalf("no history: %v", brief(events))
	}
	var closes []float64
	for _, c := range h.Candles {
		closes = append(closes, c.Close)
	}
	return closes
}

// Writers that leave every revision behind, by the score they give it: the newest elements alone hold only a few candles.
func TestRedisRevisionsLeftBehind(t *testing.T) {
	const bars, revisions = 40, 15
	scores := map[string]func(minute, revision int) float64{
		"score is the open time":  func(minute, _ int) float64 { return candleScore(minute, 0) },
		"score is the write time": func(minute, revision int) float64 { return candleScore(minute, 4*revision) },
	}
	for name, score := range scores {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, r *testRedis) {
				b := newRedisBench(t, r, MarketCandles)
				b.market.opts.Limit = 30
				const key = "candles:BTCUSDT:1m"
				// The later revision of a candle often sorts before the earlier one: 9... after 10...
				write := func(minute, revision int, closed bool) {
					b.add(key, score(minute, revision), kline(minute, float64(100*minute+150-10*revision), revision, closed))
				}
				for m := range bars {
					for v := range revisions {
						write(m, v, false)
					}
				}
				write(bars, 0, false)
				b.now = candleStart.Add(bars*time.Minute + time.Second)
				b.expect(0) // the first window shows how far back it is
				b.trips.pipelines = 0
				got := b.closes(b.poll(time.Second))
				if b.trips.pipelines != 3 {
					t.Errorf("%d round trips", b.trips.pipelines)
				}
				if len(got) != 30 {
					t.Fatalf("%d candles: %v", len(got), got)
				}
				for i, c := range got {
					m := bars - 30 + 1 + i
					want := float64(100*m + 10)
					if m == bars {
						want = float64(100*m + 150)
					}
					if c != want {
						t.Errorf("candle %d closes at %v, want %v", m, c, want)
					}
				}
				b.expect(time.Second)

				// Every revision is seen at once, in at most three round trips, without reading the window again.
				for v := 1; v < revisions; v++ {
					write(bars, v, false)
					b.trips.pipelines = 0
					open := bars * 60
					want := fmt.Sprintf("candle BTCUSDT %d:%d+ @%d", open, 100*bars+150-10*v, open+3+v)
					b.expect(time.Second, want)
					if b.trips.pipelines > 3 {
						t.Errorf("%d round trips", b.trips.pipelines)
					}
				}
				// The last word on it, and three revisions of the next.
				write(bars, revisions, true)
				for v := range 3 {
					write(bars+1, v, false)
				}
				b.expect(time.Minute,
					fmt.Sprintf("candle BTCUSDT %d:%d @%d", bars*60, 100*bars, (bars+1)*60),
					fmt.Sprintf("candle BTCUSDT %d:%d+ @%d", (bars+1)*60, 100*(bars+1)+130, (bars+1)*60+17))
				// An old one after all does not open it again.
				b.add(key, score(bars+1, 3), kline(bars+1, 7, 99, true))
				b.add(key, score(bars+1, 4), kline(bars+1, 8, 100, false))
				b.expect(time.Second, fmt.Sprintf("candle BTCUSDT %d:7 @%d", (bars+1)*60, (bars+1)*60+18))
				b.expect(time.Second)
			})
		})
	}
}

// A set that is trimmed to a fixed number while it is revised keeps its size and its newest few.
func TestRedisRevisionsInTrimmedSet(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketCandles)
		const key = "candles:BTCUSDT:1m"
		add := func(minute int, price float64, volume int) {
			b.add(key, candleScore(minute, 0), kline(minute, price, volume, false))
			b.server.do("ZREMRANGEBYRANK", key, 0, -21)
		}
		for m := range 30 {
			add(m, float64(m+1), 1)
		}
		b.now = candleStart.Add(30 * time.Minute)
		b.expect(0, "history BTCUSDT 26 27 28 29 30+ @1740")
		for i := range 10 { // each sorts before all earlier ones
			add(30, float64(99-i), i+1)
			want := []string{fmt.Sprintf("candle BTCUSDT 1800:%d+ @%d", 99-i, 1801+i)}
			if i == 0 {
				want = append([]string{"candle BTCUSDT 1740:30 @1800"}, want...)
			}
			b.expect(time.Second, want...)
		}
	})
}

// Who starts with the newest candle and fills in the history afterwards is read again.
func TestRedisHistoryFilledIn(t *testing.T) {
	fill := map[string]func(b *redisBench, key string){
		"list": func(b *redisBench, key string) {
			for m := 9; m >= 0; m-- {
				b.server.do("LPUSH", key, minuteJSON(m, float64(m+1)))
			}
		},
		"sorted set": func(b *redisBench, key string) {
			for m := range 10 {
				b.add(key, candleScore(m, 0), minuteJSON(m, float64(m+1)))
			}
		},
	}
	for name, fill := range fill {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, r *testRedis) {
				b := newRedisBench(t, r, MarketCandles)
				b.market.opts.Limit = 100
				const key = "candles:BTCUSDT:1m"
				for m := 10; m < 14; m++ {
					if name == "list" {
						b.push(key, minuteJSON(m, float64(m+1)))
					} else {
						b.add(key, candleScore(m, 0), minuteJSON(m, float64(m+1)))
					}
				}
				b.now = candleStart.Add(14 * time.Minute)
				b.expect(0, "history BTCUSDT 11 12 13 14 @840")
				fill(b, key)
				var all []Event
				for range 3 {
					all = append(all, b.poll(time.Second)...)
				}
				if got := b.closes(all); len(got) != 14 || !slices.IsSorted(got) {
					t.Errorf("got %v", got)
				}
			})
		})
	}
}

// A key full of garbage is read further back, but not for ever, and what there is goes out.
func TestRedisWindowDepthIsBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketCandles)
		const key = "candles:BTCUSDT:1m"
		b.push(key, minuteJSON(0, 1), minuteJSON(1, 2), minuteJSON(2, 3))
		b.push(key, slices.Repeat([]string{"garbage"}, 5*candleDeepest-2)...)
		b.now = candleStart.Add(3 * time.Minute)
		var all []Event
		for range 10 {
			all = append(all, b.poll(time.Second/5)...)
		}
		if got := strings.Join(brief(all), "; "); got != "refused "+key+" element unreadable_value; history BTCUSDT 2 3 @180" {
			t.Error(got)
		}
		if got := b.market.symbols["BTCUSDT"].candles.depth; got != 5*candleDeepest {
			t.Errorf("depth is %d", got)
		}
	})
}

// What all windows together may ask for is bounded: those beyond wait for their turn, and it comes.
func TestRedisWindowsTakeTurns(t *testing.T) {
	b := newRedisBench(t, embeddedRedis(t), MarketCandles, "AUSDT", "BUSDT", "CUSDT")
	b.market.opts.Limit = candleReadMost / 2
	for _, s := range []string{"AUSDT", "BUSDT", "CUSDT"} {
		b.push("candles:"+s+":1m", "1", "2")
	}
	b.expect(0, "history AUSDT 1 2 @0", "history BUSDT 1 2 @0")
	b.expect(time.Second, "history CUSDT 1 2 @1")
	b.expect(time.Second)
}
