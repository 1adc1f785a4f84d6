package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

// watched is an engine that knows one symbol, and the market that is made up for it.
type watched struct {
	eng    *Engine
	cold   *kernel.Estimator
	minute int // of the newest candle
	price  float64
}

const watchedSymbol = position.Symbol("BTCUSDT")

func newWatched(t *rapid.T, window int, p kernel.MarketParams) *watched {
	eng, err := New(Options{
		Heartbeat: time.Second, Cycle: 10 * time.Second, MarketStale: time.Minute, PositionStale: time.Minute,
		ProduceEvery: time.Minute, Window: window, Market: p,
		Stops: kernel.DefaultStopParams(), Harvest: kernel.DefaultHarvestParams(), Gate: kernel.DefaultGateParams(),
		Publisher: "test", Holder: "test#1", LeaseInterval: time.Minute, MarketSource: "redis",
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	cold, err := kernel.NewEstimator(p)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{eng: eng, cold: cold, price: 100}
	w.eng.now = time.Date(2026, 1, 23, 0, 0, 0, 0, time.UTC)
	return w
}

func (w *watched) candle(minute int, closed bool) feed.Candle {
	open := time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)
	return feed.Candle{
		Symbol: watchedSymbol, Interval: time.Minute, OpenTime: open, At: w.eng.now, Closed: closed,
		Open: w.price, High: w.price, Low: w.price, Close: w.price,
	}
}

func (w *watched) move(t *rapid.T) {
	w.price = math.Round(100*w.price*(1+rapid.Float64Range(-0.002, 0.002).Draw(t, "move"))) / 100
}

func (w *watched) history(t *rapid.T, n int, timed bool) feed.History {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	h := feed.History{Symbol: watchedSymbol, At: w.eng.now}
	for range n {
		w.minute++
		w.price = math.Round(100*w.price*(1+0.001*rng.NormFloat64())) / 100
		c := w.candle(w.minute, true)
		if !timed {
			c.OpenTime = time.Time{}
		}
		h.Candles = append(h.Candles, c)
	}
	return h
}

// event makes up something that a source may say.
func (w *watched) event(t *rapid.T) feed.Event {
	w.eng.now = w.eng.now.Add(time.Duration(rapid.IntRange(0, 12).Draw(t, "seconds")) * time.Second)
	switch rapid.SampledFrom([]string{"price", "price", "open", "closed", "closed", "gap", "correction", "late", "history", "untimed", "ready", "nonsense"}).Draw(t, "event") {
	case "price":
		w.move(t)
		return feed.Price{Symbol: watchedSymbol, Price: w.price, High: w.price * 1.001, At: w.eng.now}
	case "open":
		w.move(t)
		return w.candle(w.minute+rapid.IntRange(0, 1).Draw(t, "next"), false)
	case "closed":
		w.move(t)
		w.minute++
		return w.candle(w.minute, true)
	case "gap":
		w.move(t)
		w.minute += rapid.IntRange(2, 50).Draw(t, "minutes")
		return w.candle(w.minute, true)
	case "correction":
		w.move(t)
		return w.candle(w.minute, true)
	case "late":
		w.move(t)
		return w.candle(w.minute-rapid.IntRange(1, 60).Draw(t, "minutes"), true)
	case "history":
		return w.history(t, rapid.IntRange(0, 2*w.eng.opts.Window).Draw(t, "candles"), true)
	case "untimed":
		return w.history(t, w.eng.opts.Window, false)
	case "ready":
		return feed.State{Symbol: watchedSymbol, At: w.eng.now, State: kernel.MarketState{Sigma: 0.01, PChop: 1}}
	}
	c := w.candle(w.minute+1, true)
	c.Close = -1
	return c
}

// TestStateIsThatOfTheWindow: whatever arrives, and however much of it between two looks, the state is the one that the
// estimator gives for the closes that the series holds.
func TestStateIsThatOfTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := kernel.DefaultMarketParams()
		window := 300
		if rapid.Bool().Draw(t, "short windows") { // in which more happens
			p.Vol.Window, p.Regime.Window = 20, 12
			p.Trend.Windows, p.Trend.Weights = []int{10, 26, 32}, []float64{1, 1, 1}
			window = 36
		}
		w := newWatched(t, window, p)
		s := w.eng.symbol(watchedSymbol)
		w.eng.take(w.history(t, window, true))
		for range 60 {
			w.eng.take(w.event(t))
			if rapid.IntRange(0, 2).Draw(t, "look") == 0 {
				continue
			}
			before, had := s.market.state, s.market.haveState
			w.eng.refreshState(s)
			want, ok, err := w.cold.State(s.market.series.Closes())
			if s.market.consumed {
				want, ok, err = before, had, nil
			}
			if s.market.state != want || s.market.haveState != ok || err != nil {
				t.Fatalf("%d closes:\ngot  %+v, %v\nwant %+v, %v, %v",
					len(s.market.series.Closes()), s.market.state, s.market.haveState, want, ok, err)
			}
		}
	})
}

