package kernel

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// plainInversions counts pairs of ids whose later one stands first.
func plainInversions(ids []uint16, oldest uint16) int {
	n := 0
	for i := range ids {
		for _, id := range ids[i+1:] {
			if id-oldest < ids[i]-oldest {
				n++
			}
		}
	}
	return n
}

// drawWindow draws log prices with the ids of their points; the ids may wrap around.
func drawWindow(t *rapid.T, minLen, maxLen int, shapes ...string) (h heights, oldest uint16) {
	h.y = series(minLen, maxLen, shapes...).Draw(t, "y")
	h.first = rapid.SampledFrom([]uint16{0, 7, math.MaxUint16 - 10, math.MaxUint16}).Draw(t, "first")
	return h, h.first
}

func TestInversions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "n")
		oldest := rapid.SampledFrom([]uint16{0, math.MaxUint16 - 20}).Draw(t, "oldest")
		ids := make([]uint16, n)
		for i := range ids {
			ids[i] = oldest + uint16(i)
		}
		ids = rapid.Permutation(ids).Draw(t, "ids")
		want := plainInversions(ids, oldest)
		if got := inversions(ids, oldest, make([]uint64, 5)); got != want {
			t.Fatalf("%d inversions, want %d", got, want)
		}
		for _, backwards := range []bool{false, true} {
			run := slices.Clone(ids)
			change := orderRun(run, oldest, backwards)
			if got := plainInversions(run, oldest); change != got-want || (got != 0 || backwards) && (got != pairsOf(n) || !backwards) {
				t.Fatalf("backwards %v: %d inversions after a change of %d from %d", backwards, got, change, want)
			}
		}
	})
}

// TestSweepCounts turns a line at will, and wants every slope that is certainly below or above it counted there, and
// only slopes between the old and the new one passed.
func TestSweepCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, oldest := drawWindow(t, 25, 90)
		n := len(h.y)
		slope := func(name string) float64 {
			i := rapid.IntRange(0, n-2).Draw(t, name+": earlier point")
			j := rapid.IntRange(i+1, n-1).Draw(t, name+": later point")
			return rapid.OneOf(
				rapid.Just((h.y[j]-h.y[i])/float64(j-i)), // what is hardest to count
				rapid.Float64Range(-0.01, 0.01),
				rapid.Just(0.0),
			).Draw(t, name)
		}
		var ts theilSen
		ts.reserve(n)
		s := sweep{order: make([]uint16, n)}
		s.start(h, oldest, slope("start"), &ts.sweepScratch)
		s.wantCertain(t, h, oldest)
		for range rapid.IntRange(1, 6).Draw(t, "turns") {
			from, before := s.slope, s.slack(h, oldest)
			to := slope("to")
			if to == from {
				continue
			}
			pairs := s.walk(h, oldest, to, &ts.sweepScratch)
			passed := make([]float64, len(pairs))
			s.below += 2*h.slopes(passed, pairs) - len(pairs)
			if to == 0 {
				s.orderTies(h, oldest)
			}
			if want := plainInversions(s.order, oldest); s.below != want {
				t.Fatalf("from %v to %v: %d are below, want %d", from, to, s.below, want)
			}
			s.wantCertain(t, h, oldest)
			slack := max(before, s.slack(h, oldest))
			for _, x := range passed {
				if x < min(from, to)-slack || x > max(from, to)+slack {
					t.Fatalf("from %v to %v the slope %v was passed", from, to, x)
				}
			}
		}
	})
}

// TestSinkSorts gives keys in an order that the line left behind, from hardly to wholly out of order, and wants them
// sorted as a stable sort does, and of each pair that changed places to hear once.
func TestSinkSorts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 90).Draw(t, "n")
		spread := rapid.SampledFrom([]int{1, 3, 10, 1000}).Draw(t, "spread")
		var c sweepScratch
		c.reserve(n)
		// Heights above a level line are the log prices: what raise sees are those of the order.
		s := sweep{order: make([]uint16, n)}
		y := make([]float64, n)
		for i := range y {
			s.order[i] = uint16(i)
			y[i] = float64(i + rapid.IntRange(-spread, spread).Draw(t, "y"))
		}
		if rapid.Bool().Draw(t, "backwards") {
			slices.Reverse(y)
		}
		want := slices.Clone(s.order)
		slices.SortStableFunc(want, func(a, b uint16) int { return cmp.Compare(y[a], y[b]) })
		crossed := map[pair]bool{}
		for i := range y {
			for j := range i {
				if y[j] > y[i] {
					crossed[pairOf(uint16(i), uint16(j))] = true
				}
			}
		}
		pairs := s.walk(heights{y: y}, 0, 0, &c)
		if !slices.Equal(s.order, want) {
			t.Fatalf("order %v, want %v", s.order, want)
		}
		for _, p := range pairs {
			behind, before := p.points()
			if !crossed[p] {
				t.Fatalf("%d passed %d, which it need not, or twice", behind, before)
			}
			delete(crossed, p)
		}
		if len(crossed) > 0 {
			t.Fatalf("%d pairs are missing", len(crossed))
		}
	})
}

