package kernel

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// failer is what testing and rapid have in common.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// twin is a stream beside the closes that it should hold.
type twin struct {
	t      failer
	p      MarketParams
	window int
	s      *Stream
	cold   *Estimator
	closes []float64
	states int
}

func newTwin(t failer, p MarketParams, window int) *twin {
	t.Helper()
	e, err := NewEstimator(p)
	if err != nil {
		t.Fatal(err)
	}
	cold, err := NewEstimator(p)
	if err != nil {
		t.Fatal(err)
	}
	return &twin{t: t, p: p, window: window, s: e.NewStream(window), cold: cold}
}

func (w *twin) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *twin) push(price float64) {
	w.t.Helper()
	w.must(w.s.Push(price))
	w.closes = append(w.closes, price)
	w.trim()
}

func (w *twin) trim() {
	if n := len(w.closes) - w.window; n > 0 {
		w.closes = w.closes[n:]
	}
}

func (w *twin) revise(price float64) {
	w.t.Helper()
	w.must(w.s.Revise(price))
	w.closes[len(w.closes)-1] = price
}

func (w *twin) reset(prices []float64) {
	w.t.Helper()
	w.must(w.s.Reset(prices))
	w.closes = slices.Clone(prices)
	w.trim()
}

// compare fails unless the stream says of its closes what the estimator says, to the last bit.
func (w *twin) compare() MarketState {
	w.t.Helper()
	w.states++
	got, ok, err := w.s.State()
	want, wantOK, wantErr := w.cold.State(w.closes)
	if ok != wantOK || got != want || !sameRefusal(err, wantErr) {
		w.t.Fatalf("state %d of %d closes:\ngot  %+v, %v, %v\nwant %+v, %v, %v",
			w.states, len(w.closes), got, ok, err, want, wantOK, wantErr)
	}
	if w.s.Len() != len(w.closes) {
		w.t.Fatalf("%d closes, want %d", w.s.Len(), len(w.closes))
	}
	return got
}

func sameRefusal(a, b error) bool {
	var fa, fb *FieldError
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return errors.As(a, &fa) && errors.As(b, &fb) && *fa == *fb
}

// smallParams have windows so short that much happens in few steps: some followed by sweeps, some not.
func smallParams(t *rapid.T) MarketParams {
	p := DefaultMarketParams()
	p.Vol.Window = rapid.OneOf(rapid.IntRange(1, 60), rapid.IntRange(1, 12)).Draw(t, "vol.window")
	p.Vol.WinsorQLow = rapid.OneOf(rapid.Float64Range(0, 0.4), rapid.Just(0.0)).Draw(t, "winsor_q_low")
	p.Vol.WinsorQHigh = rapid.OneOf(rapid.Float64Range(0.6, 1), rapid.Just(1.0)).Draw(t, "winsor_q_high")
	p.Vol.EWMALambda = rapid.Float64Range(0, 1).Draw(t, "ewma_lambda")
	p.Regime.Window = rapid.IntRange(1, 60).Draw(t, "regime.window")
	p.Regime.VRK = rapid.IntRange(1, 20).Draw(t, "vr_k")
	p.Trend.Method = rapid.SampledFrom([]TrendMethod{TrendTheilSen, TrendTheilSen, TrendTheilSen, TrendOLS, TrendHuber}).Draw(t, "method")
	p.Trend.Windows, p.Trend.Weights = nil, nil
	for range rapid.IntRange(1, 3).Draw(t, "trend windows") {
		p.Trend.Windows = append(p.Trend.Windows, rapid.IntRange(2, 3*directUpTo).Draw(t, "window"))
		p.Trend.Weights = append(p.Trend.Weights, rapid.Float64Range(0.1, 2).Draw(t, "weight"))
	}
	return p
}

// play does random things to a stream: candles, revisions, late corrections, new histories, with and without a look at
// the state in between.
func play(t *rapid.T, w *twin, m *market, steps int) {
	for range steps {
		switch rapid.SampledFrom([]string{"push", "push", "push", "many", "revise", "revise", "same", "late", "reset", "bad"}).Draw(t, "step") {
		case "push":
			w.push(m.next())
		case "many":
			for range rapid.IntRange(1, 300).Draw(t, "candles") {
				w.push(m.next())
			}
		case "revise":
			if len(w.closes) > 0 {
				w.revise(rapid.SampledFrom([]float64{m.within(), m.price, m.price * 1.5, math.Nextafter(m.price, 0)}).Draw(t, "price"))
			}
		case "same":
			if n := len(w.closes); n > 0 {
				w.push(w.closes[rapid.IntRange(0, n-1).Draw(t, "of")])
			}
		case "late": // a correction of a candle that has long closed
			if n := len(w.closes); n > 0 {
				closes := slices.Clone(w.closes)
				closes[rapid.IntRange(0, n-1).Draw(t, "of")] = m.within()
				w.reset(closes)
			}
		case "reset":
			w.reset(m.closes(rapid.IntRange(0, 2*w.window).Draw(t, "closes")))
		case "bad":
			before := w.s.Len()
			bad := rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1)}).Draw(t, "bad")
			if w.s.Push(bad) == nil || w.s.Revise(bad) == nil || w.s.Len() != before {
				w.t.Fatal("a bad close was taken")
			}
		}
		if rapid.Bool().Draw(t, "look") {
			w.compare()
		}
	}
	w.compare()
}

