package app

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// lane carries work to the store, one piece at a time, while the loop that owns it goes on. Everything but the work
// itself runs in that loop.
type lane struct {
	ctx     context.Context // of the run: work under way when it ends gets a moment to finish
	p       *publisher
	answers chan func()
	busy    bool
	since   *atomic.Int64 // when the work under way began, in ns; 0: none is
	tries   *tries
}

// tries is how one kind of work went of late. Lanes that carry the same kind share it: what one of them succeeds with, the other
// need not wait for.
type tries struct {
	failures int       // in a row
	resume   time.Time // after a failure: not before
	pause    *backoff.ExponentialBackOff
}

func newTries() *tries {
	t := &tries{pause: backoff.NewExponentialBackOff()}
	t.pause.InitialInterval, t.pause.MaxInterval = 50*time.Millisecond, time.Second
	return t
}

func newLane(ctx context.Context, p *publisher, since *atomic.Int64, t *tries) *lane {
	return &lane{ctx: ctx, p: p, since: since, answers: make(chan func(), 1), tries: t}
}

// start carries out one piece of work in the background. The loop takes its answer from answers and calls it; settle runs
// there.
func (l *lane) start(work func(context.Context) (settle func(), err error)) {
	l.busy = true
	l.since.Store(time.Now().UnixNano())
	go func() {
		// What is on its way when the run ends is not torn off: its outcome would be unknown.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), storeTimeout)
		defer cancel()
		stopping := context.AfterFunc(l.ctx, func() { time.AfterFunc(stopGrace, cancel) })
		defer stopping()
		begin := time.Now()
		settle, err := work(ctx)
		took := time.Since(begin)
		l.answers <- func() {
			l.busy = false
			l.since.Store(0)
			settle()
			l.p.met.storeSeconds.Observe(took.Seconds())
			l.note(err)
		}
	}()
}

// free tells whether a piece of work may start.
func (l *lane) free(now time.Time) bool { return !l.busy && !now.Before(l.tries.resume) }

// note takes in how one piece of work went.
func (l *lane) note(err error) {
	t := l.tries
	if err == nil {
		t.failures, t.resume = 0, time.Time{}
		t.pause.Reset()
	} else {
		t.failures++
		t.resume = l.p.now().Add(t.pause.NextBackOff())
		l.p.met.storeErrors.Inc()
	}
	l.p.noteStore(err)
}

// finish waits for what is under way.
func (l *lane) finish() {
	if l.busy {
		(<-l.answers)()
	}
}
