package config

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMonitorSettings(t *testing.T) {
	token := write(t, "token", "tok\n")
	hook := write(t, "hook", "https://hooks.example.com/services/T/B/x\n")
	c := mustLoad(t, Monitor, []string{"--exporter-targets", "a:1, https://b:2/,a:1", "--retention=36h", "--for", "5s"},
		"MONITOR_ALLOWED_HOSTS=Desk.example.com, [::1]", "ALERTMANAGER_URL=https://am.example.com/alerts/", "NOTIFY_SMTP_TLS=no",
		"NOTIFY_TELEGRAM_TOKEN_FILE="+token, "NOTIFY_TELEGRAM_CHAT_ID=-100", "NOTIFY_SLACK_URL_FILE="+hook, "NOTIFY_WATCHDOG_URL=http://w/x")
	m := c.Monitor
	if d := cmp.Diff([]string{"a:1", "https://b:2"}, m.ExporterTargets); d != "" {
		t.Errorf("targets: -want +got\n%s", d)
	}
	if d := cmp.Diff([]string{"desk.example.com", "::1"}, m.AllowedHosts); d != "" {
		t.Errorf("hosts: -want +got\n%s", d)
	}
	if m.AlertmanagerURL.String() != "https://am.example.com/alerts" || m.Retention != 36*time.Hour || c.For != 5*time.Second || !m.On {
		t.Errorf("got %+v", m)
	}
	n := c.Notify
	if n.TelegramTokenFile != token || n.TelegramChatID != -100 || n.SlackURLFile != hook || !n.SMTPNoTLS || n.WatchdogURL.Reveal() != "http://w/x" {
		t.Errorf("got %+v", n)
	}
	if !n.Any() || (Notifications{SMTPNoTLS: true}).Any() {
		t.Error("whether anyone is told is wrong")
	}
}

// A heartbeat that is lost is older than a living one can look, at every time scale.
func TestTheAgeOfALostHeartbeatFollows(t *testing.T) {
	for _, c := range []struct {
		role Role
		env  []string
		want time.Duration
	}{
		{Rules, []string{"MONITOR_SCRAPE_INTERVAL_SEC=5", "HEARTBEAT_INTERVAL_SEC=2"}, 16 * time.Second},
		{Monitor, []string{"MONITOR_SCRAPE_INTERVAL_SEC=15"}, 35 * time.Second},
		{Up, []string{"MONITOR_TIME_SCALE=5", "HEARTBEAT_INTERVAL_SEC=5"}, 45 * time.Second},
	} {
		if got := mustLoad(t, c.role, nil, c.env...).HeartbeatLost; got != c.want {
			t.Errorf("%v: %s, want %s", c.env, got, c.want)
		}
	}
	if got := mustLoad(t, Monitor, nil, "PROMETHEUS_URL=http://p"); got.HeartbeatLost != 0 {
		t.Error("rules of another server are looked at")
	}
}

func TestUpWithoutAMonitorDoesNotCheckIt(t *testing.T) {
	c := mustLoad(t, Up, []string{"--monitor=false"}, "METRICS_PORT=9091", "NOTIFY_SMTP_USER=x")
	if c.Monitor.On {
		t.Error("it is on")
	}
}

