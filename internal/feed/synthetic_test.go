package feed

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"quantumharvest/internal/position"
)

func TestGeneratorIsPure(t *testing.T) {
	a, b := NewGenerator(7, "BTCUSDT"), NewGenerator(7, "BTCUSDT")
	otherSeed, otherSymbol := NewGenerator(8, "BTCUSDT"), NewGenerator(7, "ETHUSDT")
	same, seeds, symbols := true, 0, 0
	for range 500 {
		bar := a.Next()
		same = same && bar == b.Next()
		if bar.Close == otherSeed.Next().Close {
			seeds++
		}
		if bar.Close == otherSymbol.Next().Close {
			symbols++
		}
	}
	if !same {
		t.Error("the same seed and symbol gave two markets")
	}
	if seeds > 50 || symbols > 50 {
		t.Errorf("bars in common: %d with another seed, %d with another symbol", seeds, symbols)
	}
}

// The market must have what makes the job hard: clustering volatility, jumps, both directions, sound bars on the tick.
func TestGeneratorLooksLikeAMarket(t *testing.T) {
	const n = 20000
	for symbol, tick := range map[position.Symbol]float64{"BTCUSDT": 0.1, "ETHUSDT": 0.01, "DOGEUSDT": 0.000001, "NEWCOINUSDT": 0} {
		t.Run(string(symbol), func(t *testing.T) {
			g := NewGenerator(1, symbol)
			first := g.quote
			last := first
			var returns []float64
			low, high := math.Inf(1), 0.0
			for i := range n {
				b := g.Next()
				if bad, is := candleFlaw(Candle{Open: b.Open, High: b.High, Low: b.Low, Close: b.Close}); is {
					t.Fatalf("bar %d: %+v", i, bad)
				}
				if b.Open != last {
					t.Fatalf("bar %d opens at %v, the one before closed at %v", i, b.Open, last)
				}
				if tick > 0 {
					if ticks := b.Close / tick; math.Abs(ticks-math.Round(ticks)) > 1e-4 {
						t.Fatalf("bar %d closes at %v, not a multiple of %v", i, b.Close, tick)
					}
				}
				returns = append(returns, math.Log(b.Close/last))
				last = b.Close
				low, high = min(low, b.Low), max(high, b.High)
			}
			if low < first/3 || high > first*3 {
				t.Errorf("went from %v to %v..%v in two weeks", first, low, high)
			}
			variance, fourth, up, clusters := 0.0, 0.0, 0, 0.0
			for i, r := range returns {
				variance += r * r / n
				fourth += r * r * r * r / n
				if r > 0 {
					up++
				}
				if i > 0 {
					clusters += math.Abs(r) * math.Abs(returns[i-1]) / n
				}
			}
			mean := 0.0
			for _, r := range returns {
				mean += math.Abs(r) / n
			}
			if sd := math.Sqrt(variance); sd < g.usual/2 || sd > g.usual*3 {
				t.Errorf("volatility %v, usual %v", sd, g.usual)
			}
			if kurtosis := fourth / (variance * variance); kurtosis < 4 {
				t.Errorf("kurtosis %v: no fat tails", kurtosis)
			}
			if clusters <= mean*mean*1.02 {
				t.Errorf("no clusters of volatility: %v against %v", clusters, mean*mean)
			}
			if share := float64(up) / n; share < 0.4 || share > 0.6 {
				t.Errorf("%v of the bars go up", share)
			}
		})
	}
}

