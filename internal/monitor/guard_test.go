package monitor

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/monitor/routing"
)

// silence makes a silence with the headers given and returns its id.
func (r *running) silence(name string, header ...string) string {
	r.t.Helper()
	code, _, body := r.ask(http.MethodPost, r.AlertmanagerURL()+"/api/v2/silences", silenceOn(name), header...)
	var made struct{ SilenceID string }
	if err := json.Unmarshal([]byte(body), &made); code != http.StatusOK || err != nil {
		r.t.Fatalf("silence: %d %s", code, body)
	}
	return made.SilenceID
}

func silenceOn(name string) string {
	return fmt.Sprintf(`{"matchers": [{"name": "alertname", "value": %q, "isRegex": false, "isEqual": true}],
		"startsAt": %q, "endsAt": %q, "createdBy": "a test", "comment": "planned"}`,
		name, time.Now().Format(time.RFC3339Nano), time.Now().Add(time.Hour).Format(time.RFC3339Nano))
}

func TestChangesNeedTheToken(t *testing.T) {
	t.Parallel()
	r := start(t, newDesk(t), routing.Options{}, plain)
	p, a := r.URL(), r.AlertmanagerURL()
	id := r.silence("Planned", "Authorization", "Bearer "+r.token())
	r.silence("Other", TokenHeader, r.token())
	if page := r.get(a + "/"); !strings.Contains(page, `>alertname=&#34;Planned&#34;</a>`) || !strings.Contains(page, "by a test: planned") {
		t.Errorf("the page does not show what is silenced:\n%s", page)
	}
	for _, c := range []struct {
		method, at, body string
		header           []string
		want             int
	}{
		{http.MethodPost, a + "/api/v2/silences", silenceOn("X"), nil, 401},
		{http.MethodPost, a + "/api/v2/silences", silenceOn("X"), []string{"Authorization", "Bearer wrong"}, 401},
		{http.MethodPost, a + "/api/v2/silences", silenceOn("X"), []string{"Authorization", "Basic " + r.token()}, 401},
		{http.MethodPost, a + "/api/v2/silences", silenceOn("X"), []string{"Authorization", "Bearer "}, 401},
		{http.MethodPost, a + "/api/v2/alerts", `[{"labels": {"alertname": "X"}}]`, nil, 401},
		{http.MethodDelete, a + "/api/v2/silence/" + id, "", nil, 401},
		{http.MethodGet, a + "/api/v2/silences", "", nil, 200},
		{http.MethodPost, p + "/api/v1/query?query=up", "", nil, 200},
		{http.MethodPost, p + "/api/v1/admin/tsdb/snapshot", "", []string{"Authorization", "Bearer " + r.token()}, 403},
		{http.MethodPut, p + "/api/v1/admin/tsdb/delete_series?match[]=up", "", nil, 403},
		{http.MethodPost, p + "/api/v1/write", "", []string{"Authorization", "Bearer " + r.token()}, 403},
		{http.MethodPost, p + "/-/quit", "", nil, 403},
		{http.MethodPost, p + "/-/reload", "", nil, 403},
		{http.MethodDelete, p + "/api/v1/series?match[]=up", "", nil, 401},
		{http.MethodDelete, a + "/api/v2/silence/" + id, "", []string{"Authorization", "Bearer " + r.token()}, 200},
	} {
		code, header, body := r.ask(c.method, c.at, c.body, c.header...)
		if code != c.want {
			t.Errorf("%s %s %v: %d, want %d: %s", c.method, c.at, c.header, code, c.want, body)
		}
		if code == 401 && (header.Get("WWW-Authenticate") == "" || !strings.Contains(body, "MONITOR_TOKEN_FILE")) {
			t.Errorf("%s %s does not say what is asked for: %s", c.method, c.at, body)
		}
	}
	for where, text := range map[string]string{
		"log": r.log.String(), "page": r.get(p + "/"), "status": r.get(a + "/api/v2/status"), "configuration": r.get(p + "/api/v1/status/config"),
	} {
		if strings.Contains(text, r.token()) {
			t.Errorf("the %s shows the token", where)
		}
	}
}

// A page of another origin reaches neither port, under whatever name it leads here, and may not read what is answered.
func TestHostsAndOrigins(t *testing.T) {
	t.Parallel()
	r := start(t, newDesk(t), routing.Options{}, func(o *Options) { o.AllowedHosts = []string{"desk.example.com"} })
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:9091": 200, "localhost.": 200, "127.0.0.1": 200, "[::1]:9091": 200, "127.1.2.3": 200,
		"desk.example.com:9091": 200, "Desk.Example.com": 200,
		"rebound.example.com": 421, "rebound.example.com:9091": 421, "10.0.0.1": 421, "localhost.example.com": 421, "127.0.0.1.example.com": 421, "desk.example.com.evil": 421,
	} {
		for _, at := range []string{r.URL() + "/api/v1/alerts", r.AlertmanagerURL() + "/api/v2/alerts", r.URL() + "/", r.URL() + "/metrics"} {
			code, header, body := r.ask(http.MethodGet, at, "", "Host", host, "Origin", "http://"+host)
			if code != want {
				t.Errorf("%s as %s: %d, want %d: %s", at, host, code, want, body)
			}
			if code == 421 && !strings.Contains(body, "MONITOR_ALLOWED_HOSTS") {
				t.Errorf("no hint: %s", body)
			}
			for name := range header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s allows an origin: %s", at, name)
				}
			}
		}
	}
	code, header, _ := r.ask(http.MethodOptions, r.AlertmanagerURL()+"/api/v2/silences", "", "Origin", "http://localhost:1", "Access-Control-Request-Method", "POST")
	if code == http.StatusOK && header.Get("Access-Control-Allow-Methods") != "" || header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a preflight is answered with %d %v", code, header)
	}
}
