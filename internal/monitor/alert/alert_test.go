package alert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/monitor/folder"
	"quantumharvest/internal/monitor/monitortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is an Alertmanager under test.
type running struct {
	*monitortest.Running
	t      *testing.T
	server *Server
	folder *folder.Folder
	log    livetest.Buffer
}

// start runs an Alertmanager on dir (blank: temporary) with the configuration given.
func start(t *testing.T, dir, text string) *running { return startScaled(t, dir, text, 1) }

func startScaled(t *testing.T, dir, text string, scale int) *running {
	t.Helper()
	conf, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t}
	log := slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if r.folder, err = folder.Open(dir, log); err != nil {
		t.Fatal(err)
	}
	r.server, err = New(Options{
		Folder: r.folder, Config: conf, Steady: []string{"Watchdog"}, ExternalURL: &url.URL{Scheme: "http", Host: "desk.example.com"}, TimeScale: scale, Log: log, Libraries: log,
	})
	if err != nil {
		r.folder.Close()
		t.Fatal(err)
	}
	r.Running = monitortest.Serve(t, r.server, r.folder, &r.log)
	return r
}

// ask sends a request and returns the answer.
func (r *running) ask(method, path string, body any) (int, string) {
	r.t.Helper()
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			r.t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, r.URL+path, in)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.Client().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(out)
}

// post is an alert as Prometheus sends it.
type post struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	StartsAt    *time.Time        `json:"startsAt,omitempty"`
	EndsAt      *time.Time        `json:"endsAt,omitempty"`
}

func firing(name string, labels ...string) post {
	p := post{Labels: map[string]string{"alertname": name}, Annotations: map[string]string{"summary": "about " + name}}
	for i := 0; i < len(labels); i += 2 {
		p.Labels[labels[i]] = labels[i+1]
	}
	begin, end := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	p.StartsAt, p.EndsAt = &begin, &end
	return p
}

func over(p post) post {
	now := time.Now()
	p.EndsAt = &now
	return p
}

func (r *running) send(alerts ...post) {
	r.t.Helper()
	if code, body := r.ask(http.MethodPost, "/api/v2/alerts", alerts); code != http.StatusOK {
		r.t.Fatalf("alerts are refused: %d %s", code, body)
	}
}

const soon = time.Minute

// toWebhook is a configuration that tells one URL quickly.
func toWebhook(at, repeat, more string) string {
	return fmt.Sprintf(`route: {receiver: hook, group_by: [alertname], group_wait: 50ms, group_interval: 200ms, repeat_interval: %s}
receivers: [{name: hook, webhook_configs: [{url: %q, send_resolved: true}]}]
%s`, repeat, at, more)
}

func names(want ...string) func(monitortest.Message) bool {
	return func(m monitortest.Message) bool {
		return strings.Join(m.Names("firing"), ",") == strings.Join(want, ",")
	}
}

func resolved(want ...string) func(monitortest.Message) bool {
	return func(m monitortest.Message) bool {
		return m.Status == "resolved" && strings.Join(m.Names("resolved"), ",") == strings.Join(want, ",")
	}
}

func TestGroupedRepeatedResolved(t *testing.T) {
	t.Parallel()
	hook := monitortest.NewReceiver(t, "")
	r := start(t, "", toWebhook(hook.URL(), "1s", ""))
	a, b := firing("Lost", "symbol", "A"), firing("Lost", "symbol", "B")
	r.send(a, b, firing("Other"))
	hook.Told(soon, "the group of both", names("Lost A", "Lost B"))
	hook.Told(soon, "the other group", names("Other"))
	livetest.Eventually(t, soon, func() error {
		n := 0
		for _, m := range hook.Messages() {
			if names("Lost A", "Lost B")(m) {
				n++
			}
		}
		if n < 2 {
			return fmt.Errorf("told %d times, not reminded", n)
		}
		return nil
	})
	r.send(over(a), over(b))
	hook.Told(soon, "the end of both", resolved("Lost A", "Lost B"))
	if code, body := r.ask(http.MethodGet, "/api/v2/alerts/groups", nil); code != 200 || !strings.Contains(body, `"hook"`) {
		t.Errorf("groups: %d %s", code, body)
	}
}

func TestInhibited(t *testing.T) {
	t.Parallel()
	hook := monitortest.NewReceiver(t, "")
	r := start(t, "", toWebhook(hook.URL(), "1h", `inhibit_rules: [{source_matchers: [alertname="Cause"], target_matchers: [alertname="Effect"], equal: [symbol]}]`))
	r.send(firing("Cause", "symbol", "A"))
	hook.Told(soon, "the cause", names("Cause A"))
	r.send(firing("Effect", "symbol", "A"), firing("Effect", "symbol", "B"))
	hook.Told(soon, "the effect elsewhere", names("Effect B"))
	if code, body := r.ask(http.MethodGet, "/api/v2/alerts?inhibited=true&active=false&filter=symbol=A", nil); code != 200 || !strings.Contains(body, "Effect") {
		t.Errorf("the inhibited alert is not shown as such: %d %s", code, body)
	}
	for _, m := range hook.Messages() {
		if names("Effect A", "Effect B")(m) || names("Effect A")(m) {
			t.Errorf("the effect was told: %+v", m)
		}
	}
}

