package app

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// proposals is what the publisher needs of the store.
type proposals interface {
	Write(ctx context.Context, b store.Batch) (store.Results, error)
	Collect(ctx context.Context, extra []position.Symbol) (store.Collection, error)
	NewFence(ctx context.Context) (int64, error)
}

// publisher owns the tickers of one engine: it steps it on every wake-up and just after every beat, carries its work
// to the store one piece at a time, and tells it what became of it.
type publisher struct {
	engine  *engine.Engine
	store   proposals
	sources []feed.Source
	log     *slog.Logger
	met     *publisherMetrics
	// done ends the run early and with success: for --once and for a recording that has ended.
	done func(engine.Status) bool

	storeDown atomic.Bool // the last piece of work failed

	symbols []position.Symbol // configured ones: read back although not in the expected set
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
		answers  = make(chan func(), 1) // one piece of work is under way at a time
		busy     bool
		pause    = backoff.NewExponentialBackOff()
		resume   time.Time // not before, after a failure
		failing  bool
		failures int
		auditDue bool
		timer    = time.NewTimer(0)
	)
	pause.InitialInterval, pause.MaxInterval = 50*time.Millisecond, time.Second
	defer timer.Stop()

	// start carries out one piece of work in the background; settle runs back here.
	start := func(work func(context.Context) (settle func(), err error)) {
		busy = true
		go func() {
			// What is on its way when the run ends is not torn off: its outcome would be unknown.
			wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
			defer cancel()
			stopping := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })
			defer stopping()
			begin := time.Now()
			settle, err := work(wctx)
			took := time.Since(begin)
			answers <- func() {
				busy = false
				settle()
				p.met.storeSeconds.Observe(took.Seconds())
				if err == nil {
					if failing {
						p.log.Info("store is back", "after_failures", failures)
					}
					failing, failures = false, 0
					p.setStoreDown(false)
					pause.Reset()
					return
				}
				wait := pause.NextBackOff()
				resume = time.Now().Add(wait)
				p.met.storeErrors.Inc()
				if !failing {
					p.log.Error("store cannot be reached: evaluating goes on, writing waits", "err", err)
				}
				failing = true
				failures++
				p.setStoreDown(true)
			}
		}()
	}

	for {
		select {
		case <-ctx.Done():
			if busy {
				(<-answers)()
			}
			p.engine.Snapshot(time.Now())
			return
		case <-p.engine.Wake():
		case <-timer.C:
		case answer := <-answers:
			answer()
		}
		now := time.Now()
		free := !busy && !now.Before(resume)
		switch {
		case free && !p.engine.Restored():
			start(p.restore)
			free = false
		case free && p.engine.WantsFence():
			start(p.takeFence)
			free = false
		case free && auditDue:
			start(p.audit)
			free, auditDue = false, false
		}
		work := p.engine.Step(now, free)
		p.met.stepped(work, time.Since(now))
		auditDue = auditDue || work.Audit
		if !work.Empty() {
			start(func(ctx context.Context) (func(), error) { return p.carry(ctx, work) })
		}
		if p.done != nil && p.done(p.engine.Status()) {
			if busy {
				(<-answers)()
			}
			p.engine.Snapshot(time.Now())
			return
		}
		next := p.engine.NextBeat().Add(beatOffset)
		if !busy && resume.After(now) && resume.Before(next) {
			next = resume
		}
		timer.Reset(max(0, next.Round(0).Sub(time.Now().Round(0))))
	}
}

func (p *publisher) setStoreDown(down bool) {
	p.storeDown.Store(down)
	up := 1.0
	if down {
		up = 0
	}
	p.met.storeUp.Set(up)
}

// ready tells whether proposals reach the store, and if not why.
func (p *publisher) ready(context.Context) (bool, string) {
	switch {
	case p.storeDown.Load():
		return false, "the store cannot be reached"
	case !p.engine.Status().Restored:
		return false, "the store has not been reached yet"
	}
	return true, ""
}

func (p *publisher) restore(ctx context.Context) (func(), error) {
	c, err := p.store.Collect(ctx, p.symbols)
	if err != nil {
		return func() {}, err
	}
	return func() {
		p.engine.Restore(c, time.Now())
		found := 0
		for _, e := range c.Entries {
			if e.Found {
				found++
			}
		}
		p.log.Info("store reached", "proposals", found, "expected", len(c.Expected), "round_trip", c.RTT)
	}, nil
}

func (p *publisher) takeFence(ctx context.Context) (func(), error) {
	f, err := p.store.NewFence(ctx)
	if err != nil {
		return func() {}, err
	}
	return func() { p.engine.SetFence(f) }, nil
}

// carry writes a batch.
func (p *publisher) carry(ctx context.Context, work engine.Work) (func(), error) {
	res, err := p.store.Write(ctx, work.Batch)
	return func() { p.engine.Confirm(work, res, err, time.Now()) }, err
}

// audit reads back what the store holds. That it does not succeed says nothing about writing, so it is no failure.
func (p *publisher) audit(ctx context.Context) (func(), error) {
	c, err := p.store.Collect(ctx, p.engine.Symbols())
	if err != nil {
		p.log.Debug("proposals could not be read back", "err", err)
		return func() {}, nil
	}
	return func() {
		p.met.observe(c)
		p.engine.Audit(c, time.Now())
	}, nil
}
