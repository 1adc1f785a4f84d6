package footprint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"syscall"
	"testing"
	"time"

	"quantumharvest/internal/livetest"
)

func TestPercent(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		live, busiest, garbage uint64
		want                   int
	}{
		{0, 0, 24 * mb, 100},
		{24 * mb, 0, 24 * mb, 100},
		{48 * mb, 0, 24 * mb, 50},
		{240 * mb, 9 * mb, 24 * mb, 10},
		{2400 * mb, 0, 24 * mb, leastPercent},
		{240 * mb, 0, 0, 100},
		// Small heaps: what is allocated within a look, and never less than half a megabyte.
		{4 * mb, 0, 0, 12},
		{4 * mb, 0, 24 * mb, 12},
		{4 * mb, 2 * mb, 0, 50},
		{4 * mb, 40 * mb, 0, 100},
		{smallHeap, 0, 0, 100},
	} {
		if got := percent(tc.live, tc.busiest, tc.garbage); got != tc.want {
			t.Errorf("percent(%d MB, %d MB, %d MB) = %d, want %d", tc.live/mb, tc.busiest/mb, tc.garbage/mb, got, tc.want)
		}
	}
}

// What counts is the second busiest look of late, so that neither starting up nor a single event is taken for work.
func TestBusy(t *testing.T) {
	var b busy
	total := uint64(0)
	see := func(allocated uint64, times int) (second uint64) {
		for range times {
			total += allocated
			second = b.look(total)
		}
		return second
	}
	if got := see(1000, 1); got != 0 {
		t.Errorf("starting up is %d bytes of work", got)
	}
	if got := see(500, 1); got != 0 {
		t.Errorf("one event is %d bytes of work", got)
	}
	if got := see(7, 5); got != 7 {
		t.Errorf("work is %d bytes, want 7", got)
	}
	if got := see(400, 1); got != 400 {
		t.Errorf("work at intervals is %d bytes, want 400", got)
	}
	if got := see(7, busyLooks); got != 7 {
		t.Errorf("work that has ended is %d bytes, want 7", got)
	}
}

// The collector follows the live heap, unless GOGC says what it is to do.
func TestTendFollowsTheHeap(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	alive := make([]float64, 4<<20) // 32 MB
	runtime.GC()
	t.Setenv("GOGC", "") // so that it is put back
	for _, gogc := range []string{"", "100"} {
		want := 100
		if gogc == "" {
			want = leastPercent
			os.Unsetenv("GOGC")
		} else {
			t.Setenv("GOGC", gogc)
		}
		debug.SetGCPercent(100)
		stop := tend(t, Options{Garbage: 1 << 20})
		if gogc == "" {
			livetest.Eventually(t, 30*time.Second, func() error { return isPercent(want) })
		} else {
			time.Sleep(look + look/2)
		}
		stop()
		if err := isPercent(want); err != nil {
			t.Errorf("GOGC=%q: %v", gogc, err)
		}
	}
	runtime.KeepAlive(alive)
}

// A small heap is looked through more often than Go would, unless GOGC says otherwise.
func TestTendKeepsASmallHeapSmall(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	alive := make([]float64, 512<<10) // 4 MB
	runtime.GC()
	t.Setenv("GOGC", "") // so that it is put back
	os.Unsetenv("GOGC")
	stop := tend(t, Options{})
	livetest.Eventually(t, 30*time.Second, func() error {
		if p := gcPercent(); p >= 100 || p < leastPercent {
			return fmt.Errorf("GOGC is %d beside 4 MB", p)
		}
		return nil
	})
	stop()
	runtime.KeepAlive(alive)
}

// What was free for a while is given back, and then not looked for again for a while.
func TestIdle(t *testing.T) {
	const much = leastIdle
	var i idle
	see := func(free uint64, times int) (released int) {
		for range times {
			if i.look(free) {
				released++
			}
		}
		return released
	}
	if see(much, idleLooks-1) != 0 || see(much, 1) != 1 {
		t.Error("what was free all the time is not given back when it was free for long enough")
	}
	if see(10*much, idleAgain) != 0 {
		t.Error("memory is given back again soon after the last time")
	}
	if see(10*much, idleLooks) != 1 {
		t.Error("memory is not given back again when that is allowed")
	}
	i = idle{}
	for range 10 {
		if see(10*much, idleLooks-1)+see(much-1, 1) != 0 {
			t.Fatal("memory that was needed in between is given back")
		}
	}
}

// What is freed leaves the process, although the collector would keep a tenth of its goal.
func TestTendGivesBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	alive := make([][]byte, 512) // of which more than a small heap stays
	for i := range alive {
		alive[i] = make([]byte, 64<<10)
	}
	stop := tend(t, Options{})
	for i := range alive {
		if i%3 != 0 {
			alive[i] = nil
		}
	}
	runtime.GC()
	livetest.Eventually(t, 60*time.Second, func() error {
		free := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}}
		metrics.Read(free)
		if v := free[0].Value.Uint64(); v >= leastIdle {
			return fmt.Errorf("%d bytes are free and still here", v)
		}
		return nil
	})
	stop()
	runtime.KeepAlive(alive)
}

// An operator hears why a figure is larger, but not where it is never done.
func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("vm.max_map_count is 1000"), "vm.max_map_count is 1000"},
		{errElsewhere, ""},
		{errors.Join(syscall.ENOSYS), "not implemented"},
		{nil, ""},
	} {
		var said strings.Builder
		report(slog.New(slog.NewTextHandler(&said, nil)), c.err)
		if got := said.String(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v: %q was said", c.err, got)
		}
	}
}

// tend runs Tend until it is stopped.
func tend(t *testing.T, o Options) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.Log = slog.New(slog.DiscardHandler)
		Tend(ctx, o)
	}()
	return func() { cancel(); <-done }
}

func isPercent(want int) error {
	if p := gcPercent(); p != want {
		return fmt.Errorf("GOGC is %d, want %d", p, want)
	}
	return nil
}

func gcPercent() int {
	got := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(got)
	return int(got[0].Value.Uint64())
}
