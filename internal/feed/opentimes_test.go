package feed

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Runs answer what a plain list of the same times answers.
func TestOpenTimesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var runs openTimes
		var list []int64
		next := rapid.Int64Range(-5, 5).Draw(t, "first")
		for range rapid.IntRange(1, 200).Draw(t, "candles") {
			runs.add(next)
			list = append(list, next)
			next += rapid.SampledFrom([]int64{60, 60, 60, 60, 60, 60, 120, 1, 7}).Draw(t, "step")
			if rapid.IntRange(0, 2).Draw(t, "full") == 0 {
				runs.drop()
				list = list[1:]
			}
			if len(list) == 0 {
				if len(runs) != 0 {
					t.Fatalf("%v is left of nothing", runs)
				}
				continue
			}
			if runs.oldest() != list[0] {
				t.Fatalf("oldest %d, want %d", runs.oldest(), list[0])
			}
			asked := rapid.OneOf(rapid.SampledFrom(list), rapid.Int64Range(list[0]-2, next+2)).Draw(t, "asked")
			place, found := runs.find(asked)
			if want, is := slices.BinarySearch(list, asked); found != is || is && place != want {
				t.Fatalf("%d is at %d (%v), want %d (%v) of %v", asked, place, found, want, is, list)
			}
		}
	})
}

func TestOpenTimesOfOneIntervalAreOneRun(t *testing.T) {
	var runs openTimes
	for i := range int64(300) {
		runs.add(i * 60)
	}
	for i := range int64(10000) {
		runs.add((300 + i) * 60)
		runs.drop()
	}
	if len(runs) != 1 || cap(runs) != 1 {
		t.Errorf("%d runs, room for %d", len(runs), cap(runs))
	}
}

func TestUntimedCandlesAreNotFound(t *testing.T) {
	var runs openTimes
	for range 5 {
		runs.add(untimed)
	}
	for range 3 {
		runs.drop()
	}
	if _, found := runs.find(untimed); found || runs.oldest() != untimed {
		t.Errorf("%v: an untimed candle was found", runs)
	}
}
