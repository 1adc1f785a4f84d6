package kernel

import (
	"encoding/csv"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// long says whether the suites that take minutes were asked for.
func long() bool { return os.Getenv("HARVEST_LONG") != "" }

// slideThrough pushes closes one after another as a feed does, each candle revised on its way, and compares every state
// with that of the estimator, and every so many with the specification as it is written.
func slideThrough(w *twin, m *market, closes []float64, plainEach int) {
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
		if i%plainEach == 0 && len(w.closes) >= w.cold.Required() && st != (MarketState{}) {
			wantPlain(w.t, st, w.closes, w.p)
		}
	}
}

// TestStreamOnRealBars runs every recorded bar through a stream.
func TestStreamOnRealBars(t *testing.T) {
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
	for i, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			closes := readCloses(t, path)
			if most := 3000; !long() && len(closes) > most {
				closes = closes[:most]
			}
			w := newTwin(t, DefaultMarketParams(), 300)
			slideThrough(w, newMarket(uint64(i), closes[0], 0.01, false), closes, 50)
			t.Logf("%d closes, %d states", len(closes), w.states)
		})
	}
}

func readCloses(t *testing.T, path string) []float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.ReuseRecord = true
	if head, err := r.Read(); err != nil || head[4] != "close" {
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
		plainEach   int
		change      func(*MarketParams)
	}{
		{"usual", 60_000, 0.1, 300, 500, nil},
		{"cents", 1e-5, 1e-9, 300, 500, nil},
		{"around one", 1, 1e-6, 300, 500, nil},
		{"coarse ticks", 3, 1, 257, 500, nil},
		{"unlike windows", 100, 0.01, 300, 500, func(p *MarketParams) {
			p.Vol.Window, p.Regime.Window, p.Regime.VRK = 100, 31, 7
			p.Trend.Windows, p.Trend.Weights = []int{30, 200, 2, 25, 24, 91}, []float64{1, 2, 1, 3, 1, 1}
		}},
		{"long windows", 100, 0.01, 1600, 500, func(p *MarketParams) {
			p.Vol.Window, p.Trend.Windows, p.Trend.Weights = 1500, []int{400}, []float64{1}
		}},
		{"least squares", 100, 0.01, 300, 50, func(p *MarketParams) { p.Trend.Method = TrendOLS }},
		// Without eps the variance ratio of exact growth is noise over noise, which the plain way rounds otherwise.
		{"no eps", 100, 0.01, 300, math.MaxInt, func(p *MarketParams) { p.Eps = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := DefaultMarketParams()
			if c.change != nil {
				c.change(&p)
			}
			w, m := newTwin(t, p, c.window), newMarket(uint64(i), c.price, c.tick, true)
			slideThrough(w, m, m.closes(bars), c.plainEach)
			t.Logf("%d closes, %d states", bars, w.states)
		})
	}
}
