package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/rules"
)

// prometheus starts Debian's Prometheus on a free port, scraping one target every two seconds (the deployment's ten,
// scaled by five), and returns its base URL.
func prometheus(t testing.TB, target string) string {
	t.Helper()
	return runPrometheus(t, realserver.FreePort(t), rules.Defaults().Scale(timeScale), "scrape_configs:\n- job_name: quantum-harvest-exporter\n  static_configs: [{targets: ['"+target+"']}]\n")
}

// runPrometheus starts it with the intervals of the thresholds and what a configuration has beside them.
func runPrometheus(t testing.TB, port int, th rules.Thresholds, text string) string {
	t.Helper()
	dir := realserver.Dir(t)
	file := filepath.Join(dir, "prometheus.yml")
	text = fmt.Sprintf("global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: %[1]s}\n%[2]s", th.Interval, text)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(realserver.Tool(t, "promtool"), "check", "config", file).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	var log livetest.Buffer
	cmd := exec.Command(realserver.Tool(t, "prometheus"), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port), "--rules.alert.resend-delay="+th.ResendDelay.String())
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus:\n%s", tail(log.String(), 20))
		}
	})
	base := fmt.Sprintf("http://127.0.0.1:%d", port)
	livetest.Eventually(t, 60*time.Second, func() error {
		if code, body := get(t, base+"/-/ready"); code != 200 {
			return fmt.Errorf("prometheus is not ready: %d %s", code, body)
		}
		return nil
	})
	return base
}

// query asks an instant query and returns the values by symbol.
func query(base, expr string) (map[string]float64, error) {
	resp, err := http.Get(base + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status string
		Data   struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("query %s: %s", expr, answer.Status)
	}
	out := make(map[string]float64)
	for _, r := range answer.Data.Result {
		text, ok := r.Value[1].(string)
		if !ok {
			return nil, fmt.Errorf("query %s: value %v", expr, r.Value[1])
		}
		if out[r.Metric["symbol"]], err = strconv.ParseFloat(text, 64); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// TestTheSeedOfItAll is what the desk was first asked for: the heartbeat of every symbol moves while the gate holds
// publishes back, in Redis, on the exporter's page and as Prometheus sees it.
func TestTheSeedOfItAll(t *testing.T) {
	t.Parallel()
	symbols := []position.Symbol{"BTCUSDT", "ETHUSDT", "SOLUSDT"}
	srv := realserver.Redis(t)
	c := dial(t, srv.Addr())
	seed(t, c, symbols...)
	port := realserver.FreePort(t)
	start(t, config.Publish, app.Publish, "--redis="+srv.URL())
	start(t, config.Export, app.Export, "--redis="+srv.URL(), fmt.Sprintf("--metrics-port=%d", port))
	prom := prometheus(t, fmt.Sprintf("127.0.0.1:%d", port))

	hget := func(field string) string {
		out, err := exec.Command(realserver.Tool(t, "redis-cli"), "-p", strconv.Itoa(srv.Port()),
			"HGET", "quantum:harvest:proposal:BTCUSDT", field).Output()
		if err != nil {
			t.Fatalf("redis-cli: %v", err)
		}
		return strings.TrimSpace(string(out))
	}
	fresh(t, c, "BTCUSDT", time.Time{})
	revision, beat := hget("revision"), hget("last_update_epoch")
	livetest.Eventually(t, 20*time.Second, func() error {
		if now := hget("last_update_epoch"); now == beat {
			return fmt.Errorf("last_update_epoch stands at %s", now)
		}
		return nil
	})
	if got := hget("revision"); got != revision {
		t.Errorf("revision moved from %s to %s: the gate did not hold", revision, got)
	}

	// The page has one moving gauge for each symbol.
	epochs := func() map[string]string {
		_, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
		out := make(map[string]string)
		for line := range strings.Lines(body) {
			if rest, ok := strings.CutPrefix(line, `quantum_harvest_last_update_epoch{symbol="`); ok {
				sym, value, _ := strings.Cut(strings.TrimSpace(rest), `"} `)
				out[sym] = value
			}
		}
		return out
	}
	first := epochs()
	if len(first) != len(symbols) {
		t.Fatalf("heartbeats on the page: %v", first)
	}
	livetest.Eventually(t, 20*time.Second, func() error {
		for sym, value := range epochs() {
			if value == first[sym] {
				return fmt.Errorf("the heartbeat of %s stands at %s", sym, value)
			}
		}
		return nil
	})

	// Prometheus sees every symbol, and never one that looks stale: 15 s, as in the deployment, although the scrapes
	// are five times as frequent, so that only a heartbeat that stands still can reach it on a busy machine.
	const expr = "time() - quantum_harvest_last_update_epoch"
	livetest.Eventually(t, 60*time.Second, func() error {
		ages, err := query(prom, expr)
		if err == nil && len(ages) != len(symbols) {
			err = fmt.Errorf("prometheus sees %v", ages)
		}
		return err
	})
	worst := 0.0
	// A step that is no multiple of the scrape interval meets every phase of the sawtooth.
	for range 30 {
		ages, err := query(prom, expr)
		if err != nil || len(ages) != len(symbols) {
			t.Fatalf("prometheus sees %v (%v)", ages, err)
		}
		for sym, age := range ages {
			worst = max(worst, age)
			if age >= 15 {
				t.Errorf("%s looks %.1f s old", sym, age)
			}
		}
		time.Sleep(730 * time.Millisecond)
	}
	t.Logf("worst age seen by Prometheus at a 2 s scrape: %.1f s", worst)
}
