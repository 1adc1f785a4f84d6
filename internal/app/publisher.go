package app

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/internal/tracing"
)

// proposals is what the publisher needs of the store.
type proposals interface {
	Write(ctx context.Context, b store.Batch) (store.Results, error)
	Collect(ctx context.Context, extra []position.Symbol) (store.Collection, error)
	Remember(ctx context.Context, extra []position.Symbol) (store.Memory, error)
	AskLease(ctx context.Context, ask store.LeaseAsk) (store.LeaseAnswer, error)
}

// publisher owns the tickers of one engine: it steps it on every wake-up and just after every beat, carries its work
// to the store one piece at a time, and tells it what became of it. Beside that it keeps the engine's leases.
type publisher struct {
	engine  *engine.Engine
	store   proposals
	sources []feed.Source
	log     *slog.Logger
	met     *publisherMetrics
	// done ends the run early and with success: for --once and for a recording that has ended.
	done func(engine.Status) bool
	now  func() time.Time
	// watch sees when a step began and ended; nil: nobody measures.
	watch func(begin, end time.Time)
	// late sees what came too late or not at all; nil: nobody looks.
	late *lateness
	// trace follows proposals on their way; nil: nobody does.
	trace *tracing.Tracer

	// What whoever supervises looks at, from other goroutines.
	turns                      atomic.Uint64 // of the loop
	writingSince, leasingSince atomic.Int64  // when the work under way began, in ns; 0: none is
	draining                   draining

	requests chan func() // for the loop to carry out between two steps

	lanes     []*lane
	storeDown atomic.Bool // the last piece of some kind of work failed
	downSince time.Time
}

// beatOffset moves a beat just behind the whole second, so that the epoch it writes is as young as it can be.
const beatOffset = 3 * time.Millisecond

// storeTimeout bounds one piece of work; a store that is slower counts as away.
const storeTimeout = 5 * time.Second

// stopGrace is how long the work under way may still take when the run ends.
const stopGrace = time.Second

// run blocks until ctx ends, done says so or a source fails for good.
func (p *publisher) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	for _, src := range p.sources {
		group.Go(func() error { return src.Run(ctx, p.engine.Offer) })
	}
	group.Go(func() error {
		defer stop()
		p.loop(ctx)
		return nil
	})
	return group.Wait()
}

