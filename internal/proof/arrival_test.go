//go:build unix

package proof_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/monitor/monitortest"
	"quantumharvest/internal/monitor/routing"
	"quantumharvest/internal/proof"
	"quantumharvest/internal/realserver"
)

// Debian's Alertmanager counts by kind of message only, so a dead man's switch that works looks like receivers that do.
func TestArrivalAtAnAlertmanagerElsewhere(t *testing.T) {
	deadMan, hook := monitortest.NewReceiver(t, ""), monitortest.NewReceiver(t, "")
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(refuses.Close)
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the client is gone
		<-r.Context().Done()
	}))
	t.Cleanup(hangs.Close)
	for _, c := range []struct{ name, hook, says string }{
		{"arrives", hook.URL(), ""},
		{"is refused", refuses.URL, "was not told by webhook"},
		{"hangs", hangs.URL, "nothing was sent"},
		{"has no receiver", "", "tells nobody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "alertmanager.yml")
			text := routing.Render(routing.Options{
				Webhook: routing.Webhook{URL: c.hook}, Watchdog: routing.Webhook{URL: deadMan.URL()}, TimeScale: 10,
			}, routing.Portable)
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			d := newDesk(t)
			o := d.options()
			o.Alertmanager, o.AlertWithin = realserver.Alertmanager(t, file), 8*time.Second
			watchdog := fmt.Sprintf(`[{"labels": {"alertname": "Watchdog", "severity": "none"}, "endsAt": %q}]`, time.Now().Add(time.Hour).Format(time.RFC3339))
			resp, err := http.Post(o.Alertmanager+"/api/v2/alerts", "application/json", strings.NewReader(watchdog))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			p, err := proof.Run(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			check := p.Checks[7]
			if check.Passed != (c.says == "") || !strings.Contains(strings.Join(check.Failures, "\n"), c.says) {
				t.Errorf("%v, says %v", check.Failures, check.Evidence)
			}
		})
	}
	t.Cleanup(func() {
		if len(deadMan.Messages()) == 0 {
			t.Error("the dead man was never told: nothing was mistaken for him")
		}
	})
}