// silence makes a silence on an alert name and returns its id.
func (r *running) silence(name string) string {
	r.t.Helper()
	code, body := r.ask(http.MethodPost, "/api/v2/silences", map[string]any{
		"matchers":  []map[string]any{{"name": "alertname", "value": name, "isRegex": false, "isEqual": true}},
		"startsAt":  time.Now().Format(time.RFC3339Nano),
		"endsAt":    time.Now().Add(time.Hour).Format(time.RFC3339Nano),
		"createdBy": "a test", "comment": "planned",
	})
	var made struct{ SilenceID string }
	if err := json.Unmarshal([]byte(body), &made); code != 200 || err != nil || made.SilenceID == "" {
		r.t.Fatalf("silence: %d %s", code, body)
	}
	return made.SilenceID
}

func TestSilencesAndAlertsSurviveARestart(t *testing.T) {
	t.Parallel()
	hook := monitortest.NewReceiver(t, "")
	dir := t.TempDir()
	conf := toWebhook(hook.URL(), "1h", "")
	r := start(t, dir, conf)
	id := r.silence("Planned")
	lost, gone := firing("Lost", "symbol", "A"), firing("Gone")
	r.send(lost, gone, firing("Planned"), firing("Watchdog"))
	hook.Told(soon, "the alert", names("Lost A"))
	hook.Told(soon, "the one that ends meanwhile", names("Gone"))
	r.End()

	again := start(t, dir, conf)
	if code, body := again.ask(http.MethodGet, "/api/v2/silence/"+id, nil); code != 200 || !strings.Contains(body, `"active"`) {
		t.Fatalf("the silence is gone: %d %s", code, body)
	}
	code, body := again.ask(http.MethodGet, "/api/v2/alerts", nil)
	if code != 200 || !strings.Contains(body, "Lost") || !strings.Contains(body, "Planned") {
		t.Errorf("the alerts are gone: %d %s", code, body)
	}
	if strings.Contains(body, "Watchdog") {
		t.Error("the alert that says that all works comes from a run that is over")
	}
	// One alert is over, the other still fires: only the end is news.
	again.send(lost, over(gone), firing("New"))
	hook.Told(soon, "the end of the one", resolved("Gone"))
	hook.Told(soon, "a new alert", names("New"))
	told := 0
	for _, m := range hook.Messages() {
		if names("Lost A")(m) {
			told++
		}
		if names("Planned")(m) {
			t.Error("the silenced alert was told")
		}
	}
	if told != 1 {
		t.Errorf("the alert that still fires was told %d times", told)
	}
}

// An alert that ended while the process was away is never sent again by anyone: its end is told all the same.
func TestAnAlertNobodySpeaksOfAnyMoreIsToldResolved(t *testing.T) {
	t.Parallel()
	hook := monitortest.NewReceiver(t, "")
	dir := t.TempDir()
	r := start(t, dir, toWebhook(hook.URL(), "1h", ""))
	r.send(firing("Lost"))
	hook.Told(soon, "the alert", names("Lost"))
	r.End()
	path := filepath.Join(dir, alertsName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []saved
	if err := json.Unmarshal(text, &list); err != nil || len(list) != 1 || !list[0].Firing {
		t.Fatalf("saved: %v %s", err, text)
	}
	// The sender's own time limit passed while the process was away.
	list[0].EndsAt = time.Now().Add(-time.Minute)
	if text, err = json.Marshal(list); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	startScaled(t, dir, toWebhook(hook.URL(), "1h", ""), 100)
	hook.Told(soon, "the end", resolved("Lost"))
	if waited := time.Since(begin); waited < revivalGrace/100 {
		t.Errorf("given up after %s: rules had no time to fire again", waited)
	}
}

func TestDamagedFilesAreSetAside(t *testing.T) {
	t.Parallel()
	for _, name := range []string{silencesName, notifiedName, alertsName} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, name), []byte("\xff\xffno snapshot"), 0o600); err != nil {
				t.Fatal(err)
			}
			hook := monitortest.NewReceiver(t, "")
			r := start(t, dir, toWebhook(hook.URL(), "1h", ""))
			r.send(firing("Lost"))
			hook.Told(soon, "an alert", names("Lost"))
			copies, _ := filepath.Glob(filepath.Join(dir, name+".damaged-*"))
			if len(copies) != 1 || r.folder.Damaged()[name] != 1 {
				t.Errorf("set aside: %v, counted %v", copies, r.folder.Damaged())
			}
			if !strings.Contains(r.log.String(), "data of the monitor is damaged") {
				t.Error("nothing is said")
			}
		})
	}
}

func TestLogReceiverSaysEachChangeOnce(t *testing.T) {
	t.Parallel()
	r := start(t, "", "route: {receiver: log, group_by: [alertname], group_wait: 50ms, group_interval: 100ms, repeat_interval: 150ms}\nreceivers: [{name: log}]\n")
	a := firing("Lost", "symbol", "A", "severity", "critical")
	said := func(text string) int { return strings.Count(r.log.String(), text) }
	r.send(a)
	const fired = `msg="alert firing, nobody is told" alerts="Lost A" severity=critical summary="about Lost"`
	livetest.Eventually(t, soon, func() error {
		// Several reminders are due before this is looked at again.
		if said(fired) == 0 || said("Notify success") < 3 {
			return fmt.Errorf("said %d times, notified %d times", said(fired), said("Notify success"))
		}
		return nil
	})
	r.send(over(a))
	livetest.Eventually(t, soon, func() error {
		if said(`msg="alert resolved, nobody is told" alerts="Lost A"`) != 1 {
			return fmt.Errorf("its end is not said")
		}
		return nil
	})
	if n := said(fired); n != 1 {
		t.Errorf("said %d times", n)
	}
}
