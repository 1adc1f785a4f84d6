package kernel

import (
	"cmp"
	"math"
	"slices"
)

const (
	// More values than this are sorted in the usual way,
	drawersLimit = 1 << 10
	// and so are those that lie so unevenly that one drawer gets more than this.
	drawerLimit = 32
)

// drawers sort values that are spread out more or less evenly: as many drawers of the same width as there are values,
// so that each holds few.
type drawers struct {
	rank   []uint16
	drawer []uint16
}

func (d *drawers) reserve(n int) {
	d.rank, d.drawer = make([]uint16, n+1), make([]uint16, n)
}

// fill tells for each value its drawer, and for each drawer the rank of its first value. The last result is the number
// of values in the fullest one.
func (d *drawers) fill(x []float64) (rank, drawer []uint16, fullest uint16) {
	low, high := bulk(x)
	end := float64(len(x) - 1)
	scale := end / (high - low)
	if !(scale <= math.MaxFloat64) {
		scale = 0
	}
	rank, drawer = d.rank[:len(x)+1], d.drawer[:len(x)]
	clear(rank)
	for i, v := range x {
		at := (v - low) * scale
		if at < 0 {
			at = 0
		}
		if at > end {
			at = end
		}
		k := uint16(at)
		drawer[i] = k
		rank[k+1]++
	}
	before := uint16(0)
	for k, n := range rank {
		fullest = max(fullest, n)
		before += n
		rank[k] = before
	}
	return rank, drawer, fullest
}

// bulk is the range of most of the values, without the few that lie far out.
func bulk(x []float64) (low, high float64) {
	const probes, out = 32, 2
	if len(x) >= 2*probes {
		var probe [probes]float64
		for i := range probe {
			probe[i] = x[i*(len(x)-1)/(probes-1)]
		}
		insertionSort(probe[:])
		low, high = probe[out], probe[probes-1-out]
		if pad := float64((high - low) * 0.125); pad > 0 {
			return low - pad, high + pad
		}
	}
	return slices.Min(x), slices.Max(x)
}

// sortInto writes the values to out in rising order.
func (d *drawers) sortInto(out, x []float64) {
	if len(x) <= len(d.drawer) {
		rank, drawer, fullest := d.fill(x)
		if fullest <= drawerLimit {
			for i, v := range x {
				k := drawer[i]
				out[rank[k]] = v
				rank[k]++
			}
			insertionSort(out)
			return
		}
	}
	copy(out, x)
	slices.Sort(out)
}

// orderInto writes the ids of the values, which count up from first, to out, that of the lowest first.
func (d *drawers) orderInto(out []uint16, first uint16, x []float64) {
	fits := len(x) <= len(d.drawer)
	if fits {
		rank, drawer, fullest := d.fill(x)
		if fits = fullest <= drawerLimit; fits {
			for i, k := range drawer {
				out[rank[k]] = uint16(i)
				rank[k]++
			}
			for i := 1; i < len(out); i++ {
				at, k := out[i], i
				for ; k > 0 && x[out[k-1]] > x[at]; k-- {
					out[k] = out[k-1]
				}
				out[k] = at
			}
		}
	}
	if !fits {
		for i := range out {
			out[i] = uint16(i)
		}
		slices.SortFunc(out, func(a, b uint16) int { return cmp.Compare(x[a], x[b]) })
	}
	for i := range out {
		out[i] += first
	}
}
