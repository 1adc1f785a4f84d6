package kernel

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// series draws log-price-like series of the given shapes, or of all that make selection hard: ties, ramps, steps, noise.
func series(minLen, maxLen int, shapes ...string) *rapid.Generator[[]float64] {
	if len(shapes) == 0 {
		shapes = []string{"constant", "ramp", "ticks", "walk", "steps", "last bits", "any"}
	}
	return rapid.Custom(func(t *rapid.T) []float64 {
		n := rapid.IntRange(minLen, maxLen).Draw(t, "n")
		shape := rapid.SampledFrom(shapes).Draw(t, "shape")
		noise := math.Ldexp(1, rapid.IntRange(-52, -40).Draw(t, "last bit"))
		seed := rapid.Uint64().Draw(t, "seed")
		next := func() float64 { // cheap noise in [-1,1): one draw per element would be slow
			seed = seed*6364136223846793005 + 1442695040888963407
			return float64(int64(seed)>>11) / (1 << 52)
		}
		level := rapid.Float64Range(-20, 20).Draw(t, "level")
		y := make([]float64, n)
		for i := range y {
			switch shape {
			case "constant":
			case "ramp":
				level += 0.001
			case "ticks":
				level += math.Round(next()) * 1e-4
			case "walk":
				level += 0.01 * next()
			case "steps":
				if next() > 0.95 {
					level += next()
				}
			case "last bits": // a ramp again, but none whose slopes are the same
				level += 0.001 + noise*next()
			case "any":
				level = 40 * next()
			}
			y[i] = level
		}
		return y
	})
}

// TestTheilSenIsTheExactMedian compares with sorting all slopes: the same bits, not nearly the same.
func TestTheilSenIsTheExactMedian(t *testing.T) {
	var ts theilSen
	rapid.Check(t, func(t *rapid.T) {
		y := series(2, 130).Draw(t, "y")
		var all []float64
		for i := range y {
			for j := i + 1; j < len(y); j++ {
				all = append(all, (y[j]-y[i])/float64(j-i))
			}
		}
		want := plainMedian(all)
		ts.reserve(len(y))
		if got := ts.slope(y); got != want {
			t.Fatalf("slope of %d points is %v, want %v", len(y), got, want)
		}
	})
}

// TestTheilSenFollows makes sure that the fast way is the one usually taken.
func TestTheilSenFollows(t *testing.T) {
	var ts theilSen
	ts.reserve(256)
	y := make([]float64, 256)
	taken, tries := 0, 200
	for seed := range tries {
		s, level := uint64(seed)*0x9e3779b97f4a7c15+1, 10.0
		for i := range y {
			s = s*6364136223846793005 + 1442695040888963407
			level += float64(int64(s)>>11) / (1 << 52) * 0.01
			y[i] = level
		}
		sw := sweep{order: ts.order}
		ts.place(&sw, heights{y: y}, 0)
		if _, ok := ts.follow(&sw, heights{y: y}, 0); ok {
			taken++
		}
	}
	if taken != tries {
		t.Errorf("%d of %d walks went the fast way, want all", taken, tries)
	}
}

func TestSelectNth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := series(1, 200).Draw(t, "a")
		n := rapid.IntRange(0, len(a)-1).Draw(t, "n")
		sorted := slices.Sorted(slices.Values(a))
		selectNth(a, n)
		if a[n] != sorted[n] {
			t.Fatalf("element %d is %v, want %v", n, a[n], sorted[n])
		}
		for i, x := range a {
			if i < n && x > a[n] || i > n && x < a[n] {
				t.Fatalf("element %d = %v is on the wrong side of %v", i, x, a[n])
			}
		}
		slices.Sort(a)
		if !slices.Equal(a, sorted) {
			t.Fatal("elements were lost")
		}
	})
}

func TestClippedMedianDeviation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := series(1, 60).Draw(t, "s")
		slices.Sort(s)
		low := s[rapid.IntRange(0, len(s)-1).Draw(t, "low")]
		high := max(low, s[rapid.IntRange(0, len(s)-1).Draw(t, "high")])
		clipped := make([]float64, len(s))
		for i, x := range s {
			clipped[i] = clip(x, low, high)
		}
		center := plainMedian(clipped)
		for i, x := range clipped {
			clipped[i] = math.Abs(x - center)
		}
		if got, want := clippedMedianDeviation(sortedReturns{values: s}, low, high), plainMedian(clipped); got != want {
			t.Fatalf("median deviation of %v between %v and %v is %v, want %v", s, low, high, got, want)
		}
	})
}

