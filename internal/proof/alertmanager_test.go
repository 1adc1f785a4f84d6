package proof_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// fakeAlertmanager tells slack and a webhook of alerts, and a dead man's switch by a webhook of its own.
type fakeAlertmanager struct {
	begin        time.Time
	byReceiver   bool // it counts by receiver
	leadsTo      string
	status       map[string]any
	refuse       bool   // test alerts
	swallow      bool   // take them and tell nobody
	hangs, fails string // a kind of message
	deadManEvery time.Duration
	told         map[string]int // requests by kind
}

func newAlertmanager() fakeAlertmanager {
	return fakeAlertmanager{
		begin: time.Now(), byReceiver: true, leadsTo: "notice", told: map[string]int{}, status: map[string]any{"state": "active"},
	}
}

const fakeReceivers = `route: {receiver: notice}
receivers:
- name: notice
  slack_configs: [{api_url: <secret>}]
  webhook_configs: [{url: <secret>}]
- name: dead-man
  webhook_configs: [{url: <secret>}]
- name: log
`

func (a *fakeAlertmanager) serve(w http.ResponseWriter, r *http.Request) {
	switch path := strings.TrimPrefix(r.URL.Path, "/alertmanager"); {
	case path == "/metrics":
		fmt.Fprint(w, a.metrics())
	case path == "/api/v2/status":
		_ = json.NewEncoder(w).Encode(map[string]any{"config": map[string]string{"original": fakeReceivers}})
	case r.Method == http.MethodPost:
		if a.refuse || r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if !a.swallow {
			a.told["slack"]++
			a.told["webhook"]++
		}
	default:
		_ = json.NewEncoder(w).Encode([]any{map[string]any{"receivers": []any{map[string]any{"name": a.leadsTo}}, "status": a.status}})
	}
}

// metrics counts a notification when it begins, and a request when it is over.
func (a *fakeAlertmanager) metrics() string {
	deadMan := 0
	if a.deadManEvery > 0 {
		deadMan = int(time.Since(a.begin) / a.deadManEvery)
	}
	var text strings.Builder
	write := func(family, receiver, kind string, n int) {
		labels := fmt.Sprintf("integration=%q", kind)
		if a.byReceiver {
			labels += fmt.Sprintf(",receiver_name=%q", receiver)
		}
		fmt.Fprintf(&text, "alertmanager_%s{%s} %d\n", family, labels, n)
	}
	count := func(family string, of func(kind string) int, deadMan int) {
		fmt.Fprintf(&text, "# TYPE alertmanager_%s counter\n", family)
		write(family, "notice", "slack", of("slack"))
		if a.byReceiver {
			write(family, "notice", "webhook", of("webhook"))
			write(family, "dead-man", "webhook", deadMan)
		} else {
			write(family, "", "webhook", of("webhook")+deadMan)
		}
	}
	count("notifications_total", func(kind string) int { return a.told[kind] }, deadMan)
	count("notification_requests_total", func(kind string) int {
		if kind == a.hangs {
			return 0
		}
		return a.told[kind]
	}, deadMan)
	failures := func(kind string) int {
		if kind == a.fails {
			return a.told[kind]
		}
		return 0
	}
	count("notification_requests_failed_total", failures, 0)
	count("notifications_failed_total", func(string) int { return 0 }, 0)
	return text.String()
}
