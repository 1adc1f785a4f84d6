package exporter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// Faults 1, 2 and 6: what a living publisher puts right within a beat never looks lost, and what stays lost is shown.
func TestALossIsLookedAtAgain(t *testing.T) {
	good := func() store.Entry { return entry("BTCUSDT", hashOf(published("BTCUSDT"))) }
	half := func() store.Entry {
		h := hashOf(published("BTCUSDT"))
		delete(h, "kill_score")
		return entry("BTCUSDT", h)
	}
	gone := store.Entry{Symbol: "BTCUSDT"}
	of := func(entries ...store.Entry) store.Collection {
		return store.Collection{Expected: []position.Symbol{"BTCUSDT"}, Entries: entries, RTT: time.Millisecond}
	}
	for name, tc := range map[string]struct {
		readings []store.Collection // after a first one that is good; the last one stays
		limit    time.Duration      // of the scrape
		present  float64            // -1: no such series
		took     time.Duration
		reads    int
	}{
		"whole":                      {[]store.Collection{of(good())}, 9 * time.Second, 1, 0, 1},
		"deleted and back":           {[]store.Collection{of(gone), of(good())}, 9 * time.Second, 1, time.Second, 2},
		"half deleted and back":      {[]store.Collection{of(half()), of(good())}, 9 * time.Second, 1, time.Second, 2},
		"back at the second look":    {[]store.Collection{of(gone), of(half()), of(good())}, 9 * time.Second, 1, 2 * time.Second, 3},
		"closed in between":          {[]store.Collection{of(gone), {}}, 9 * time.Second, -1, time.Second, 2},
		"lost":                       {[]store.Collection{of(gone)}, 9 * time.Second, 0, 2 * time.Second, 3},
		"lost, and no time to wait":  {[]store.Collection{of(gone)}, 1500 * time.Millisecond, 0, 0, 1},
		"lost, and time for one try": {[]store.Collection{of(gone)}, 2500 * time.Millisecond, 0, time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reads := -1
				e := newExporter(t, Options{Recheck: time.Second, Reader: readerFunc(func(context.Context, []position.Symbol) (store.Collection, error) {
					reads++
					if reads == 0 {
						return of(good()), nil
					}
					return tc.readings[min(reads, len(tc.readings))-1], nil
				})})
				scrape := func() (present float64) {
					ctx, cancel := context.WithTimeout(t.Context(), tc.limit)
					defer cancel()
					page, err := e.GatherPage(ctx)
					if err != nil {
						t.Fatal(err)
					}
					present = -1
					for _, f := range page.Messages() {
						if f.GetName() == descPresent.Name {
							present = f.Metric[0].GetGauge().GetValue()
						}
					}
					return present
				}
				scrape()
				begin := time.Now()
				if got := scrape(); got != tc.present {
					t.Errorf("present %v, want %v", got, tc.present)
				}
				if took := time.Since(begin); took != tc.took {
					t.Errorf("the scrape took %s, want %s", took, tc.took)
				}
				if reads != tc.reads {
					t.Errorf("%d readings, want %d", reads, tc.reads)
				}
				// What is lost is waited for once, not at every scrape.
				begin = time.Now()
				if scrape(); time.Since(begin) != 0 {
					t.Errorf("the scrape after it waited for %s", time.Since(begin))
				}
			})
		})
	}
}
