package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"quantumharvest/internal/rules"
	"quantumharvest/internal/scratch"
)

// drill is one fault on one copy.
type drill struct {
	s *stand
	o *observer
	f fault

	before     map[string]map[string]string // the proposals just before the fault
	injected   time.Time
	held       string // the publisher that wrote before the fault
	endEarlier func()
}

// Result is what one fault came to. Times are of the copy; multiplied by the time scale they compare with the bounds of
// the real system.
type Result struct {
	Number int    `json:"number"`
	Fault  string `json:"fault"`
	// Sights are the alerts that were to see it; none: it was to be seen by none.
	Sights []Sight `json:"sights"`
	// ClearSec is how long after the repair nothing fired any more.
	ClearSec float64 `json:"clear_seconds"`
	// Told are the alerts that reached the receiver.
	Told     []string `json:"told"`
	Failures []string `json:"failures"`
	TookSec  float64  `json:"took_seconds"`
}

// Sight is when one alert saw a fault.
type Sight struct {
	By         string  `json:"by"`
	BoundSec   float64 `json:"bound_seconds"` // of the real system
	PendingSec float64 `json:"pending_seconds"`
	FiringSec  float64 `json:"firing_seconds"` // 0: not seen
}

// Passed tells whether nothing was wrong.
func (r Result) Passed() bool { return len(r.Failures) == 0 }

const (
	startWithin = 90 * time.Second // for a copy to come up and become quiet, on a loaded machine
	clearWithin = 60 * time.Second // for every alert to clear after a repair, in the real system
)

// run pulls one plug on a fresh copy.
func run(ctx context.Context, f fault, parts Parts, t tools, scale int) (r Result) {
	begin := time.Now()
	r = Result{Number: f.number, Fault: f.name}
	folder, err := scratch.New("drill")
	if err != nil {
		r.Failures = []string{err.Error()}
		return r
	}
	dir := folder.Path
	d := &drill{f: f, s: &stand{dir: dir, scale: scale, parts: parts, tools: t}, endEarlier: func() {}}
	ctx, cancel := context.WithCancel(ctx)
	fail := func(format string, args ...any) { r.Failures = append(r.Failures, fmt.Sprintf(format, args...)) }
	defer func() {
		cancel()
		if d.o != nil {
			d.o.done.Wait()
		}
		d.s.close()
		if !r.Passed() {
			r.Failures = append(r.Failures, "the logs of the copy are in "+dir+", until the next drill")
		} else {
			_ = folder.Remove()
		}
		r.TookSec = time.Since(begin).Seconds()
	}()
	if f.prepare != nil {
		f.prepare(d.s)
	}
	if err := d.s.open(ctx, f.redisLast); err != nil {
		fail("the copy does not start: %v", err)
		return r
	}
	d.o = observe(ctx, d.s)
	if !f.redisLast {
		if err := d.steady(ctx); err != nil {
			fail("the copy does not become quiet: %v", err)
			return r
		}
	}
	if f.settle != nil {
		if err := f.settle(ctx, d); err != nil {
			fail("before the fault: %v", err)
			return r
		}
	}
	d.before = d.o.snapshot()
	d.o.mark()
	d.injected = time.Now()
	if err := f.inject(ctx, d); err != nil {
		fail("the plug cannot be pulled: %v", err)
		return r
	}
	d.see(ctx, &r, fail)
	if f.repair != nil {
		if err := f.repair(ctx, d); err != nil {
			fail("the repair failed: %v", err)
			return r
		}
	}
	repaired := time.Now()
	if f.after != nil {
		if err := f.after(ctx, d); err != nil {
			fail("after the repair: %v", err)
		}
	}
	if err := await(ctx, d.s.scaled(clearWithin)+d.s.unscaled()-time.Since(repaired), "not everything clears", d.o.quiet); err != nil {
		fail("%v", err)
	}
	r.ClearSec = time.Since(repaired).Seconds()
	d.judge(&r, repaired, fail)
	return r
}

// steady waits until everything runs, every position is advised, nothing fires or is about to, and the watchdog was heard.
func (d *drill) steady(ctx context.Context) error {
	quietSince := time.Time{}
	return await(ctx, startWithin, "it is not in order", func() error {
		err := d.inOrder(ctx)
		if err != nil {
			quietSince = time.Time{}
			return err
		}
		if quietSince.IsZero() {
			quietSince = time.Now()
		}
		if left := 3*d.s.thresholds().Interval - time.Since(quietSince); left > 0 {
			return fmt.Errorf("it has been for %v only", time.Since(quietSince).Round(time.Second))
		}
		return nil
	})
}

