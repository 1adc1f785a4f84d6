package prom

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/monitor/folder"
	"quantumharvest/internal/monitor/monitortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// tick is the interval of scrapes and evaluations in these tests.
	tick = 400 * time.Millisecond
	soon = time.Minute
)

// target is something to scrape that shows one gauge.
type target struct {
	*httptest.Server
	value  atomic.Int64
	header atomic.Value // Authorization of the last scrape
}

func newTarget(t *testing.T) *target {
	t.Helper()
	g := &target{}
	g.header.Store("")
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.header.Store(r.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, "# HELP desk_level A level.\n# TYPE desk_level gauge\ndesk_level{symbol=\"A\"} %d\n", g.value.Load())
	}))
	t.Cleanup(g.Close)
	return g
}

// told is an Alertmanager as far as Prometheus sees one.
type told struct {
	mu   sync.Mutex
	last map[string]sent
}

type sent struct {
	Labels map[string]string `json:"labels"`
	EndsAt time.Time         `json:"endsAt"`
	at     time.Time
}

func (a *told) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var alerts []sent
	if err := json.NewDecoder(r.Body).Decode(&alerts); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		a.last = map[string]sent{}
	}
	for _, s := range alerts {
		s.at = time.Now()
		a.last[s.Labels["alertname"]] = s
	}
}

// of waits until an alert was told with what check wants.
func (a *told) of(t *testing.T, name string, check func(sent) bool) sent {
	t.Helper()
	var got sent
	livetest.Eventually(t, soon, func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		var known bool
		if got, known = a.last[name]; !known || !check(got) {
			return fmt.Errorf("of %s was told %+v", name, got)
		}
		return nil
	})
	return got
}

// running is a Prometheus under test.
type running struct {
	*monitortest.Running
	t      *testing.T
	server *Server
	folder *folder.Folder
	client v1.API
	log    livetest.Buffer
}

func options(t *testing.T, dir string, log *slog.Logger, text string) Options {
	t.Helper()
	f, err := folder.Open(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Folder: f, ScrapeInterval: tick, ResendDelay: 2 * tick, Rules: []RuleFile{{Name: "desk.yml", Content: []byte(text)}},
		RetentionTime: time.Hour, RetentionBytes: 64 << 20, ExternalURL: &url.URL{Scheme: "http", Host: "desk.example.com"},
		Log: log, Libraries: log,
	}
}

func start(t *testing.T, dir, rules string, change func(*Options)) *running {
	t.Helper()
	r := &running{t: t}
	log := slog.New(slog.NewTextHandler(&r.log, nil))
	o := options(t, dir, log, rules)
	r.folder = o.Folder
	change(&o)
	var err error
	if r.server, err = New(o); err != nil {
		r.folder.Close()
		t.Fatal(err)
	}
	r.Running = monitortest.Serve(t, r.server, r.folder, &r.log)
	c, err := api.NewClient(api.Config{Address: r.URL, Client: r.Client()})
	if err != nil {
		t.Fatal(err)
	}
	r.client = v1.NewAPI(c)
	return r
}

