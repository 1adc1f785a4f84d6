//go:build unix

package deploy_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var harvest string // the program, as an operator runs it

func TestMain(m *testing.M) {
	if what := os.Getenv("PYTHONSTANDIN"); what != "" {
		standIn(what)
		return
	}
	dir, err := os.MkdirTemp("", "qhdeploy")
	if err != nil {
		panic(err)
	}
	harvest = filepath.Join(dir, "harvest")
	if out, err := exec.Command("go", "build", "-o", harvest, "../../cmd/harvest").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build harvest: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// The whole way, and back.
func TestRehearsal(t *testing.T) {
	h := newHost(t)
	tree, shape := h.tree(), h.shape()

	out := h.mustDeploy("--dry-run")
	if !strings.Contains(out, "nothing is changed") || !strings.Contains(out, "PYTHONPATH") {
		t.Errorf("the dry run does not say what would be done:\n%s", out)
	}
	if diff := cmp.Diff(tree, h.tree()); diff != "" {
		t.Errorf("a dry run changes files:\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(h.root, "var/lib/quantum-harvest")); err == nil {
		t.Error("a dry run leaves a folder")
	}
	if diff := cmp.Diff(shape, h.shape()); diff != "" {
		t.Errorf("a dry run changes Redis:\n%s", diff)
	}

	stop := h.pauses()
	out = h.mustDeploy()
	pauses := stop()
	t.Logf("%s", out)
	for _, sym := range symbols {
		if pauses[sym] == 0 || pauses[sym] > 12 {
			t.Errorf("%s: the longest pause of last_update_epoch is %d s", sym, pauses[sym])
		}
	}
	t.Logf("longest pauses of last_update_epoch, seconds: %v", pauses)
	if name := h.fired(); name != "" {
		t.Errorf("%s fired", name)
	}
	now := h.shape()
	for key := range shape {
		if _, ok := now[key]; !ok && key != "quantum:harvest:proposal:DOGEUSDT" {
			t.Errorf("the key %s is gone", key)
		}
	}
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for k := range now {
			if !yield(k) {
				return
			}
		}
	}) {
		if strings.Contains(key, "shadow") {
			t.Errorf("the shadow left %s", key)
		}
	}
	if out := h.mustDeploy("--status"); !strings.Contains(out, "7 proof          done") {
		t.Errorf("the status does not say that it is done:\n%s", out)
	}
	if out := h.mustDeploy(); !strings.Contains(out, "taken over already") {
		t.Errorf("a second run does not say that there is nothing to do:\n%s", out)
	}
	if out, err := h.doctor(); err != nil || !strings.Contains(out, "Nothing is wrong") {
		t.Errorf("the doctor finds something: %v\n%s", err, out)
	}
	h.mustDeploy("--rollback")
	h.earlier(tree, shape)
	out, err := h.doctor("--json")
	if want := "an earlier service runs: quantum-harvest-proposal.service"; err == nil || !strings.Contains(out, want) {
		t.Errorf("the doctor does not find %q (%v):\n%s", want, err, out)
	}
}

func (h *host) doctor(more ...string) (string, error) {
	args := []string{
		"doctor", "--root", h.root, "--service-manager", "exec",
		"--prometheus-url", fmt.Sprintf("http://127.0.0.1:%d", h.prometheus), "--alertmanager-url", fmt.Sprintf("http://127.0.0.1:%d", h.alertmanager),
	}
	out, err := exec.Command(harvest, append(args, more...)...).CombinedOutput()
	return string(out), err
}