func TestMonitorProblems(t *testing.T) {
	empty, lines := write(t, "empty", " \n"), write(t, "lines", "sesame\nopen\n")
	secret := write(t, "secret", "sesame-not-a-url")
	for _, c := range []struct {
		role Role
		env  []string
		want string
	}{
		{Monitor, []string{"PROMETHEUS_URL=http://p", "ALERTMANAGER_URL=http://a"}, "nothing is left to run"},
		{Up, []string{"ALERTMANAGER_URL=http://a", "ALERTMANAGER_CONFIG_FILE=" + secret}, "none is embedded"},
		{Up, []string{"MONITOR_PORT=8042"}, "both want port 8042"},
		{Monitor, []string{"MONITOR_PORT=9093"}, "both want port 9093"},
		{Monitor, []string{"PROMETHEUS_URL=p:9090"}, "begin it with http://"},
		{Monitor, []string{"ALERTMANAGER_URL=http://u:sesame@a"}, "has credentials"},
		{Monitor, []string{"MONITOR_EXPORTER_TARGETS=localhost"}, "not HOST:PORT"},
		{Monitor, []string{"MONITOR_EXPORTER_TARGETS=ftp://localhost:1"}, "is not a target"},
		{Monitor, []string{"MONITOR_PUBLISHER_TARGETS=,"}, "names no target"},
		{Monitor, []string{"MONITOR_ALLOWED_HOSTS=http://x"}, "not a host"},
		{Monitor, []string{"MONITOR_TIME_SCALE=6"}, "from 1 to 5"},
		{Monitor, []string{"MONITOR_SCRAPE_INTERVAL_SEC=20"}, "from 1 to 15"},
		{Monitor, []string{"ALERT_HEARTBEAT_LOST_SEC=20"}, "a living publisher can look 21s old"},
		{Up, []string{"ALERT_HEARTBEAT_LOST_SEC=26", "MONITOR_TIME_SCALE=5", "HEARTBEAT_INTERVAL_SEC=2"}, "a living publisher can look 30s old"},
		{Monitor, []string{"MONITOR_RETENTION=5m"}, "from 2h to 3650d"},
		{Monitor, []string{"MONITOR_RULE_FILES=/does/not/exist"}, "cannot be read"},
		{Monitor, []string{"HARVEST_DATA=" + empty}, "is not a folder"},
		{Monitor, []string{"NOTIFY_SLACK_URL_FILE=" + secret}, "does not hold a URL"},
		{Monitor, []string{"NOTIFY_PAGERDUTY_KEY_FILE=" + empty}, "the file is empty"},
		{Monitor, []string{"NOTIFY_PAGERDUTY_KEY_FILE=" + lines}, "more than one line"},
		{Monitor, []string{"NOTIFY_TELEGRAM_TOKEN_FILE=" + secret}, "no use without NOTIFY_TELEGRAM_CHAT_ID"},
		{Monitor, []string{"NOTIFY_SLACK_CHANNEL=#desk"}, "no use without NOTIFY_SLACK_URL_FILE"},
		{Up, []string{"NOTIFY_PAGERDUTY_URL=https://events.eu.example.com"}, "no use without NOTIFY_PAGERDUTY_KEY_FILE"},
		{Monitor, []string{"NOTIFY_TELEGRAM_URL=http://bot"}, "no use without NOTIFY_TELEGRAM_TOKEN_FILE"},
		{Monitor, []string{"NOTIFY_TELEGRAM_CHAT_ID=desk"}, "not the number of a chat"},
		{Monitor, []string{"NOTIFY_EMAIL_TO=a@b.c", "NOTIFY_EMAIL_FROM=d@e.f"}, "no use without NOTIFY_SMTP_HOST"},
		{Monitor, []string{"NOTIFY_EMAIL_TO=nobody"}, "not a mail address"},
		{Monitor, []string{"NOTIFY_SMTP_USER=u"}, "no use without NOTIFY_SMTP_PASSWORD_FILE"},
		{Monitor, []string{"NOTIFY_WEBHOOK_URL=sesame"}, "begin it with http://"},
		{Monitor, []string{"NOTIFY_WEBHOOK_URL=http://sesame", "NOTIFY_WEBHOOK_URL_FILE=" + write(t, "hook", "http://x")}, "given twice"},
	} {
		_, _, err := load(t, c.role, nil, c.env...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.env, err, c.want)
			continue
		}
		if strings.Contains(strings.ReplaceAll(err.Error(), secret, ""), "sesame") {
			t.Errorf("%v: shows the secret: %v", c.env, err)
		}
	}
}

func TestMonitorNotes(t *testing.T) {
	conf := write(t, "am.yml", "route: {receiver: a}")
	for _, c := range []struct {
		env  []string
		want string
	}{
		{[]string{"ALERTMANAGER_URL=http://a", "NOTIFY_WEBHOOK_URL=http://x"}, "the Alertmanager elsewhere says who is told"},
		{[]string{"MONITOR_LISTEN_HOST=0.0.0.0"}, "open to everyone who reaches 0.0.0.0"},
		{[]string{"MONITOR_TIME_SCALE=5"}, "for drills"},
		{[]string{"ALERTMANAGER_CONFIG_FILE=" + conf, "NOTIFY_WEBHOOK_URL=http://x"}, "NOTIFY_ settings are not used"},
		{[]string{"MONITOR_LISTEN_HOST=::1"}, ""},
	} {
		_, notes, err := load(t, Monitor, nil, c.env...)
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, n := range notes {
			said += n.Text
		}
		if (c.want == "") != (said == "") || !strings.Contains(said, c.want) {
			t.Errorf("%v: notes %q, want %q", c.env, said, c.want)
		}
	}
}

// What is printed is for the Alertmanager elsewhere: the settings of who is told are used.
func TestPrintingUsesTheReceivers(t *testing.T) {
	_, notes, err := load(t, Monitor, []string{"--print-alertmanager-config"}, "ALERTMANAGER_URL=http://a", "NOTIFY_WEBHOOK_URL=http://x")
	if err != nil || len(notes) > 0 {
		t.Errorf("notes %v, %v", notes, err)
	}
}

// A publisher keeps nothing on the disk. What a file says of it for others is accepted.
func TestAPublisherKeepsNoData(t *testing.T) {
	if strings.Contains(Help(Publish), "--data") || !strings.Contains(Help(Monitor), "--data") {
		t.Error("who reads --data")
	}
	file := write(t, "desk.env", "HARVEST_DATA=/var/lib/harvest\n")
	if c := mustLoad(t, Publish, []string{"--env-file", file}, "HARVEST_DATA=/elsewhere"); c.DataDir != "" {
		t.Errorf("it has %q", c.DataDir)
	}
}

// A proof reads a token and makes none, and has no data folder to look for one.
func TestTheTokenOfAProof(t *testing.T) {
	for role, made := range map[Role]bool{Proof: false, Up: true, Monitor: true} {
		help := strings.Join(strings.Fields(Help(role)), " ")
		if got := strings.Contains(help, "made where it is missing"); got != made {
			t.Errorf("help of %s says that a token is made: %v", role, got)
		}
		if got := strings.Contains(help, "default embedded"); got != made {
			t.Errorf("help of %s says that something is embedded: %v", role, got)
		}
	}
	c := mustLoad(t, Proof, []string{"--monitor-token-file", "data/token"}, "PROMETHEUS_URL=http://p:1/")
	if !filepath.IsAbs(c.Monitor.TokenFile) || c.Monitor.PrometheusURL.String() != "http://p:1" {
		t.Errorf("got %+v", c.Monitor)
	}
}
