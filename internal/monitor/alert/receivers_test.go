package alert

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/monitor/monitortest"
	"quantumharvest/internal/monitor/routing"
)

// secrets are the contents of the files, none of which may ever be shown.
var secrets = map[string]string{
	"slack": "/services/T0/B0/sesame-slack", "pagerduty": "sesame-pagerduty", "telegram": "123:sesame-telegram", "password": "sesame-password",
	"webhook": "/hook/sesame-webhook", "watchdog": "/ping/sesame-watchdog",
}

// desk is everybody who is told, as local stand-ins.
type desk struct {
	slack, pagerduty, telegram, webhook, watchdog *monitortest.Receiver
	mail                                          *monitortest.MailServer
	options                                       routing.Options
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{
		slack: monitortest.NewReceiver(t, "ok"), pagerduty: monitortest.NewReceiver(t, `{"status":"success"}`),
		telegram: monitortest.NewReceiver(t, `{"ok":true,"result":{"message_id":1,"chat":{"id":-1001}}}`),
		webhook:  monitortest.NewReceiver(t, ""), watchdog: monitortest.NewReceiver(t, ""), mail: monitortest.NewMailServer(t),
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	d.options = routing.Options{
		Slack:     routing.Slack{URLFile: file("slack", d.slack.URL()+secrets["slack"]), Channel: "#desk"},
		PagerDuty: routing.PagerDuty{KeyFile: file("pagerduty", secrets["pagerduty"]), URL: d.pagerduty.URL() + "/v2/enqueue"},
		Telegram:  routing.Telegram{TokenFile: file("telegram", secrets["telegram"]), ChatID: -1001, URL: d.telegram.URL()},
		Email: routing.Email{
			To: "desk@example.com", From: "harvest@example.com", Smarthost: d.mail.Addr(), User: "harvest",
			PasswordFile: file("password", secrets["password"]), NoTLS: true,
		},
		Webhook:   routing.Webhook{URLFile: file("webhook", d.webhook.URL()+secrets["webhook"])},
		Watchdog:  routing.Webhook{URLFile: file("watchdog", d.watchdog.URL()+secrets["watchdog"])},
		TimeScale: 1000,
	}
	return d
}

// checkNoSecret looks where people look.
func checkNoSecret(t *testing.T, r *running) {
	t.Helper()
	_, status := r.ask(http.MethodGet, "/api/v2/status", nil)
	if !strings.Contains(status, "slack_configs") {
		t.Errorf("the status shows no configuration: %s", status)
	}
	for where, text := range map[string]string{"status": status, "log": r.log.String()} {
		if i := strings.Index(text, "sesame"); i >= 0 {
			t.Errorf("the %s shows a secret: %s", where, text[max(0, i-200):min(len(text), i+60)])
		}
	}
}

func TestEveryReceiver(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	r := start(t, "", string(routing.Render(d.options, routing.Current)))
	a := firing("QuantumHarvestKillScoreCritical", "symbol", "BTCUSDT", "severity", "critical")
	r.send(a, firing("Watchdog", "severity", "none"))

	arrived := func(rec *monitortest.Receiver, path, pattern string) {
		t.Helper()
		livetest.Eventually(t, soon, func() error {
			for _, k := range rec.Kept() {
				if k.Path == path && regexp.MustCompile(pattern).Match(k.Body) {
					return nil
				}
			}
			return fmt.Errorf("nothing like %s at %s among %d requests: %s", pattern, path, len(rec.Kept()), last(rec))
		})
	}
	arrived(d.slack, secrets["slack"], `"channel":"#desk".*\[FIRING:1\] QuantumHarvestKillScoreCritical BTCUSDT.*about QuantumHarvestKillScoreCritical`)
	arrived(d.pagerduty, "/v2/enqueue", `"routing_key":"sesame-pagerduty".*"event_action":"trigger".*KillScoreCritical BTCUSDT.*"severity":"critical"`)
	arrived(d.telegram, "/bot"+secrets["telegram"]+"/sendMessage", `KillScoreCritical BTCUSDT`)
	arrived(d.webhook, secrets["webhook"], `"status":"firing".*KillScoreCritical`)
	arrived(d.watchdog, secrets["watchdog"], `Watchdog`)
	livetest.Eventually(t, soon, func() error {
		for _, m := range d.mail.Kept() {
			if m.Login == "harvest:"+secrets["password"] && strings.Contains(m.Contents, "KillScoreCritical BTCUSDT") &&
				len(m.To) == 1 && strings.Contains(m.To[0], "desk@example.com") {
				return nil
			}
		}
		return fmt.Errorf("no such mail: %+v", d.mail.Kept())
	})

	r.send(over(a))
	arrived(d.slack, secrets["slack"], `\[RESOLVED\] QuantumHarvestKillScoreCritical BTCUSDT`)
	arrived(d.pagerduty, "/v2/enqueue", `"event_action":"resolve"`)
	arrived(d.webhook, secrets["webhook"], `"status":"resolved"`)
	arrived(d.telegram, "/bot"+secrets["telegram"]+"/sendMessage", `RESOLVED`)
	for _, k := range d.watchdog.Kept() {
		if strings.Contains(string(k.Body), "KillScore") || strings.Contains(string(k.Body), "resolved") {
			t.Errorf("the dead-man switch was told: %s", k.Body)
		}
	}
	checkNoSecret(t, r)
}

func last(r *monitortest.Receiver) string {
	kept := r.Kept()
	if len(kept) == 0 {
		return "none"
	}
	return kept[len(kept)-1].Path + " " + string(kept[len(kept)-1].Body)
}

// The dead-man switch is told again and again.
func TestTheWatchdogIsSteady(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	r := start(t, "", string(routing.Render(d.options, routing.Current)))
	r.send(firing("Watchdog", "severity", "none"))
	livetest.Eventually(t, soon, func() error {
		if n := len(d.watchdog.Kept()); n < 5 {
			return fmt.Errorf("told %d times", n)
		}
		return nil
	})
}

// Errors name the receiver and the cause, and nothing else: the token of a bot is part of its URL.
func TestFailuresDoNotShowSecrets(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	r := start(t, "", string(routing.Render(d.options, routing.Current)))
	// Nobody listens any more.
	for _, rec := range []*monitortest.Receiver{d.slack, d.pagerduty, d.telegram, d.webhook} {
		rec.Close()
	}
	r.send(firing("QuantumHarvestExporterDown", "severity", "critical"))
	livetest.Eventually(t, soon, func() error {
		log := r.log.String()
		for _, kind := range []string{"slack", "pagerduty", "telegram", "webhook"} {
			if !regexp.MustCompile(`(?m)^.*integration=` + kind + `.*(refused|EOF|connect).*$`).MatchString(log) {
				return fmt.Errorf("no failure of %s in the log", kind)
			}
		}
		return nil
	})
	if !strings.Contains(r.log.String(), "/bot<secret>/") {
		t.Error("the bot's URL is not in the log at all: what is tested here has moved")
	}
	checkNoSecret(t, r)
}

// What the inhibitions of the desk keep quiet.
func TestOneCausePagesOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		source []post
		hidden []post
		told   []post
	}{
		{
			"every exporter down",
			[]post{firing("QuantumHarvestExporterDown", "instance", "a"), firing("QuantumHarvestBlind", "cause", "QuantumHarvestExporterDown")},
			[]post{
				firing("QuantumHarvestStoreDown", "instance", "a"), firing("QuantumHarvestMetricsStale", "symbol", "A", "instance", "a"),
				firing("QuantumHarvestKillScoreHigh", "symbol", "A", "instance", "a"), firing("QuantumHarvestSightLost", "symbol", "A"),
				firing("QuantumHarvestProposalMissing", "symbol", "A"), firing("QuantumHarvestCoverageShort"),
			},
			[]post{
				firing("QuantumHarvestPublisherDown"), firing("QuantumHarvestPublisherStoreDown", "instance", "p"), firing("QuantumHarvestReceiverFailing"),
				firing("Else"),
			},
		},
		{
			"one exporter of two down",
			[]post{firing("QuantumHarvestExporterDown", "instance", "dead")},
			[]post{firing("QuantumHarvestStoreDown", "instance", "dead")},
			[]post{
				firing("QuantumHarvestStoreDown", "instance", "good"), firing("QuantumHarvestKillScoreCritical", "symbol", "A", "instance", "good"),
				firing("QuantumHarvestKillScoreHigh", "symbol", "B", "instance", "good"), firing("QuantumHarvestHeartbeatLost", "symbol", "C"),
				firing("QuantumHarvestProposalMissing", "symbol", "D"),
			},
		},
		{
			"no exporter can read Redis",
			[]post{firing("QuantumHarvestStoreDown", "instance", "a"), firing("QuantumHarvestBlind", "cause", "QuantumHarvestStoreDown")},
			[]post{
				firing("QuantumHarvestHeartbeatLost", "symbol", "A"), firing("QuantumHarvestMetricsStale", "symbol", "A"),
				firing("QuantumHarvestPublisherStoreDown", "instance", "p"), firing("QuantumHarvestStoreInterrupted", "instance", "p"),
			},
			[]post{firing("QuantumHarvestRulesFailing"), firing("QuantumHarvestReceiverFailing"), firing("Else")},
		},
		{
			"one exporter of two cannot read Redis",
			[]post{firing("QuantumHarvestStoreDown", "instance", "far")},
			[]post{firing("QuantumHarvestStoreInterrupted", "instance", "far"), firing("QuantumHarvestStoreSlow", "instance", "far")},
			[]post{
				firing("QuantumHarvestStoreInterrupted", "instance", "p"), firing("QuantumHarvestPublisherStoreDown", "instance", "p"),
				firing("QuantumHarvestKillScoreCritical", "symbol", "A", "instance", "good"), firing("QuantumHarvestHeartbeatLost", "symbol", "B"),
				firing("QuantumHarvestCoverageShort"),
			},
		},
		{
			"heartbeat of one symbol lost",
			[]post{firing("QuantumHarvestHeartbeatLost", "symbol", "A")},
			[]post{
				firing("QuantumHarvestMetricsStale", "symbol", "A"), firing("QuantumHarvestKillScoreCritical", "symbol", "A"),
				firing("QuantumHarvestMarketStale", "symbol", "A"), firing("QuantumHarvestPublisherDown"),
			},
			[]post{firing("QuantumHarvestMarketStale", "symbol", "B"), firing("QuantumHarvestKillScoreCritical", "symbol", "B")},
		},
		{
			"heartbeat stale",
			[]post{firing("QuantumHarvestMetricsStale", "symbol", "A", "instance", "a")},
			[]post{firing("QuantumHarvestKillScoreHigh", "symbol", "A", "instance", "a")},
			[]post{firing("QuantumHarvestKillScoreHigh", "symbol", "B", "instance", "a"), firing("QuantumHarvestKillScoreCritical", "symbol", "A", "instance", "fresh")},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, "", string(routing.Render(routing.Options{TimeScale: 1000}, routing.Current)))
			r.send(c.source...)
			r.send(append(c.hidden, c.told...)...)
			livetest.Eventually(t, soon, func() error {
				for _, want := range []struct {
					posts []post
					state string
				}{{c.hidden, "suppressed"}, {c.told, "active"}, {c.source, "active"}} {
					for _, p := range want.posts {
						q := "/api/v2/alerts?filter=alertname=" + p.Labels["alertname"]
						for _, label := range []string{"symbol", "instance"} {
							if v := p.Labels[label]; v != "" {
								q += "&filter=" + label + "=" + v
							}
						}
						if _, body := r.ask(http.MethodGet, q, nil); !strings.Contains(body, `"state":"`+want.state+`"`) {
							return fmt.Errorf("%v is not %s: %s", p.Labels, want.state, body)
						}
					}
				}
				return nil
			})
		})
	}
}
