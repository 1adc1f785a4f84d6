//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// desk is a publisher that renews the same few proposals for as long as the test runs.
type desk struct {
	mu        sync.Mutex
	proposals map[position.Symbol]store.Proposal
}

func (d *desk) change(sym position.Symbol, change func(*store.Proposal)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, known := d.proposals[sym]
	if !known {
		p = store.Proposal{
			Symbol: sym, Action: kernel.ActionNone, RNet: 0.5, KillScore: 0.2, Side: position.Long, Entry: 100, Current: 101,
			Episode: "e1", InputState: store.InputFresh, MarketSource: "synthetic", PositionSource: "demo", Publisher: "test-desk",
		}
	}
	if change != nil {
		change(&p)
	}
	d.proposals[sym] = p
}

func (d *desk) remove(sym position.Symbol) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.proposals, sym)
}

// openDesk starts publishing; what is removed is closed.
func openDesk(t *testing.T, srv *realserver.RedisServer) *desk {
	t.Helper()
	d := &desk{proposals: map[position.Symbol]store.Proposal{}}
	st := store.New(store.Dial(store.ClientOptions{Addr: srv.Addr()}), store.NewKeys(store.KeysOptions{}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done; st.Close() })
	fence := time.Now().UnixMicro()
	go func() {
		defer close(done)
		written := map[position.Symbol]store.Proposal{}
		for ctx.Err() == nil {
			var b store.Batch
			now := time.Now()
			d.mu.Lock()
			for sym, p := range d.proposals {
				p.ComputedAt, p.LastUpdate, p.MarketAt, p.PositionAt = now, now, now, now
				p.ValidUntil, p.Fence = now.Add(60*time.Second), fence
				b.Publishes = append(b.Publishes, p)
				b.Expect = append(b.Expect, sym)
				written[sym] = p
			}
			for sym, p := range written {
				if _, there := d.proposals[sym]; !there {
					b.Closes = append(b.Closes, store.Close{Symbol: sym, Fence: fence, Reason: "flat", At: now, Last: p})
					b.Unexpect = append(b.Unexpect, sym)
				}
			}
			d.mu.Unlock()
			if _, err := st.Write(ctx, b); err == nil {
				for _, c := range b.Closes {
					delete(written, c.Symbol)
				}
			} // a Redis that is away is part of the test
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return d
}

// terminal is one program in a real terminal.
type terminal struct {
	t      *testing.T
	tmux   string
	socket string
}

// openTerminal runs a shell command in a terminal of its own; "harvest" is this program.
func openTerminal(t *testing.T, width, height int, command string, environ ...string) *terminal {
	t.Helper()
	dir := realserver.Dir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "harvest")); err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, tmux: realserver.Tool(t, "tmux"), socket: filepath.Join(dir, "tmux")}
	cmd := exec.Command(x.tmux, "-u", "-S", x.socket, "-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height),
		command+"; echo \"ended with $?\"; exec sleep 1000")
	cmd.Env = append(os.Environ(), append([]string{"PATH=" + dir + ":" + os.Getenv("PATH"), "SHELL=/bin/sh", "LC_ALL=C.UTF-8", "NO_COLOR=", "GORACE=atexit_sleep_ms=0"}, environ...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen at the end:\n%s", x.screen())
		}
		_ = exec.Command(x.tmux, "-S", x.socket, "kill-server").Run()
	})
	return x
}

func (x *terminal) do(args ...string) string {
	x.t.Helper()
	out, err := exec.Command(x.tmux, append([]string{"-S", x.socket}, args...)...).CombinedOutput()
	if err != nil {
		x.t.Fatalf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (x *terminal) screen() string { return x.do("capture-pane", "-p") }

// press presses keys as tmux names them; text is typed as it is.
func (x *terminal) press(keys ...string) {
	x.t.Helper()
	x.do(append([]string{"send-keys"}, keys...)...)
}

// await waits until every pattern is on the screen.
func (x *terminal) await(patterns ...string) string {
	x.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		screen, missing := x.screen(), ""
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(screen) {
				missing = p
			}
		}
		if missing == "" {
			return screen
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("%q does not come onto the screen:\n%s", missing, screen)
		}
		time.Sleep(30 * time.Millisecond)
	}
}

