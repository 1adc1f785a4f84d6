package app_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/monitor/monitortest"
	"quantumharvest/internal/rules"
)

// monitorURLs waits for the banner of up and returns the addresses of Prometheus and Alertmanager.
func monitorURLs(t testing.TB, p *process) (prometheus, alertmanager string) {
	t.Helper()
	livetest.Eventually(t, 30*time.Second, func() error {
		m := regexp.MustCompile(`prometheus (http://\S+)[^\n]*\n  alerts     (http://\S+)`).FindStringSubmatch(p.out.String())
		if m == nil {
			return fmt.Errorf("no banner yet: %q", p.out.String())
		}
		prometheus, alertmanager = m[1], m[2]
		return nil
	})
	return prometheus, alertmanager
}

// answer decodes what the API of Prometheus says.
func answer(t testing.TB, url string, data any) error {
	t.Helper()
	code, body := get(t, url)
	var a struct {
		Status string
		Data   json.RawMessage
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil || a.Status != "success" {
		return fmt.Errorf("%s: %d %s", url, code, body)
	}
	return json.Unmarshal(a.Data, data)
}

// The whole desk with everything embedded: all is scraped, all rules work, the dead-man switch is told, and in health no
// alert of the desk's own state fires.
func TestUpWatchesItself(t *testing.T) {
	t.Parallel()
	deadMan := monitortest.NewReceiver(t, "")
	dir := t.TempDir()
	p := start(t, config.Up, app.Up, "--feed=synthetic", "--monitor", "--time-scale=5", "--data="+dir, "--notify-watchdog-url="+deadMan.URL()+"/sesame")
	at, _ := monitorURLs(t, p)
	livetest.Eventually(t, 60*time.Second, func() error {
		var targets struct {
			ActiveTargets []struct {
				Health, LastError string
				Labels            map[string]string
			}
		}
		if err := answer(t, at+"/api/v1/targets", &targets); err != nil {
			return err
		}
		var up []string
		for _, g := range targets.ActiveTargets {
			if g.Health == "up" {
				up = append(up, g.Labels["job"])
			}
		}
		slices.Sort(up)
		if want := []string{rules.JobExporter, "quantum-harvest-monitor", rules.JobPublisher}; !slices.Equal(up, want) {
			return fmt.Errorf("up are %v, want %v: %+v", up, want, targets)
		}
		return nil
	})
	livetest.Eventually(t, 60*time.Second, func() error {
		var groups struct {
			Groups []struct {
				Name  string
				Rules []struct{ Type, Name, Health, LastError string }
			}
		}
		if err := answer(t, at+"/api/v1/rules", &groups); err != nil {
			return err
		}
		var alerts []string
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
				}
				if r.Type == "alerting" {
					alerts = append(alerts, r.Name)
				}
			}
		}
		for _, a := range rules.Alerts() {
			if !slices.Contains(alerts, a.Name) {
				return fmt.Errorf("no rule %s is evaluated", a.Name)
			}
		}
		return nil
	})
	// Four messages are as many as two of its intervals of a real minute.
	livetest.Eventually(t, 60*time.Second, func() error {
		if n := len(deadMan.Messages()); n < 4 {
			return fmt.Errorf("the dead-man switch was told %d times", n)
		}
		return nil
	})
	var alerts struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	if err := answer(t, at+"/api/v1/alerts", &alerts); err != nil {
		t.Fatal(err)
	}
	for _, a := range alerts.Alerts {
		if name := a.Labels["alertname"]; a.State == "firing" && strings.Contains(name, "Harvest") && !strings.Contains(name, "KillScore") {
			t.Errorf("in health fires %v", a.Labels)
		}
	}
	if err := p.end(); err != nil {
		t.Errorf("stopped with %v", err)
	}
	for _, name := range []string{"tsdb", "silences", "nflog", "alerts.json", "token", "amtool.yml"} {
		if _, err := os.Stat(filepath.Join(dir, "monitor", name)); err != nil {
			t.Errorf("not kept: %v", err)
		}
	}
	for where, text := range map[string]string{"output": p.out.String(), "log": p.log.String()} {
		if strings.Contains(text, "sesame") {
			t.Errorf("the %s shows a secret", where)
		}
	}
}

