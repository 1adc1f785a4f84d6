package kernel

// theilSen finds the exact median of all pairwise slopes of a window. It is scratch, reused from call to call and by
// every window.
type theilSen struct {
	slopes []float64 // those that were looked at, in the worst case all of a window
	sample []float64
	order  []uint16 // of a window of which nothing is known
	sweepScratch
}

const (
	// Up to this many points all slopes are computed; above, only those near the median.
	directUpTo = 24
	// The sample has two slopes for each point, up to a limit.
	samplePerPoint = 2
	sampleLimit    = 512
	// One in 1<<sampleSpread of the sample, just above its median, tells how dense slopes are there.
	sampleSpread = 3
	// Where a sweep has one in 1<<farShift of all slopes to pass, it is quicker to start it again.
	farShift = 3
)

// reserve makes room for windows of up to w points.
func (t *theilSen) reserve(w int) {
	t.slopes = make([]float64, pairsOf(w))
	if w > directUpTo {
		t.sample = make([]float64, sampleLimit)
		t.order = make([]uint16, w)
		t.sweepScratch.reserve(w)
	}
}

// slope is the median of (y[j]-y[i])/(j-i) over all i < j, the mean of the two middle ones where their number is even.
// len(y) is at least 2 and at most what was reserved.
func (t *theilSen) slope(y []float64) float64 {
	if len(y) <= directUpTo {
		return t.direct(y)
	}
	s := sweep{order: t.order[:len(y)], lost: true}
	return t.next(&s, heights{y: y}, 0)
}

// next is slope for a window whose points, from oldest on, a sweep follows.
func (t *theilSen) next(s *sweep, h heights, oldest uint16) float64 {
	if !s.lost && s.level(h) {
		return 0
	}
	n := pairsOf(len(s.order))
	if far := abs(s.below - n/2); s.lost || far > n>>farShift {
		s.lost = !t.place(s, h, oldest)
	}
	if !s.lost {
		m, ok := t.follow(s, h, oldest)
		if ok {
			return m
		}
		s.lost = true
	}
	return t.direct(h.from(oldest)[:len(s.order)])
}

// direct computes every slope.
func (t *theilSen) direct(y []float64) float64 {
	s := t.slopes[:0]
	for d := 1; d < len(y); d++ {
		for i := d; i < len(y); i++ {
			s = append(s, (y[i]-y[i-d])/float64(d))
		}
	}
	return median(s)
}

// place starts a sweep near the median of its window, as a fixed sample of pairs tells it. False means that the slopes
// in the middle are closer to each other than heights are rounded, so that they cannot be followed.
func (t *theilSen) place(s *sweep, h heights, oldest uint16) bool {
	y := h.from(oldest)[:len(s.order)]
	n := uint64(len(y))
	sample := t.sample[:min(sampleLimit, samplePerPoint*len(y))]
	state := uint64(0x9e3779b97f4a7c15)
	for k := range sample {
		// Two different points, each pair equally likely: i from n, then one of the other n-1.
		state = state*6364136223846793005 + 1442695040888963407
		i := int((state >> 32) * n >> 32)
		state = state*6364136223846793005 + 1442695040888963407
		j := int((state >> 32) * (n - 1) >> 32)
		if j >= i {
			j++
		}
		sample[k] = (y[j] - y[i]) / float64(j-i)
	}
	mid, spread := len(sample)/2, len(sample)>>sampleSpread
	selectNth(sample, mid)
	selectNth(sample[mid:], spread)
	width := sample[mid+spread] - sample[mid]
	s.pitch = width * float64(len(sample)) / float64(spread*pairsOf(len(y)))
	s.start(h, oldest, sample[mid], &t.sweepScratch)
	return s.slope == 0 || width > s.slack(h, oldest)
}

// pairsOf is the number of pairs of n points.
func pairsOf(n int) int { return n * (n - 1) / 2 }
