package kernel

import (
	"math"
	"math/bits"
	"slices"
)

// sweepScratch has room for what a sweep needs while it moves.
type sweepScratch struct {
	drawers
	z         []float64 // heights of the points
	keys      []int64   // the same in the order of the points, behind one that is lower than any
	misplaced []uint16  // places of the points that have a higher one before them
	pairs     []pair    // that changed places
	seen      []uint64  // a bit for each point
}

// pair is two points that changed places. It is one number because that is written in one go.
type pair uint32

func pairOf(behind, before uint16) pair { return pair(behind)<<16 | pair(before) }

// points are the one that stood behind, and the one that stood before it.
func (p pair) points() (behind, before uint16) { return uint16(p >> 16), uint16(p) }

// reserve makes room for windows of up to w points.
func (c *sweepScratch) reserve(w int) {
	c.drawers.reserve(w)
	c.z = make([]float64, w)
	c.keys = make([]int64, 1+w)
	c.keys[0] = math.MinInt64
	c.misplaced = make([]uint16, w)
	c.pairs = make([]pair, pairsOf(w))
	c.seen = make([]uint64, (w+63)/64)
}

// walk turns the line to another slope and puts the points into their new order. It returns the pairs that change
// places, which are those with a slope between the two, until the next walk. It leaves below as it was.
func (s *sweep) walk(h heights, oldest uint16, to float64, c *sweepScratch) []pair {
	s.flat = to == 0 && s.slope > 0
	s.aim(h, oldest, to)
	n := len(s.order)
	keys := c.keys[:1+n]
	misplaced := s.raise(keys[1:], h.from(oldest)[:n], c.misplaced[:n])
	return sink(keys, s.order, misplaced, c.pairs)
}

// raise writes the heights of the points to keys, as numbers that compare like them, and to misplaced where a point
// stands that has a higher one before it. It does not branch, because which points are out of order cannot be
// predicted; those few are looked at again by sink.
func (s *sweep) raise(keys []int64, y []float64, misplaced []uint16) []uint16 {
	ids := s.order
	keys, misplaced = keys[:len(ids)], misplaced[:len(ids)]
	slope, origin, base := s.slope, s.origin, s.base
	highest, n := int64(math.MinInt64), 0
	for i, id := range ids {
		t := int(id - origin)
		x := (y[t] - base) - float64(slope*float64(t))
		key := int64(math.Float64bits(x))
		key ^= int64(uint64(key>>63) >> 1)
		keys[i] = key
		misplaced[n] = uint16(i)
		lower := 0
		if key < highest {
			lower = 1
		}
		n += lower
		highest = max(highest, key)
	}
	return misplaced[:n]
}

// sink moves the misplaced points down to their places, and writes the pairs that change places to pairs. The key of
// the point in place i is keys[1+i].
func sink(keys []int64, ids, misplaced []uint16, pairs []pair) []pair {
	n := 0
	if len(misplaced) > 0 && misplaced[0] == 1 {
		pairs[0] = pairOf(ids[1], ids[0])
		keys[1], keys[2] = keys[2], keys[1]
		ids[0], ids[1] = ids[1], ids[0]
		misplaced, n = misplaced[1:], 1
	}
	for _, place := range misplaced {
		// A higher point is before it, so the one right before it, which is the highest of them, is. Whether the next
		// one is, too, is as likely as not: these two are passed without a branch.
		p := int(place)
		k := keys[p-2 : p+2 : p+2]
		d := ids[p-2 : p+1 : p+1]
		next := pairs[n : n+2 : n+2]
		x, second, first := k[3], k[1], k[2]
		id, last, before := d[2], d[0], d[1]
		next[0], next[1] = pairOf(id, before), pairOf(id, last)
		n++
		middle := id
		if second > x {
			middle = last
			last = id
		}
		if second > x {
			n++
		}
		d[0], d[1], d[2] = last, middle, before
		k[1], k[2], k[3] = min(second, x), max(second, x), first
		if k[0] <= x {
			continue
		}
		for p -= 2; keys[p] > x; p-- {
			before := ids[p-1]
			keys[p+1], ids[p] = keys[p], before
			pairs[n] = pairOf(id, before)
			n++
		}
		keys[p+1], ids[p] = x, id
	}
	return pairs[:n]
}

// slopes computes those of pairs, and counts the pairs that have come to stand the wrong way round in time.
func (h heights) slopes(out []float64, pairs []pair) (inverted int) {
	out = out[:len(pairs)]
	for i, p := range pairs {
		behind, before := p.points()
		d := int16(behind - before)
		out[i] = (h.at(behind) - h.at(before)) / float64(d)
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
