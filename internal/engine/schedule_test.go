package engine_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// scheduleSteps is how many steps the randomised schedule takes; HARVEST_STEPS changes it.
const scheduleSteps = 10_000

// stepsPerWorld is how long one history goes on before another begins with other publishers, shards and clocks.
const stepsPerWorld = 1000

// TestRandomisedLeaseSchedule lets publishers live, die, stall, lose messages, drift and fail over on one store, and looks
// from outside at every write: it is made under the lease that stands at that moment, revisions and fences never go back,
// and once things are calm no symbol is without a writer for longer than a takeover may take.
func TestRandomisedLeaseSchedule(t *testing.T) {
	steps := scheduleSteps
	if text := os.Getenv("HARVEST_STEPS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("HARVEST_STEPS is %q: write a whole number of steps", text)
		}
		steps = n
	}
	var total tally
	for seed := uint64(1); total.steps < steps; seed++ {
		w := newWorld(t, seed, nil)
		w.run(min(stepsPerWorld, steps-total.steps))
		w.checkRecords()
		total.add(w.tally)
		w.close()
		if len(w.violations) > 0 {
			t.Fatalf("seed %d: %d violations, the first:\n%s", seed, len(w.violations), strings.Join(w.violations[:min(3, len(w.violations))], "\n"))
		}
	}
	t.Log(total)
	if total.takeovers == 0 || total.refused == 0 || total.failovers == 0 || total.kills == 0 || total.pauses == 0 || total.calm == 0 {
		t.Errorf("the schedule is too tame to say anything: %v", total)
	}
}

// TestScheduleSeesMissingChecks takes the checks out of the scripts: the same schedule must see what follows.
func TestScheduleSeesMissingChecks(t *testing.T) {
	for name, words := range map[string][]string{
		"the lease is not checked":                 {"unleased"},
		"neither lease nor fence are checked":      {"unleased", "fenced"},
		"a lease that ran out can be written with": {"expiry"},
	} {
		t.Run(name, func(t *testing.T) {
			steps := 0
			for seed := uint64(1); seed <= 40; seed++ {
				w := newWorld(t, seed, words)
				w.run(stepsPerWorld)
				w.close()
				steps += w.tally.steps
				if len(w.violations) > 0 {
					t.Logf("seen after %d steps: %s", steps, w.violations[0])
					return
				}
			}
			t.Errorf("nothing seen in %d steps", steps)
		})
	}
}

// tally is what happened in a schedule.
type tally struct {
	steps, writes, refused, takeovers, kills, pauses, lost, delayed, failovers, outages, clockSteps, flips, calm int
	longest                                                                                                      float64 // seconds without a writer after the last fault
}

func (a *tally) add(b tally) {
	a.steps += b.steps
	a.writes += b.writes
	a.refused += b.refused
	a.takeovers += b.takeovers
	a.kills += b.kills
	a.pauses += b.pauses
	a.lost += b.lost
	a.delayed += b.delayed
	a.failovers += b.failovers
	a.outages += b.outages
	a.clockSteps += b.clockSteps
	a.flips += b.flips
	a.calm += b.calm
	a.longest = max(a.longest, b.longest)
}

func (a tally) String() string {
	return fmt.Sprintf("%d steps: %d writes, %d refused, %d leases taken, %d kills, %d pauses, %d messages lost, %d late, %d failovers, "+
		"%d outages, %d clock steps, %d positions turned or ended; calm %d times, whole again after %.1f s at most",
		a.steps, a.writes, a.refused, a.takeovers, a.kills, a.pauses, a.lost, a.delayed, a.failovers, a.outages, a.clockSteps, a.flips, a.calm, a.longest)
}

// plan draws what goes wrong next, and when.
type plan struct{ *rand.Rand }

func (p plan) between(low, high float64) float64 { return low + (high-low)*p.Float64() }

func (p plan) chance(of float64) bool { return p.Float64() < of }