func drawMarket(t *rapid.T) *market {
	return newMarket(rapid.Uint64().Draw(t, "seed"), math.Pow(10, rapid.Float64Range(-4, 5).Draw(t, "log10 price")), 1e-5, rapid.Bool().Draw(t, "odd"))
}

func TestStreamIsTheEstimator(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := smallParams(rt)
		w := newTwin(rt, p, rapid.IntRange(1, 90).Draw(rt, "window"))
		play(rt, w, drawMarket(rt), 40)
	})
}

func TestStreamIsTheEstimatorWithDefaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newTwin(rt, DefaultMarketParams(), rapid.SampledFrom([]int{200, 257, 300}).Draw(rt, "window"))
		m := drawMarket(rt)
		w.reset(m.closes(300))
		play(rt, w, m, 12)
	})
}

// TestStateIsThePlainOne compares both with the specification as it is written.
func TestStateIsThePlainOne(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := smallParams(rt)
		w := newTwin(rt, p, 90)
		m := drawMarket(rt)
		w.reset(m.closes(90))
		for range 20 {
			w.push(m.next())
			wantPlain(rt, w.compare(), w.closes, p)
		}
	})
}

func TestStreamWithFewCloses(t *testing.T) {
	w := newTwin(t, DefaultMarketParams(), 300)
	m := newMarket(1, 100, 0.01, false)
	wantField(t, w.s.Revise(1), "prices")
	for range 320 {
		w.push(m.next())
		w.compare()
	}
	wantField(t, w.s.Push(0), "prices[299]")
	wantField(t, w.s.Revise(math.NaN()), "prices[299]")

	short := newTwin(t, DefaultMarketParams(), 0)
	for range 300 {
		short.window = 1
		short.push(m.next())
		short.compare()
	}
}

func TestStreamResetRefuses(t *testing.T) {
	w := newTwin(t, DefaultMarketParams(), 300)
	m := newMarket(1, 100, 0.01, false)
	w.reset(m.closes(300))
	w.compare()
	bad := m.closes(400)
	bad[7] = math.Inf(1) // also where it would not be kept
	wantField(t, w.s.Reset(bad), "prices[7]")
	w.closes = nil
	w.compare()
	w.reset(bad[100:])
	w.compare()

	p := DefaultMarketParams()
	p.Eps = math.MaxFloat64
	e, err := NewEstimator(p)
	if err != nil {
		t.Fatal(err)
	}
	s := e.NewStream(300)
	bad = m.closes(300)
	bad[299] = math.MaxFloat64
	wantField(t, s.Reset(bad), "prices[299]")
	if s.Len() != 0 {
		t.Errorf("%d closes after a refusal, want none", s.Len())
	}
	wantField(t, s.Push(math.MaxFloat64), "prices[0]")
}

// TestStreamRefusesTheStateOnly: closes that are each right can be too extreme together; the next may do again.
func TestStreamRefusesTheStateOnly(t *testing.T) {
	p := DefaultMarketParams()
	p.Eps = 0
	w := newTwin(t, p, 300)
	for range 300 {
		w.push(7)
		w.compare()
	}
	_, ok, err := w.s.State()
	if ok {
		t.Error("0/0 gave a state")
	}
	wantField(t, err, "features.spike_proxy")
	m := newMarket(1, 7, 0.01, false)
	for range 257 {
		w.push(m.next())
		w.compare()
	}
	if _, ok, err := w.s.State(); !ok || err != nil {
		t.Error(ok, err)
	}
}

// TestStreamOfManyCloses: ids of points wrap around within one window, and between two looks.
func TestStreamOfManyCloses(t *testing.T) {
	p := DefaultMarketParams()
	p.Vol.Window = 1 << 17
	p.Trend.Windows, p.Trend.Weights = []int{30, 64}, []float64{1, 1}
	w := newTwin(t, p, p.Vol.Window+1)
	m := newMarket(1, 100, 0.01, false)
	w.reset(m.closes(w.window))
	for range 40 {
		w.push(m.next())
		w.compare()
	}
	w = newTwin(t, DefaultMarketParams(), 300)
	w.reset(m.closes(300))
	w.compare()
	for range 1<<16 + 100 {
		w.push(m.next())
	}
	for range 10 {
		w.push(m.next())
		w.compare()
	}
}

