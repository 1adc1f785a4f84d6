//go:build unix

package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// start runs commands until the test ends or stop is called, which waits.
func start(t *testing.T, o CommandOptions) (c *Commands, stop func()) {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet
	}
	if o.Environ == nil {
		o.Environ = []string{"PATH=" + os.Getenv("PATH"), "HARVEST_SYMBOL=inherited"}
	}
	c, err := NewCommands(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return c, stop
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func about1(sym position.Symbol, n int) Event {
	return Event{Kind: Action, At: epoch, Symbol: sym, PreviousAction: kernel.ActionNone, Proposal: store.Proposal{
		Symbol: sym, Action: kernel.ActionPartial25, Revision: int64(n),
	}}
}

// What is in the store reaches the command as data and never as something to run.
func TestCommandIsNotInjectedInto(t *testing.T) {
	dir := t.TempDir()
	trap := filepath.Join(dir, "trap")
	var out livetest.Buffer
	c, stop := start(t, CommandOptions{
		Command: `printf '%s|%s|' "$HARVEST_SYMBOL" "$HARVEST_REASONS"; cat`, Out: &out, Err: &out,
	})
	e := about1("BTCUSDT", 1)
	evil := "$(touch " + trap + ");`touch " + trap + "`'; touch " + trap + " #"
	e.Proposal.Reasons = []string{evil}
	c.Handle(e)
	eventually(t, "the command ended", func() bool { return c.Tally().Run == 1 })
	stop()
	head, body, _ := strings.Cut(out.String(), "|{")
	if head != "BTCUSDT|"+evil {
		t.Errorf("got %s", head)
	}
	var js struct{ Reasons []string }
	if err := json.Unmarshal([]byte("{"+body), &js); err != nil || len(js.Reasons) != 1 || js.Reasons[0] != evil {
		t.Errorf("on its input: %s (%v)", body, err)
	}
	if _, err := os.Stat(trap); err == nil {
		t.Error("text from the store was run")
	}
}

// A failing command, one that cannot be found and one that is too slow are counted and logged, and hold up nobody.
func TestCommandsThatFail(t *testing.T) {
	for name, c := range map[string]struct{ command, says string }{
		"exit":      {"exit 3", "exit status 3"},
		"not found": {"no-such-command-anywhere", "exit status 127"},
		"input not read": {
			"exec <&-; exit 0", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log livetest.Buffer
			cmds, stop := start(t, CommandOptions{Command: c.command, Log: slog.New(slog.NewTextHandler(&log, nil))})
			e := about1("A", 1)
			e.Proposal.Reasons = []string{strings.Repeat("x", 1<<20)} // more than a pipe holds
			cmds.Handle(e)
			eventually(t, "it ended", func() bool { t := cmds.Tally(); return t.Run+t.Failed == 1 })
			stop()
			if failed := cmds.Tally().Failed == 1; failed != (c.says != "") || !strings.Contains(log.String(), c.says) {
				t.Errorf("%+v, log %s", cmds.Tally(), log.String())
			}
		})
	}
	if _, err := NewCommands(CommandOptions{}); err == nil {
		t.Error("without a command")
	}
}

// The end of a slow command is that of its children.
func TestCommandTimeout(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	var log livetest.Buffer
	c, stop := start(t, CommandOptions{
		Command: "sleep 300 & echo $! >" + pid + ".new; mv " + pid + ".new " + pid + "; wait", Timeout: 300 * time.Millisecond,
		Out: &log, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	c.Handle(about1("A", 1))
	eventually(t, "it was stopped", func() bool { return c.Tally().Failed == 1 })
	stop()
	if !strings.Contains(log.String(), "did not end within 300ms") {
		t.Errorf("log: %s", log.String())
	}
	raw, err := os.ReadFile(pid)
	if os.IsNotExist(err) {
		return // stopped before it began: a machine this slow shows nothing either way
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child is gone", func() bool {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err == nil && strings.Contains(string(state), ") Z ") {
			return true // ended, and nobody has asked how
		}
		return syscall.Kill(child, 0) != nil
	})
}

// Runs of one symbol come one after the other and in order; of all, no more than Parallel at a time.
func TestCommandsAreBounded(t *testing.T) {
	dir := t.TempDir()
	var out livetest.Buffer
	c, stop := start(t, CommandOptions{
		// A run that finds its own lock there was started too early.
		Command: `mkdir "` + dir + `/$HARVEST_SYMBOL" || echo overlap; mkdir "` + dir + `/slot1" 2>/dev/null && slot=slot1 || { mkdir "` + dir +
			`/slot2" && slot=slot2 || echo too many; }; echo "$HARVEST_SYMBOL $HARVEST_REVISION"; sleep 0.02; rmdir "` + dir + `/$slot" "` + dir + `/$HARVEST_SYMBOL"`,
		Parallel: 2, Out: &out, Err: &out,
	})
	for n := range 5 {
		for _, sym := range []position.Symbol{"A", "B", "C"} {
			c.Handle(about1(sym, n))
		}
	}
	eventually(t, "all ran", func() bool { t := c.Tally(); return t.Run+t.Failed == 15 })
	stop()
	if got := c.Tally(); got != (Tally{Run: 15}) {
		t.Errorf("%+v: %s", got, out.String())
	}
	next := map[string]int{}
	for line := range strings.Lines(out.String()) {
		sym, n, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n != strconv.Itoa(next[sym]) {
			t.Fatalf("out of order, or at the same time:\n%s", out.String())
		}
		next[sym]++
	}
}

func TestCommandsThatPileUp(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	for _, n := range []string{"0", "3", "4"} {
		if err := syscall.Mkfifo(gate+n, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, log livetest.Buffer
	c, stop := start(t, CommandOptions{
		Command: `read -r _ <"` + gate + `$HARVEST_REVISION"; echo "$HARVEST_REVISION"`, Parallel: 1, Waiting: 2, Out: &out, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	c.Handle(about1("A", 0))
	eventually(t, "the first one runs", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.running == 1 })
	for n := 1; n <= 4; n++ {
		c.Handle(about1("A", n))
	}
	if got := c.Tally().Dropped; got != 2 || !strings.Contains(log.String(), "an event is dropped") {
		t.Errorf("%d dropped: %s", got, log.String())
	}
	open := func(n string) {
		f, err := os.OpenFile(gate+n, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("\n")
			f.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	open("0")
	open("3")
	eventually(t, "two ran", func() bool { return c.Tally().Run >= 2 })
	// At the end the one under way ends, and what waits is dropped and said.
	eventually(t, "the third one runs", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.running == 1 && len(c.waiting) == 0 })
	c.Handle(about1("B", 9))
	ended := make(chan struct{})
	go func() { defer close(ended); stop() }()
	eventually(t, "no more is taken", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.closed })
	open("4")
	<-ended
	c.Handle(about1("B", 10))
	if got := c.Tally(); got != (Tally{Run: 3, Dropped: 4}) || out.String() != "0\n3\n4\n" {
		t.Errorf("%+v: %q", got, out.String())
	}
}
