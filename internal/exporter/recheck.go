package exporter

import (
	"context"
	"slices"
	"time"

	"quantumharvest/internal/store"
)

// rechecks is how often a reading is repeated for proposals that were whole a scrape ago. A publisher that lives repairs
// a hash with its next beat, and a position that closes leaves the expected set right behind its hash: neither is to
// look like a loss because a scrape fell in between.
const rechecks = 2

// collect is one round of the store.
func (e *Exporter) collect(ctx context.Context) (c store.Collection, start, end time.Time, err error) {
	e.attempts.Inc()
	start = e.now()
	c, err = e.reader.Collect(ctx, *e.symbols.Load())
	end = e.now()
	e.duration.Observe(end.Sub(start).Seconds())
	if err == nil && c.ExpectedErr != nil && len(c.Entries) == 0 {
		// Nothing is known to be expected and nothing was read: that is no view of the store.
		err = c.ExpectedErr
	}
	return c, start, end, err
}

// wait tells, after the pause, whether the reading should be repeated: something was lost since the last one, and there
// is time left for a reading that takes as long as this one did.
func (e *Exporter) wait(ctx context.Context, c store.Collection, took time.Duration) bool {
	if e.recheck <= 0 || !e.lost(c) {
		return false
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < e.recheck+2*took+time.Second {
		return false
	}
	pause := time.NewTimer(e.recheck)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// lost tells whether a proposal that was whole at the last reading is missing or not whole now.
func (e *Exporter) lost(c store.Collection) bool {
	for i := range c.Entries {
		if !whole(&c.Entries[i]) {
			if _, was := slices.BinarySearch(e.whole, c.Entries[i].Symbol); was {
				return true
			}
		}
	}
	return false
}

// remember notes what was whole, for the next reading.
func (e *Exporter) remember(c store.Collection) {
	if e.recheck <= 0 {
		return
	}
	e.whole = e.whole[:0]
	for i := range c.Entries {
		if whole(&c.Entries[i]) {
			e.whole = append(e.whole, c.Entries[i].Symbol)
		}
	}
	slices.Sort(e.whole)
}

func whole(e *store.Entry) bool { return e.Err == nil && e.Found && len(e.Problems) == 0 }
