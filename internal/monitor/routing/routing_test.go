package routing

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/monitor/monitortest"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/rules"
)

// everyone is a configuration with all receivers on.
func everyone() Options {
	return Options{
		Slack:     Slack{URLFile: "/etc/harvest/slack url", Channel: "#desk"},
		PagerDuty: PagerDuty{KeyFile: "/etc/harvest/pd", URL: "https://events.eu.example.com/v2/enqueue"},
		Telegram:  Telegram{TokenFile: `/etc/harvest/"quoted"`, ChatID: -1001, URL: "https://bots.example.com"},
		Email:     Email{To: "a@example.com, b@example.com", From: "desk@example.com", Smarthost: "mail.example.com:587", User: "u", PasswordFile: "/p"},
		Webhook:   Webhook{URLFile: "/etc/harvest/hook"},
		Watchdog:  Webhook{URL: "https://dead.example.com/x?a=1&b=2"},
	}
}

func save(t *testing.T, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "alertmanager.yml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Debian's Alertmanager 0.25 must take what is printed for one elsewhere.
func TestAmtoolTakesThePortableForm(t *testing.T) {
	amtool := realserver.Tool(t, "amtool")
	onlyPager := Options{PagerDuty: PagerDuty{KeyFile: "/k"}}
	onlyMail := Options{Email: Email{To: "a@example.com", From: "b@example.com", Smarthost: "h:25", NoTLS: true}, TimeScale: 5}
	for name, o := range map[string]Options{"nobody": {}, "everyone": everyone(), "pager": onlyPager, "mail": onlyMail} {
		t.Run(name, func(t *testing.T) {
			text := Render(o, Portable)
			out, err := exec.Command(amtool, "check-config", save(t, text)).CombinedOutput()
			if err != nil {
				t.Fatalf("amtool: %v\n%s\n%s", err, out, text)
			}
		})
	}
}

// Where alerts go, as amtool understands the routing tree.
func TestRoutes(t *testing.T) {
	amtool := realserver.Tool(t, "amtool")
	files := map[string]string{
		"everyone": save(t, Render(everyone(), Portable)),
		"nobody":   save(t, Render(Options{}, Portable)),
		"pager":    save(t, Render(Options{PagerDuty: PagerDuty{KeyFile: "/k"}}, Portable)),
	}
	for _, c := range []struct {
		who, labels, want string
	}{
		{"everyone", "alertname=QuantumHarvestExporterDown severity=critical", Page},
		{"everyone", "alertname=QuantumHarvestKillScoreCritical severity=critical symbol=BTCUSDT", Page},
		{"everyone", "alertname=QuantumHarvestMetricsStale severity=warning symbol=BTCUSDT", Notice},
		{"everyone", "alertname=QuantumExitNotActedOn severity=warning symbol=BTCUSDT", Notice},
		{"everyone", "alertname=Something severity=info", Notice},
		{"everyone", "alertname=Something", Notice},
		{"everyone", "alertname=Watchdog severity=none", DeadMan},
		{"everyone", "alertname=QuantumHarvestBlind severity=none cause=QuantumHarvestStoreDown", Nobody},
		{"pager", "alertname=QuantumHarvestBlind severity=none", Nobody},
		{"nobody", "alertname=QuantumHarvestExporterDown severity=critical", Log},
		{"nobody", "alertname=Something severity=warning", Log},
		{"nobody", "alertname=Watchdog", Nobody},
		{"pager", "alertname=QuantumHarvestExporterDown severity=critical", Page},
		{"pager", "alertname=QuantumHarvestMetricsStale severity=warning", Log},
	} {
		args := append([]string{"config", "routes", "test", "--config.file=" + files[c.who]}, strings.Fields(c.labels)...)
		out, err := exec.Command(amtool, args...).Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
			t.Errorf("%s, %s: goes to %q (%v), want %q", c.who, c.labels, got, err, c.want)
		}
	}
}

// What is told symbol by symbol is what the rules call so.
func TestPerSymbolAlertsExist(t *testing.T) {
	alerts := rules.Alerts()
	for _, name := range perSymbol {
		if !slices.ContainsFunc(alerts, func(a rules.Alert) bool { return a.Name == name }) {
			t.Errorf("no rule is called %s", name)
		}
	}
}

// What a drill does: Debian's Alertmanager runs the portable form, at another time scale.
func TestDebiansAlertmanagerRunsIt(t *testing.T) {
	t.Parallel()
	hook, deadMan := monitortest.NewReceiver(t, ""), monitortest.NewReceiver(t, "")
	o := Options{Webhook: Webhook{URL: hook.URL()}, Watchdog: Webhook{URL: deadMan.URL()}, TimeScale: 50}
	at := realserver.Alertmanager(t, save(t, Render(o, Portable)))
	send := func(alerts string) {
		t.Helper()
		resp, err := http.Post(at+"/api/v2/alerts", "application/json", strings.NewReader(alerts))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("alerts are refused: %s", resp.Status)
		}
	}
	send(`[{"labels": {"alertname": "QuantumHarvestStoreDown", "severity": "critical", "job": "e", "instance": "a"}},
		{"labels": {"alertname": "QuantumHarvestBlind", "severity": "none", "cause": "QuantumHarvestStoreDown"}}]`)
	send(`[{"labels": {"alertname": "Watchdog", "severity": "none"}},
		{"labels": {"alertname": "QuantumHarvestHeartbeatLost", "severity": "critical", "symbol": "BTCUSDT"}},
		{"labels": {"alertname": "QuantumHarvestKillScoreHigh", "severity": "warning", "symbol": "ETHUSDT"}},
		{"labels": {"alertname": "Other", "severity": "critical"}}]`)
	for _, name := range []string{"QuantumHarvestStoreDown", "Other"} {
		hook.Told(time.Minute, name, func(m monitortest.Message) bool { return slices.Contains(m.Names("firing"), name) })
	}
	livetest.Eventually(t, time.Minute, func() error {
		if n := len(deadMan.Messages()); n < 3 {
			return fmt.Errorf("the dead-man switch was told %d times", n)
		}
		return nil
	})
	for _, m := range hook.Messages() {
		for _, name := range m.Names("firing") {
			if strings.HasPrefix(name, "QuantumHarvestHeartbeatLost") || strings.HasPrefix(name, "QuantumHarvestKillScore") {
				t.Errorf("%s was told beside its cause", name)
			}
			if strings.HasPrefix(name, "QuantumHarvestBlind") {
				t.Errorf("%s was told, and it is there to keep others quiet", name)
			}
		}
	}
}