// interrupt sends a signal to a deployment as soon as it says a line.
func (h *host) interrupt(line string, sig os.Signal) (output string) {
	h.t.Helper()
	cmd := h.deploy()
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	var out bytes.Buffer
	buf := make([]byte, 4096)
	sent := false
	for {
		n, err := pipe.Read(buf)
		out.Write(buf[:n])
		if !sent && strings.Contains(out.String(), line) {
			sent = true
			// A little into the step.
			time.Sleep(300 * time.Millisecond)
			_ = cmd.Process.Signal(sig)
			time.Sleep(100 * time.Millisecond)
			_ = cmd.Process.Signal(sig) // who is impatient breaks nothing off
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if !sent || err == nil {
		h.t.Fatalf("it was not interrupted (%v):\n%s%s", err, out.String(), errs.String())
	}
	return out.String() + errs.String()
}

var steps = []string{"preflight", "install", "configuration", "monitoring", "shadow run", "switch-over", "proof"}

func long(t *testing.T) {
	t.Helper()
	if os.Getenv("HARVEST_LONG") == "" {
		t.Skip("part of the long suite (HARVEST_LONG=1): every step takes a host of its own")
	}
}

// Where there is no Prometheus, ours comes with it and goes with it.
func TestRehearsalWithOurMonitor(t *testing.T) {
	long(t)
	h := setUp(t, false)
	tree, shape := h.tree(), h.shape()
	t.Logf("%s", h.mustDeploy())
	if name := h.fired(); name != "" {
		t.Errorf("%s fired", name)
	}
	if out, err := h.doctor(); err != nil {
		t.Errorf("the doctor finds something: %v\n%s", err, out)
	}
	h.mustDeploy("--rollback")
	h.earlier(tree, shape)
	if h.page(fmt.Sprintf("http://127.0.0.1:%d/-/ready", h.prometheus)) != "" {
		t.Error("our monitor goes on after the rollback")
	}
}

// A monitor of ours that would tell nobody of an alert shows before anything is done, not in the proof at the end.
func TestMonitorThatTellsNobody(t *testing.T) {
	h := setUp(t, false)
	h.file("etc/quantum/harvest-monitor.env", fmt.Sprintf("MONITOR_PORT=%d\nALERTMANAGER_PORT=%d\n", h.prometheus, h.alertmanager))
	tree, shape := h.tree(), h.shape()
	for _, more := range [][]string{{"--dry-run"}, nil} {
		raw, err := h.deploy(more...).CombinedOutput()
		out := string(raw)
		if err == nil || !strings.Contains(out, "it would tell nobody") || !strings.Contains(out, "NOTIFY_WEBHOOK_URL") {
			t.Errorf("%v: %v\n%s", more, err, out)
		}
		if more == nil && strings.Contains(out, "step 4 of 7") {
			t.Errorf("it goes on\n%s", out)
		}
	}
	h.earlier(tree, shape)
}

// An interrupt in any step leaves the host as it was.
func TestInterruptedInEachStep(t *testing.T) {
	long(t)
	for i, name := range steps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			tree, shape := h.tree(), h.shape()
			out := h.interrupt(fmt.Sprintf("step %d of 7, %s", i+1, name), []os.Signal{os.Interrupt, syscall.SIGHUP}[i%2])
			if !strings.Contains(out, "everything was taken back") {
				t.Errorf("it does not say that it was taken back:\n%s", out)
			}
			h.earlier(tree, shape)
		})
	}
}

// A run that is killed in any step is gone on with, and what it does then can be taken back to the byte.
func TestKilledInEachStep(t *testing.T) {
	long(t)
	for i, name := range steps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			tree, shape := h.tree(), h.shape()
			h.interrupt(fmt.Sprintf("step %d of 7, %s", i+1, name), syscall.SIGKILL)
			h.until("no shadow is left", func() bool { return !h.shadowRuns() })
			if i > 1 { // as if it had come in the middle of writing the program
				h.file("usr/bin/harvest.tmp1", "half of it")
			}
			out := h.mustDeploy()
			if i > 0 && !strings.Contains(out, "step 1 of 7, preflight: done before") {
				t.Errorf("it began anew:\n%s", out)
			}
			h.mustDeploy("--rollback")
			h.earlier(tree, shape)
		})
	}
}

