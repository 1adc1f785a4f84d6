package kernel

// check panics where what a stream keeps is not what its closes give.
func (s *Stream) check() {
	lp := s.logPrices()
	switch {
	case len(lp) != s.e.required:
		panic("kernel: a stream has lost log prices")
	case s.same != sameSigns(last(lp, s.e.p.Regime.Window+1)):
		panic("kernel: a stream has miscounted signs")
	}
	h, newest := s.heights()
	s.returns.check(s.points(), newest-uint16(len(s.returns)-1))
	for i := range s.sweeps {
		if sw := &s.sweeps[i]; !sw.lost {
			sw.check(h, newest-uint16(len(sw.order)-1), s.e.slopes.seen)
		}
	}
}

// check panics where the returns are not those of the window or out of order.
func (o returnOrder) check(h heights, oldest uint16) {
	var seen [mostRoom / 64]uint64
	for i, id := range o {
		at := id - oldest
		if int(at) >= len(o) || seen[at/64]>>(at%64)&1 == 1 {
			panic("kernel: a stream has lost a return")
		}
		seen[at/64] |= 1 << (at % 64)
		if i > 0 && h.returnTo(o[i-1]) > h.returnTo(id) {
			panic("kernel: the returns of a stream are out of order")
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