// What one exporter of two sees is told, though the other one is down or cannot read Redis.
func TestDebiansAlertmanagerTellsWhatOneExporterSees(t *testing.T) {
	t.Parallel()
	hook := monitortest.NewReceiver(t, "")
	at := realserver.Alertmanager(t, save(t, Render(Options{Webhook: Webhook{URL: hook.URL()}, TimeScale: 50}, Portable)))
	seen := []string{"QuantumHarvestKillScoreCritical", "QuantumHarvestCoverageShort"}
	alerts := []string{
		`{"labels": {"alertname": "QuantumHarvestExporterDown", "severity": "critical", "job": "e", "instance": "dead"}}`,
		`{"labels": {"alertname": "QuantumHarvestStoreDown", "severity": "critical", "job": "e", "instance": "far"}}`,
	}
	for _, name := range seen {
		alerts = append(alerts, `{"labels": {"alertname": "`+name+`", "severity": "critical", "symbol": "BTCUSDT"}}`)
	}
	resp, err := http.Post(at+"/api/v2/alerts", "application/json", strings.NewReader("["+strings.Join(alerts, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, name := range append(seen, "QuantumHarvestExporterDown", "QuantumHarvestStoreDown") {
		hook.Told(time.Minute, name, func(m monitortest.Message) bool {
			return slices.ContainsFunc(m.Names("firing"), func(n string) bool { return strings.HasPrefix(n, name) })
		})
	}
}

// What QuantumHarvestReceiverFailing counts: Debian's Alertmanager counts a notification that nobody takes, by integration.
func TestDebiansAlertmanagerCountsWhatFails(t *testing.T) {
	t.Parallel()
	hook := monitortest.NewReceiver(t, "")
	hook.Close()
	at := realserver.Alertmanager(t, save(t, Render(Options{Webhook: Webhook{URL: hook.URL()}, TimeScale: 50}, Portable)))
	resp, err := http.Post(at+"/api/v2/alerts", "application/json", strings.NewReader(`[{"labels": {"alertname": "Other", "severity": "critical"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	failed := regexp.MustCompile(`(?m)^alertmanager_notifications_failed_total\{integration="webhook"\} [1-9]`)
	livetest.Eventually(t, time.Minute, func() error {
		resp, err := http.Get(at + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		page, err := io.ReadAll(resp.Body)
		if err == nil && !failed.Match(page) {
			err = fmt.Errorf("no failure is counted")
		}
		return err
	})
}

// A secret is named by its file, or left to be filled in; it is never read.
func TestSecretsStayInTheirFiles(t *testing.T) {
	portable, current := string(Render(everyone(), Portable)), string(Render(everyone(), Current))
	for _, want := range []string{`bot_token_file: "/etc/harvest/\"quoted\""`, `url_file: "/etc/harvest/hook"`} {
		if !regexp.MustCompile(`(?m)^\s+` + regexp.QuoteMeta(want) + `$`).MatchString(current) {
			t.Errorf("the current form lacks %s", want)
		}
		if !strings.Contains(portable, "place of the next line:  "+want) {
			t.Errorf("the portable form does not say %s", want)
		}
	}
	for _, form := range []string{portable, current} {
		for _, want := range []string{`api_url_file: "/etc/harvest/slack url"`, `routing_key_file: "/etc/harvest/pd"`, `auth_password_file: "/p"`} {
			if !strings.Contains(form, want) {
				t.Errorf("the form lacks %s", want)
			}
		}
	}
}

func TestTimeScale(t *testing.T) {
	times := func(scale int) []string {
		o := everyone()
		o.TimeScale = scale
		var all []string
		for _, m := range regexp.MustCompile(`(?:_wait|_interval): (\S+)`).FindAllStringSubmatch(string(Render(o, Current)), -1) {
			all = append(all, m[1])
		}
		return all
	}
	one, five := times(1), times(5)
	if got, want := strings.Join(one, " "), "30s 1m 4h 0s 10s 15s 0s 10s 5s 30s 1h 1m 5m 1d"; got != want {
		t.Errorf("times %s, want %s", got, want)
	}
	if got, want := strings.Join(five, " "), "6s 12s 48m 0s 2s 3s 0s 2s 1s 6s 12m 12s 1m 4h48m"; got != want {
		t.Errorf("times at scale 5: %s, want %s", got, want)
	}
}
