package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"go.uber.org/goleak"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/monitor/alert"
	"quantumharvest/internal/monitor/monitortest"
	"quantumharvest/internal/monitor/prom"
	"quantumharvest/internal/monitor/routing"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tick = 400 * time.Millisecond
	soon = time.Minute
)

// desk is what is watched: one gauge.
type desk struct {
	*httptest.Server
	level atomic.Int64
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, "desk_level{symbol=\"A\"} %d\n", d.level.Load())
	}))
	t.Cleanup(d.Close)
	return d
}

const levelRules = `groups:
- name: desk
  rules:
  - alert: LevelHigh
    expr: max_over_time(desk_level[2s]) > 5 # a scrape may fail on a busy machine
    for: 1s
    labels: {severity: critical}
    annotations: {summary: 'Level of {{ $labels.symbol }} is {{ $value }}'}
  - alert: Watchdog
    expr: vector(1)
    labels: {severity: none}
`

// running is a monitor under test.
type running struct {
	*Monitor
	t      *testing.T
	client *http.Client
	prom   v1.API
	log    livetest.Buffer
	stop   context.CancelFunc
	done   chan error
	once   sync.Once
}

func options(t *testing.T, log *slog.Logger, d *desk, told routing.Options) Options {
	t.Helper()
	told.TimeScale = 200
	conf, err := alert.Parse(routing.Render(told, routing.Current))
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		ListenHost: "127.0.0.1", Prometheus: true,
		Jobs:  []prom.Job{{Name: "desk", Targets: []string{d.URL}}},
		Rules: []prom.RuleFile{{Name: "desk.yml", Content: []byte(levelRules)}}, ScrapeInterval: tick, ResendDelay: 2 * tick, TimeScale: 1,
		RetentionTime: time.Hour, RetentionBytes: 64 << 20, Notifications: conf, Steady: []string{"Watchdog"}, Version: "1.2.3", Log: log,
	}
}

func start(t *testing.T, d *desk, told routing.Options, change func(*Options)) *running {
	t.Helper()
	r := &running{t: t, client: &http.Client{Transport: &http.Transport{}, Timeout: soon}, done: make(chan error, 1)}
	o := options(t, slog.New(slog.NewTextHandler(&r.log, nil)), d, told)
	change(&o)
	var err error
	if r.Monitor, err = New(o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.done <- r.Run(ctx) }()
	t.Cleanup(func() {
		r.end()
		if t.Failed() {
			t.Logf("log:\n%s", r.log.String())
		}
	})
	c, err := api.NewClient(api.Config{Address: r.URL(), Client: r.client})
	if err != nil {
		t.Fatal(err)
	}
	r.prom = v1.NewAPI(c)
	return r
}

// end stops it as a process does.
func (r *running) end() {
	r.t.Helper()
	r.once.Do(func() {
		r.client.CloseIdleConnections()
		r.stop()
		if err := <-r.done; err != nil {
			r.t.Errorf("ended with %v", err)
		}
	})
}

func plain(*Options) {}

