package binance

import (
	"testing"
	"time"

	"quantumharvest/internal/feed"
)

func TestAnOpenCandleNeverGoesBack(t *testing.T) {
	var got []time.Time
	tr := &track{f: &Feed{sink: func(ev feed.Event) { got = append(got, ev.(feed.Candle).At) }}}
	t0 := time.Unix(1_800_000_000, 0)
	for _, ms := range []int{0, 100, 40, 120} { // 40: the clock was measured anew in between
		tr.revise(feed.Candle{At: t0.Add(time.Duration(ms) * time.Millisecond)})
	}
	for i := 1; i < len(got); i++ {
		if got[i].Before(got[i-1]) {
			t.Errorf("from %v to %v", got[i-1], got[i])
		}
	}
}