func (r *running) get(path string) string {
	r.t.Helper()
	resp, err := r.Client().Get(r.URL + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(body)
}

// value waits for a query to give one sample.
func (r *running) value(query string) float64 {
	r.t.Helper()
	var got float64
	livetest.Eventually(r.t, soon, func() error {
		v, _, _, err := r.client.Query(r.t.Context(), query, time.Now())
		if vec, ok := v.(model.Vector); err == nil && ok && len(vec) == 1 {
			got = float64(vec[0].Value)
			return nil
		}
		return fmt.Errorf("%s: %v, %v", query, v, err)
	})
	return got
}

// state is pending, firing or blank.
func (r *running) state(name string) v1.AlertState {
	r.t.Helper()
	all, err := r.client.Alerts(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, a := range all.Alerts {
		if string(a.Labels["alertname"]) == name {
			return a.State
		}
	}
	return ""
}

func (r *running) becomes(name string, want v1.AlertState) {
	r.t.Helper()
	livetest.Eventually(r.t, soon, func() error {
		if got := r.state(name); got != want {
			return fmt.Errorf("%s is %q, not %q", name, got, want)
		}
		return nil
	})
}

const levelRules = `groups:
- name: desk
  rules:
  - record: desk:level:max
    expr: max(desk_level)
  - alert: LevelHigh
    expr: max_over_time(desk_level[2s]) > 5 # a scrape may fail on a busy machine
    for: 1s
    labels: {severity: critical}
    annotations: {summary: 'Level of {{ $labels.symbol }} is {{ $value }}'}
  - alert: Always
    expr: vector(1)
`

func jobs(g *target) []Job {
	return []Job{{Name: "desk", Targets: []string{g.Listener.Addr().String()}}}
}

func TestThroughTheClientLibrary(t *testing.T) {
	t.Parallel()
	g := newTarget(t)
	g.value.Store(3)
	r := start(t, "", levelRules, func(o *Options) { o.Jobs = jobs(g) })
	ctx := t.Context()
	if v := r.value(`desk_level{symbol="A"}`); v != 3 {
		t.Errorf("level %v", v)
	}
	if v := r.value(`up{job="desk"}`); v != 1 {
		t.Errorf("up %v", v)
	}
	r.value("desk:level:max")
	matrix, _, _, err := r.client.QueryRange(ctx, "desk_level", v1.Range{Start: time.Now().Add(-time.Minute), End: time.Now(), Step: time.Second})
	if m, ok := matrix.(model.Matrix); err != nil || !ok || len(m) != 1 {
		t.Errorf("query_range: %v %v", matrix, err)
	}
	if names, _, _, err := r.client.LabelNames(ctx, nil, time.Time{}, time.Time{}); err != nil || !slices.Contains(names, "symbol") {
		t.Errorf("label names: %v %v", names, err)
	}
	if series, _, _, err := r.client.Series(ctx, []string{"desk_level"}, time.Now().Add(-time.Minute), time.Now()); err != nil || len(series) != 1 {
		t.Errorf("series: %v %v", series, err)
	}
	targets, err := r.client.Targets(ctx)
	if err != nil || len(targets.Active) != 1 || targets.Active[0].Health != v1.HealthGood {
		t.Errorf("targets: %+v %v", targets, err)
	}
	rules, err := r.client.Rules(ctx, nil)
	if err != nil || len(rules.Groups) != 1 || rules.Groups[0].File != "desk.yml" || len(rules.Groups[0].Rules) != 3 {
		t.Errorf("rules: %+v %v", rules, err)
	}
	if meta, err := r.client.Metadata(ctx, "desk_level", ""); err != nil || meta["desk_level"][0].Help != "A level." {
		t.Errorf("metadata: %v %v", meta, err)
	}
	if info, err := r.client.Buildinfo(ctx); err != nil || !strings.HasPrefix(info.Version, "3.") {
		t.Errorf("build: %+v %v", info, err)
	}
	if info, err := r.client.Runtimeinfo(ctx); err != nil || !strings.Contains(info.StorageRetention, "1h") {
		t.Errorf("runtime: %+v %v", info, err)
	}
	if stats, err := r.client.TSDB(ctx); err != nil || stats.HeadStats.NumSeries == 0 {
		t.Errorf("series in memory: %+v %v", stats, err)
	}
	if conf, err := r.client.Config(ctx); err != nil || !strings.Contains(conf.YAML, "job_name: desk") {
		t.Errorf("configuration: %+v %v", conf, err)
	}
	if _, _, _, err := r.client.Query(ctx, "sum(", time.Now()); err == nil || !strings.Contains(err.Error(), "parse error") {
		t.Errorf("nonsense gives %v", err)
	}
}

func TestPendingFiringToldResolved(t *testing.T) {
	t.Parallel()
	g, am := newTarget(t), &told{}
	r := start(t, "", levelRules, func(o *Options) {
		o.Jobs, o.Notify = jobs(g), Alertmanager{URL: &url.URL{Scheme: "http", Host: "in.process"}, Handler: am}
	})
	r.value("desk_level")
	if s := r.state("LevelHigh"); s != "" {
		t.Fatalf("it is %s already", s)
	}
	g.value.Store(7)
	r.becomes("LevelHigh", v1.AlertStatePending)
	r.becomes("LevelHigh", v1.AlertStateFiring)
	first := am.of(t, "LevelHigh", func(s sent) bool { return s.EndsAt.After(time.Now()) })
	if first.Labels["symbol"] != "A" || first.Labels["severity"] != "critical" {
		t.Errorf("told %+v", first)
	}
	// An alert that is not spoken of any more is over after four resend delays: so long a dead Prometheus looks alive.
	if ahead := first.EndsAt.Sub(first.at); ahead > 4*2*tick {
		t.Errorf("it is taken for alive for another %s", ahead)
	}
	am.of(t, "LevelHigh", func(s sent) bool { return s.at.After(first.at) })
	if all := r.server.Alerts(); len(all) != 2 || all[1].Name != "LevelHigh" || !all[1].Firing || all[1].Labels["symbol"] != "A" || all[1].Summary != "Level of A is 7" {
		t.Errorf("alerts: %+v", all)
	}
	livetest.Eventually(t, soon, func() error {
		if all := r.server.Targets(); len(all) != 1 || all[0].Job != "desk" || !all[0].Up || all[0].URL != g.URL+"/metrics" {
			return fmt.Errorf("targets: %+v", all)
		}
		return nil
	})
	g.value.Store(1)
	r.becomes("LevelHigh", "")
	am.of(t, "LevelHigh", func(s sent) bool { return !s.EndsAt.After(s.at) })
}

// A restart goes on where it was: an alert that waits does not begin to wait anew.
func TestForClausesSurviveARestart(t *testing.T) {
	t.Parallel()
	const patient = `groups: [{name: desk, rules: [{alert: LevelHigh, expr: 'max_over_time(desk_level[10s]) > 5', for: 10m}]}]`
	g := newTarget(t)
	g.value.Store(7)
	dir := t.TempDir()
	r := start(t, dir, patient, func(o *Options) { o.Jobs = jobs(g) })
	r.becomes("LevelHigh", v1.AlertStatePending)
	r.value(`time() - ALERTS_FOR_STATE{alertname="LevelHigh"} > 3`)
	r.End()
	restarted := time.Now()
	again := start(t, dir, patient, func(o *Options) { o.Jobs = jobs(g) })
	// The time away is added to the wait, because nobody knows what happened in it; what was waited before counts. So the
	// alert is older than the first evaluation that saw it.
	livetest.Eventually(t, soon, func() error {
		seen, _, _, err := again.client.Query(t.Context(), `ALERTS{alertname="LevelHigh"}[5m]`, time.Now())
		if err != nil {
			return err
		}
		all, err := again.client.Alerts(t.Context())
		if err != nil || len(all.Alerts) != 1 {
			return fmt.Errorf("alerts %+v, %w", all, err)
		}
		for _, series := range seen.(model.Matrix) {
			for _, sample := range series.Values {
				if at := sample.Timestamp.Time(); at.After(restarted) {
					if active := all.Alerts[0].ActiveAt; !active.Before(at) {
						return fmt.Errorf("waits since %s, and was seen again at %s", active, at)
					}
					return nil
				}
			}
		}
		return fmt.Errorf("not seen again after %s", restarted)
	})
	if v := again.value(`min_over_time(desk_level[1h])`); v != 7 {
		t.Errorf("the samples of the run before: %v", v)
	}
}

// A target that has moved while nobody looked is not seen at its old place any more, and what is known of its alerts is.
func TestWhatIsGoneAfterARestart(t *testing.T) {
	t.Parallel()
	const twice = `groups:
- name: desk
  rules:
  - record: desk:level:count
    expr: count(desk_level)
  - alert: Unseen
    expr: absent(desk_level)
  - alert: Twice
    expr: count(desk_level) > 1
`
	old, fresh := newTarget(t), newTarget(t)
	dir, am := t.TempDir(), &told{}
	r := start(t, dir, twice, func(o *Options) { o.Jobs = jobs(old) })
	r.value("desk_level")
	r.value("desk:level:count")
	r.End()
	again := start(t, dir, twice, func(o *Options) {
		o.Jobs, o.Notify = jobs(fresh), Alertmanager{URL: &url.URL{Scheme: "http", Host: "in.process"}, Handler: am}
	})
	gone := fmt.Sprintf("{instance=%q}", old.Listener.Addr())
	v, _, _, err := again.client.Query(t.Context(), gone, time.Now())
	if vec, ok := v.(model.Vector); err != nil || !ok || len(vec) > 0 {
		t.Errorf("at its old place is seen %v, %v", v, err)
	}
	again.value(fmt.Sprintf("desk_level{instance=%q}", fresh.Listener.Addr()))
	if n := again.value("desk:level:count"); n != 1 {
		t.Errorf("it is counted %v times", n)
	}
	again.value("count_over_time(desk:level:count[2s] offset 1s) > 1")
	am.mu.Lock()
	defer am.mu.Unlock()
	if len(am.last) > 0 {
		t.Errorf("was told of %v", am.last)
	}
}

// damage writes what no database reads.
func damage(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xff, 0x01}, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedDatabaseIsSetAside(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		part string // what is set aside
		hurt func(t *testing.T, dir string)
	}{
		"a file in its place": {storeName, func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			damage(t, dir)
		}},
		"a block that is not one": {blockName, func(t *testing.T, dir string) {
			const id = "01KAW7PA3J5TB0D7Q3V7B6Y0WD"
			damage(t, filepath.Join(dir, id, "index"))
			meta := `{"ulid": "` + id + `", "minTime": 1, "maxTime": 2, "version": 1, "compaction": {"level": 1, "sources": ["` + id + `"]}}`
			if err := os.WriteFile(filepath.Join(dir, id, "meta.json"), []byte(meta), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		"a log that is a file": {storeName, func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "wal")); err != nil {
				t.Fatal(err)
			}
			damage(t, filepath.Join(dir, "wal"))
		}},
		"a log full of noise": {"", func(t *testing.T, dir string) {
			logs, err := filepath.Glob(filepath.Join(dir, "wal", "0*"))
			if err != nil || len(logs) == 0 {
				t.Fatalf("no log: %v", err)
			}
			damage(t, logs[0])
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTarget(t)
			g.value.Store(3)
			dir := t.TempDir()
			r := start(t, dir, levelRules, func(o *Options) { o.Jobs = jobs(g) })
			r.value("desk_level")
			r.End()
			c.hurt(t, filepath.Join(dir, storeName))
			again := start(t, dir, levelRules, func(o *Options) { o.Jobs = jobs(g) })
			again.value("desk_level")
			if c.part == "" {
				// The log mends itself by cutting off what it cannot read.
				if said := again.log.String(); !strings.Contains(said, "Encountered WAL read error") || !strings.Contains(said, "level=WARN") {
					t.Error("nothing is said")
				}
			}
			for _, part := range []string{storeName, blockName} {
				want := 0
				if part == c.part {
					want = 1
				}
				aside, _ := filepath.Glob(filepath.Join(dir, part+".damaged-*"))
				if len(aside) != want || again.folder.Damaged()[part] != want {
					t.Errorf("of %s was set aside %v, counted %d", part, aside, again.folder.Damaged()[part])
				}
			}
		})
	}
}

