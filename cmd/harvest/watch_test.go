//go:build unix

package main

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// lines of what a command that runs meanwhile has written.
func lines(b *livetest.Buffer) []string {
	return strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
}

// startWatch runs harvest watch until the test ends; stop ends it and gives its exit code.
func startWatch(t *testing.T, args ...string) (out, errs *livetest.Buffer, stop func() int) {
	t.Helper()
	out, errs = &livetest.Buffer{}, &livetest.Buffer{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, append([]string{"watch"}, args...), process{stdout: out, stderr: errs, environ: []string{"PATH=" + os.Getenv("PATH")}})
	}()
	stop = sync.OnceValue(func() int { cancel(); return <-done })
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("output:\n%s\nlog:\n%s", strings.Join(lines(out), "\n"), strings.Join(lines(errs), "\n"))
		}
	})
	return out, errs, stop
}

// awaitLines waits until the output has all of these lines.
func awaitLines(t *testing.T, out *livetest.Buffer, want ...string) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for _, line := range want {
		for !slices.Contains(lines(out), line) {
			if time.Now().After(deadline) {
				t.Fatalf("%q does not come", line)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// A person's command runs on everything that changes in a real Redis, and on its death.
func TestWatchRunsACommand(t *testing.T) {
	t.Parallel()
	srv := realserver.Redis(t)
	d := openDesk(t, srv)
	d.change("BTCUSDT", nil)
	out, errs, stop := startWatch(t, "--redis", srv.URL(), "--initial", "--exec",
		`echo "$HARVEST_EVENT $HARVEST_SYMBOL $HARVEST_PREVIOUS_ACTION>$HARVEST_ACTION $HARVEST_STATE $HARVEST_NOT_REAL"; test "$HARVEST_EVENT" != state`)
	awaitLines(t, out, "appeared BTCUSDT NONE>NONE fresh synthetic,demo")
	d.change("BTCUSDT", func(p *store.Proposal) { p.Action = kernel.ActionPartial25 })
	awaitLines(t, out, "action BTCUSDT NONE>PARTIAL_25 fresh synthetic,demo")
	d.change("BTCUSDT", func(p *store.Proposal) { p.InputState = store.InputStaleMarket })
	awaitLines(t, out, "state BTCUSDT PARTIAL_25>PARTIAL_25 stale_market synthetic,demo")
	d.change("ETHUSDT", nil)
	awaitLines(t, out, "appeared ETHUSDT NONE>NONE fresh synthetic,demo")
	d.remove("ETHUSDT")
	awaitLines(t, out, "closed ETHUSDT NONE>NONE fresh synthetic,demo")
	srv.Kill()
	awaitLines(t, out, "store_lost  >  ")
	srv.Restart()
	awaitLines(t, out, "store_back  >  ")
	if code := stop(); code != exitOK {
		t.Errorf("exit %d", code)
	}
	log := strings.Join(lines(errs), "\n")
	if !strings.Contains(log, "the command failed") || !strings.Contains(log, "failed=1") {
		t.Errorf("the failure is not told:\n%s", log)
	}
}

func TestWatchPrints(t *testing.T) {
	t.Parallel()
	srv := realserver.Redis(t)
	d := openDesk(t, srv)
	d.change("BTCUSDT", nil)
	out, _, stop := startWatch(t, "--redis", srv.URL(), "--json", "--initial", "--on", "appeared")
	deadline := time.Now().Add(30 * time.Second)
	for lines(out)[0] == "" && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	var e struct{ Event, Symbol string }
	if err := json.Unmarshal([]byte(lines(out)[0]), &e); err != nil || e.Event != "appeared" || e.Symbol != "BTCUSDT" {
		t.Errorf("%v: %q", err, lines(out))
	}
}
