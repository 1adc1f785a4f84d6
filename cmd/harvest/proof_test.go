//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/monitor/monitortest"
	"quantumharvest/internal/proof"
	"quantumharvest/internal/realserver"
)

// upProcess is one harvest up as an operator runs it, on free ports.
type upProcess struct {
	cmd       *exec.Cmd
	log       *livetest.Buffer
	data      string
	addresses map[string]string // by the words of the banner
}

func startUp(t *testing.T, args ...string) *upProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	u := &upProcess{log: &livetest.Buffer{}, data: t.TempDir(), addresses: map[string]string{}}
	u.cmd = exec.Command(self)
	u.cmd.Args = append([]string{
		"harvest", "up", "--plain", "--feed", "synthetic", "--data", u.data, "--embedded-redis-port", "0", "--metrics-port", "0",
		"--publisher-port", "0", "--monitor-port", "0", "--alertmanager-port", "0", "--scrape-interval-sec", "2",
	}, args...)
	u.cmd.Stdout, u.cmd.Stderr = u.log, u.log
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = u.cmd.Process.Signal(syscall.SIGCONT)
		_ = u.cmd.Process.Kill()
		_ = u.cmd.Wait()
		if t.Failed() {
			t.Logf("log of up:\n%s", u.log)
		}
	})
	address := regexp.MustCompile(`(?m)^  (redis|exporter|publisher|prometheus|alerts) +(\S+)`)
	for deadline := time.Now().Add(time.Minute); len(u.addresses) < 5; time.Sleep(50 * time.Millisecond) {
		for _, m := range address.FindAllStringSubmatch(u.log.String(), -1) {
			u.addresses[m[1]] = strings.TrimSuffix(m[2], "/metrics")
		}
		if time.Now().After(deadline) {
			t.Fatalf("no banner: %v", u.addresses)
		}
	}
	return u
}

// prove runs harvest proof against it and gives the numbers of the checks that failed.
func (u *upProcess) prove(t *testing.T, args ...string) (code int, failed []int, pack proof.Pack) {
	t.Helper()
	out := t.TempDir()
	args = append([]string{
		"proof", "--redis", "redis://" + u.addresses["redis"] + "/0", "--exporter-targets", u.addresses["exporter"], "--publisher-targets", u.addresses["publisher"],
		"--prometheus-url", u.addresses["prometheus"], "--alertmanager-url", u.addresses["alerts"], "--monitor-token-file", filepath.Join(u.data, "monitor", "token"),
		"--scrape-interval-sec", "2", "--window-sec", "6", "--out", out,
	}, args...)
	var stdout, stderr bytes.Buffer
	code = run(context.Background(), args, process{stdout: &stdout, stderr: &stderr})
	raw, err := os.ReadFile(filepath.Join(out, "proof.json"))
	if err != nil {
		t.Fatalf("exit %d: %v: %s", code, err, stderr.String())
	}
	if err := json.Unmarshal(raw, &pack); err != nil {
		t.Fatal(err)
	}
	if md, err := os.ReadFile(filepath.Join(out, "proof.md")); err != nil || stdout.String() != string(md) {
		t.Errorf("what is printed is not proof.md: %v", err)
	}
	u.keepsSecrets(t, out)
	for _, c := range pack.Checks {
		if !c.Passed {
			failed = append(failed, c.Number)
		}
	}
	return code, failed, pack
}

// keepsSecrets looks into every file of a proof pack: it is sent around, and holds no token.
func (u *upProcess) keepsSecrets(t *testing.T, out string) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(u.data, "monitor", "token"))
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(string(token))
	if len(secret) < 16 {
		t.Fatalf("the token is %q", secret)
	}
	err = filepath.WalkDir(out, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), secret) {
			t.Errorf("%s holds the token of the monitor", entry.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// runByHand runs what the pack names for Redis and Alertmanager as it stands there.
func runByHand(t *testing.T, pack proof.Pack) {
	t.Helper()
	path := os.Getenv("PATH")
	for _, name := range []string{"redis-cli", "amtool"} {
		path = filepath.Dir(realserver.Tool(t, name)) + string(os.PathListSeparator) + path
	}
	tools := map[string]int{}
	for _, check := range pack.Checks {
		for _, line := range check.ByHand {
			tool, _, _ := strings.Cut(line, " ")
			if tool != "redis-cli" && tool != "amtool" {
				continue
			}
			tools[tool]++
			cmd := exec.Command("sh", "-ec", line)
			cmd.Env = append(os.Environ(), "PATH="+path)
			out, err := cmd.CombinedOutput()
			if text := strings.TrimSpace(string(out)); err != nil || tool == "redis-cli" && (text == "" || text == "0" || strings.Contains(text, "ERR")) {
				t.Errorf("%s: %v: %s", line, err, out)
			}
		}
	}
	if tools["redis-cli"] < 5 || tools["amtool"] != 1 {
		t.Errorf("commands by hand: %v", tools)
	}
}

// A desk with everything embedded proves itself; what is broken on purpose is found, by the check that is there for it.
func TestProofOfARunningDesk(t *testing.T) {
	t.Parallel()
	alerts, deadMan := monitortest.NewReceiver(t, ""), monitortest.NewReceiver(t, "")
	u := startUp(t, "--notify-webhook-url", alerts.URL(), "--notify-watchdog-url", deadMan.URL())
	var code int
	var failed []int
	var pack proof.Pack
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if code, failed, pack = u.prove(t, "--symbols", "BTCUSDT,UNHELDUSDT"); code == exitOK || time.Now().After(deadline) {
			break // the first minute of a desk shows what was not there yet
		}
	}
	if code != exitOK || len(failed) > 0 {
		t.Fatalf("exit %d: %s", code, pack.Line())
	}
	t.Log(pack.Checks[2].Evidence)
	runByHand(t, pack)

	rdb := redis.NewClient(&redis.Options{Addr: u.addresses["redis"]})
	t.Cleanup(func() { rdb.Close() })
	for _, s := range []struct {
		check  int
		name   string
		break_ func() error
		args   []string
	}{
		{8, "no token", func() error { return nil }, []string{"--monitor-token-file", os.DevNull}},
		{8, "the receiver is gone, the dead man is not", func() error { alerts.Close(); return nil }, nil},
		{7, "other thresholds than the rules that run", func() error { return nil }, []string{"--alert-exit-unacted-sec", "77"}},
		{10, "a symbol is expected that nobody holds", func() error {
			return rdb.SAdd(t.Context(), "quantum:harvest:expected", "NOBODYUSDT").Err()
		}, nil},
		{1, "the whole desk is gone", u.cmd.Process.Kill, nil},
	} {
		if err := s.break_(); err != nil {
			t.Fatal(err)
		}
		if code, failed, pack := u.prove(t, s.args...); code == exitOK || !slices.Contains(failed, s.check) {
			t.Errorf("%s: exit %d, failed %v: %s", s.name, code, failed, pack.Line())
		}
	}
}
