// Package footprint keeps what a service has resident near what it works with.
package footprint

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Options say how.
type Options struct {
	// Garbage is how many bytes of garbage may gather where the live heap is larger than that; 0 leaves it to the
	// collector, which lets as much gather as is alive. It suits a heap of numbers, which costs next to nothing to look
	// through. GOGC in the environment has the last word.
	Garbage uint64
}

const (
	// settled is when a service has started: what runs from then on is what it does all day.
	settled = 5 * time.Second
	// look is how often the live heap is measured.
	look = 2 * time.Second
	// leastPercent keeps the collector from running all the time.
	leastPercent = 10
	// change is by how many hundredths the percentage must be off before it is set: that stops the process for a moment.
	change = 5

	// idleLooks is for how many looks memory has been free that is given back: nothing needed it in between.
	idleLooks = 5
	// leastIdle is how many bytes of it are worth a collection.
	leastIdle = 2 << 20
	// idleAgain is for how many looks the next such collection waits.
	idleAgain = 30
)

// Tend does it until ctx ends.
func Tend(ctx context.Context, o Options) {
	if _, set := os.LookupEnv("GOGC"); set {
		o.Garbage = 0
	}
	var (
		started = time.After(settled)
		looks   = time.NewTicker(look)
		heap    = []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
		unused  idle
		set     = 100
	)
	defer looks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-started:
			// Where it cannot be done the figure is larger, and nothing else is different.
			_ = ReleaseProgram()
		case <-looks.C:
			metrics.Read(heap)
			if unused.look(heap[1].Value.Uint64()) {
				// The runtime gives back what exceeds its goal by a tenth, slowly.
				debug.FreeOSMemory()
			}
			if o.Garbage == 0 {
				continue
			}
			if p := percent(heap[0].Value.Uint64(), o.Garbage); max(p-set, set-p)*100 >= change*set {
				debug.SetGCPercent(p)
				set = p
			}
		}
	}
}

// percent is GOGC for as much garbage beside a live heap, both in bytes. It is never more than Go's own.
func percent(live, garbage uint64) int {
	if live <= garbage {
		return 100
	}
	return max(leastPercent, int(100*garbage/live))
}

// idle sees how much memory stays free from look to look.
type idle struct {
	least  uint64 // bytes free at all of the last looks
	looks  int    // so many of them
	resume int    // looks until the next release
}

// look takes in how many bytes are free, and tells whether what stayed free is to be given back.
func (i *idle) look(free uint64) bool {
	if i.resume > 0 {
		i.resume--
		return false
	}
	if i.looks == 0 || free < i.least {
		i.least = free
	}
	if i.looks++; i.looks < idleLooks {
		return false
	}
	release := i.least >= leastIdle
	*i = idle{}
	if release {
		i.resume = idleAgain
	}
	return release
}
