package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"quantumharvest/internal/bench"
	"quantumharvest/internal/realserver"
)

// Every figure of the table, measured on a redis-server that is somebody's: nothing of it stays there.
func TestBenchNamesEveryFigure(t *testing.T) {
	if os.Getenv("HARVEST_LONG") == "" {
		t.Skip("a long suite: make long, or HARVEST_LONG=1")
	}
	t.Setenv("PATH", filepath.Dir(realserver.Tool(t, "redis-server"))+string(os.PathListSeparator)+os.Getenv("PATH"))
	code, out, errs := runCommand(t, nil, "bench", "--json")
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, errs)
	}
	missing := map[string]bool{}
	for name := range strings.FieldsSeq(`state_next_ns state_revise_ns state_cold_ns propose_ns cycle_1000_full_ratio cycle_10000_full_ratio
		cycle_1000_beat_ratio cycle_1000_full_ms cycle_10000_full_ms cycle_1000_beat_ms tick_to_redis_p50_ms tick_to_redis_p99_ms
		tick_evaluated_p99_ms scrape_1000_ratio scrape_10000_ratio scrape_1000_ms scrape_10000_ms rss_publisher_mb rss_exporter_mb kb_per_symbol`) {
		missing[name] = true
	}
	for line := range strings.Lines(out) {
		var f bench.Figure
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if !missing[f.Name] || f.Value == nil || *f.Value <= 0 {
			t.Errorf("%s", line)
		}
		delete(missing, f.Name)
	}
	if len(missing) > 0 {
		t.Errorf("not measured: %v", missing)
	}
}

// A reader that has had enough, as head has, leaves no server behind.
func TestBenchWithoutAReader(t *testing.T) {
	if os.Getenv("HARVEST_LONG") == "" {
		t.Skip("a long suite: make long, or HARVEST_LONG=1")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir() // of the server that it starts
	cmd := exec.Command(self)
	cmd.Args = []string{"harvest", "bench", "--json"}
	cmd.Env = append(os.Environ(), "TMPDIR="+scratch, "PATH="+filepath.Dir(realserver.Tool(t, "redis-server"))+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "state_next_ns") {
		t.Errorf("%s: %v", line, err)
	}
	_ = out.Close()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(errs.String(), "write ") {
		t.Errorf("exit %d: %s", code, &errs)
	}
	if left, _ := os.ReadDir(scratch); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBenchSaysWhatIsAway(t *testing.T) {
	code, _, errs := runCommand(t, nil, "bench", "--json", "--redis", "redis://127.0.0.1:1/0")
	if code != exitFailed || !strings.Contains(errs, "127.0.0.1:1") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
