package kernel

import "slices"

// returnOrder is the returns of a window in rising order, each as the id of the point at its end. The points tell the
// returns themselves, which would take four times as much memory.
type returnOrder []uint16

// returnTo is the return that ends at a point.
func (h heights) returnTo(id uint16) float64 {
	i := id - h.first
	return h.y[i] - h.y[i-1]
}

// put takes the return at the end of out away and puts the one at the end of in to its place: another one, or the same
// after its point has moved.
func (o returnOrder) put(h heights, out, in uint16) {
	p := slices.Index(o, out)
	x := h.returnTo(in)
	q := o[:p].search(h, x)
	if q == p { // behind all of those
		behind := o[p+1:]
		q += behind.search(h, x)
		copy(o[p:], behind[:q-p])
	} else {
		copy(o[q+1:], o[q:p])
	}
	o[q] = in
}

// search tells how many returns are below x.
func (o returnOrder) search(h heights, x float64) int {
	q := 0
	for n := len(o); n > 0; {
		half := n >> 1
		if h.returnTo(o[q+half]) < x {
			q += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	return q
}

// sortedReturns is returns in rising order, either as they are or as the points at their ends.
type sortedReturns struct {
	values []float64
	order  returnOrder // where it is not nil it counts
	points heights
}

func (s sortedReturns) len() int { return max(len(s.values), len(s.order)) }

func (s sortedReturns) at(i int) float64 {
	if s.order != nil {
		return s.points.returnTo(s.order[i])
	}
	return s.values[i]
}