// Faults that happen on servers, one for each step.
func TestFaultInEachStep(t *testing.T) {
	for i, x := range []struct {
		name, says string
		settings   []string
		quick      bool
		fault      func(h *host)
	}{
		{name: "preflight: a port is taken", says: "is held by", quick: true, fault: func(h *host) {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", h.publisher))
			if err != nil {
				h.t.Fatal(err)
			}
			h.t.Cleanup(func() { l.Close() })
		}},
		{name: "install: something else is in the place of the program", says: "usr/bin/harvest is not a file", fault: func(h *host) {
			if err := os.MkdirAll(filepath.Join(h.root, "usr/bin/harvest"), 0o755); err != nil {
				h.t.Fatal(err)
			}
		}},
		{name: "configuration: a key that nobody knows", says: "QUANTUM_THING", settings: []string{"QUANTUM_THING=1"}, quick: true},
		{name: "monitoring: a rule file of the operator is broken", says: "promtool", fault: func(h *host) {
			h.file("etc/prometheus/rules/earlier.yml", "groups:\n  - name: a\n    rules:\n      - alert: Own\n        expr: 'sum('\n")
		}},
		{name: "shadow run: a number differs", says: "risk_unit of BTCUSDT", settings: []string{"PYTHONSTANDINWRONG=BTCUSDT"}},
		{name: "switch-over: our publisher cannot listen", says: "has not taken every symbol over", fault: func(h *host) {
			go func() {
				for h.t.Context().Err() == nil {
					if text, _ := os.ReadFile(filepath.Join(h.root, "var/lib/quantum-harvest-deploy/state.json")); bytes.Contains(text, []byte(`"kind": "shadow"`)) {
						if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", h.publisher)); err == nil {
							<-h.t.Context().Done()
							l.Close()
						}
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			}()
		}},
		{name: "proof: nobody is told of alerts", says: "checks of the proof do not hold", fault: func(h *host) {
			h.file("etc/prometheus/alertmanager.yml", "route:\n  receiver: people\nreceivers:\n  - name: people\n")
			_, _ = http.Post(fmt.Sprintf("http://127.0.0.1:%d/-/reload", h.alertmanager), "", nil)
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			if !x.quick {
				long(t)
			}
			h := newHost(t, x.settings...)
			if x.fault != nil {
				x.fault(h)
			}
			tree, shape := h.tree(), h.shape()
			out, err := h.deploy().CombinedOutput()
			if err == nil || !strings.Contains(string(out), x.says) || !strings.Contains(string(out), fmt.Sprintf("step %d, %s, failed", i+1, steps[i])) {
				t.Errorf("it does not fail in step %d with %q (%v):\n%s", i+1, x.says, err, out)
			}
			h.earlier(tree, shape)
		})
	}
}

// On a server without the earlier services there is nothing to do, and that is said, in a dry run as in a real one.
func TestNothingToTakeOver(t *testing.T) {
	for _, more := range [][]string{{"--dry-run"}, nil} {
		root := t.TempDir()
		out, err := exec.Command(harvest, append([]string{"deploy", "--root", root, "--service-manager", "exec"}, more...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "nothing is to be taken over; docs/INSTALL.md") || strings.Contains(string(out), "panic") {
			t.Errorf("%v: %v\n%s", more, err, out)
		}
		if strings.Contains(string(out), "step 2 of 7") {
			t.Errorf("%v: it goes on without anything to take over\n%s", more, out)
		}
	}
}

// shadowRuns tells whether a publisher of a shadow run of this host lives.
func (h *host) shadowRuns() bool {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	return slices.ContainsFunc(all, func(path string) bool {
		environ, err := os.ReadFile(path)
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		return err == nil && strings.Contains(string(environ), "KEY_PREFIX=quantum:shadow-") && strings.Contains(string(line), h.root)
	})
}