func (p *publisher) loop(ctx context.Context) {
	var (
		writing  = newLane(ctx, p, &p.writingSince) // batches, read-backs, memory
		leasing  = newLane(ctx, p, &p.leasingSince) // never waits for a batch: a slow one must not cost the lease
		auditDue bool
		timer    = time.NewTimer(0)
	)
	defer timer.Stop()
	p.lanes = []*lane{writing, leasing}
	for {
		select {
		case <-ctx.Done():
			p.end(ctx)
			return
		case <-p.engine.Wake():
		case <-timer.C:
		case answer := <-writing.answers:
			answer()
		case answer := <-leasing.answers:
			answer()
		case request := <-p.requests:
			request()
		}
		now := p.now()
		if !leasing.busy {
			if ask, due := p.engine.AskLease(now); due {
				leasing.start(func(ctx context.Context) (func(), error) { return p.askLease(ctx, ask) })
			}
		}
		free := !writing.busy && !now.Before(writing.resume)
		switch {
		case free && p.engine.WantsRecall(now):
			recall := p.engine.BeginRecall(now)
			writing.start(func(ctx context.Context) (func(), error) { return p.recall(ctx, recall) })
			free = false
		case free && auditDue:
			writing.start(p.audit)
			free, auditDue = false, false
		}
		due := p.engine.NextBeat()
		begin := p.now()
		work := p.engine.Step(now, free)
		end := p.now()
		p.met.stepped(work, end.Sub(now))
		if p.watch != nil {
			p.watch(begin, end)
		}
		if p.late != nil && work.Beat {
			p.late.beat(due, now)
		}
		auditDue = auditDue || work.Audit
		if !work.Empty() {
			story := p.follow(&work, begin, end)
			writing.start(func(ctx context.Context) (func(), error) { return p.carry(ctx, work, story) })
		}
		if p.done != nil && p.done(p.engine.Status()) {
			p.end(ctx)
			return
		}
		next := p.engine.NextBeat().Add(beatOffset)
		if !leasing.busy {
			next = earliest(next, p.engine.NextLease())
		}
		if !writing.busy && writing.resume.After(now) {
			next = earliest(next, writing.resume)
		}
		p.turns.Add(1)
		timer.Reset(max(0, next.Round(0).Sub(p.now().Round(0))))
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// end waits for what is under way and gives the leases up, so that a standby need not wait for them to run out.
func (p *publisher) end(ctx context.Context) {
	for _, l := range p.lanes {
		l.finish()
	}
	p.engine.Snapshot(p.now())
	if p.storeDown.Load() || p.engine.Status().Lease.Members == 0 {
		return // it cannot be told, or was never told of this process
	}
	leave := p.engine.LeaveLease(p.now())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if _, err := p.store.AskLease(ctx, leave.LeaseAsk); err != nil {
		p.log.Warn("the lease could not be given up: it runs out by itself", "err", err)
	}
}

// noteStore says when the store goes away and when it is back: as long as one kind of work fails, it is not.
func (p *publisher) noteStore(err error) {
	failing := false
	for _, l := range p.lanes {
		failing = failing || l.failures > 0
	}
	was := p.storeDown.Swap(failing)
	switch {
	case failing && !was:
		p.log.Error("store cannot be reached: evaluating goes on, writing waits", "err", err)
		p.downSince = time.Now()
		p.met.storeUp.Set(0)
	case was && !failing:
		p.log.Info("store is back", "after", time.Since(p.downSince).Round(time.Millisecond))
		p.met.storeUp.Set(1)
	case !failing:
		p.met.storeUp.Set(1)
	}
}

// ready tells whether proposals reach the store, and if not why. One that stands by is ready to take over.
func (p *publisher) ready(context.Context) (bool, string) {
	st := p.engine.Status()
	switch {
	case p.storeDown.Load():
		return false, "the store cannot be reached"
	case st.Lease.Conflict != "":
		return false, "other publishers divide the symbols in another way: " + st.Lease.Conflict
	case !st.Restored:
		return false, "the store has not been reached yet"
	}
	return true, ""
}

func (p *publisher) askLease(ctx context.Context, ask engine.LeaseAsk) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, ask.Patience())
	defer cancel()
	ans, err := p.store.AskLease(ctx, ask.LeaseAsk)
	return func() { p.engine.ConfirmLease(ask, ans, err, p.now()) }, err
}

func (p *publisher) recall(ctx context.Context, recall engine.Recall) (func(), error) {
	m, err := p.store.Remember(ctx, p.engine.Symbols())
	switch {
	case err != nil && recall.Late():
		p.log.Debug("what was out of reach still is", "err", err)
		return func() {}, nil
	case err != nil:
		return func() {}, err
	}
	return func() {
		first := !p.engine.Restored()
		p.engine.Restore(recall, m, p.now())
		if !first {
			return
		}
		found := 0
		for _, e := range m.Entries {
			if e.Found {
				found++
			}
		}
		p.log.Info("store reached", "proposals", found, "expected", len(m.Expected), "round_trip", m.RTT)
	}, nil
}

// carry writes a batch. story is nil where nobody follows it.
func (p *publisher) carry(ctx context.Context, work engine.Work, story *tracing.Batch) (func(), error) {
	begin := p.now()
	story.Sent(begin)
	res, err := p.store.Write(ctx, work.Batch)
	end := p.now()
	story.Back(end)
	if p.late != nil {
		p.late.batch(end.Sub(begin), err)
	}
	return func() {
		p.engine.Confirm(work, res, err, p.now())
		story.Confirmed(&work.Batch, res, err, p.now())
	}, err
}

// follow begins to follow the proposals of a batch, where somebody wants to.
func (p *publisher) follow(work *engine.Work, begin, end time.Time) *tracing.Batch {
	if p.trace == nil {
		return nil
	}
	return p.trace.Begin(&work.Batch, begin, end, func(s position.Symbol) string { return string(p.engine.Publishing(s)) })
}

// audit reads back what the store holds. That it does not succeed says nothing about writing, so it is no failure.
func (p *publisher) audit(ctx context.Context) (func(), error) {
	begin := p.now()
	c, err := p.store.Collect(ctx, p.engine.Symbols())
	if err != nil {
		p.log.Debug("proposals could not be read back", "err", err)
		return func() {}, nil
	}
	return func() {
		p.met.observe(c, begin)
		p.engine.Audit(c, p.now())
	}, nil
}
