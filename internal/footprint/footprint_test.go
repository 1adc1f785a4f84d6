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

func isPercent(want int) error {
	got := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(got)
	if v := got[0].Value.Uint64(); v != uint64(want) {
		return fmt.Errorf("GOGC is %d, want %d", v, want)
	}
	return nil
}
