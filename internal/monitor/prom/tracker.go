package prom

import "context"

// tracker lets a number of queries run at a time; more wait, up to their deadline. Prometheus' own tracker also writes
// them into a file, to be found after a crash: here the file would belong to everybody's process.
type tracker struct{ slots chan struct{} }

func newTracker(limit int) *tracker { return &tracker{make(chan struct{}, limit)} }

// GetMaxConcurrent is the number of queries that run at a time.
func (t *tracker) GetMaxConcurrent() int { return cap(t.slots) }

// Insert waits for a place.
func (t *tracker) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case t.slots <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Delete gives the place back.
func (t *tracker) Delete(int) { <-t.slots }

// Close has nothing to release.
func (*tracker) Close() error { return nil }
