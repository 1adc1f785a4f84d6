package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/exporter"
	"quantumharvest/internal/listen"
	"quantumharvest/internal/supervise"
)

// drainLimit is how long the ports of a publisher that stops stay open for its last work: all of that is bounded by less.
const drainLimit = 4 * stopGrace

// laneLimit is from when on work at the store hangs: it is given up after storeTimeout, and its answer follows at once.
const laneLimit = 3 * storeTimeout

// turnLimit is from when on the loop of a publisher hangs: it turns at every beat at the latest, and those are 5 s apart at
// most.
const turnLimit = 8 * time.Second

// unseenLimit is for how long a page that nobody scrapes needs no proof that it can be made.
const unseenLimit = 30 * time.Second

// draining tells that the process stops: what asks whether it is ready is told so, while it may still be asked.
type draining struct{ on atomic.Bool }

// ready is the answer for as long as nobody stops, and after that no.
func (d *draining) ready(ready func(context.Context) (bool, string)) func(context.Context) (bool, string) {
	return func(ctx context.Context) (bool, string) {
		if d.on.Load() {
			return false, "it is stopping"
		}
		return ready(ctx)
	}
}

// portsOf gives the context under which the ports of a part are served. It outlives ctx until the part calls done, because
// whoever asks is to be told that it stops, and for drainLimit at the longest.
func (d *draining) portsOf(ctx context.Context) (ports context.Context, done context.CancelFunc) {
	ports, done = context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		d.on.Store(true)
		late := time.AfterFunc(drainLimit, done)
		context.AfterFunc(ports, func() { late.Stop() })
	})
	return ports, done
}

// progress tells whether a publisher works: its loop turns and work at the store comes to an end. A store that is away is
// no hang: its work fails in time.
func (p *publisher) progress() func(context.Context) error {
	var turns supervise.Advance
	return func(context.Context) error {
		turned := p.turns.Load()
		if turned == 0 {
			return errors.New("the engine has not begun yet")
		}
		if still := turns.Still(turned, time.Now()); still > turnLimit {
			return fmt.Errorf("the engine has stood still for %s", still.Round(time.Second))
		}
		for _, since := range []int64{p.writingSince.Load(), p.routineSince.Load(), p.leasingSince.Load()} {
			if since != 0 && time.Since(time.Unix(0, since)) > laneLimit {
				return fmt.Errorf("work at the store has not come to an end for %s", time.Since(time.Unix(0, since)).Round(time.Second))
			}
		}
		return nil
	}
}

// status is one line about a publisher, for people who look at the service manager.
func (p *publisher) status() string {
	st := p.engine.Status()
	parts := []string{fmt.Sprintf("%d open, %d advised", st.Open, st.Advised)}
	if st.Uncovered > 0 {
		parts = append(parts, fmt.Sprintf("%d outside SYMBOLS", st.Uncovered))
	}
	parts = append(parts, leaseLine(st.Lease))
	if last := lastBeat(st); !last.IsZero() {
		parts = append(parts, "last beat "+last.UTC().Format(time.TimeOnly)+" UTC")
	}
	if ok, why := p.ready(context.Background()); !ok {
		parts = append(parts, why)
	}
	return strings.Join(parts, "; ")
}

func leaseLine(l engine.LeaseStatus) string {
	switch {
	case l.Held == 0 && l.Holder != "":
		return "stands by for " + l.Holder
	case l.Shards == 1 && l.Held == 1:
		return "holds the lease"
	}
	return fmt.Sprintf("holds %d of %d leases", l.Held, l.Shards)
}

func lastBeat(st engine.Status) time.Time {
	var last time.Time
	for _, s := range st.Symbols {
		if s.HeartbeatAt.After(last) {
			last = s.HeartbeatAt
		}
	}
	return last
}

// exporterPort is the exporter with the port it is served on.
type exporterPort struct {
	*listen.Server

	exp      *exporter.Exporter
	draining *draining
}

// progress tells whether the page can be had: the port answers, and the page was made lately or can be made now. A store
// that is away is shown on the page.
func (e *exporterPort) progress() func(context.Context) error {
	return func(ctx context.Context) error {
		if err := e.Alive(ctx); err != nil {
			return err
		}
		if time.Since(e.exp.Last().At) < unseenLimit {
			return nil
		}
		if _, err := e.exp.GatherPage(ctx); err != nil {
			return fmt.Errorf("the page of metrics cannot be made: %w", err)
		}
		return nil
	}
}

// status is one line about an exporter.
func (e *exporterPort) status() string {
	last := e.exp.Last()
	switch {
	case last.At.IsZero():
		return "nobody has scraped yet"
	case last.Failed != "":
		return "not ready: " + last.Failed
	}
	return fmt.Sprintf("shows %d symbols; last page %s UTC", last.Symbols, last.At.UTC().Format(time.TimeOnly))
}

// allOf is the progress of several parts. They are looked at beside each other: one that hangs must not hide behind the
// time that another takes.
func allOf(parts ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		errs := make([]error, len(parts))
		var wg sync.WaitGroup
		for i, part := range parts {
			wg.Go(func() { errs[i] = part(ctx) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
}
