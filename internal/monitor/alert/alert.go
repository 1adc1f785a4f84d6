// Package alert is an Alertmanager in this process, wired from its own libraries: it groups, silences, inhibits and
// notifies, and answers /api/v2, so amtool and every client work on it. Clustering and the web interface are not part of
// it. What a restart must not lose (silences, what was notified, the alerts themselves) is kept in the data folder.
package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	alertlib "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"

	"quantumharvest/internal/monitor/folder"
)

// Limits and cadences.
const (
	// retention is how long it is remembered what was notified, and silences that are over.
	retention = 120 * time.Hour
	// saveEvery is what a crash may cost of silences, notifications and alerts.
	saveEvery          = 10 * time.Second
	collectEvery       = 30 * time.Minute
	maintainEvery      = 30 * time.Second
	apiTimeout         = 20 * time.Second
	apiConcurrency     = 8
	maxAlertsPerName   = 2000
	maxSilences        = 1000
	maxSilenceBytes    = 64 << 10
	maxAggregateGroups = 5000
)

// Options say what is told to whom.
type Options struct {
	Folder *folder.Folder
	Config *Config
	// Steady are the names of alerts that say by being told that all works: one of an earlier run says nothing.
	Steady []string
	// ExternalURL is where people reach this server: the links in notifications begin with it.
	ExternalURL *url.URL
	// TimeScale divides the time that alerts of an earlier run are given to show up again, for drills; 1 is real time.
	TimeScale int
	Log       *slog.Logger
	Libraries *slog.Logger // takes what the libraries say
}

// Server is one embedded Alertmanager. It is made with New and lives until Run ends, or Close where it is not run.
type Server struct {
	opts      Options
	gatherers prometheus.Gatherers

	alerts    *mem.Alerts
	silences  *silence.Silences
	notified  *nflog.Log
	api       *api.API
	saved     *snapshot
	closeOnce sync.Once

	parts   parts
	loaded  configState
	duty    atomic.Pointer[duty] // what follows from the configuration in force
	swap    sync.Mutex           // held while that is replaced, or the run starts or stops
	running bool
}

// New wires the parts and takes up what the run before left. A file that cannot be read is set aside.
func New(o Options) (_ *Server, err error) {
	setUpOnce()
	o.TimeScale = max(o.TimeScale, 1)
	log := slog.New(redacting{o.Libraries.Handler()})
	s := &Server{opts: o}
	reg := s.registry()
	if s.notified, err = reopen(s, notifiedName, func(file string, reg prometheus.Registerer) (*nflog.Log, error) {
		return nflog.New(nflog.Options{SnapshotFile: file, Retention: retention, Logger: log, Metrics: reg})
	}); err != nil {
		return nil, err
	}
	if s.silences, err = reopen(s, silencesName, func(file string, reg prometheus.Registerer) (*silence.Silences, error) {
		return silence.New(silence.Options{
			SnapshotFile: file, Retention: retention, Logger: log, Metrics: reg,
			Limits: silence.Limits{MaxSilences: func() int { return maxSilences }, MaxSilenceSizeBytes: func() int { return maxSilenceBytes }},
		})
	}); err != nil {
		return nil, err
	}
	var events eventrecorder.Recorder // none
	silencer := silence.NewSilencer(s.silences, log, events)
	s.alerts, err = mem.NewAlerts(context.Background(), collectEvery, maxAlertsPerName, silencer, log, events, reg, featurecontrol.NoopFlags{})
	if err != nil {
		return nil, fmt.Errorf("monitor: alerts: %w", err)
	}
	defer func() {
		if err != nil {
			s.alerts.Close()
		}
	}()
	s.saved = newSnapshot(o.Folder, o.Steady, o.Log)
	if err := s.saved.restore(s.alerts, time.Now(), revivalGrace/time.Duration(o.TimeScale)); err != nil {
		return nil, err
	}
	groups := marker.NewGroupMarker()
	building.Lock()
	s.api, err = api.New(api.Options{
		Alerts: s.alerts, Silences: s.silences, GroupMutedFunc: groups.Muted, Timeout: apiTimeout, Concurrency: apiConcurrency,
		Logger: log, Registry: reg, GroupFunc: s.groups,
		RequestDuration: promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
			Name: "alertmanager_http_request_duration_seconds", Help: "Histogram of latencies for HTTP requests.", Buckets: prometheus.DefBuckets,
		}, []string{"handler", "method", "code"}),
	})
	building.Unlock()
	if err != nil {
		return nil, fmt.Errorf("monitor: Alertmanager API: %w", err)
	}
	// The dead man's notifications are counted apart from those of alerts, whatever they are sent by.
	byReceiver, err := featurecontrol.NewFlags(log, featurecontrol.FeatureReceiverNameInMetrics)
	if err != nil {
		return nil, fmt.Errorf("monitor: metrics of the Alertmanager: %w", err)
	}
	s.parts = parts{
		log: log, silencer: silencer, groups: groups, pipelines: notify.NewPipelineBuilder(reg, byReceiver, events),
		metrics: dispatch.NewDispatcherMetrics(false, reg, featurecontrol.NoopFlags{}),
	}
	first, err := s.read(o.Config)
	if err != nil {
		return nil, err
	}
	s.loaded = newConfigState(reg)
	s.take(s.newDuty(first))
	return s, nil
}

