package feed

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// maxSpeed bounds acceleration: a day of virtual time in less than a tenth of a second.
const maxSpeed = 1e6

// virtualClock runs from a fixed start at a multiple of wall time. Before it is released it stands at its start, after
// it is stopped it stands where it was: a source that has not begun or has ended ages nothing.
type virtualClock struct {
	start    time.Time
	speed    float64
	released atomic.Pointer[time.Time] // wall time of the start
	stopped  atomic.Pointer[time.Time] // wall time of the end
}

// newVirtualClock makes a clock that stands at start. Speed must be > 0 and at most maxSpeed; 0 means 1.
func newVirtualClock(start time.Time, speed float64) (*virtualClock, error) {
	speed, err := checkSpeed(speed)
	if err != nil {
		return nil, err
	}
	return &virtualClock{start: start, speed: speed}, nil
}

func checkSpeed(speed float64) (float64, error) {
	switch {
	case speed == 0:
		return 1, nil
	case math.IsNaN(speed), speed < 0, speed > maxSpeed:
		return 0, fmt.Errorf("speed is %v: it must be above 0 and at most %d (1 is real time)", speed, int(maxSpeed))
	}
	return speed, nil
}

// Strategy maps wall time to virtual time.
func (c *virtualClock) Strategy(wall time.Time) time.Time {
	released := c.released.Load()
	if released == nil {
		return c.start
	}
	if stopped := c.stopped.Load(); stopped != nil && wall.After(*stopped) {
		wall = *stopped
	}
	elapsed := wall.Sub(*released)
	if elapsed <= 0 {
		return c.start
	}
	return c.start.Add(scale(elapsed, c.speed))
}

// release starts the clock; it tells whether it was the first to do so.
func (c *virtualClock) release(wall time.Time) bool { return c.released.CompareAndSwap(nil, &wall) }

func (c *virtualClock) stop(wall time.Time) { c.stopped.Store(&wall) }

// wait is how long from wall until the clock shows at; 0 where it does already.
func (c *virtualClock) wait(wall, at time.Time) time.Duration {
	ahead := at.Sub(c.Strategy(wall))
	if ahead <= 0 {
		return 0
	}
	// Rounding up: a timer that fires too early would find nothing due and spin.
	return scale(ahead, 1/c.speed) + 1
}

// scale multiplies a duration, saturating where the result would not fit.
func scale(d time.Duration, by float64) time.Duration {
	if by == 1 {
		return d // exact, beyond the 53 bits of a float too
	}
	scaled := float64(d) * by
	if scaled >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(scaled)
}
