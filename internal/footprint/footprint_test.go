package footprint

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"quantumharvest/internal/livetest"
)

func TestPercent(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		live, garbage uint64
		want          int
	}{
		{0, 24 * mb, 100},
		{24 * mb, 24 * mb, 100},
		{48 * mb, 24 * mb, 50},
		{240 * mb, 24 * mb, 10},
		{2400 * mb, 24 * mb, leastPercent},
	} {
		if got := percent(tc.live, tc.garbage); got != tc.want {
			t.Errorf("percent(%d MB, %d MB) = %d, want %d", tc.live/mb, tc.garbage/mb, got, tc.want)
		}
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
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Tend(ctx, Options{Garbage: 1 << 20})
		}()
		if gogc == "" {
			livetest.Eventually(t, 30*time.Second, func() error { return isPercent(want) })
		} else {
			time.Sleep(look + look/2)
		}
		cancel()
		<-done
		if err := isPercent(want); err != nil {
			t.Errorf("GOGC=%q: %v", gogc, err)
		}
	}
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
	alive := make([][]byte, 512)
	for i := range alive {
		alive[i] = make([]byte, 64<<10)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Tend(ctx, Options{})
	}()
	for i := range alive {
		if i%8 != 0 {
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
	cancel()
	<-done
	runtime.KeepAlive(alive)
}

func isPercent(want int) error {
	got := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(got)
	if v := got[0].Value.Uint64(); v != uint64(want) {
		return fmt.Errorf("GOGC is %d, want %d", v, want)
	}
	return nil
}
