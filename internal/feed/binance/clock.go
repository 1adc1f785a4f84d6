package binance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	clockSamples = 5
	// clockSuspect is how far from now an event may seem to be before the offset is measured again, out of turn.
	clockSuspect = 2 * time.Second
	// clockPause is the least time between measurements.
	clockPause = 30 * time.Second
	// futureTolerance is how far an event may lie ahead of our clock, offset taken off: within it, it counts as now.
	futureTolerance = time.Minute
)

// exchangeClock turns the exchange's time into ours.
type exchangeClock struct {
	now      func() time.Time
	mu       sync.Mutex
	offset   time.Duration // the exchange's clock minus ours
	measured time.Time
	suspect  bool
}

func (c *exchangeClock) reading() (time.Duration, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset, c.measured
}

func (c *exchangeClock) set(offset time.Duration, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset, c.measured, c.suspect = offset, at, false
}

// exchange is what the exchange's clock shows now.
func (c *exchangeClock) exchange() time.Time {
	offset, _ := c.reading()
	return c.now().Add(offset)
}

// local is when, by our clock, the exchange stamped ms. An instant ahead of now beyond the tolerance is refused, one
// within it counts as now.
func (c *exchangeClock) local(ms int64) (time.Time, bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	at := time.UnixMilli(ms).Add(-c.offset).UTC()
	ahead := at.Sub(now)
	if ahead > clockSuspect || ahead < -clockSuspect {
		c.suspect = true
	}
	switch {
	case ahead > futureTolerance:
		return time.Time{}, false
	case ahead > 0:
		return now, true
	}
	return at, true
}

// suspected tells whether events since the last measurement did not fit the offset, and measuring again may help.
func (c *exchangeClock) suspected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := c.now().Sub(c.measured)
	return c.suspect && (age >= clockPause || age < 0)
}

// measureClock takes the median over several samples, each halfway between question and answer, so that a slow answer
// or two move nothing.
func (f *Feed) measureClock(ctx context.Context) error {
	var offsets []time.Duration
	var errs []error
	for range clockSamples {
		offset, err := f.rest.clockSample(ctx)
		if err != nil {
			errs = append(errs, err)
			var limited *limitError
			if ctx.Err() != nil || errors.As(err, &limited) {
				break
			}
			continue
		}
		offsets = append(offsets, offset)
	}
	if len(offsets) <= clockSamples/2 {
		f.counts.clockFailures.Add(1)
		return fmt.Errorf("measure the clock offset: %w", errors.Join(errs...))
	}
	f.clock.set(median(offsets), f.opts.Now())
	return nil
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	m := len(d) / 2
	if len(d)%2 == 1 {
		return d[m]
	}
	return d[m-1] + (d[m]-d[m-1])/2
}

// keepClock measures again in turn, and out of turn when events no longer fit. A failed measurement leaves the old
// offset standing: a clock drifts by less than an unreachable exchange ages.
func (f *Feed) keepClock(ctx context.Context) {
	next := time.Now().Add(f.opts.Timing.Clock)
	for sleep(ctx, min(f.opts.Timing.Clock, clockPause)) {
		now := time.Now()
		if now.Before(next) && !f.clock.suspected() {
			continue
		}
		if err := f.measureClock(ctx); err != nil {
			if ctx.Err() == nil {
				f.opts.Log.Warn("clock offset not measured, the last one stands", "source", sourceName, "err", err)
			}
			continue
		}
		next = now.Add(f.opts.Timing.Clock)
	}
}