func TestADatabaseInUseIsNotTouched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := filepath.Join(dir, storeName)
	if err := os.MkdirAll(store, 0o700); err != nil {
		t.Fatal(err)
	}
	held := flock.New(filepath.Join(store, "lock"))
	if ok, err := held.TryLock(); err != nil || !ok {
		t.Fatalf("lock: %v %v", ok, err)
	}
	defer held.Close()
	var log livetest.Buffer
	o := options(t, dir, slog.New(slog.NewTextHandler(&log, nil)), levelRules)
	defer o.Folder.Close()
	_, err := New(o)
	if want := fmt.Sprintf("in use by process %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--data") {
		t.Errorf("got %v, want %q and a hint", err, want)
	}
	if n := o.Folder.Damaged()[storeName]; n != 0 {
		t.Error("it was set aside")
	}
}

func TestEverythingWrongWithRulesIsSaid(t *testing.T) {
	t.Parallel()
	o := options(t, "", slog.New(slog.DiscardHandler), "groups: [{name: a, rules: [{alert: X, expr: 'sum('}]}]")
	defer o.Folder.Close()
	missing := filepath.Join(t.TempDir(), "missing.yml")
	o.Rules = append(o.Rules, RuleFile{Name: "b.yml", Content: []byte("groups: [{name: a, ruls: []}]")}, RuleFile{Name: missing}, RuleFile{Name: "desk.yml", Content: []byte("groups: []")})
	_, err := New(o)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"desk.yml", "parse error", "b.yml", "ruls", missing, "desk.yml is given twice"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}

