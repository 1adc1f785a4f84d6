package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// MaxTimeScale is how much faster than real time a drill can run: the stamps on the wire are whole seconds.
const MaxTimeScale = 5

// Options say which plugs are pulled, and how.
type Options struct {
	Parts
	TimeScale int   // 1 to MaxTimeScale
	Only      []int // rows of the fault table; empty: all of them
	Parallel  int   // copies at a time, >= 1
	// Done is called after every fault, one at a time; nil: nobody wants to know.
	Done func(Result)
}

// Report is what a drill came to.
type Report struct {
	TimeScale int       `json:"time_scale"`
	Begun     time.Time `json:"begun"`
	TookSec   float64   `json:"took_seconds"`
	Results   []Result  `json:"results"` // in the order of the table
}

// Rows counts the rows of the fault table that were tried, and those of which everything passed.
func (r Report) Rows() (passed, tried int) {
	ok := map[int]bool{}
	for _, res := range r.Results {
		was, known := ok[res.Number]
		ok[res.Number] = res.Passed() && (was || !known)
	}
	for _, all := range ok {
		if all {
			passed++
		}
	}
	return passed, len(ok)
}

// Run pulls the plugs. The error is about the drill as a whole: a fault that was not seen is in its Result.
func Run(ctx context.Context, o Options) (Report, error) {
	report := Report{TimeScale: o.TimeScale, Begun: time.Now()}
	if o.TimeScale < 1 || o.TimeScale > MaxTimeScale {
		return report, fmt.Errorf("drill: a time scale of %d: it is a whole number from 1 to %d", o.TimeScale, MaxTimeScale)
	}
	for _, n := range o.Only {
		if !slices.Contains(numbers(), n) {
			return report, fmt.Errorf("drill: there is no fault %d: the table goes from 1 to %d", n, slices.Max(numbers()))
		}
	}
	t, err := findTools()
	if err != nil {
		return report, fmt.Errorf("drill: %w", err)
	}
	var todo []fault
	for _, f := range faults() {
		if len(o.Only) == 0 || slices.Contains(o.Only, f.number) {
			todo = append(todo, f)
		}
	}
	// The longest first, so that none of them is begun last.
	order := slices.Clone(todo)
	slices.SortStableFunc(order, func(a, b fault) int { return int(b.length() - a.length()) })

	var mu sync.Mutex
	results := map[string]Result{}
	queue := make(chan fault)
	var workers sync.WaitGroup
	for range max(1, o.Parallel) {
		workers.Go(func() {
			for f := range queue {
				r := run(ctx, f, o.Parts, t, o.TimeScale)
				mu.Lock()
				results[f.name] = r
				if o.Done != nil {
					o.Done(r)
				}
				mu.Unlock()
			}
		})
	}
	for _, f := range order {
		select {
		case queue <- f:
		case <-ctx.Done():
		}
	}
	close(queue)
	workers.Wait()
	for _, f := range todo {
		if r, ok := results[f.name]; ok {
			report.Results = append(report.Results, r)
		}
	}
	report.TookSec = time.Since(report.Begun).Seconds()
	return report, ctx.Err()
}

// length is about how long a fault takes.
func (f fault) length() time.Duration {
	d := f.hold
	for _, s := range f.seen {
		d = max(d, s.bound)
	}
	return d
}

// Table is the report for people, in Markdown.
func (r Report) Table() string {
	var b strings.Builder
	b.WriteString("| # | fault | seen by | bound s | pending s | firing s | clear s | told | |\n|---|---|---|---|---|---|---|---|---|\n")
	num := func(v float64) string {
		if v == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", v)
	}
	scale := float64(r.TimeScale)
	for _, res := range r.Results {
		verdict := "ok"
		if !res.Passed() {
			verdict = "FAILED"
		}
		sights := res.Sights
		if len(sights) == 0 {
			sights = []Sight{{By: "none"}}
		}
		for i, s := range sights {
			number, name, clear, told, last := fmt.Sprint(res.Number), res.Fault, num(res.ClearSec*scale), strings.Join(res.Told, ", "), verdict
			if i > 0 {
				number, name, clear, told, last = "", "", "", "", ""
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", number, name, s.By, num(s.BoundSec), num(s.PendingSec*scale), num(s.FiringSec*scale), clear, told, last)
		}
	}
	passed, tried := r.Rows()
	fmt.Fprintf(&b, "\n%d of %d rows passed, at time scale %d, in %.0f s. Times are those of the real system: what was measured, times %d.\n", passed, tried, r.TimeScale, r.TookSec, r.TimeScale)
	for _, res := range r.Results {
		for _, f := range res.Failures {
			fmt.Fprintf(&b, "\n- %d %s: %s", res.Number, res.Fault, f)
		}
	}
	return b.String()
}
