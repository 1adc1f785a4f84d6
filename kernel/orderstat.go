package kernel

import (
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

// median reorders a, which must not be empty. Of an even number it is the mean of the two middle ones.
func median(a []float64) float64 {
	n := len(a) / 2
	selectNth(a, n)
	if len(a)%2 == 1 {
		return a[n]
	}
	return 0.5 * (maxOf(a[:n]) + a[n])
}

// quantile interpolates linearly between the order statistics of sorted at position (n-1)q.
func quantile(sorted []float64, q float64) float64 {
	h := float64(float64(len(sorted)-1) * q)
	i := int(h)
	if i >= len(sorted)-1 {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + float64((sorted[i+1]-sorted[i])*(h-float64(i)))
}

// medianSorted is the median of a sorted, non-empty series.
func medianSorted(s []float64) float64 {
	n := len(s) / 2
	if len(s)%2 == 1 {
		return s[n]
	}
	return 0.5 * (s[n-1] + s[n])
}

// medianDeviation is the median of |x - center| over a sorted series. The largest deviations sit at its two ends, so
// they are taken off there until the middle is reached.
func medianDeviation(s []float64, center float64) float64 {
	lo, hi := 0, len(s)-1
	var last, previous float64
	for range len(s) - (len(s)-1)/2 {
		previous = last
		below, above := center-s[lo], s[hi]-center
		if below > above {
			last = below
			lo++
		} else {
			last = above
			hi--
		}
	}
	if len(s)%2 == 1 {
		return last
	}
	return 0.5 * (last + previous)
}
