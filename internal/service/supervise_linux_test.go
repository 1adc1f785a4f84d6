package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"quantumharvest/internal/livetest"
)

// TestMain is harvest supervise where it is called like that.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == "supervise" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := (Supervisor{Root: os.Args[3]}).Run(ctx, os.Args[5]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const trial = "trial.service"

// newTrial is a root with a unit that runs a shell script.
func newTrial(t *testing.T, script string) Exec {
	t.Helper()
	e := Exec{Root: t.TempDir(), Self: os.Args[0]}
	path := filepath.Join(e.Root, "run.sh")
	for name, text := range map[string]string{
		path:                                   "#!/bin/sh\n" + script + "\n",
		filepath.Join(e.Root, AdminDir, trial): "[Service]\nExecStart=" + path + "\nRestart=always\nTimeoutStopSec=1\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// begin starts the unit and gives its two processes; they end with the test.
func begin(t *testing.T, e Exec) (supervisor, child int) {
	t.Helper()
	if err := e.Start(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	h, err := e.processes(trial)
	if err != nil || h.supervisor == 0 || h.child == 0 || h.inherited {
		t.Fatal(h, err)
	}
	supervisor, child = h.supervisor, h.child
	t.Cleanup(func() {
		for _, pid := range []int{supervisor, -child} {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return supervisor, child
}

// stubborn is a script that a signal does not end.
const stubborn = "trap '' TERM\nwhile :; do sleep 0.2; done"

// orphan is the process of a script that is stubborn, whose supervisor was killed.
func orphan(t *testing.T, script string) (e Exec, child int) {
	t.Helper()
	e = newTrial(t, script)
	supervisor, child := begin(t, e)
	time.Sleep(300 * time.Millisecond) // until it ignores the signal
	kill(t, supervisor)
	ends(t, supervisor)
	return e, child
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// runs tells whether a process is there and not only waited for.
func runs(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(text), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

func ends(t *testing.T, pid int) {
	t.Helper()
	for late := time.Now().Add(10 * time.Second); runs(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("process %d goes on", pid)
		}
	}
}

func TestAKilledSupervisorTakesItsProcessAlong(t *testing.T) {
	e := newTrial(t, "exec sleep 1000")
	supervisor, child := begin(t, e)
	kill(t, supervisor)
	ends(t, child)
	// The supervisor holds its lock until the last of its threads is gone, which the child need not wait for.
	livetest.Eventually(t, 10*time.Second, func() error {
		on, err := e.Active(t.Context(), trial)
		if err == nil && on {
			err = errors.New("it counts as running")
		}
		return err
	})
}

// One that does not end by itself counts as running, is ended before another one begins, and can be stopped.
func TestWhatAKilledSupervisorLeft(t *testing.T) {
	e := newTrial(t, stubborn)
	supervisor, child := begin(t, e)
	time.Sleep(300 * time.Millisecond) // until it ignores the signal
	orphaned := func() {
		t.Helper()
		kill(t, supervisor)
		ends(t, supervisor)
		time.Sleep(300 * time.Millisecond)
		if on, err := e.Active(t.Context(), trial); !on || err != nil || !runs(child) {
			t.Fatalf("process %d does not count as running: %v", child, err)
		}
	}
	orphaned()
	first := child
	supervisor, child = begin(t, e)
	if child == first || runs(first) || !runs(child) {
		t.Errorf("process %d runs: %t, beside %d", first, runs(first), child)
	}
	time.Sleep(300 * time.Millisecond)
	orphaned()
	if err := e.Stop(t.Context(), trial); err != nil || runs(child) {
		t.Errorf("process %d is not stopped: %v", child, err)
	}
	if on, err := e.Active(t.Context(), trial); on || err != nil {
		t.Errorf("it counts as running: %v", err)
	}
}

// Between taking the lock and saying who has it there is what a killed supervisor wrote: that is not believed.
func TestWhoeverHasJustTakenTheLock(t *testing.T) {
	e, child := orphan(t, stubborn)
	pid, err := hold(filepath.Join(e.Root, runDir), trial)
	if err != nil {
		t.Fatal(err)
	}
	defer pid.release()
	if on, err := e.supervised(trial); on || err != nil {
		t.Errorf("process %d of the supervisor before counts as started: %v", child, err)
	}
	if h, err := e.processes(trial); h.supervisor != 0 || err != nil {
		t.Errorf("process %d, which is no supervisor any more, would be told to stop: %v", h.supervisor, err)
	}
}

// A process id that was given to somebody else meanwhile is not ours to end.
func TestAnOldPidFileNamesSomebodyElse(t *testing.T) {
	e := newTrial(t, "exec sleep 1000")
	other := exec.Command("sleep", "1000")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	dir := filepath.Join(e.Root, runDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, trial+".pid"), fmt.Appendf(nil, "1\n%d\n", other.Process.Pid), 0o644); err != nil {
		t.Fatal(err)
	}
	if on, err := e.Active(t.Context(), trial); on || err != nil {
		t.Errorf("somebody else's process is taken for ours: %v", err)
	}
	begin(t, e)
	if err := e.Stop(t.Context(), trial); err != nil {
		t.Error(err)
	}
	if !runs(other.Process.Pid) {
		t.Error("somebody else's process was ended")
	}
}

// A supervisor that is stopped while it ends what another one left begins nothing.
func TestAStopWhileAnOrphanEnds(t *testing.T) {
	e, child := orphan(t, "echo begun >>\"$0.log\"\n"+stubborn)
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, stop)
	if err := (Supervisor{Root: e.Root}).Run(ctx, trial); err != nil || runs(child) {
		t.Errorf("process %d runs: %t, %v", child, runs(child), err)
	}
	if text, err := os.ReadFile(filepath.Join(e.Root, "run.sh.log")); err != nil || strings.Count(string(text), "begun") != 1 {
		t.Errorf("after the stop another process began: %q, %v", text, err)
	}
}