func TestTopInATerminal(t *testing.T) {
	t.Parallel()
	srv := realserver.Redis(t)
	d := openDesk(t, srv)
	d.change("BTCUSDT", func(p *store.Proposal) {
		p.Action, p.RNet, p.NewStop, p.Reasons = kernel.ActionPartial50, 4.2, 100.2, []string{"harvest_partial_50", "profit_lock"}
	})
	d.change("ETHUSDT", nil)
	d.change("SOLUSDT", func(p *store.Proposal) { p.Action, p.KillScore, p.Side = kernel.ActionFullClose, 0.83, position.Short })
	x := openTerminal(t, 80, 24, "harvest top --redis "+srv.URL())

	x.await("NOT REAL: synthetic market, demo positions", "expected 3 found 3", "publisher test-desk valid [0-9]+s", `~BTCUSDT +L 50% +\+4\.20 ━━╋━━╋──┼`,
		`publishes [0-9.]+/s  beats [0-9.]+/s  redis [0-9.]+ ms`)
	if colours := x.do("capture-pane", "-p", "-e"); !strings.Contains(colours, "\x1b[32m") {
		t.Errorf("nothing is green:\n%q", colours)
	}
	// What is written anew comes onto the screen.
	d.change("ETHUSDT", func(p *store.Proposal) { p.Action, p.RNet = kernel.ActionPartial25, 2.5 })
	x.await(`~ETHUSDT +L 25% +\+2\.50 ━━╋──┼──┼`)

	x.press("s")
	x.await(`(?s)sort action.*SOLUSDT.*BTCUSDT.*ETHUSDT`)
	x.press("/", "eth")
	x.await(`filter "eth": 1 of 3`)
	x.press("Enter")
	if screen := x.await("q quit"); strings.Contains(screen, "BTCUSDT") {
		t.Errorf("the filter hides nothing:\n%s", screen)
	}
	x.press("Escape")
	x.await("BTCUSDT")
	x.press("Home", "Down", "Enter")
	x.await(`harvest_partial_50 +the second tier is reached`, "profit_lock", "heartbeat", "esc back", `NOT REAL: synthetic, demo`)
	x.press("Down", "Down", "Down", "Down", "PageDown", "PageDown", "PageDown")
	x.await("valid_until_epoch", "position_peak_price")
	x.press("Escape")
	x.await("ETHUSDT")
	x.press("?")
	x.await("has reached one")
	x.press("?")
	x.press("p")
	x.await("PAUSED for [1-9]s")
	x.press("p")

	x.do("resize-window", "-x", "46", "-y", "12")
	if screen := x.await(`(?m)^~SOLUSDT  S CLOSE .*fresh *$`); strings.Contains(screen, "PAUSED") {
		t.Errorf("still paused:\n%s", screen)
	}
	x.do("resize-window", "-x", "140", "-y", "30")
	x.await("FLIP SPIK DROP  AGE +STOP BEAT")

	// A Redis that dies leaves its last picture, and comes back by itself.
	srv.Kill()
	x.await("REDIS IS AWAY for [0-9]+s, the picture is [1-9]s old", "is it running", "BTCUSDT")
	srv.Restart()
	screen := x.await("expected 3 found 3")
	for deadline := time.Now().Add(20 * time.Second); strings.Contains(screen, "AWAY"); screen = x.screen() {
		if time.Now().After(deadline) {
			t.Fatal("does not recover")
		}
		time.Sleep(30 * time.Millisecond)
	}
	x.press("q")
	x.await("ended with 0")
	if screen := x.screen(); strings.Contains(screen, "BTCUSDT") {
		t.Errorf("the terminal is not as it was before:\n%s", screen)
	}
}

func TestTopWithoutColours(t *testing.T) {
	t.Parallel()
	srv := realserver.Redis(t)
	openDesk(t, srv).change("BTCUSDT", nil)
	x := openTerminal(t, 80, 24, "harvest top --redis "+srv.URL(), "NO_COLOR=1")
	x.await("BTCUSDT", "fresh")
	if screen := x.do("capture-pane", "-p", "-e"); regexp.MustCompile(`\x1b\[([0-9;]*;)?[349][0-7]`).MatchString(screen) {
		t.Errorf("coloured:\n%q", screen)
	}
	x.press("C-c")
	x.await("ended with 0")
}

// Where nobody looks, the table is printed once.
func TestTopIntoAFile(t *testing.T) {
	t.Parallel()
	srv := realserver.Redis(t)
	d := openDesk(t, srv)
	d.change("BTCUSDT", nil)
	deadline := time.Now().Add(20 * time.Second)
	for {
		code, out, errs := runCommand(t, nil, "top", "--redis", srv.URL(), "--symbols", "BTCUSDT,XRPUSDT")
		if code != exitOK || errs != "" {
			t.Fatalf("exit %d: %s", code, errs)
		}
		if regexp.MustCompile(`(?m)^# NOT REAL: synthetic market, demo positions\n(.*\n)*~BTCUSDT .* fresh\n XRPUSDT .*no proposal, although it is expected\n`).MatchString(out) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got:\n%s", out)
		}
		time.Sleep(30 * time.Millisecond)
	}
	code, out, errs := runCommand(t, nil, "top", "--redis", srv.URL(), "--json")
	var one struct {
		Symbol, Status string
		Fields         map[string]string
	}
	if err := json.Unmarshal([]byte(out), &one); err != nil || code != exitOK || one.Symbol != "BTCUSDT" || one.Status != "fresh" || one.Fields["harvest_action"] != "NONE" {
		t.Errorf("exit %d, %v: %s%s", code, err, out, errs)
	}
	srv.Kill()
	if code, out, errs := runCommand(t, nil, "top", "--redis", srv.URL()); code != exitFailed || out != "" || !strings.Contains(errs, "is it running") {
		t.Errorf("without a Redis: exit %d: %s%s", code, out, errs)
	}
}

func TestUpInATerminalShowsTheTableAndThenTheSummary(t *testing.T) {
	t.Parallel()
	x := openTerminal(t, 100, 30, "harvest up --feed synthetic --embedded-redis-port 0 --metrics-port 0 --publisher-port 0")
	x.await("NOT REAL: synthetic market, demo positions", `~BTCUSDT .* fresh`, `~SOLUSDT .* fresh`, `level=INFO msg=`)
	x.press("q")
	x.await("ended with 0", `Ran [0-9.]+m?s: [0-9]+ evaluations`, `exporter +http://127`)
}

func TestUpInATerminalWithPlainLines(t *testing.T) {
	t.Parallel()
	x := openTerminal(t, 120, 40, "harvest up --feed synthetic --plain --for 2s --embedded-redis-port 0 --metrics-port 0 --publisher-port 0")
	x.await(`msg="position opened"`, "NOT REAL: market data is generated")
	x.await("ended with 0", `Ran [0-9.]+m?s`)
}
