package kernel

import "math"

// theilSen finds the exact median of all pairwise slopes of a series; its buffers are reused from call to call.
type theilSen struct {
	slopes []float64
	sample []float64
}

const (
	// Below this many slopes all of them are computed; above, only those near the median.
	bracketFrom = 1024
	sampleSize  = 640
	// sampleSpread is three standard deviations of the rank of the median in the sample: sqrt(640)/2*3, so that the
	// bracket misses the median about once in 400 series.
	sampleSpread = 38
)

// reserve makes room for windows of w points.
func (t *theilSen) reserve(w int) {
	if n := w * (w - 1) / 2; cap(t.slopes) < n {
		t.slopes = make([]float64, n)
	}
	if cap(t.sample) == 0 {
		t.sample = make([]float64, sampleSize)
	}
}

// slope is the median of (y[j]-y[i])/(j-i) over all i < j, the mean of the two middle ones where their number is even.
// len(y) is at least 2 and at most what was reserved.
func (t *theilSen) slope(y []float64) float64 {
	n := len(y) * (len(y) - 1) / 2
	if n >= bracketFrom {
		if m, ok := t.bracketed(y, n); ok {
			return m
		}
	}
	s := t.slopes[:0]
	for d := 1; d < len(y); d++ {
		for i := d; i < len(y); i++ {
			s = append(s, (y[i]-y[i-d])/float64(d))
		}
	}
	return median(s)
}

// bracketed computes the quotient for those pairs only whose slope lies between two bounds taken from a sample, and
// counts the pairs below. It gives up (false) where the median is not safely inside the bounds.
func (t *theilSen) bracketed(y []float64, n int) (float64, bool) {
	lo, hi := t.bounds(y)
	if !safeBound(lo) || !safeBound(hi) {
		return 0, false
	}
	s := t.slopes[:n]
	taken, below := 0, 0
	for d := 1; d < len(y); d++ {
		fd := float64(d)
		dlo, dhi := float64(lo*fd), float64(hi*fd)
		a, b := y[:len(y)-d], y[d:]
		b = b[:len(a)]
		from := taken
		for i := range a {
			rise := b[i] - a[i]
			// No branches: which way they go is a coin toss.
			s[taken] = rise
			var under, over int
			if rise < dlo {
				under = 1
			}
			if rise > dhi {
				over = 1
			}
			below += under
			taken += 1 - under - over
		}
		for i := from; i < taken; i++ {
			s[i] /= fd
		}
	}
	// Rise against bound*d is the same question as rise/d against bound but for rounding, so a median that is not on
	// the edge of the bounds has the same rank either way.
	k := n/2 - below
	need := k
	if n%2 == 0 {
		need = k - 1
	}
	if need < 0 || k >= taken {
		return 0, false
	}
	s = s[:taken]
	selectNth(s, k)
	upper, lower := s[k], s[k]
	if n%2 == 0 {
		lower = maxOf(s[:k])
	}
	if !(clearlyAbove(lower, lo) && clearlyAbove(-upper, -hi)) {
		return 0, false
	}
	return 0.5 * (lower + upper), true
}

// bounds draws a fixed sample of pairs and returns two of its slopes that enclose the median of all but rarely.
func (t *theilSen) bounds(y []float64) (lo, hi float64) {
	s := t.sample[:sampleSize]
	n := uint64(len(y))
	state := uint64(0x9e3779b97f4a7c15)
	for k := range s {
		// Two different points, each pair equally likely: i from n, then one of the other n-1.
		state = state*6364136223846793005 + 1442695040888963407
		i := int((state >> 32) * n >> 32)
		state = state*6364136223846793005 + 1442695040888963407
		j := int((state >> 32) * (n - 1) >> 32)
		if j >= i {
			j++
		}
		s[k] = (y[j] - y[i]) / float64(j-i)
	}
	const low, high = sampleSize/2 - sampleSpread, sampleSize/2 + sampleSpread
	selectNth(s, high)
	hi = s[high]
	selectNth(s[:high], low)
	return s[low], hi
}

// safeBound: zero is compared exactly, and far from the subnormals one product rounds by a relative amount.
func safeBound(x float64) bool { return x == 0 || math.Abs(x) > 1e-280 }

// clearlyAbove tells whether x is above bound by more than a comparison of products can be off.
func clearlyAbove(x, bound float64) bool {
	return x > bound+float64(0x1p-50*math.Abs(bound)) || bound == 0 && x == 0
}
