package app

import (
	"context"
	"time"

	"quantumharvest/internal/engine"
)

// onceLimit is how long publish --once waits for its inputs and its store.
const onceLimit = 30 * time.Second

// everyoneServed ends a run as soon as the sources were read and every covered open position has advice in the store.
func (r *publisherRole) everyoneServed(begin time.Time) func(engine.Status) bool {
	return func(st engine.Status) bool {
		if r.ended.Load() || time.Since(begin) > onceLimit {
			return true
		}
		if !st.Restored {
			return false
		}
		counted, err := r.count.OpenPositions(context.Background())
		if err != nil {
			return false
		}
		seen := 0
		for _, s := range st.Symbols {
			if s.Open && s.Covered && s.Publishes == 0 && !s.Elsewhere {
				return false
			}
			if s.Open {
				seen++
			}
		}
		// A refused record is one that was looked at, too: it ends the run with an error, not with waiting.
		seen += len(st.Refused)
		want := 0
		for _, n := range counted {
			want += n
		}
		return seen >= want
	}
}