func (d *drill) inOrder(ctx context.Context) error {
	for _, q := range []struct {
		expr string
		want float64
	}{
		{"count(up == 1)", float64(2 + len(d.s.publishers))},
		{"count(time() - quantum_harvest_last_update_epoch < 30)", float64(len(drillSymbols))},
		{"sum(quantum_harvest_proposal_present)", float64(len(drillSymbols))},
		{`count(quantum_harvest_input_state{state="fresh"} == 1)`, float64(len(drillSymbols))},
	} {
		n, ok, err := d.s.query(ctx, q.expr)
		if err != nil {
			return err
		}
		if !ok || n != q.want {
			return fmt.Errorf("%s is %v, not %v", q.expr, n, q.want)
		}
	}
	if !d.s.receiver.heard() {
		return errors.New("the watchdog was not heard")
	}
	return d.o.quiet()
}

// see waits for the alerts that are to see the fault, or holds it where none is to, and looks at what must be true meanwhile.
func (d *drill) see(ctx context.Context, r *Result, fail func(string, ...any)) {
	f := d.f
	meanwhile := func() {
		if f.meanwhile != nil {
			if err := f.meanwhile(ctx, d); err != nil {
				fail("meanwhile: %v", err)
			}
		}
	}
	if len(f.seen) == 0 {
		meanwhile()
		if err := wait(ctx, d.injected.Add(d.s.scaled(f.hold))); err != nil {
			fail("%v", err)
		}
		for _, key := range d.o.firing(false) {
			if f.number == 14 && strings.HasPrefix(key.name, "QuantumHarvestStore") || f.number == 14 && (key.name == "QuantumHarvestPublisherStoreDown" || key.name == rules.Blind) {
				continue // a restart is an outage, and may be seen as one
			}
			fail("%s %s fired, and no alert should", key.name, key.symbol)
		}
		return
	}
	for _, s := range f.seen {
		sight := Sight{By: strings.Join(s.by, " or "), BoundSec: s.bound.Seconds()}
		bound := d.s.scaled(s.bound)
		// Looked for longer than allowed, to tell late from never.
		err := await(ctx, time.Until(d.injected.Add(bound*3/2+2*time.Second)), "not seen", func() error { return d.seen(s, &sight) })
		switch {
		case err != nil:
			fail("not seen by %s", sight.By)
		case sight.FiringSec > (bound + d.s.unscaled()).Seconds():
			fail("%s fired after %.1f s, the bound is %.1f s", sight.By, sight.FiringSec, bound.Seconds())
		}
		r.Sights = append(r.Sights, sight)
	}
	meanwhile()
}

// seen fills in when a sight fired.
func (d *drill) seen(s sight, out *Sight) error {
	if s.deadMan {
		// The switch goes off once the watchdog has missed three of its words.
		limit := 3 * d.s.scaled(15*time.Second)
		if silence := d.s.receiver.silence(); silence < limit {
			return errors.New("the watchdog still speaks")
		}
		out.FiringSec = time.Since(d.injected).Seconds()
		return nil
	}
	at, key := d.o.since(s.by, "firing")
	if at.IsZero() {
		return errors.New("it does not fire")
	}
	out.By = key.name
	out.FiringSec = at.Sub(d.injected).Seconds()
	if pending, _ := d.o.since([]string{key.name}, "pending"); !pending.IsZero() {
		out.PendingSec = pending.Sub(d.injected).Seconds()
	}
	return nil
}

// judge adds what was wrong all along.
func (d *drill) judge(r *Result, repaired time.Time, fail func(string, ...any)) {
	for _, key := range d.o.firing(false) {
		if d.f.about != "" && key.symbol != "" && key.symbol != d.f.about {
			fail("%s fired for %s, which has nothing to do with it", key.name, key.symbol)
		}
	}
	for _, key := range d.o.beganAfter(d.f.overAfter, repaired) {
		fail("%s %s began to fire after the repair", key.name, key.symbol)
	}
	for key := range d.s.receiver.since(d.injected) {
		if slices.Contains(d.f.overAfter, key.name) {
			fail("%s %s was told, and its cause was told already", key.name, key.symbol)
		}
		if !slices.Contains(alwaysAllowed, key.name) {
			r.Told = append(r.Told, strings.TrimSpace(key.name+" "+key.symbol))
		}
	}
	slices.Sort(r.Told)
	for _, p := range d.o.problems() {
		fail("%s", p)
	}
	for _, c := range d.s.children() {
		for _, text := range c.faults() {
			fail("%s", text)
		}
	}
}