// TestWalkPastAllSlopes turns a line from below every slope to above every one, and back.
func TestWalkPastAllSlopes(t *testing.T) {
	for _, n := range []int{2, 3, 25, 256} {
		y := make([]float64, n)
		for i := range y {
			y[i] = 0.01 * float64((i*i)%17)
		}
		var c sweepScratch
		c.reserve(n)
		s, h := sweep{order: make([]uint16, n)}, heights{y: y}
		s.start(h, 0, -1, &c)
		for _, to := range []float64{1, -1} {
			if got := len(s.walk(h, 0, to, &c)); got != pairsOf(n) {
				t.Errorf("%d points, to %v: %d slopes were passed, want %d", n, to, got, pairsOf(n))
			}
		}
	}
}

// wantCertain compares the count of a sweep with all slopes: those that are certain must be on their side.
func (s *sweep) wantCertain(t *rapid.T, h heights, oldest uint16) {
	t.Helper()
	above, below := s.certain(h, oldest, true), s.certain(h, oldest, false)
	place := make(map[uint16]int, len(s.order))
	for i, id := range s.order {
		place[id-oldest] = i
	}
	for i := range h.y {
		for j := i + 1; j < len(h.y); j++ {
			slope := (h.y[j] - h.y[i]) / float64(j-i)
			counted := place[uint16(j)] < place[uint16(i)]
			if counted && slope > above || !counted && slope < below {
				t.Fatalf("the slope %v is on the wrong side of %v (counted below: %v)", slope, s.slope, counted)
			}
		}
	}
}

// TestPickIsRightOrRefuses starts lines where they are hardest to count from, on a slope that pairs have, turns them a
// little, and wants slopes of certain ranks. The same sweep is used throughout, as a stream does.
func TestPickIsRightOrRefuses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, oldest := drawWindow(t, 25, 60, "last bits", "last bits", "ramp", "ticks")
		n := len(h.y)
		var sorted []float64
		for i := range n {
			for j := i + 1; j < n; j++ {
				sorted = append(sorted, (h.y[j]-h.y[i])/float64(j-i))
			}
		}
		slices.Sort(sorted)
		var ts theilSen
		ts.reserve(n)
		s := sweep{order: make([]uint16, n)}
		for range 5 {
			s.start(h, oldest, rapid.SampledFrom(sorted).Draw(t, "start"), &ts.sweepScratch)
			s.pitch = (sorted[len(sorted)-1] - sorted[0]) / float64(len(sorted))
			up := rapid.Bool().Draw(t, "up")
			p := s.depart(h, oldest, up)
			for range rapid.IntRange(1, 4).Draw(t, "turns") {
				ts.turn(&s, h, oldest, &p, rapid.IntRange(1, 40).Draw(t, "slopes"))
			}
			from, to := min(p.from, s.below), max(p.from, s.below)
			for low := from; low < to; low++ {
				high := min(low+1, to-1)
				lower, upper, ok := ts.pick(&s, h, oldest, &p, low, high)
				if ok && (lower != sorted[low] || upper != sorted[high]) {
					t.Fatalf("slopes %d and %d are %v and %v, want %v and %v", low, high, lower, upper, sorted[low], sorted[high])
				}
			}
		}
	})
}

// TestFollowStartsAgain: where a pair of points stood the wrong way round, what a turn has passed is of no use, and the
// median is found all the same.
func TestFollowStartsAgain(t *testing.T) {
	y := make([]float64, 60)
	for i, c := range newMarket(1, 100, 0.01, false).closes(len(y)) {
		y[i] = ln(c)
	}
	h := heights{y: y}
	var ts theilSen
	ts.reserve(len(y))
	s := sweep{order: make([]uint16, len(y))}
	ts.place(&s, h, 0)
	if m, ok := ts.follow(&s, h, 0); !ok || m != plainTheilSen(y) {
		t.Fatal(m, ok)
	}
	for i := range len(y) - 1 {
		if s.order[i] > s.order[i+1] {
			continue
		}
		spoilt := s
		spoilt.order = slices.Clone(s.order)
		spoilt.order[i], spoilt.order[i+1] = spoilt.order[i+1], spoilt.order[i]
		spoilt.below++
		again := spoilt
		again.order = slices.Clone(spoilt.order)
		p := again.depart(h, 0, true)
		ts.turn(&again, h, 0, &p, 1)
		if again.order[i] == spoilt.order[i] {
			continue // close enough for the turn to have passed it
		}
		if p.sound {
			t.Errorf("points %d and %d changed back, and the passage is called sound", i, i+1)
		}
		if _, _, ok := ts.pick(&again, h, 0, &p, p.from, p.from); ok {
			t.Error("a median was picked from it")
		}
		if m, ok := ts.follow(&again, h, 0); !ok || m != plainTheilSen(y) {
			t.Errorf("then the median is %v (%v), want %v", m, ok, plainTheilSen(y))
		}
	}
}
