package feed

import (
	"cmp"
	"slices"
)

// openTimes are the open times of candles, in nanoseconds since 1970, oldest first: untimed all of them, or rising. They
// are kept as runs of equal steps, of which candles without a gap need one.
type openTimes []openRun

// openRun is n times from first on, each step after the one before.
type openRun struct {
	first, step int64
	n           int
}

// add appends a time.
func (o *openTimes) add(t int64) {
	if len(*o) > 0 {
		last := &(*o)[len(*o)-1]
		switch {
		case last.n == 1:
			last.step, last.n = t-last.first, 2
			return
		case t == last.first+int64(last.n)*last.step:
			last.n++
			return
		}
	}
	*o = append(*o, openRun{first: t, n: 1})
}

// drop removes the oldest time.
func (o *openTimes) drop() {
	oldest := &(*o)[0]
	oldest.first += oldest.step
	if oldest.n--; oldest.n == 0 {
		*o = slices.Delete(*o, 0, 1)
	}
}

// oldest is the first time.
func (o openTimes) oldest() int64 { return o[0].first }

// find is the place of a time, and tells whether it is there. Among untimed candles there is nothing to find.
func (o openTimes) find(t int64) (place int, found bool) {
	n, _ := slices.BinarySearchFunc(o, t, func(r openRun, t int64) int { return cmp.Compare(r.first, t+1) })
	if n == 0 || t == untimed {
		return 0, false
	}
	run := o[n-1] // the last that begins at t or before
	steps := 0
	if run.n > 1 {
		steps = int((t - run.first) / run.step)
	}
	if steps >= run.n || run.first+int64(steps)*run.step != t {
		return 0, false
	}
	for _, r := range o[:n-1] {
		steps += r.n
	}
	return steps, true
}
