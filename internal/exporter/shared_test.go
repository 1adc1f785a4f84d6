package exporter

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// probe is a read that can be watched: it takes a while, and may not look at its context.
type probe struct {
	took  time.Duration
	deaf  bool
	now   atomic.Int32 // runs under way
	most  atomic.Int32
	total atomic.Int32
}

func (p *probe) read(ctx context.Context) (int, error) {
	p.most.Store(max(p.most.Load(), p.now.Add(1)))
	defer p.now.Add(-1)
	n := int(p.total.Add(1))
	timer := time.NewTimer(p.took)
	defer timer.Stop()
	if p.deaf {
		<-timer.C
		return n, ctx.Err()
	}
	select {
	case <-timer.C:
		return n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestConcurrentCallersShareOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &probe{took: 2 * time.Second}
		s := &shared[int]{read: p.read}
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var joined atomic.Int32
		for i := range 20 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 50 * time.Millisecond)
				n, j, err := s.get(ctx)
				if err != nil || n != 1 {
					t.Errorf("got %d, %v, want the first run", n, err)
				}
				if j {
					joined.Add(1)
				}
			})
		}
		wg.Wait()
		if joined.Load() != 19 {
			t.Errorf("%d callers joined, want 19", joined.Load())
		}
		// A caller that comes after the end never gets what was read before it came.
		if n, j, err := s.get(ctx); n != 2 || j || err != nil {
			t.Errorf("afterwards: %d, joined %v, %v, want a run of its own", n, j, err)
		}
	})
}

func TestCallersKeepTheirOwnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &probe{took: 3 * time.Second}
		s := &shared[int]{read: p.read}
		var wg sync.WaitGroup
		call := func(after, timeout time.Duration) func() (int, time.Duration, error) {
			var n int
			var err error
			var ended time.Duration
			start := time.Now()
			wg.Go(func() {
				time.Sleep(after)
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				n, _, err = s.get(ctx)
				ended = time.Since(start)
			})
			return func() (int, time.Duration, error) { return n, ended, err }
		}
		leader := call(0, 1*time.Second)
		hasty := call(100*time.Millisecond, 200*time.Millisecond)
		patient := call(500*time.Millisecond, 9*time.Second)
		wg.Wait()
		if n, ended, err := leader(); !errors.Is(err, context.DeadlineExceeded) || ended != time.Second {
			t.Errorf("leader: %d, %v after %v", n, err, ended)
		}
		if n, ended, err := hasty(); !errors.Is(err, context.DeadlineExceeded) || ended != 300*time.Millisecond {
			t.Errorf("hasty: %d, %v after %v", n, err, ended)
		}
		// The run ended with the time of its leader; the one with time left began another.
		if n, ended, err := patient(); n != 2 || err != nil || ended != 4*time.Second {
			t.Errorf("patient: %d, %v after %v", n, err, ended)
		}
	})
}

func TestARunGoesOnWithoutTheCallerWhoBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &probe{took: time.Second}
		s := &shared[int]{read: p.read}
		gone, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := s.get(gone); !errors.Is(err, context.Canceled) {
				t.Errorf("the one who left got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if n, _, err := s.get(t.Context()); n != 1 || err != nil {
				t.Errorf("the one who stayed got %d, %v", n, err)
			}
		})
		synctest.Wait()
		leave()
		wg.Wait()
	})
}

// A read that does not end, and does not look at its context, holds one goroutine and not one for every scrape.
func TestRunsNeverPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &probe{took: 61 * time.Second, deaf: true}
		s := &shared[int]{read: p.read}
		for range 100 {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, _, err := s.get(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v", err)
			}
			cancel()
			if took := time.Since(start); took != time.Second {
				t.Fatalf("a caller was held for %v", took)
			}
		}
		if p.most.Load() != 1 || p.total.Load() != 2 {
			t.Errorf("%d runs, %d at a time, want 2, one at a time", p.total.Load(), p.most.Load())
		}
		time.Sleep(time.Hour)
		if n, _, err := s.get(t.Context()); n != 3 || err != nil {
			t.Errorf("once it works again: %d, %v", n, err)
		}
	})
}

func TestAPanicIsAnError(t *testing.T) {
	s := &shared[int]{read: func(context.Context) (int, error) { panic("boom") }}
	for range 2 {
		if _, _, err := s.get(t.Context()); err == nil || !strings.Contains(err.Error(), "boom") || !strings.Contains(err.Error(), "shared_test.go") {
			t.Errorf("got %v, want the panic and where it was", err)
		}
	}
}

func TestNoRunForACallerWhoIsGone(t *testing.T) {
	p := &probe{}
	s := &shared[int]{read: p.read}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.get(ctx); !errors.Is(err, context.Canceled) || p.total.Load() != 0 {
		t.Errorf("got %v after %d runs", err, p.total.Load())
	}
}
