package kernel

import "slices"

// check panics where what a stream keeps is not what its closes give.
func (s *Stream) check() {
	lp := s.logPrices()
	returns := last(lp, s.e.p.Vol.Window+1)
	switch {
	case len(lp) != s.e.required:
		panic("kernel: a stream has lost log prices")
	case !slices.IsSorted(s.sorted):
		panic("kernel: the returns of a stream are out of order")
	case s.same != sameSigns(last(lp, s.e.p.Regime.Window+1)):
		panic("kernel: a stream has miscounted signs")
	}
	for i, y := range returns[1:] {
		if _, found := slices.BinarySearch(s.sorted, y-returns[i]); !found {
			panic("kernel: a stream has lost a return")
		}
	}
	h, newest := s.heights()
	for i := range s.sweeps {
		if sw := &s.sweeps[i]; !sw.lost {
			sw.check(h, newest-uint16(len(sw.order)-1), s.e.slopes.seen)
		}
	}
}

// check panics where the points are not those of the window or out of order, or are miscounted.
func (s *sweep) check(h heights, oldest uint16, seen []uint64) {
	for i, id := range s.order {
		if int(id-oldest) >= len(s.order) {
			panic("kernel: a sweep holds a point that is not in its window")
		}
		if i > 0 && s.height(h, s.order[i-1]) > s.height(h, id) {
			panic("kernel: the points of a sweep are out of order")
		}
	}
	if s.below != inversions(s.order, oldest, seen) {
		panic("kernel: a sweep has miscounted slopes")
	}
}
