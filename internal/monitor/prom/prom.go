// Package prom is a Prometheus in this process, made of its own libraries: it scrapes, stores, evaluates rules, tells an
// Alertmanager and answers /api/v1. The API is the real one, so promtool, Grafana and every client library work on it.
// The web interface, the admin API, remote write and remote read are not part of it.
package prom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/features"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"quantumharvest/internal/monitor/folder"
)

// Limits of a query. They bound what one question can cost a process that also publishes advice: four queries at a
// time, each holding at most 64 MB of samples.
const (
	maxConcurrentQueries = 4
	maxQuerySamples      = 4_000_000
	queryTimeout         = 20 * time.Second
)

const (
	// notifyTimeout is how long one delivery to the Alertmanager may take.
	notifyTimeout = 5 * time.Second
	// stopGrace is how long rules under evaluation and alerts on their way may still take when the run ends.
	stopGrace = 3 * time.Second
	// outageTolerance is how long the process may be away and `for` clauses still go on where they were.
	outageTolerance = time.Hour
)

// Options say what is scraped, evaluated and told.
type Options struct {
	Folder *folder.Folder
	Jobs   []Job
	// ScrapeHTTPFile says how targets are asked (TLS, credentials), in Prometheus' HTTP client format; blank: plainly.
	ScrapeHTTPFile string
	ScrapeInterval time.Duration // above zero
	// ResendDelay is how often the Alertmanager is told of an alert that fires. It takes one that it does not hear of for four
	// of them as over.
	ResendDelay time.Duration
	// TimeScale divides every interval, for drills; 1 is real time.
	TimeScale int
	Rules     []RuleFile
	Notify    Alertmanager

	RetentionTime  time.Duration
	RetentionBytes int64
	// ExternalURL is where people reach this server: the links in alerts begin with it.
	ExternalURL *url.URL
	// Self is what /api/v1/status/self_metrics shows; nil: the metrics of this server alone.
	Self prometheus.Gatherer
	// Revision of the program, shown as part of the build.
	Revision  string
	Log       *slog.Logger
	Libraries *slog.Logger // takes what the libraries say
}

// Job is a group of targets that are scraped under one name.
type Job struct {
	Name    string
	Targets []string // host:port, or the URL of a server without a path
}

// RuleFile is a file of rule groups. With Content it is not read from disk, and Name is what the API shows for it.
type RuleFile struct {
	Name    string
	Content []byte
}

// Alertmanager is who is told of alerts. The zero value is nobody.
type Alertmanager struct {
	URL *url.URL
	// Handler takes the alerts in this process, without a connection; nil: they are posted to URL.
	Handler http.Handler
	// HTTPFile says how URL is asked (TLS, credentials), in Prometheus' HTTP client format.
	HTTPFile string
}

// Server is one embedded Prometheus. It is made with New and lives until Run ends, or Close where it is not run.
type Server struct {
	opts     Options
	log      *slog.Logger
	config   atomic.Pointer[config.Config]
	load     *loader
	scrape   *scrape.Manager
	rules    *rules.Manager
	notify   *notifier.Manager
	engine   *promql.Engine
	store    *store
	post     *postman
	api      *v1.API
	registry *prometheus.Registry
	began    atomic.Pointer[time.Time] // of what is scraped and evaluated now
	loaded   configState

	reloading sync.Mutex // held while what is scraped and evaluated changes, or the run stops
	targets   chan map[string][]*targetgroup.Group
	started   chan struct{} // closed once a configuration can be replaced
	stopped   bool

	queries    context.Context // of rules under evaluation
	cancel     context.CancelFunc
	closeOnce  sync.Once
	closeError error
}