// TestStreamsShareAnEstimator: scratch is shared, memory is not.
func TestStreamsShareAnEstimator(t *testing.T) {
	a := newTwin(t, DefaultMarketParams(), 300)
	b := newTwin(t, DefaultMarketParams(), 280)
	b.s, b.cold = a.s.e.NewStream(280), a.s.e
	ma, mb := newMarket(1, 100, 0.01, false), newMarket(2, 1e-3, 1e-7, true)
	a.reset(ma.closes(300))
	b.reset(mb.closes(300))
	for range 200 {
		a.push(ma.next())
		b.push(mb.next())
		b.compare()
		a.compare()
	}
}

// TestStreamFollows makes sure that the fast way is the one usually taken: on a market without oddities no window ever
// has to be computed in full or started again.
func TestStreamFollows(t *testing.T) {
	w := newTwin(t, DefaultMarketParams(), 300)
	m := newMarket(3, 60000, 0.1, false)
	w.reset(m.closes(300))
	w.compare()
	for range 3000 {
		w.push(m.next())
		for i := range w.s.sweeps {
			if sw := &w.s.sweeps[i]; sw.lost || abs(sw.below-pairsOf(len(sw.order))/2) > pairsOf(len(sw.order))>>farShift {
				t.Fatalf("the median of %d points was lost", len(sw.order))
			}
		}
		if _, ok, err := w.s.State(); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
}

// TestStreamDoesNotAllocate slides through an odd market, where no way of computing a median is left out.
func TestStreamDoesNotAllocate(t *testing.T) {
	e, err := NewEstimator(DefaultMarketParams())
	if err != nil {
		t.Fatal(err)
	}
	s, m := e.NewStream(300), newMarket(5, 60_000, 0.1, true)
	history := m.closes(300)
	for name, call := range map[string]func() error{
		"Reset":  func() error { return s.Reset(history) },
		"Push":   func() error { return s.Push(m.next()) },
		"Revise": func() error { return s.Revise(m.within()) },
		"Push, Push": func() error {
			for range 50 {
				if err := s.Push(m.next()); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		if err := s.Reset(history); err != nil {
			t.Fatal(err)
		}
		// Of several runs the average is rounded down, so all the calls are one run.
		n := testing.AllocsPerRun(1, func() {
			for range 300 {
				err := call()
				if _, ok, stateErr := s.State(); err != nil || !ok || stateErr != nil {
					t.Fatal(name, err, ok, stateErr)
				}
			}
		})
		if n != 0 {
			t.Errorf("%s, State: %v allocations in 300 calls, want none", name, n)
		}
	}
}

func TestStreamIsSmall(t *testing.T) {
	const streams, most = 64, 8 << 10
	e, err := NewEstimator(DefaultMarketParams())
	if err != nil {
		t.Fatal(err)
	}
	kept := []*Stream{e.NewStream(300)} // also what the estimator allocates once
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range streams {
		kept = append(kept, e.NewStream(300))
	}
	runtime.ReadMemStats(&after)
	each := (after.TotalAlloc - before.TotalAlloc) / streams
	runtime.KeepAlive(kept)
	t.Logf("%d bytes a stream", each)
	if each > most {
		t.Errorf("a stream takes %d bytes, want at most %d", each, most)
	}
}

func wantField(t *testing.T, err error, field string) {
	t.Helper()
	var fe *FieldError
	if !errors.As(err, &fe) || fe.Field != field || fe.Reason == "" {
		t.Errorf("got %v, want a refusal of %s", err, field)
	}
}

// TestStreamBeyondIds has a window of more points than there are ids for.
func TestStreamBeyondIds(t *testing.T) {
	p := DefaultMarketParams()
	p.Vol.Window = mostRoom + 100
	w := newTwin(t, p, p.Vol.Window+1)
	prices := make([]float64, p.Vol.Window+1)
	seed, level := uint64(1), 100.0
	next := func() float64 {
		seed = seed*6364136223846793005 + 1442695040888963407
		level *= 1 + float64(int64(seed)>>11)/(1<<52)*0.001
		return level
	}
	for i := range prices {
		prices[i] = next()
	}
	w.reset(prices)
	w.compare()
	for i := range 2 * spare {
		w.push(next())
		w.revise(next())
		if i%16 == 0 {
			w.compare()
		}
	}
}