// TestFollowerRefusesAndRecovers: closes that the kernel refuses give its error, and the next that it takes a state.
func TestFollowerRefusesAndRecovers(t *testing.T) {
	p := kernel.DefaultMarketParams()
	p.Eps = math.MaxFloat64 / 2 // so that the logarithm of a large price is infinite
	est, err := kernel.NewEstimator(p)
	if err != nil {
		t.Fatal(err)
	}
	const window = 260
	series, start := feed.NewSeries(window), time.Unix(0, 0)
	var f follower
	put := func(minute int, price float64) {
		t.Helper()
		c := feed.Candle{Symbol: watchedSymbol, OpenTime: start.Add(time.Duration(minute) * time.Minute), Open: price, High: price, Low: price, Close: price, Closed: true}
		if _, r := series.Apply(c); r != nil {
			t.Fatal(*r)
		}
	}
	for i := range window {
		put(i, 100)
	}
	for _, c := range []struct {
		minute int
		price  float64
		field  string
	}{
		{window, 100, ""},
		{window + 1, math.MaxFloat64, "prices[259]"},
		{window + 2, 100, "prices[258]"},
		{window + 3, 100, "prices[257]"},
	} {
		put(c.minute, c.price)
		_, wantOK, wantErr := est.State(series.Closes())
		_, ok, err := f.state(est, window, series)
		if ok != wantOK || field(err) != field(wantErr) || field(err) != c.field {
			t.Errorf("after %v: %v, %v; want %v, %v and a refusal of %q", c.price, ok, err, wantOK, wantErr, c.field)
		}
	}
	for i := range window {
		put(window+4+i, 100)
	}
	if _, ok, err := f.state(est, window, series); !ok || err != nil {
		t.Error(ok, err)
	}
}

// TestFollowerFollows: a new candle or price is taken in without a look at the closes before it. They are changed behind
// the follower's back, which it must not notice until there is a new history.
func TestFollowerFollows(t *testing.T) {
	est, err := kernel.NewEstimator(kernel.DefaultMarketParams())
	if err != nil {
		t.Fatal(err)
	}
	const window = 300
	start, rng := time.Unix(0, 0), rand.New(rand.NewPCG(1, 1))
	candle := func(minute int) feed.Candle {
		price := 100 + rng.Float64()
		return feed.Candle{Symbol: watchedSymbol, OpenTime: start.Add(time.Duration(minute) * time.Minute), At: start, Open: price, High: price, Low: price, Close: price}
	}
	history := make([]feed.Candle, window)
	for i := range history {
		history[i] = candle(i)
	}
	series := feed.NewSeries(window)
	series.Replace(history)
	var f follower
	if _, ok, err := f.state(est, window, series); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for i := range 3 * maxFollowed {
		changed := candle(window + i/3) // three prices a candle
		series.Apply(changed)
		truth := append([]float64(nil), series.Closes()...)
		series.Closes()[150] *= 1.1
		got, _, err := f.state(est, window, series)
		copy(series.Closes(), truth)
		if want, _, _ := est.State(truth); got != want || err != nil {
			t.Fatalf("step %d: the closes before %v were looked at again (%v)", i, changed.Close, err)
		}
	}
}

func field(err error) string {
	var fe *kernel.FieldError
	if errors.As(err, &fe) {
		return fe.Field
	}
	return ""
}

// BenchmarkFollow gives each of 1,000 symbols a new price of its open candle and asks for its state. The rival computes
// the states from the closes.
func BenchmarkFollow(b *testing.B) {
	const symbols, window = 1000, 300
	est, err := kernel.NewEstimator(kernel.DefaultMarketParams())
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	start := time.Unix(0, 0)
	series, followers := make([]*feed.Series, symbols), make([]follower, symbols)
	for i := range series {
		series[i] = feed.NewSeries(window)
		price := 100.0
		for k := range window {
			price *= 1 + 0.001*rng.NormFloat64()
			series[i].Apply(feed.Candle{
				Symbol: position.Symbol(fmt.Sprint("S", i)), OpenTime: start.Add(time.Duration(k) * time.Minute), At: start,
				Open: price, High: price, Low: price, Close: price, Closed: k < window-1,
			})
		}
	}
	revise := func() {
		for _, s := range series {
			closes := s.Closes()
			s.Revise(closes[len(closes)-2]*(1+2e-4*rng.NormFloat64()), start)
		}
	}
	follow := func() {
		for i, s := range series {
			if _, ok, err := followers[i].state(est, window, s); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	}
	follow() // takes the whole windows in
	var ours, cold time.Duration
	b.ReportAllocs()
	for b.Loop() {
		revise()
		begin := time.Now()
		follow()
		ours += time.Since(begin)
		begin = time.Now()
		for _, s := range series {
			if _, ok, err := est.State(s.Closes()); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		cold += time.Since(begin)
	}
	b.ReportMetric(ours.Seconds()*1e3/float64(b.N), "follow-ms")
	b.ReportMetric(cold.Seconds()*1e3/float64(b.N), "cold-ms")
	b.ReportMetric(cold.Seconds()/ours.Seconds(), "times-faster")
}
