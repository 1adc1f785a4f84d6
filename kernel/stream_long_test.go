package kernel

import (
	"encoding/csv"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// long says whether the suites that take minutes were asked for.
func long() bool { return os.Getenv("HARVEST_LONG") != "" }

// slideThrough pushes closes one after another as a feed does, each candle revised on its way, and compares every state
// with that of the estimator, every so many medians with those of all slopes, and a hundredth of these with the
// specification as it is written.
func slideThrough(w *twin, m *market, closes []float64, medianEach int) {
	w.t.Helper()
	for i, c := range closes {
		w.push(m.onTick(c * (1 + 1e-4*m.rng.NormFloat64())))
		for range m.rng.IntN(3) {
			w.revise(m.onTick(c * (1 + 2e-4*m.rng.NormFloat64())))
			if m.rng.IntN(2) == 0 {
				w.compare()
			}
		}
		w.revise(c)
		if m.rng.IntN(8) == 0 {
			continue
		}
		st := w.compare()
		if i%medianEach != 0 || st == (MarketState{}) {
			continue
		}
		w.wantMedians()
		// Without eps the variance ratio of exact growth is noise over noise, which the plain way rounds otherwise.
		if i%(100*medianEach) == 0 && w.p.Eps > 0 {
			wantPlain(w.t, st, w.closes, w.p)
		}
	}
}

// wantMedians fails unless the slopes of the last state are the medians of all slopes, to the last bit.
func (w *twin) wantMedians() {
	w.t.Helper()
	if w.p.Trend.Method != TrendTheilSen {
		return
	}
	for i, n := range w.p.Trend.Windows {
		if got, want := w.s.e.mu[i], w.cold.slopes.direct(last(w.cold.lp, n)); got != want {
			w.t.Fatalf("the median slope of %d points is %v, want %v", n, got, want)
		}
	}
}

// TestStreamOnRealBars runs every recorded bar through a stream.
func TestStreamOnRealBars(t *testing.T) {
	for i, f := range recordedCloses(t) {
		t.Run(f.name, func(t *testing.T) {
			closes := f.closes
			if most := 3000; !long() && len(closes) > most {
				closes = closes[:most]
			}
			w := newTwin(t, DefaultMarketParams(), 300)
			slideThrough(w, newMarket(uint64(i), closes[0], 0.01, false), closes, 1)
			t.Logf("%d closes, %d states", len(closes), w.states)
		})
	}
}

// recording is the closes of one file of recorded bars.
type recording struct {
	name   string
	closes []float64
}

// recordedCloses reads the recorded bars, and skips where there are none.
func recordedCloses(t testing.TB) []recording {
	t.Helper()
	dir := os.Getenv("HARVEST_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "shared", "data")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", dir) // given from the root of the repository
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no recorded data: %v; set HARVEST_TEST_DATA. Generated data covers the same paths", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*USDT_1[ms]_*.csv"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files of bars in %s, want three or more (%v)", len(files), dir, err)
	}
	recordings := make([]recording, len(files))
	for i, path := range files {
		recordings[i] = recording{filepath.Base(path), readCloses(t, path)}
	}
	return recordings
}

func readCloses(t testing.TB, path string) []float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.ReuseRecord = true
	if head, err := r.Read(); err != nil || len(head) < 5 || head[4] != "close" {
		t.Fatalf("%s: %v, %v: no file of bars", path, head, err)
	}
	var closes []float64
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return closes
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := strconv.ParseFloat(row[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		closes = append(closes, c)
	}
}

// TestStreamForHours slides through made-up markets with everything that feeds deliver: flat stretches, moves in the
// last bit, ticks, gaps, spikes, exact growth.
func TestStreamForHours(t *testing.T) {
	bars := 2000
	if long() {
		bars = 150_000
	}
	for i, c := range []struct {
		name        string
		price, tick float64
		window      int
		change      func(*MarketParams)
	}{
		{"usual", 60_000, 0.1, 300, nil},
		{"cents", 1e-5, 1e-9, 300, nil},
		{"around one", 1, 1e-6, 300, nil},
		{"coarse ticks", 3, 1, 257, nil},
		{"unlike windows", 100, 0.01, 300, func(p *MarketParams) {
			p.Vol.Window, p.Regime.Window, p.Regime.VRK = 100, 31, 7
			p.Trend.Windows, p.Trend.Weights = []int{30, 200, 2, 25, 24, 91}, []float64{1, 2, 1, 3, 1, 1}
		}},
		{"long windows", 100, 0.01, 1600, func(p *MarketParams) {
			p.Vol.Window, p.Trend.Windows, p.Trend.Weights = 1500, []int{400}, []float64{1}
		}},
		{"least squares", 100, 0.01, 300, func(p *MarketParams) { p.Trend.Method = TrendOLS }},
		{"no eps", 100, 0.01, 300, func(p *MarketParams) { p.Eps = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := DefaultMarketParams()
			if c.change != nil {
				c.change(&p)
			}
			w, m := newTwin(t, p, c.window), newMarket(uint64(i), c.price, c.tick, true)
			slideThrough(w, m, m.closes(bars), 10)
			t.Logf("%d closes, %d states", bars, w.states)
		})
	}
}
