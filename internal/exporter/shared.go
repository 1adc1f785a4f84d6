package exporter

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// shared lets concurrent callers share one run of a slow read. There is never more than one run at a time, whatever
// the callers and the read do, and a result is never given to a caller that came after the run had ended.
type shared[T any] struct {
	read func(context.Context) (T, error)

	mu  sync.Mutex
	run *run[T] // under way, nil if none is
}

type run[T any] struct {
	cancel  context.CancelCauseFunc
	waiting int           // callers, under the lock of shared
	done    chan struct{} // closed when the rest is set
	result  T
	err     error
	expired bool // the time of the caller who began it was up, or everybody had left
}

// get begins a run or joins the one under way, and returns by the end of ctx at the latest. joined tells that the
// result comes from a run that had begun before.
func (s *shared[T]) get(ctx context.Context) (result T, joined bool, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return result, joined, err
		}
		r, part := s.enter(ctx)
		if part == barred {
			select {
			case <-r.done:
			case <-ctx.Done():
			}
			continue
		}
		joined = part == follower
		select {
		case <-r.done:
			s.leave(r, nil)
			if joined && r.err != nil && r.expired && worthwhile(ctx) {
				continue // it ran into the deadline of the caller who began it, not into ours
			}
			return r.result, joined, r.err
		case <-ctx.Done():
			s.leave(r, ctx.Err())
			return result, joined, ctx.Err()
		}
	}
}

// worthwhile tells whether there is time left for a run of one's own: callers of the same moment give up together
// instead of one after the other.
func worthwhile(ctx context.Context) bool {
	deadline, bounded := ctx.Deadline()
	return ctx.Err() == nil && (!bounded || time.Until(deadline) >= 100*time.Millisecond)
}

// The parts a caller can have in a run.
type part int

const (
	leader   part = iota // began it
	follower             // joined it
	barred               // every caller has left it, but it has not noticed yet: wait for its end, so that runs never pile up
)

func (s *shared[T]) enter(ctx context.Context) (*run[T], part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.run; r != nil {
		if r.waiting == 0 {
			return r, barred
		}
		r.waiting++
		return r, follower
	}
	// The run serves whoever joins it: it keeps to the deadline of its first caller, but does not end with that one.
	detached, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	free := context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		detached, free = context.WithDeadline(detached, deadline)
	}
	r := &run[T]{cancel: cancel, waiting: 1, done: make(chan struct{})}
	s.run = r
	go func() {
		defer free()
		s.do(detached, r)
	}()
	return r, leader
}

// leave takes a caller off the run and cancels it with why where that was the last one.
func (s *shared[T]) leave(r *run[T], why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.waiting--
	if r.waiting == 0 {
		r.cancel(why)
	}
}

func (s *shared[T]) do(ctx context.Context, r *run[T]) {
	defer func() {
		if p := recover(); p != nil {
			r.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		// A read that keeps to the deadline by itself may end a moment before the context does.
		deadline, bounded := ctx.Deadline()
		r.expired = ctx.Err() != nil || bounded && !time.Now().Before(deadline)
		s.mu.Lock()
		s.run = nil
		s.mu.Unlock()
		close(r.done)
		r.cancel(nil)
	}()
	r.result, r.err = s.read(ctx)
}