func TestNeighbours(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a []float64 // without zeros, as neighboursWithTies wants it
		for _, x := range series(1, 150).Draw(t, "a") {
			if x != 0 {
				a = append(a, x-math.Trunc(x/2))
			}
		}
		a = slices.DeleteFunc(a, func(x float64) bool { return x == 0 })
		zeros := rapid.IntRange(0, 20).Draw(t, "zeros")
		sorted := slices.Sorted(slices.Values(a))
		withTies := slices.Sorted(slices.Values(append(make([]float64, zeros), a...)))
		if len(withTies) == 0 {
			t.Skip("nothing to choose from")
		}
		high := rapid.IntRange(0, len(withTies)-1).Draw(t, "high")
		low := max(0, high-rapid.IntRange(0, 1).Draw(t, "apart"))
		if lower, upper := neighboursWithTies(slices.Clone(a), zeros, low, high); lower != withTies[low] || upper != withTies[high] {
			t.Fatalf("%d and %d of %v with %d zeros are %v and %v", low, high, a, zeros, lower, upper)
		}
		if high >= len(sorted) {
			return
		}
		wide := rapid.Float64Range(0.01, 3).Draw(t, "how wrong the bounds are")
		from, to := sorted[0], math.Nextafter(sorted[len(sorted)-1], math.Inf(1))
		if lower, upper := spreadNeighbours(a, low, high, from, from+wide*(to-from)); lower != sorted[low] || upper != sorted[high] {
			t.Fatalf("%d and %d of %v are %v and %v", low, high, a, lower, upper)
		}
	})
}

func TestDrawersSort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d drawers
		d.reserve(200)
		x := series(1, 300).Draw(t, "x") // also more than there are drawers
		got := make([]float64, len(x))
		d.sortInto(got, x)
		if want := slices.Sorted(slices.Values(x)); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestDrawersOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d drawers
		d.reserve(200)
		x := series(1, 300).Draw(t, "x") // also more than there are drawers
		first := rapid.Uint16().Draw(t, "first")
		got := make([]uint16, len(x))
		d.orderInto(got, first, x)
		values := make([]float64, len(x))
		for i, id := range got {
			values[i] = x[id-first]
		}
		if want := slices.Sorted(slices.Values(x)); !slices.Equal(values, want) {
			t.Fatalf("got %v, want %v", values, want)
		}
		slices.SortFunc(got, func(a, b uint16) int { return int(a-first) - int(b-first) })
		for i, id := range got {
			if id != first+uint16(i) {
				t.Fatalf("of the ids from %d on place %d has %d", first, i, id)
			}
		}
	})
}

func TestReturnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y := series(3, 80).Draw(t, "y")
		h := heights{y: y[:len(y)-1], first: rapid.Uint16().Draw(t, "first")}
		n := rapid.IntRange(1, len(h.y)-1).Draw(t, "window")
		e := &Estimator{p: MarketParams{Vol: VolParams{Window: n}}, r: make([]float64, n)}
		e.drawers.reserve(n)
		o := make(returnOrder, n)
		e.orderReturns(o, h)
		newest := h.first + uint16(len(h.y)-1)
		compare := func() {
			got, want := make([]float64, n), make([]float64, n)
			sorted := sortedReturns{order: o, points: h}
			for i := range want {
				got[i], want[i] = sorted.at(i), h.returnTo(newest-uint16(i))
			}
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
			o.check(h, newest-uint16(n-1))
		}
		compare()
		h.y, newest = y, newest+1
		o.put(h, newest-uint16(n), newest)
		compare()
		for range rapid.IntRange(0, 3).Draw(t, "revisions") {
			y[len(y)-1] = rapid.OneOf(rapid.SampledFrom(y), rapid.Float64Range(-30, 30)).Draw(t, "price")
			o.put(h, newest, newest)
			compare()
		}
	})
}

func TestQuantile(t *testing.T) {
	s := []float64{1, 2, 4, 8, 16}
	for _, c := range []struct{ q, want float64 }{{0, 1}, {0.25, 2}, {0.5, 4}, {0.625, 6}, {1, 16}, {0.1, 1.4}} {
		if got := quantile(sortedReturns{values: s}, c.q); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("quantile %v is %v, want %v", c.q, got, c.want)
		}
	}
	if got := quantile(sortedReturns{values: []float64{3}}, 0.7); got != 3 {
		t.Errorf("quantile of one value is %v", got)
	}
}
