package kernel

import (
	"math"
	"math/bits"
	"slices"
)

// selectNth puts the n-th smallest of a (from 0) at a[n], nothing larger before it and nothing smaller behind it.
func selectNth(a []float64, n int) {
	lo, hi := 0, len(a)-1
	for rounds := 4 * bits.Len(uint(len(a))); hi-lo > 12 && rounds > 0; rounds-- {
		pivot := medianOfThree(a[lo], a[int(uint(lo+hi)>>1)], a[hi])
		mid := lo + partitionBelow(a[lo:hi+1], pivot)
		if n < mid {
			hi = mid - 1
			continue
		}
		if mid == lo { // the pivot is the smallest: set aside all that equal it, or many equal values take for ever
			mid = lo + partitionUpTo(a[lo:hi+1], pivot)
			if n < mid {
				return
			}
		}
		lo = mid
	}
	slices.Sort(a[lo : hi+1]) // few are left, or an unlucky order of values would take too long
}

// partitionBelow moves what is below the pivot to the front and returns how many these are. It does not branch on
// comparisons, whose outcome no processor can predict.
func partitionBelow(a []float64, pivot float64) int {
	n := 0
	for i, x := range a {
		a[i] = a[n]
		a[n] = x
		below := 0
		if x < pivot {
			below = 1
		}
		n += below
	}
	return n
}

// partitionUpTo is partitionBelow with the pivot itself in front.
func partitionUpTo(a []float64, pivot float64) int {
	n := 0
	for i, x := range a {
		a[i] = a[n]
		a[n] = x
		upTo := 0
		if x <= pivot {
			upTo = 1
		}
		n += upTo
	}
	return n
}

func medianOfThree(a, b, c float64) float64 {
	return max(min(a, b), min(max(a, b), c))
}

func maxOf(a []float64) float64 {
	m := a[0]
	for _, x := range a[1:] {
		if x > m {
			m = x
		}
	}
	return m
}

// neighbours returns the elements of two ranks, the same or neighbours, and reorders a.
func neighbours(a []float64, low, high int) (lower, upper float64) {
	selectNth(a, high)
	if low == high {
		return a[high], a[high]
	}
	return maxOf(a[:high]), a[high]
}

const (
	// mostNear is the number of elements near a rank that are looked at.
	mostNear = 48
	// More than fewNear of them are narrowed down once more,
	fewNear = 6
	// to those less than nearReach times their usual distance away.
	nearReach = 2.5
)

// spreadNeighbours is neighbours for elements that are spread evenly between two bounds, more or less, which tells
// where to look for the two ranks.
func spreadNeighbours(a []float64, low, high int, from, to float64) (lower, upper float64) {
	pace := (to - from) / float64(len(a))
	reach := float64(pace * float64(3+len(a)>>4))
	center := from + float64(pace*(float64(high)+0.5))
	var near, nearer [mostNear + 1]float64
	n, below := within(near[:], a, center-reach, center+reach)
	if low < below || high-below >= n || n > mostNear {
		return neighbours(a, low, high)
	}
	some := near[:n]
	low, high = low-below, high-below
	if n > fewNear {
		pace = 2 * reach / float64(n)
		center += float64(pace*(float64(high)+0.5)) - reach
		reach = float64(nearReach * pace)
		n, below := within(nearer[:], some, center-reach, center+reach)
		if low >= below && high-below < n {
			some, low, high = nearer[:n], low-below, high-below
		}
	}
	insertionSort(some)
	return some[low], some[high]
}

// within writes the elements from least to most to out, and tells how many these are and how many are below them. What
// does not fit into out is counted. The last element of out is scratch. It does not branch on comparisons.
func within(out, a []float64, least, most float64) (n, below int) {
	end := len(out) - 1
	for _, x := range a {
		out[min(n, end)] = x
		under, over := 0, 0
		if x < least {
			under = 1
		}
		if x > most {
			over = 1
		}
		below += under
		n += 1 - under - over
	}
	return n, below
}

// neighboursWithTies is neighbours for a as if it held that many zeros besides; a itself holds none.
func neighboursWithTies(a []float64, zeros, low, high int) (lower, upper float64) {
	negative := 0
	for _, x := range a {
		if x < 0 {
			negative++
		}
	}
	switch {
	case high < negative:
		return neighbours(a, low, high)
	case low >= negative+zeros:
		return neighbours(a, low-zeros, high-zeros)
	}
	if low < negative {
		selectNth(a, low)
		lower = a[low]
	}
	if high >= negative+zeros {
		selectNth(a, high-zeros)
		upper = a[high-zeros]
	}
	return lower, upper
}

func insertionSort(a []float64) {
	for i := 1; i < len(a); i++ {
		x, k := a[i], i
		for ; k > 0 && a[k-1] > x; k-- {
			a[k] = a[k-1]
		}
		a[k] = x
	}
}

// median reorders a, which must not be empty. Of an even number it is the mean of the two middle ones.
func median(a []float64) float64 {
	n := len(a) / 2
	selectNth(a, n)
	if len(a)%2 == 1 {
		return a[n]
	}
	return 0.5 * (maxOf(a[:n]) + a[n])
}

// quantile interpolates linearly between the order statistics of s at position (n-1)q.
func quantile(s sortedReturns, q float64) float64 {
	n := s.len()
	h := float64(float64(n-1) * q)
	i := int(h)
	if i >= n-1 {
		return s.at(n - 1)
	}
	return s.at(i) + float64((s.at(i+1)-s.at(i))*(h-float64(i)))
}

// clippedMedianDeviation is the median of |x - m| over a non-empty series whose elements are first clipped to the bounds,
// where m is their median.
func clippedMedianDeviation(s sortedReturns, low, high float64) float64 {
	// Deviations rise from the middle of the series to both ends.
	n := s.len()
	mid := n / 2
	center := clip(s.at(mid), low, high)
	if n%2 == 0 {
		center = 0.5 * (clip(s.at(mid-1), low, high) + center)
	}
	below := func(i int) float64 { return center - clip(s.at(mid-1-i), low, high) }
	above := func(i int) float64 { return clip(s.at(mid+i), low, high) - center }
	// The mid smallest deviations are the first few of those below and the rest of those above; find how many below.
	few, many := max(0, mid-(n-mid)), mid
	for few < many {
		i := int(uint(few+many) >> 1)
		if below(i) < above(mid-i-1) {
			few = i + 1
		} else {
			many = i
		}
	}
	next := math.Inf(1)
	if few < mid {
		next = below(few)
	}
	if mid-few < n-mid {
		next = min(next, above(mid-few))
	}
	if n%2 == 1 {
		return next
	}
	previous := 0.0
	if few > 0 {
		previous = below(few - 1)
	}
	if few < mid {
		previous = max(previous, above(mid-few-1))
	}
	return 0.5 * (next + previous)
}

func abs(x int) int { return max(x, -x) }