func TestNewSyntheticRefuses(t *testing.T) {
	_, err := NewSynthetic(SyntheticOptions{
		Symbols: []position.Symbol{"BTCUSDT", "BTCUSDT"}, Speed: math.NaN(), HistoryBars: -1, Interval: time.Millisecond,
	})
	for _, want := range []string{"named twice", "speed is NaN", "history is -1", "interval is 1ms"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if _, err := NewSynthetic(SyntheticOptions{}); err == nil || !strings.Contains(err.Error(), "no symbols") {
		t.Errorf("no symbols: %v", err)
	}
}

func TestSyntheticRuns(t *testing.T) {
	for _, tc := range []struct {
		speed   float64
		run     time.Duration
		closes  int // of each symbol
		revised int // of each symbol, at least
	}{
		{1, 90 * time.Second, 2, 88},
		{60, 20 * time.Second, 20, 19},
		{6000, 10 * time.Second, 1000, 9},
	} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(40 * time.Second) // into a minute: the open candle began before we did
			symbols := []position.Symbol{"BTCUSDT", "ETHUSDT"}
			s, err := NewSynthetic(SyntheticOptions{Symbols: symbols, Seed: 3, Speed: tc.speed, HistoryBars: 5})
			if err != nil {
				t.Fatal(err)
			}
			if now := time.Now(); !s.Strategy(now).Equal(now) {
				t.Errorf("the clock starts at %v", s.Strategy(now))
			}
			series := map[position.Symbol]*Series{}
			closes, revised := map[position.Symbol]int{}, map[position.Symbol]int{}
			open := map[position.Symbol]time.Time{}
			ctx, cancel := context.WithTimeout(t.Context(), tc.run)
			defer cancel()
			err = s.Run(ctx, func(e Event) {
				switch e := e.(type) {
				case History:
					series[e.Symbol] = NewSeries(10000)
					if refused := series[e.Symbol].Replace(e.Candles); len(refused) > 0 || len(e.Candles) != 5 {
						t.Errorf("history of %d, refused %v", len(e.Candles), refused)
					}
					open[e.Symbol] = closeTime(e.Candles[4])
				case Candle:
					if _, refusal := series[e.Symbol].Apply(e); refusal != nil {
						t.Errorf("candle %+v: %v", e, refusal)
					}
					if !e.At.Equal(time.Now()) || !e.OpenTime.Equal(open[e.Symbol]) {
						t.Errorf("candle %+v at %v, want one of %v", e, time.Now(), open[e.Symbol])
					}
					if e.Closed {
						closes[e.Symbol]++
						open[e.Symbol] = closeTime(e)
						return
					}
					revised[e.Symbol]++
				default:
					t.Errorf("unexpected %#v", e)
				}
			})
			if err != nil {
				t.Error(err)
			}
			for _, symbol := range symbols {
				if got := closes[symbol]; got < tc.closes || got > tc.closes+1 {
					t.Errorf("speed %v: %s closed %d candles in %v, want %d", tc.speed, symbol, got, tc.run, tc.closes)
				}
				if got := revised[symbol]; got < tc.revised || got > int(tc.run/time.Second)+1 {
					t.Errorf("speed %v: %s was revised %d times in %v", tc.speed, symbol, got, tc.run)
				}
				// Whatever the timers did: the bars are those of the generator.
				g := NewGenerator(3, symbol)
				got := series[symbol].Closes()
				for i := range 5 + closes[symbol] {
					if want := g.Next().Close; got[i] != want {
						t.Fatalf("speed %v: bar %d of %s closes at %v, want %v", tc.speed, i, symbol, got[i], want)
					}
				}
			}
		})
	}
}

func TestVirtualClock(t *testing.T) {
	start, wall := candleStart, time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	c, err := newVirtualClock(start, maxSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Strategy(wall.Add(time.Hour)); !got.Equal(start) {
		t.Errorf("moves before its release: %v", got)
	}
	if !c.release(wall) || c.release(wall.Add(time.Hour)) {
		t.Error("released other than once")
	}
	for after, want := range map[time.Duration]time.Time{
		-time.Hour:             start,
		0:                      start,
		time.Millisecond:       start.Add(1000 * time.Second),
		1000 * 24 * time.Hour:  start.Add(math.MaxInt64), // saturates instead of wrapping round
		10000 * 24 * time.Hour: start.Add(math.MaxInt64),
	} {
		if got := c.Strategy(wall.Add(after)); !got.Equal(want) {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
	if got := c.wait(wall, start); got != 0 {
		t.Errorf("wait for the past: %v", got)
	}
	if at := start.Add(time.Minute); c.Strategy(wall.Add(c.wait(wall, at))).Before(at) {
		t.Error("wait ends too early")
	}
	c.stop(wall.Add(time.Millisecond))
	if got, want := c.Strategy(wall.Add(time.Hour)), start.Add(1000*time.Second); !got.Equal(want) {
		t.Errorf("stopped: %v, want %v", got, want)
	}
}

func BenchmarkGenerator(b *testing.B) {
	g := NewGenerator(1, "BTCUSDT")
	b.ReportAllocs()
	for b.Loop() {
		g.Next()
	}
}