// ask sends a request; header is a list of names and values.
func (r *running) ask(method, at, body string, header ...string) (int, http.Header, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, at, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func (r *running) get(at string) string {
	r.t.Helper()
	code, _, body := r.ask(http.MethodGet, at, "")
	if code != http.StatusOK {
		r.t.Fatalf("%s answers %d: %s", at, code, body)
	}
	return body
}

// becomes waits for an alert to have a state; blank: none.
func (r *running) becomes(name string, want v1.AlertState) {
	r.t.Helper()
	livetest.Eventually(r.t, soon, func() error {
		all, err := r.prom.Alerts(r.t.Context())
		if err != nil {
			return err
		}
		var got v1.AlertState
		for _, a := range all.Alerts {
			if string(a.Labels["alertname"]) == name {
				got = a.State
			}
		}
		if got != want {
			return fmt.Errorf("%s is %q, not %q", name, got, want)
		}
		return nil
	})
}

func (r *running) token() string {
	r.t.Helper()
	text, err := os.ReadFile(r.TokenFile())
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func about(name, status string) func(monitortest.Message) bool {
	return func(m monitortest.Message) bool { return slices.Contains(m.Names(status), name) }
}

func hooks(t *testing.T) (hook, deadMan *monitortest.Receiver, told routing.Options) {
	t.Helper()
	hook, deadMan = monitortest.NewReceiver(t, ""), monitortest.NewReceiver(t, "")
	return hook, deadMan, routing.Options{Webhook: routing.Webhook{URL: hook.URL()}, Watchdog: routing.Webhook{URL: deadMan.URL()}}
}

func TestPendingFiringToldResolved(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	hook, deadMan, told := hooks(t)
	r := start(t, d, told, plain)
	d.level.Store(7)
	r.becomes("LevelHigh", v1.AlertStatePending)
	r.becomes("LevelHigh", v1.AlertStateFiring)
	hook.Told(soon, "the alert", about("LevelHigh A", "firing"))
	page := r.get(r.URL() + "/")
	firing, _, _ := strings.Cut(page, "<h2>Pending</h2>")
	if !strings.Contains(firing, `<dt class="bad">LevelHigh (critical)</dt><dd>Level of A is 7, since `) || strings.Contains(firing, "Watchdog") || !strings.Contains(page, r.AlertmanagerURL()) {
		t.Errorf("the page does not show it, or not who is told:\n%s", page)
	}
	if page := r.get(r.AlertmanagerURL() + "/"); !strings.Contains(page, "<dt>page</dt><dd>webhook</dd>") || !strings.Contains(page, "Nothing is silenced.") {
		t.Errorf("the page does not show who is told:\n%s", page)
	}
	for _, path := range []string{"/alerts", "/rules", "/targets"} {
		if got, want := r.get(r.URL()+path), `{"status":"success"`; !strings.HasPrefix(got, want) {
			t.Errorf("%s answers %s", path, got)
		}
	}
	if got := r.get(r.URL() + "/graph?g0.expr=up&g0.tab=1"); !strings.Contains(got, `"resultType":"vector"`) {
		t.Errorf("the link of an alert leads to %s", got)
	}
	d.level.Store(1)
	hook.Told(soon, "its end", about("LevelHigh A", "resolved"))
	r.becomes("LevelHigh", "")
	livetest.Eventually(t, soon, func() error {
		if n := len(deadMan.Messages()); n < 3 {
			return fmt.Errorf("the dead-man switch was told %d times", n)
		}
		return nil
	})
	if len(hook.Messages()) > 2 {
		t.Errorf("told more than once: %+v", hook.Messages())
	}
}

// What was silenced, told and waited for is known after a restart: nobody is told anew.
func TestRestart(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.level.Store(7)
	hook, _, told := hooks(t)
	dir := t.TempDir()
	in := func(o *Options) { o.Dir = dir }
	r := start(t, d, told, in)
	hook.Told(soon, "the alert", about("LevelHigh A", "firing"))
	id := r.silence("Watchdog", "Authorization", "Bearer "+r.token())
	token := r.token()
	r.end()

	again := start(t, d, told, in)
	again.becomes("LevelHigh", v1.AlertStateFiring)
	if got := again.get(again.AlertmanagerURL() + "/api/v2/silence/" + id); !strings.Contains(got, `"active"`) {
		t.Errorf("the silence: %s", got)
	}
	if again.token() != token {
		t.Error("there is another token")
	}
	d.level.Store(1)
	hook.Told(soon, "its end", about("LevelHigh A", "resolved"))
	fired := 0
	for _, m := range hook.Messages() {
		if about("LevelHigh A", "firing")(m) {
			fired++
		}
	}
	if fired != 1 {
		t.Errorf("told %d times that it fires", fired)
	}
}

func output(t *testing.T, in string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(realserver.Tool(t, name), args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The tools that operators have work on both ports.
func TestDebiansTools(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.level.Store(7)
	r := start(t, d, routing.Options{}, plain)
	r.becomes("LevelHigh", v1.AlertStateFiring)
	for _, c := range [][]string{
		{"query", "instant", r.URL(), `desk_level{symbol="A"}`},
		{"query", "range", "--step=1s", r.URL(), "desk_level"},
		{"query", "series", "--match=desk_level", r.URL()},
		{"query", "labels", r.URL(), "symbol"},
	} {
		if out, err := output(t, "", "promtool", c...); err != nil || !strings.Contains(out, "A") {
			t.Errorf("promtool %v: %v\n%s", c, err, out)
		}
	}
	for _, at := range []string{r.URL(), r.AlertmanagerURL()} {
		if out, err := output(t, r.get(at+"/metrics"), "promtool", "check", "metrics"); err != nil && !onlyOfLibraries(out) {
			t.Errorf("promtool check metrics %s: %v\n%s", at, err, out)
		}
	}
	amtool := func(args ...string) (string, error) {
		return output(t, "", "amtool", append([]string{"--alertmanager.url=" + r.AlertmanagerURL()}, args...)...)
	}
	livetest.Eventually(t, soon, func() error {
		if out, err := amtool("alert", "query"); err != nil || !strings.Contains(out, "LevelHigh") {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if out, err := amtool("silence", "add", "--author=a", "--comment=b", "alertname=LevelHigh"); err == nil {
		t.Errorf("a silence without the token: %s", out)
	}
	out, err := amtool("--http.config.file="+r.ClientFile(), "silence", "add", "--author=a", "--comment=b", "alertname=LevelHigh")
	if err != nil {
		t.Fatalf("a silence with the token: %v\n%s", err, out)
	}
	said := strings.Fields(out) // the id comes last, behind a warning that the versions differ
	livetest.Eventually(t, soon, func() error {
		if out, err := amtool("alert", "query", "--silenced"); err != nil || !strings.Contains(out, "LevelHigh") {
			return fmt.Errorf("not silenced: %w: %s", err, out)
		}
		return nil
	})
	if out, err := amtool("--http.config.file="+r.ClientFile(), "silence", "expire", said[len(said)-1]); err != nil {
		t.Errorf("its end: %v\n%s", err, out)
	}
	if out, err := amtool("config", "show"); err != nil || !strings.Contains(out, "inhibit_rules") {
		t.Errorf("config show: %v\n%s", err, out)
	}
}

// onlyOfLibraries tells whether all that is reported is about metrics that are not ours.
func onlyOfLibraries(report string) bool {
	for line := range strings.Lines(report) {
		if strings.TrimSpace(line) != "" && !slices.ContainsFunc([]string{"prometheus_", "alertmanager_", "go_", "net_conntrack_"}, func(p string) bool { return strings.HasPrefix(line, p) }) {
			return false
		}
	}
	return true
}

// The rules about the monitor itself see what they are about.
func TestTheMonitorWatchesItself(t *testing.T) {
	t.Parallel()
	// Slow enough for a busy machine: two scrapes in a row of a page with a thousand series.
	const interval = 2 * time.Second
	limits := rules.Defaults()
	limits.Interval, limits.ResendDelay, limits.Lost = interval, interval, 5*time.Second
	ours, err := rules.Render(limits)
	if err != nil {
		t.Fatal(err)
	}
	// Two series match one: it cannot be evaluated.
	const broken = `groups: [{name: quantum_harvest_broken, rules: [{record: a:b:c, expr: 'up * on () group_left () prometheus_rule_group_rules'}]}]`
	r := start(t, newDesk(t), routing.Options{}, func(o *Options) {
		o.AlertmanagerURL = &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", realserver.FreePort(t))}
		o.ScrapeInterval, o.ResendDelay = interval, interval
		o.Rules = []prom.RuleFile{{Name: rules.FileName, Content: ours}, {Name: "broken.yml", Content: []byte(broken)}}
	})
	for _, name := range []string{"QuantumHarvestRulesFailing", "QuantumHarvestNotificationsFailing", "QuantumHarvestExporterAbsent", "Watchdog"} {
		r.becomes(name, v1.AlertStateFiring)
	}
	livetest.Eventually(t, soon, func() error {
		value, _, _, err := r.prom.Query(t.Context(), `prometheus_config_last_reload_successful{job="`+SelfJob+`"}`, time.Now())
		if err != nil || !strings.Contains(value.String(), "=> 1 ") {
			return fmt.Errorf("the configuration in use: %v %v", value, err)
		}
		return nil
	})
	if r.AlertmanagerURL() != "" {
		t.Error("an Alertmanager is embedded beside the one elsewhere")
	}
}

// Only an Alertmanager, for a Prometheus elsewhere.
func TestOnlyAnAlertmanager(t *testing.T) {
	t.Parallel()
	hook, _, told := hooks(t)
	r := start(t, newDesk(t), told, func(o *Options) { o.Prometheus = false })
	if r.URL() != "" {
		t.Error("a Prometheus is embedded")
	}
	code, _, body := r.ask(http.MethodPost, r.AlertmanagerURL()+"/api/v2/alerts", `[{"labels": {"alertname": "Else", "severity": "critical"}}]`, "Authorization", "Bearer "+r.token())
	if code != http.StatusOK {
		t.Fatalf("alerts: %d %s", code, body)
	}
	hook.Told(soon, "the alert", about("Else", "firing"))
}

func TestDamagedPartsAreSetAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"tsdb", "silences", "nflog", "alerts.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("\xff\xffnoise"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, newDesk(t), routing.Options{}, func(o *Options) { o.Dir = dir })
	r.becomes("Watchdog", v1.AlertStateFiring)
	metrics := r.get(r.URL() + "/metrics")
	for _, p := range []string{"tsdb", "silences", "nflog", "alerts.json"} {
		if want := fmt.Sprintf("quantum_harvest_monitor_damaged_total{part=%q} 1", p); !strings.Contains(metrics, want) {
			t.Errorf("not counted: %s", want)
		}
	}
}

func TestWhatStopsAStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, []byte("sesamesesamesesame\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	running := start(t, newDesk(t), routing.Options{}, func(o *Options) { o.Dir = t.TempDir() })
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   []string
	}{
		{"nothing is left", func(o *Options) { o.Prometheus, o.AlertmanagerURL = false, &url.URL{Host: "x"} }, []string{"nothing is left to run"}},
		{"the port of Prometheus", func(o *Options) { o.Port = port }, []string{"another program has the port", taken.Addr().String()}},
		{"the port of Alertmanager", func(o *Options) { o.AlertmanagerPort = port }, []string{"another program has the port"}},
		{"a folder in use", func(o *Options) { o.Dir = running.folder.Path("") }, []string{fmt.Sprintf("process %d", os.Getpid()), "--data"}},
		{"a short token", func(o *Options) { o.TokenFile = short }, []string{"at least 16", short}},
		{"a token for everyone", func(o *Options) { o.TokenFile = open }, []string{"chmod 600"}},
		{"rules", func(o *Options) { o.Rules = append(o.Rules, prom.RuleFile{Name: "/does/not/exist"}) }, []string{"/does/not/exist"}},
		{"no folder for the token", func(o *Options) { o.TokenFile = "/does/not/exist/token" }, []string{"make the token file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t, slog.New(slog.DiscardHandler), newDesk(t), routing.Options{})
			c.change(&o)
			m, err := New(o)
			if err == nil {
				m.Close()
				t.Fatal("it starts")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
	o := options(t, slog.New(slog.DiscardHandler), newDesk(t), routing.Options{})
	o.Port, o.AlertmanagerPort = port, port
	if _, err := New(o); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a taken port: %v", err)
	}
	o.NextFree = true
	m, err := New(o)
	if err != nil {
		t.Fatalf("with the next free port: %v", err)
	}
	if m.URL() == m.AlertmanagerURL() || strings.HasSuffix(m.URL(), fmt.Sprint(port)) {
		t.Errorf("ports %s and %s", m.URL(), m.AlertmanagerURL())
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
