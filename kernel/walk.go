package kernel

import (
	"math"
	"math/bits"
	"slices"
)

// sweepScratch has room for what a sweep needs while it moves.
type sweepScratch struct {
	drawers
	z     []float64 // heights of the points in their order
	pairs []pair    // that changed places
	seen  []uint64  // a bit for each point
}

// pair are two points that changed places: the one that stood behind, and the one that stood before it.
type pair struct{ behind, before uint16 }

// reserve makes room for windows of up to w points.
func (c *sweepScratch) reserve(w int) {
	c.drawers.reserve(w)
	c.z = make([]float64, w)
	c.pairs = make([]pair, pairsOf(w))
	c.seen = make([]uint64, (w+63)/64)
}

// walk turns the line to another slope and puts the points into their new order. It returns the pairs that change
// places, which are those with a slope between the two, until the next walk. It leaves below as it was.
func (s *sweep) walk(h heights, oldest uint16, to float64, c *sweepScratch) []pair {
	s.flat = to == 0 && s.slope > 0
	s.aim(h, oldest, to)
	y, z := h.from(oldest), c.z[:len(s.order)]
	n, highest := 0, int64(math.MinInt64)
	for start := 0; start < len(z); start += 64 {
		block := s.order[start:min(start+64, len(z))]
		var misplaced uint64
		misplaced, highest = s.raise(z[start:], block, y[:len(z)], highest)
		n = sink(z, s.order, start, misplaced, c.pairs, n)
	}
	return c.pairs[:n]
}

// raise writes the heights of up to 64 points to z. It returns a bit for each that says whether a point before it is
// higher, and the largest height so far as a number that compares like it. It does not branch, because which points
// are out of order cannot be predicted; those few are looked at again by sink.
func (s *sweep) raise(z []float64, ids []uint16, y []float64, highest int64) (misplaced uint64, top int64) {
	z = z[:len(ids)]
	slope, origin, base := s.slope, s.origin, s.base
	for i, id := range ids {
		t := id - origin
		x := (y[t] - base) - float64(slope*float64(t))
		z[i] = x
		key := int64(math.Float64bits(x))
		key ^= int64(uint64(key>>63) >> 1)
		var bit uint64
		if key < highest {
			bit = 1 << 63
		}
		misplaced = misplaced>>1 | bit
		highest = max(highest, key)
	}
	return misplaced >> (64 - len(ids)), highest
}

// sink moves the misplaced points down to their places, and adds the pairs that change places to the n there are.
func sink(z []float64, ids []uint16, start int, misplaced uint64, pairs []pair, n int) int {
	ids = ids[:len(z)]
	for ; misplaced != 0; misplaced &= misplaced - 1 {
		p := start + bits.TrailingZeros64(misplaced)
		x, id := z[p], ids[p]
		// A higher point is before it, so the one right before it, which is the highest of them, is.
		for {
			before := ids[p-1]
			z[p], ids[p] = z[p-1], before
			pairs[n] = pair{behind: id, before: before}
			n++
			if p--; p == 0 || !(z[p-1] > x) {
				break
			}
		}
		z[p], ids[p] = x, id
	}
	return n
}

// slopes computes those of pairs, and counts the pairs that have come to stand the wrong way round in time.
func (h heights) slopes(out []float64, pairs []pair) (inverted int) {
	out = out[:len(pairs)]
	for i, p := range pairs {
		d := int16(p.behind - p.before)
		out[i] = (h.at(p.behind) - h.at(p.before)) / float64(d)
		inverted += 1 - int(uint16(d)>>15)
	}
	return inverted
}

// inversions counts the pairs whose later point stands before the earlier one. The ids are those of consecutive points
// from oldest on; seen has a bit for each.
func inversions(order []uint16, oldest uint16, seen []uint64) int {
	seen = seen[:(len(order)+63)/64]
	clear(seen)
	n := 0
	for _, id := range order {
		t := int(id - oldest)
		word := t >> 6
		n += bits.OnesCount64(seen[word] >> (t & 63))
		for _, w := range seen[word+1:] {
			n += bits.OnesCount64(w)
		}
		seen[word] |= 1 << (t & 63)
	}
	return n
}

// orderTies puts points of the same log price into the order of time, or against it where they count as below the line,
// which must be level. It returns by how much that changed the number of inversions.
func (s *sweep) orderTies(h heights, oldest uint16) int {
	change := 0
	for rest := s.order; len(rest) > 0; {
		n, y := 1, h.at(rest[0])
		for n < len(rest) && h.at(rest[n]) == y {
			n++
		}
		change += orderRun(rest[:n], oldest, s.flat)
		rest = rest[n:]
	}
	s.below += change
	return change
}

// orderRun sorts ids by time, or against it, and returns the change of the number of inversions.
func orderRun(run []uint16, oldest uint16, backwards bool) int {
	if len(run) < 2 {
		return 0
	}
	rising := 0
	for i := 1; i < len(run); i++ {
		if run[i]-oldest > run[i-1]-oldest {
			rising++
		}
	}
	inverted := 0
	switch rising {
	case len(run) - 1:
	case 0:
		slices.Reverse(run)
		inverted = pairsOf(len(run))
	default:
		for i := 1; i < len(run); i++ {
			for k := i; k > 0 && run[k]-oldest < run[k-1]-oldest; k-- {
				run[k], run[k-1] = run[k-1], run[k]
				inverted++
			}
		}
	}
	if !backwards {
		return -inverted
	}
	slices.Reverse(run)
	return pairsOf(len(run)) - inverted
}