// building keeps two APIs from being made at the same time: they expand one description that the library shares.
var building sync.Mutex

// limits bound the memory that a flood of alerts can take.
type limits struct{}

// MaxNumberOfAggregationGroups is how many groups are kept at a time.
func (limits) MaxNumberOfAggregationGroups() int { return maxAggregateGroups }

func (s *Server) registry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	s.gatherers = append(s.gatherers, reg)
	return reg
}

// reopen makes a part from its file. The part registers its metrics before it reads, so each try has its own registry.
func reopen[T any](s *Server, name string, open func(file string, reg prometheus.Registerer) (T, error)) (T, error) {
	reg := prometheus.NewRegistry()
	part, err := open(s.opts.Folder.Path(name), reg)
	if err != nil {
		if aside := s.opts.Folder.SetAside(name, err); aside != nil {
			return part, aside
		}
		reg = prometheus.NewRegistry()
		if part, err = open(s.opts.Folder.Path(name), reg); err != nil {
			return part, fmt.Errorf("monitor: begin %s anew: %w", name, err)
		}
	}
	s.gatherers = append(s.gatherers, reg)
	return part, nil
}

func (s *Server) groups(ctx context.Context, routes func(*dispatch.Route) bool, alerts func(*alertlib.Alert, time.Time) bool) (dispatch.AlertGroups, map[model.Fingerprint][]string, error) {
	return s.duty.Load().dispatcher.Groups(ctx, routes, alerts)
}

// Handler answers /api/v2.
func (s *Server) Handler() http.Handler { return s.api.Register(route.New(), "/") }

// Gatherers are the registries with the metrics of this server.
func (s *Server) Gatherers() prometheus.Gatherers { return s.gatherers }

// Run notifies until ctx ends, then stops and saves.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() { s.notified.Maintenance(saveEvery, s.file(notifiedName), stop, nil) })
	wg.Go(func() { s.silences.Maintenance(saveEvery, s.file(silencesName), stop, nil) })
	s.swap.Lock()
	// What inhibits is known before anything is notified.
	s.duty.Load().startInhibiting()
	s.duty.Load().startNotifying()
	s.running = true
	s.swap.Unlock()
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-save.C:
			s.saved.save(s.alerts, time.Now())
		}
	}
	s.swap.Lock()
	s.running = false
	s.duty.Load().stop()
	s.swap.Unlock()
	close(stop)
	wg.Wait()
	s.saved.save(s.alerts, time.Now())
	s.Close()
	return s.saved.failure()
}

// file is where a part is saved; blank, and so nowhere, where nothing outlives the process.
func (s *Server) file(name string) string {
	if s.opts.Folder.Temporary() {
		return ""
	}
	return s.opts.Folder.Path(name)
}

// Close releases a server that is not run, or whose run ended.
func (s *Server) Close() { s.closeOnce.Do(s.alerts.Close) }

// errNoRoute says that a configuration does nothing.
var errNoRoute = errors.New("the configuration has no route")