func TestTakenPortsOfTheMonitor(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)
	p := start(t, config.Up, app.Up, "--feed=synthetic", "--monitor", "--monitor-port="+port)
	at, _ := monitorURLs(t, p)
	if strings.HasSuffix(at, ":"+port) || !strings.Contains(p.out.String(), "(port "+port+" was taken)") {
		t.Errorf("the banner:\n%s", p.out.String())
	}
	if code, body := get(t, at+"/-/healthy"); code != 200 {
		t.Errorf("%s answers %d: %s", at, code, body)
	}
	service := start(t, config.Monitor, app.Monitor, "--monitor-port="+port)
	if err := service.wait(30 * time.Second); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), port) {
		t.Errorf("a service ends with %v", err)
	}
}

func TestServersElsewhere(t *testing.T) {
	t.Parallel()
	nobody := "http://127.0.0.1:1"
	p := start(t, config.Up, app.Up, "--feed=synthetic", "--monitor", "--prometheus-url="+nobody, "--alertmanager-url="+nobody+"/am")
	at, alertmanager := monitorURLs(t, p)
	if at != nobody || alertmanager != nobody+"/am" || strings.Count(p.out.String(), "(elsewhere)") != 2 {
		t.Errorf("the banner:\n%s", p.out.String())
	}
	if log := p.log.String(); strings.Contains(log, "server=prometheus") || strings.Contains(log, "server=alertmanager") {
		t.Error("something is embedded all the same")
	}
}

// A Prometheus elsewhere has its own rules: the embedded Alertmanager starts without any.
func TestOnlyPrometheusElsewhere(t *testing.T) {
	t.Parallel()
	p := start(t, config.Up, app.Up, "--feed=synthetic", "--monitor", "--prometheus-url=http://127.0.0.1:1")
	at, alertmanager := monitorURLs(t, p)
	if code, body := get(t, alertmanager+"/-/ready"); at != "http://127.0.0.1:1" || code != 200 {
		t.Errorf("up: Prometheus at %s, %s answers %d: %s", at, alertmanager, code, body)
	}
	service := start(t, config.Monitor, app.Monitor, "--for=1s", "--prometheus-url=http://127.0.0.1:1")
	if err := service.wait(30 * time.Second); err != nil || !strings.Contains(service.log.String(), "monitor started") {
		t.Errorf("monitor ended with %v", err)
	}
}

// A service that is told to stop has not failed, and nothing it was told in confidence is shown.
func TestMonitorAsAService(t *testing.T) {
	t.Parallel()
	hook := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(hook, []byte("http://127.0.0.1:1/sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, config.Monitor, app.Monitor, "--for=2s", "--notify-slack-url-file="+hook)
	if err := p.wait(60 * time.Second); err != nil {
		t.Errorf("ended with %v", err)
	}
	log := p.log.String()
	if !strings.Contains(log, "monitor started") || !strings.Contains(log, "nowhere: --data DIR keeps series, silences and alerts") {
		t.Error("it does not say what it does")
	}
	if strings.Contains(log, "sesame") {
		t.Error("the log shows a secret")
	}
	bad := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(bad, []byte("basic_auth_users: {a: $2y$10$Q7P8ZrG.9qUq0ZKcB4QPsu6G8pTzTg2oD6sjZ0b1r6q7e5G2t9H1e}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	locked := start(t, config.Monitor, app.Monitor, "--web-config-file="+bad)
	if err := locked.wait(30 * time.Second); err == nil || !strings.Contains(err.Error(), "MONITOR_SCRAPE_HTTP_CONFIG_FILE") {
		t.Errorf("ports that the monitor could not scrape: %v", err)
	}
}

func TestPrintedConfiguration(t *testing.T) {
	t.Parallel()
	p := start(t, config.Monitor, app.Monitor, "--print-alertmanager-config", "--notify-webhook-url=http://127.0.0.1:1/x")
	if err := p.wait(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"webhook_configs", "QuantumHarvestStoreDown", "http://127.0.0.1:1/x"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("it lacks %s:\n%s", want, p.out.String())
		}
	}
}
