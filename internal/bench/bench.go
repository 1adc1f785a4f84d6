// Package bench measures what the desk costs on this machine and on this Redis, every figure against a rival in the same
// run where there is one: the two take turns, so that both meet the same machine. It uses keys of its own below one prefix
// and removes them.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/store"
)

// Figure is one line of the table. All targets are upper bounds.
type Figure struct {
	Name   string   `json:"name"`
	Value  *float64 `json:"value"` // nil: it cannot be measured here, see Note
	Unit   string   `json:"unit"`
	Target *float64 `json:"target"` // nil: it is reported only
	Rival  string   `json:"rival"`  // blank: there is none
	Ratio  *float64 `json:"ratio"`  // of the value to the rival's, or the value itself where that is a ratio
	// Allocs is the allocations of one operation, where none are allowed.
	Allocs *float64 `json:"allocs_per_op,omitempty"`
	Note   string   `json:"note,omitempty"`
}

// Met tells whether the target was reached; true where there is none or nothing was measured.
func (f Figure) Met() bool {
	return f.Value == nil || ((f.Target == nil || *f.Value <= *f.Target) && (f.Allocs == nil || *f.Allocs == 0))
}

// Desk is a publisher on sources of ours.
type Desk struct {
	Market, Positions feed.Source
	Redis             redis.UniversalClient // the desk closes it
	Prefix            string                // of all keys
	// Stepped is called after every step of the engine: what was offered before begin is evaluated at end.
	Stepped func(begin, end time.Time)
}

// Parts are what is measured and depends on the settings of the product.
type Parts struct {
	Dial func() redis.UniversalClient
	// Publish runs a publisher as the product does, until the context ends.
	Publish func(context.Context, Desk) error
	// Page is the exporter's page on a store.
	Page func(s *store.Store) (http.Handler, error)
	// Program is this program, and Env what makes it use the same Redis.
	Program string
	Env     []string
}

// Effort is how much is done for a figure.
type Effort struct {
	Rounds     int           // of every comparison
	Round      time.Duration // how long a round of the kernel takes
	Symbols    [2]int        // of cycles and scrapes: as named in the figures
	Ticks      time.Duration // for how long ticks come in
	TickRate   int           // per second
	Settle     time.Duration // before the memory of a process is read
	MemoryWith [2]int        // symbols
}

// Usual is the effort behind the figures of the documentation.
func Usual() Effort {
	return Effort{
		Rounds: 15, Round: 100 * time.Millisecond, Symbols: [2]int{1000, 10_000}, Ticks: 25 * time.Second, TickRate: 2000,
		Settle: 20 * time.Second, MemoryWith: [2]int{1000, 10_000},
	}
}

// Options say what is measured, and who is told meanwhile.
type Options struct {
	Parts
	Effort Effort
	Log    *slog.Logger
	// Begin is called before every stage, Done with every figure; nil: nobody wants to know.
	Begin func(stage string, n, of int)
	Done  func(Figure)
}

// stage is a group of figures that come out of one run.
type stage struct {
	name string
	run  func(context.Context, *run) error
}

var stages = []stage{
	{"kernel", measureKernel},
	{"cycles", measureCycles},
	{"ticks", measureTicks},
	{"memory", measureMemory},
}

// run is one measuring.
type run struct {
	Options
	prefix  string
	figures []Figure
}

// Run measures everything. The error is about what stopped it; figures so far are given all the same.
func Run(ctx context.Context, o Options) (figures []Figure, err error) {
	r := &run{Options: o, prefix: ownPrefix()}
	if err := r.reach(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() {
		if cleanErr := r.clean(); cleanErr != nil && err == nil {
			err = fmt.Errorf("bench: remove the keys %s*: %w", r.prefix, cleanErr)
		}
	}()
	for i, s := range stages {
		if o.Begin != nil {
			o.Begin(s.name, i, len(stages))
		}
		if err := s.run(ctx, r); err != nil {
			return r.figures, fmt.Errorf("bench: %s: %w", s.name, err)
		}
	}
	return r.figures, nil
}

func (r *run) add(f Figure) {
	r.figures = append(r.figures, f)
	if r.Done != nil {
		r.Done(f)
	}
}

func ptr(v float64) *float64 { return &v }

// duel is how long each of two did for the same, round by round.
type duel struct{ ours, theirs []float64 } // seconds

// fight has the two take turns. between is done after ours, and is nobody's time; nil: nothing is.
func fight(ctx context.Context, rounds int, ours, between, theirs func() error) (d duel, err error) {
	timed := func(f func() error) float64 {
		begin := time.Now()
		err = cmp.Or(err, f())
		return time.Since(begin).Seconds()
	}
	for range rounds {
		runtime.GC() // nobody is to pay for the other's garbage
		d.ours = append(d.ours, timed(ours))
		if between != nil {
			err = cmp.Or(err, between())
		}
		runtime.GC()
		d.theirs = append(d.theirs, timed(theirs))
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return d, err
		}
	}
	return d, nil
}

// ratio is how much longer ours take than theirs: the median of the rounds, because a round that was disturbed says nothing.
func (d duel) ratio() float64 {
	ratios := make([]float64, len(d.ours))
	for i := range d.ours {
		ratios[i] = d.ours[i] / d.theirs[i]
	}
	return quantile(ratios, 0.5)
}

// quantile of values, which it sorts: the smallest of which at least a share q is not larger. 0 where there are none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	i := int(q*float64(len(values))+0.9999999) - 1
	return values[min(max(i, 0), len(values)-1)]
}