// Targets that ask for a token get it, and the API does not show it.
func TestCredentialsOfTargetsAreNotShown(t *testing.T) {
	t.Parallel()
	g := newTarget(t)
	file := filepath.Join(t.TempDir(), "http.yml")
	if err := os.WriteFile(file, []byte("authorization: {credentials: sesame}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, "", levelRules, func(o *Options) {
		o.Jobs, o.ScrapeHTTPFile = jobs(g), file
		o.Notify = Alertmanager{URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, HTTPFile: file}
	})
	r.value("desk_level")
	if got := g.header.Load(); got != "Bearer sesame" {
		t.Errorf("asked with %q", got)
	}
	for _, path := range []string{"/api/v1/status/config", "/api/v1/targets", "/api/v1/alertmanagers", "/api/v1/status/runtimeinfo", "/api/v1/status/flags"} {
		if body := r.get(path); strings.Contains(body, "sesame") {
			t.Errorf("%s shows it: %s", path, body)
		}
	}
	if conf := r.get("/api/v1/status/config"); !strings.Contains(conf, `credentials: \u003csecret\u003e`) {
		t.Errorf("the configuration in use does not say that a token is sent: %s", conf)
	}
	if strings.Contains(r.log.String(), "sesame") {
		t.Error("the log shows it")
	}
	o := options(t, "", slog.New(slog.DiscardHandler), levelRules)
	defer o.Folder.Close()
	o.ScrapeHTTPFile = filepath.Join(t.TempDir(), "missing")
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), o.ScrapeHTTPFile) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// An Alertmanager that does not answer costs no stop more than a few seconds, and is counted.
func TestAnAlertmanagerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	}))
	defer silent.Close()
	defer close(block)
	at, err := url.Parse(silent.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, "", levelRules, func(o *Options) { o.Notify = Alertmanager{URL: at} })
	r.becomes("Always", v1.AlertStateFiring)
	r.Stop()
	select {
	case err := <-r.Done:
		r.Done <- err
	case <-time.After(soon):
		t.Fatal("it does not stop")
	}
}

func TestPostmanAfterTheStop(t *testing.T) {
	p := newPostman(&told{})
	p.close()
	req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("[]"))
	if _, err := p.send(t.Context(), http.DefaultClient, req); !errors.Is(err, errStopped) {
		t.Errorf("a delivery after the end: %v", err)
	}
}

// A run that ends as it begins has scraped nothing, and leaves nothing that scrapes: goleak looks when all tests are over.
func TestStoppedAtOnce(t *testing.T) {
	t.Parallel()
	g := newTarget(t)
	for i := range 8 {
		log := slog.New(slog.DiscardHandler)
		o := options(t, t.TempDir(), log, levelRules)
		o.Jobs = jobs(g)
		for _, name := range []string{"b", "c", "d"} {
			o.Jobs = append(o.Jobs, Job{Name: name, Targets: o.Jobs[0].Targets})
		}
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i/2)*time.Millisecond)
		err = s.Run(ctx)
		cancel()
		if err := errors.Join(err, o.Folder.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
