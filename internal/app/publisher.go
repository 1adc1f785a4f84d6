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
	Head(ctx context.Context) (store.Collection, error)
	Entries(ctx context.Context, syms []position.Symbol) ([]store.Entry, error)
	Remember(ctx context.Context, extra []position.Symbol) (store.Memory, error)
	AskLease(ctx context.Context, ask store.LeaseAsk) (store.LeaseAnswer, error)
}

// publisher owns the tickers of one engine: it steps it on every wake-up and just after every beat, carries its work
// to the store, what is urgent and what is routine one piece at a time each, and tells it what became of it. Beside that it keeps
// the engine's leases.
type publisher struct {
	engine    *engine.Engine
	heartbeat time.Duration // interval
	store     proposals
	sources   []feed.Source
	log       *slog.Logger
	met       *publisherMetrics
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
	writingSince, routineSince atomic.Int64  // when the work under way began, in ns; 0: none is
	leasingSince               atomic.Int64
	draining                   draining

	requests chan func() // for the loop to carry out between two steps

	// Of the loop alone.
	writing  *lane // what is urgent; read-backs and memory, which have the store to themselves
	routine  *lane // heartbeats: what a tick leads to does not wait for them
	leasing  *lane // never waits for a batch: a slow one must not cost the lease
	alone    bool  // what is under way has the store to itself, but for the lease
	auditDue bool
	toRead   []position.Symbol // next part of the read-back under way, if one is
	turned   bool              // what is to be written has had its turn since the last reading
	pause    time.Time         // no heartbeats before

	storeDown atomic.Bool // the last piece of some kind of work failed
	downSince time.Time
}

// mostSpread is over how long the heartbeats of a beat are spread at most, and a quarter of an interval: all at once they would
// keep server and processor from what a tick leads to. Those that fit into one batch go at once.
const mostSpread = 250 * time.Millisecond

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
	writes := newTries()
	p.writing, p.routine = newLane(ctx, p, &p.writingSince, writes), newLane(ctx, p, &p.routineSince, writes)
	p.leasing = newLane(ctx, p, &p.leasingSince, newTries())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			p.end(ctx)
			return
		case <-p.engine.Wake():
		case <-timer.C:
		case answer := <-p.writing.answers:
			answer()
			p.alone = false
		case answer := <-p.routine.answers:
			answer()
		case answer := <-p.leasing.answers:
			answer()
		case request := <-p.requests:
			request()
		}
		now := p.now()
		if !p.leasing.busy {
			if ask, due := p.engine.AskLease(now); due {
				p.leasing.start(func(ctx context.Context) (func(), error) { return p.askLease(ctx, ask) })
			}
		}
		due := p.engine.NextBeat()
		begin := p.now()
		stepped := p.engine.Step(now)
		p.toStore(now, begin)
		end := p.now()
		p.met.stepped(stepped, end.Sub(now))
		if p.watch != nil {
			p.watch(begin, end)
		}
		if p.late != nil && stepped.Beat {
			p.late.beat(due, now)
		}
		if p.done != nil && p.done(p.engine.Status()) {
			p.end(ctx)
			return
		}
		p.turns.Add(1)
		timer.Reset(max(0, p.wait()))
	}
}

// toStore starts what is to be done at the store, after a step that began at begin.
func (p *publisher) toStore(now, begin time.Time) {
	recalls := p.engine.WantsRecall(now)
	switch {
	case p.alone:
	case recalls || p.auditDue || len(p.toRead) > 0 && p.turned:
		if !p.writing.free(now) || p.routine.busy {
			return
		}
		p.alone, p.turned = true, false
		switch {
		case recalls:
			recall := p.engine.BeginRecall(now)
			p.writing.start(func(ctx context.Context) (func(), error) { return p.recall(ctx, recall) })
		case p.auditDue:
			p.auditDue = false
			p.writing.start(p.audit)
		default:
			part := p.toRead
			p.toRead = nil
			p.writing.start(func(ctx context.Context) (func(), error) { return p.auditPart(ctx, part) })
		}
	default:
		if p.writing.free(now) {
			work := p.engine.Urgent(now)
			p.auditDue = work.Audit && len(p.toRead) == 0 // a read-back that takes longer than a cycle is ended first
			p.turned = true
			p.send(p.writing, work, begin)
		}
		if p.routine.free(now) && !now.Before(p.pause) {
			work := p.engine.Routine(now)
			p.send(p.routine, work, begin)
			p.pause = now.Add(share(p.heartbeat, len(work.Batch.Beats), p.engine.Status().Open))
		}
	}
}

// wait is for how long the loop may rest. Beats and leases go by the wall clock, pauses by that which nobody sets.
func (p *publisher) wait() time.Duration {
	now := p.now()
	due := p.engine.NextBeat().Add(beatOffset)
	if !p.leasing.busy {
		due = earliest(due, p.engine.NextLease())
	}
	wait := due.Round(0).Sub(now.Round(0))
	if len(p.toRead) > 0 && p.turned && p.writing.free(now) && !p.routine.busy {
		return 0
	}
	if resume := p.writing.tries.resume; resume.After(now) && !(p.writing.busy && p.routine.busy) {
		wait = min(wait, resume.Sub(now))
	}
	if p.pause.After(now) && !p.routine.busy {
		wait = min(wait, p.pause.Sub(now))
	}
	return wait
}

func (p *publisher) lanes() [3]*lane { return [...]*lane{p.writing, p.routine, p.leasing} }

// share is how much of the time over which the heartbeats of all open positions are spread goes to a batch with so many of them.
func share(interval time.Duration, beats, open int) time.Duration {
	if open == 0 {
		return 0
	}
	return min(mostSpread, interval/4) * time.Duration(min(beats, open)) / time.Duration(open)
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// end waits for what is under way and gives the leases up, so that a standby need not wait for them to run out.
func (p *publisher) end(ctx context.Context) {
	for _, l := range p.lanes() {
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
	for _, l := range p.lanes() {
		failing = failing || l.tries.failures > 0
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

// send starts to write what there is, of a step that began at begin.
func (p *publisher) send(l *lane, work engine.Work, begin time.Time) {
	if work.Empty() {
		return
	}
	story := p.follow(&work, begin, p.now())
	l.start(func(ctx context.Context) (func(), error) { return p.carry(ctx, work, story) })
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

// audit begins to read back what the store holds. That it does not succeed says nothing about writing, so it is no failure.
func (p *publisher) audit(ctx context.Context) (func(), error) {
	begin := p.now()
	c, err := p.store.Head(ctx)
	if err != nil {
		return p.unreadable(err)
	}
	return func() {
		p.met.observe(c, begin)
		p.engine.AuditExpected(c, p.now())
		p.toRead = p.engine.AuditNext()
	}, nil
}

// auditPart reads a part of the proposals back.
func (p *publisher) auditPart(ctx context.Context, part []position.Symbol) (func(), error) {
	entries, err := p.store.Entries(ctx, part)
	if err != nil {
		return p.unreadable(err)
	}
	return func() {
		p.engine.AuditEntries(entries, p.now())
		p.toRead = p.engine.AuditNext()
	}, nil
}

// unreadable ends a read-back until the next cycle.
func (p *publisher) unreadable(err error) (func(), error) {
	p.log.Debug("proposals could not be read back", "err", err)
	return func() {}, nil
}