// New checks the rules and the configuration, and opens the data. Data that cannot be read is set aside; a lock that a
// living process holds is an error.
func New(o Options) (_ *Server, err error) {
	o.TimeScale = max(o.TimeScale, 1)
	s := &Server{
		opts: o, log: o.Log, registry: prometheus.NewRegistry(), started: make(chan struct{}),
		targets: make(chan map[string][]*targetgroup.Group, 1),
	}
	s.begin()
	text := parser.NewParser(parser.Options{})
	s.load = newLoader(text, o.Libraries)
	first, err := s.read(o.Jobs, o.Rules)
	if err != nil {
		return nil, err
	}
	s.config.Store(first.config)
	s.load.files.Store(&first.rules)
	if s.store, err = openStore(o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.store.close())
		}
	}()
	if failed := s.store.endSeries(time.Now(), s.lookback()); failed != nil {
		s.log.Warn("targets that are gone may be shown with their last values for a while", "for", s.lookback(), "err", failed)
	}
	s.loaded = newConfigState(s.registry)
	s.queries, s.cancel = context.WithCancel(context.Background())
	registry := features.NewRegistry()
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger: o.Libraries, Reg: s.registry, MaxSamples: maxQuerySamples, Timeout: queryTimeout,
		ActiveQueryTracker: newTracker(maxConcurrentQueries), LookbackDelta: s.lookback(),
		NoStepSubqueryIntervalFn: func(int64) int64 { return s.interval().Milliseconds() },
		EnableAtModifier:         true, EnableNegativeOffset: true, FeatureRegistry: registry, Parser: text,
	})
	s.scrape, err = scrape.NewManager(&scrape.Options{
		DiscoveryReloadOnStartup: true, DiscoveryReloadInterval: model.Duration(takeTargetsEvery), FeatureRegistry: registry,
	}, o.Libraries, nil, nil, s.store.db, s.registry)
	if err != nil {
		return nil, fmt.Errorf("monitor: scraping: %w", err)
	}
	s.post = newPostman(o.Notify.Handler)
	s.notify = notifier.NewManager(&notifier.Options{
		QueueCapacity: 1000, DrainOnShutdown: true, Registerer: s.registry, Do: s.post.send, MaxBatchSize: 256,
	}, model.UTF8Validation, o.Libraries)
	if err := s.notify.ApplyConfig(first.config); err != nil {
		return nil, fmt.Errorf("monitor: telling the Alertmanager: %w", err)
	}
	s.rules = rules.NewManager(&rules.ManagerOptions{
		NameValidationScheme: model.UTF8Validation, Appendable: s.store.db, Queryable: s.store.db,
		QueryFunc: rules.EngineQueryFunc(s.engine, s.store.db), NotifyFunc: rules.SendAlerts(s.notify, o.ExternalURL.String()),
		Context: s.queries, ExternalURL: o.ExternalURL, Registerer: s.registry, Logger: o.Libraries,
		// Alerts with a `for` as short as one evaluation go on where they were before a restart.
		OutageTolerance: outageTolerance, ForGracePeriod: s.interval(), ResendDelay: o.ResendDelay / time.Duration(o.TimeScale),
		GroupLoader: s.load, FeatureRegistry: registry, Parser: text,
	})
	s.api = s.newAPI(registry, text)
	return s, nil
}

// interval is the time between two scrapes, and between two evaluations of rules that do not say otherwise.
func (s *Server) interval() time.Duration {
	return s.opts.ScrapeInterval / time.Duration(s.opts.TimeScale)
}

// lookback is how long a sample stands for its series.
func (s *Server) lookback() time.Duration { return 5 * time.Minute / time.Duration(s.opts.TimeScale) }

// Handler answers /api/v1.
func (s *Server) Handler() http.Handler {
	r := route.New()
	s.api.Register(r.WithPrefix("/api/v1"))
	return r
}

// Gatherers are the registries with the metrics of this server.
func (s *Server) Gatherers() prometheus.Gatherers {
	return prometheus.Gatherers{s.registry, s.store.registry}
}

// Run scrapes and evaluates until ctx ends, then stops in order: rules, scraping, what is still to be told, data. The
// handler must not be asked any more by then.
func (s *Server) Run(ctx context.Context) error {
	conf := s.config.Load()
	if err := s.scrape.ApplyConfig(conf); err != nil {
		return errors.Join(fmt.Errorf("monitor: scraping: %w", err), s.Close())
	}
	// The groups that this makes wait for the manager to run: one that never ran could not be stopped.
	if err := s.updateRules(conf); err != nil {
		return errors.Join(err, s.Close())
	}
	var wg sync.WaitGroup
	jobs := s.opts.Jobs
	s.targets <- scrapeTargets(jobs)
	wg.Go(func() {
		if err := s.scrape.Run(s.targets); err != nil {
			s.log.Error("scraping ended", "err", err)
		}
	})
	receivers := make(chan map[string][]*targetgroup.Group, 1)
	receivers <- alertmanagerTargets(conf)
	wg.Go(func() { s.notify.Run(receivers) })
	wg.Go(func() {
		s.awaitScrapes(ctx, jobs)
		s.rules.Run()
	})
	close(s.started)

	<-ctx.Done()
	late := time.AfterFunc(stopGrace, s.cancel)
	defer late.Stop()
	s.reloading.Lock()
	s.stopped = true
	s.reloading.Unlock()
	s.rules.Stop()
	s.awaitTargets(stopGrace)
	s.scrape.Stop()
	s.post.stopWithin(stopGrace)
	s.notify.Stop()
	wg.Wait()
	return s.Close()
}

// Close releases the data of a server that is not run, or whose run ended.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		s.cancel()
		s.post.close()
		s.closeError = errors.Join(s.engine.Close(), s.store.close())
	})
	return s.closeError
}

func (s *Server) runtimeInfo(started time.Time) (v1.RuntimeInfo, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return v1.RuntimeInfo{
		StartTime: started, CWD: s.opts.Folder.Path(""), Hostname: host, ServerTime: time.Now().UTC(),
		ReloadConfigSuccess: s.loaded.good.Load(), LastConfigTime: *s.loaded.goodAt.Load(), CorruptionCount: int64(s.opts.Folder.Damaged()[storeName]),
		GoroutineCount: runtime.NumGoroutine(), GOMAXPROCS: runtime.GOMAXPROCS(0), GOMEMLIMIT: debug.SetMemoryLimit(-1),
		GOGC: os.Getenv("GOGC"), GODEBUG: os.Getenv("GODEBUG"),
		StorageRetention: fmt.Sprintf("%s or %d bytes", model.Duration(s.opts.RetentionTime), s.opts.RetentionBytes),
	}, nil
}
