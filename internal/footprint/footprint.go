// Package footprint keeps what a service has resident near what it works with.
package footprint

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Options say how.
type Options struct {
	// Garbage is how many bytes of garbage may gather where the live heap is larger than that, and not small; 0 leaves it
	// to the collector, which lets as much gather as is alive. It suits a heap of numbers, which costs next to nothing to
	// look through. Beside a small heap gathers what is allocated in two seconds of work. GOGC in the environment has the last
	// word.
	Garbage uint64
	Log     *slog.Logger // hears what could not be done
}

const (
	// settled is when a service has started: what runs from then on is what it does all day.
	settled = 5 * time.Second
	// look is how often the live heap is measured.
	look = 2 * time.Second
	// leastPercent keeps the collector from running all the time.
	leastPercent = 10
	// smallHeap is how many live bytes are looked through within a millisecond or two: the collector may then run with
	// every look.
	smallHeap = 8 << 20
	// leastGarbage may gather beside those in any case.
	leastGarbage = 512 << 10
	// busyLooks is for how many looks what was allocated until one of them counts: work comes at intervals, of a minute and more.
	busyLooks = 150
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
	_, decided := os.LookupEnv("GOGC")
	var (
		started = time.After(settled)
		looks   = time.NewTicker(look)
		heap    = []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
		unused  idle
		work    busy
		set     = 100
	)
	defer looks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-started:
			report(o.Log, ReleaseProgram())
			if metrics.Read(heap); !decided && heap[0].Value.Uint64() < smallHeap {
				debug.FreeOSMemory() // what starting up left
			}
		case <-looks.C:
			metrics.Read(heap)
			if unused.look(heap[1].Value.Uint64()) {
				// The runtime gives back what exceeds its goal by a tenth, slowly.
				debug.FreeOSMemory()
			}
			busiest := work.look(heap[2].Value.Uint64())
			if decided {
				continue
			}
			if p := percent(heap[0].Value.Uint64(), busiest, o.Garbage); max(p-set, set-p)*100 >= change*set {
				debug.SetGCPercent(p)
				set = p
			}
		}
	}
}

// errElsewhere says that this is done on Linux only.
var errElsewhere = errors.New("pages of the program are released on Linux only")

// report tells why pages of the program stay. The figure is larger then, and nothing else is different. A system on which it is
// never done has nothing to tell.
func report(log *slog.Logger, err error) {
	if err != nil && !errors.Is(err, errElsewhere) {
		log.Info("pages of the program stay resident that are not used: a few megabytes more", "err", err)
	}
}

// percent is GOGC for a live heap, given what the second busiest look of late allocated, and what may gather beside a heap that
// is not small, 0 as much as is alive; all in bytes. It is never more than Go's own.
func percent(live, busiest, garbage uint64) int {
	if live < smallHeap {
		garbage = max(busiest, leastGarbage)
	}
	if garbage == 0 || live <= garbage {
		return 100
	}
	return max(leastPercent, int(100*garbage/live))
}

// busy sees how much is allocated from look to look.
type busy struct {
	before uint64            // allocated in all, at the last look
	by     [busyLooks]uint64 // by look
	next   int
}

// look takes in how many bytes were allocated in all, and gives what was allocated by the second busiest look of late: once is
// no work.
func (b *busy) look(allocated uint64) uint64 {
	if b.before > 0 { // not what starting up took
		b.by[b.next] = allocated - b.before
		b.next = (b.next + 1) % len(b.by)
	}
	b.before = allocated
	var most, second uint64
	for _, n := range b.by {
		switch {
		case n > most:
			most, second = n, most
		case n > second:
			second = n
		}
	}
	return second
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
