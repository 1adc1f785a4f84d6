//go:build linux

package supervise_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/supervise"
	"quantumharvest/internal/supervise/supervisetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient bounds a wait for something that comes at once on an idle machine.
const patient = 20 * time.Second

// run runs a notifier until the test or stop ends it.
func run(t *testing.T, part supervise.Part) (n *supervise.Notifier, log *livetest.Buffer, stop func()) {
	t.Helper()
	log = &livetest.Buffer{}
	n, err := supervise.New(slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx, part)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return n, log, stop
}

func TestTheManagerIsTold(t *testing.T) {
	for _, abstract := range []bool{false, true} {
		t.Run(map[bool]string{false: "file", true: "abstract"}[abstract], func(t *testing.T) {
			m := supervisetest.New(t, abstract, 200*time.Millisecond)
			var works atomic.Bool
			n, _, stop := run(t, supervise.Part{
				Progress: func(context.Context) error {
					if works.Load() {
						return nil
					}
					return errors.New("the part\nhas not begun")
				},
				Status: func() string { return "3 open" },
			})
			m.Await(t, "STATUS=starting: the part has not begun", 3, time.Time{}, patient)
			n.Reload(func() {})
			if m.Count("READY=1", time.Time{})+m.Count("WATCHDOG=1", time.Time{})+m.Count("RELOADING=1", time.Time{}) != 0 {
				t.Fatalf("a part that has not begun is called ready: %v", m.Heard())
			}
			works.Store(true)
			m.Await(t, "READY=1", 1, time.Time{}, patient)
			m.Await(t, "WATCHDOG=1", 5, time.Time{}, patient)
			m.Await(t, "STATUS=3 open", 5, time.Time{}, patient)
			if got := m.Count("READY=1", time.Time{}); got != 1 {
				t.Errorf("READY=1 was told %d times", got)
			}

			taken := false
			n.Reload(func() {
				taken = true
				m.Await(t, "RELOADING=1", 1, time.Time{}, patient)
				if m.Last("MONOTONIC_USEC=") == "" || m.Count("READY=1", time.Time{}) != 1 {
					t.Errorf("a reload under way is told as %v", m.Heard())
				}
			})
			if m.Await(t, "READY=1", 2, time.Time{}, patient); !taken {
				t.Error("the reload did not take place")
			}
			stop()
			m.Await(t, "STOPPING=1", 1, time.Time{}, patient)
		})
	}
}

func TestAHangStopsTheFeeding(t *testing.T) {
	block := make(chan struct{})
	for name, hang := range map[string]func() error{
		"said":               func() error { return errors.New("the loop stands still") },
		"does not come back": func() error { <-block; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			m := supervisetest.New(t, false, 100*time.Millisecond)
			var hangs atomic.Bool
			_, log, _ := run(t, supervise.Part{Progress: func(context.Context) error {
				if hangs.Load() {
					return hang()
				}
				return nil
			}})
			m.Await(t, "WATCHDOG=1", 3, time.Time{}, patient)
			hangs.Store(true)
			m.Await(t, "STATUS=hangs: the lo", 1, time.Time{}, patient)
			since := time.Now()
			time.Sleep(time.Second)
			if got := m.Count("WATCHDOG=1", since); got != 0 {
				t.Errorf("the watchdog was fed %d times although nothing moves", got)
			}
			if got := strings.Count(log.String(), "no progress"); got != 1 {
				t.Errorf("the hang was logged %d times, want once:\n%s", got, log.String())
			}
			hangs.Store(false)
			if name != "said" {
				close(block)
			}
			m.Await(t, "WATCHDOG=1", 1, time.Now(), patient)
		})
	}
}

func TestNobodyIsToldWhereNobodyAsked(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	looked := false
	_, _, stop := run(t, supervise.Part{Progress: func(context.Context) error { looked = true; return nil }})
	time.Sleep(100 * time.Millisecond)
	if stop(); looked {
		t.Error("progress was looked for although nobody is told")
	}
}

func TestAManagerThatIsGoneIsNoReasonToEnd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", t.TempDir()+"/nobody")
	t.Setenv("WATCHDOG_USEC", "20000")
	_, log, stop := run(t, supervise.Part{Progress: func(context.Context) error { return nil }})
	for end := time.Now().Add(patient); !strings.Contains(log.String(), "cannot be told"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it was not said that nobody listens")
		}
	}
	time.Sleep(200 * time.Millisecond)
	if stop(); strings.Count(log.String(), "cannot be told") != 1 {
		t.Errorf("it was said more than once:\n%s", log.String())
	}
}

func TestAWatchdogThatCannotBeReadIsRefused(t *testing.T) {
	for _, usec := range []string{"soon", "-1", "0"} {
		t.Setenv("NOTIFY_SOCKET", "@nobody")
		t.Setenv("WATCHDOG_USEC", usec)
		if _, err := supervise.New(slog.Default()); err == nil || !strings.Contains(err.Error(), "WATCHDOG_USEC") {
			t.Errorf("WATCHDOG_USEC=%s: %v", usec, err)
		}
	}
}

func TestAWatchdogOfAnotherProcessIsNotFed(t *testing.T) {
	m := supervisetest.New(t, false, 50*time.Millisecond)
	t.Setenv("WATCHDOG_PID", "1")
	_, _, stop := run(t, supervise.Part{Progress: func(context.Context) error { return nil }})
	m.Await(t, "READY=1", 1, time.Time{}, patient)
	time.Sleep(200 * time.Millisecond)
	if stop(); m.Count("WATCHDOG=1", time.Time{}) != 0 {
		t.Error("the watchdog of another process was fed")
	}
}

func TestAdvance(t *testing.T) {
	var a supervise.Advance
	at := time.Now()
	for i, step := range []struct {
		value uint64
		after time.Duration
		want  time.Duration
	}{{7, 0, 0}, {7, time.Second, time.Second}, {8, 3 * time.Second, 0}, {8, 8 * time.Second, 5 * time.Second}, {7, 9 * time.Second, 0}} {
		if got := a.Still(step.value, at.Add(step.after)); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
}

// A stop in the middle of a reload: the manager must not hear, after it was told of the end, that all is ready.
func TestNothingIsToldAfterTheEnd(t *testing.T) {
	m := supervisetest.New(t, false, 0)
	n, _, stop := run(t, supervise.Part{Progress: func(context.Context) error { return nil }})
	m.Await(t, "READY=1", 1, time.Time{}, patient)
	n.Reload(func() {
		stop()
		m.Await(t, "STOPPING=1", 1, time.Time{}, patient)
	})
	n.Reload(func() {})
	time.Sleep(200 * time.Millisecond)
	if m.Count("READY=1", time.Time{}) != 1 || m.Count("RELOADING=1", time.Time{}) != 1 {
		t.Errorf("the manager heard after the end: %v", m.Heard())
	}
}
