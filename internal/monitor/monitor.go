// Package monitor watches the desk from inside its own process: an embedded Prometheus that scrapes and evaluates, and
// an embedded Alertmanager that notifies, each on its port, each replaceable by a server elsewhere. A monitor cannot
// report its own death: that is what the dead-man receiver outside is for.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"quantumharvest/internal/listen"
	"quantumharvest/internal/monitor/alert"
	"quantumharvest/internal/monitor/folder"
	"quantumharvest/internal/monitor/prom"
)

// SelfJob is the name under which the monitor scrapes itself.
const SelfJob = "quantum-harvest-monitor"

// errNothingEmbedded ends a start that would start nothing.
var errNothingEmbedded = errors.New("monitor: both Prometheus and Alertmanager are elsewhere: nothing is left to run")

// Options say what is embedded and what it works on.
type Options struct {
	Dir string // data; blank: a temporary folder, removed at the end

	ListenHost             string
	Port, AlertmanagerPort int
	NextFree               bool // a taken port is replaced by the next free one
	WebConfigFile          string
	AllowedHosts           []string // names that clients may call the ports by, beside those of this host
	TokenFile              string   // what writes need; blank: a file in Dir. Made where it is missing

	Prometheus           bool     // embed it
	AlertmanagerURL      *url.URL // who is told; nil: the embedded one
	AlertmanagerHTTPFile string   // how it is told

	ExternalURL, AlertmanagerExternalURL *url.URL // how people reach the ports; nil: as they listen

	Jobs           []prom.Job // the monitor itself is added
	ScrapeHTTPFile string
	ScrapeInterval time.Duration
	ResendDelay    time.Duration // how often the Alertmanager is told of an alert that fires
	TimeScale      int           // divides all intervals, for drills; 1 is real time
	Rules          []prom.RuleFile
	RetentionTime  time.Duration
	RetentionBytes int64

	Notifications *alert.Config // of the embedded Alertmanager
	Steady        []string      // names of the alerts that say by being told that all works

	Version, Revision, GoVersion string
	Log                          *slog.Logger
}

// Monitor is what New made. It lives until Run ends, or Close where it is not run.
type Monitor struct {
	opts      Options
	log       *slog.Logger
	folder    *folder.Folder
	tokenFile string
	token     string

	promPort, alertPort *listen.Server // nil where the server is elsewhere
	prometheus          *prom.Server
	alertmanager        *alert.Server
	alertAPI            http.Handler
	registry            *prometheus.Registry
	running             atomic.Bool
	ended               context.Context // when the run is over
	end                 context.CancelFunc
	closeOnce           sync.Once
	closeErr            error
}

// late is a handler that is known only after its port.
type late struct{ http.Handler }

// New opens the data, binds the ports and wires both servers; nothing runs yet.
func New(o Options) (_ *Monitor, err error) {
	if !o.Prometheus && o.AlertmanagerURL != nil {
		return nil, errNothingEmbedded
	}
	m := &Monitor{opts: o, log: o.Log, registry: prometheus.NewRegistry()}
	m.ended, m.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.folder, err = folder.Open(o.Dir, o.Log); err != nil {
		return nil, err
	}
	if err := m.openToken(); err != nil {
		return nil, err
	}
	m.registerOwn()
	libraries := slog.New(quiet{o.Log.Handler()})
	if o.AlertmanagerURL == nil {
		if err := m.openAlertmanager(libraries); err != nil {
			return nil, err
		}
	}
	if o.Prometheus {
		if err := m.openPrometheus(libraries); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Monitor) openToken() (err error) {
	if m.tokenFile = m.opts.TokenFile; m.tokenFile != "" {
		m.token, err = readToken(m.tokenFile)
	} else {
		m.tokenFile = m.folder.Path(tokenName)
		m.token, err = ownToken(m.folder)
	}
	if err != nil {
		return err
	}
	return writeClientFile(m.folder.Path(ClientName), m.tokenFile)
}

func (m *Monitor) registerOwn() {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: descBuild.Name, Help: descBuild.Help,
		ConstLabels: prometheus.Labels{"version": m.opts.Version, "revision": m.opts.Revision, "goversion": m.opts.GoVersion},
	})
	info.Set(1)
	m.registry.MustRegister(info, newDamage(m.folder), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// openPort binds a port; what answers there comes later, because it wants to know its address.
func (m *Monitor) openPort(name string, port int) (*listen.Server, *late, error) {
	h := &late{}
	srv, err := listen.New(listen.Options{
		Name: name, Address: net.JoinHostPort(m.opts.ListenHost, strconv.Itoa(port)), NextFree: m.opts.NextFree,
		WebConfigFile: m.opts.WebConfigFile, Logger: m.log,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }),
	})
	return srv, h, err
}

// base is the address of a server as people reach it.
func base(wanted *url.URL, srv *listen.Server) (*url.URL, error) {
	if wanted != nil {
		return wanted, nil
	}
	u, err := url.Parse(srv.URL())
	if err != nil {
		return nil, fmt.Errorf("monitor: address of a port: %w", err)
	}
	return u, nil
}

func (m *Monitor) openAlertmanager(libraries *slog.Logger) (err error) {
	o := m.opts
	var page *late
	if m.alertPort, page, err = m.openPort("alertmanager", o.AlertmanagerPort); err != nil {
		return err
	}
	reached, err := base(o.AlertmanagerExternalURL, m.alertPort)
	if err != nil {
		return err
	}
	m.alertmanager, err = alert.New(alert.Options{
		Folder: m.folder, Config: o.Notifications, Steady: o.Steady, ExternalURL: reached, TimeScale: o.TimeScale, Log: o.Log, Libraries: libraries,
	})
	if err != nil {
		return err
	}
	m.alertAPI = m.alertmanager.Handler()
	page.Handler = newGuard(m.alertPages(), o.AllowedHosts, m.token, noReads)
	return nil
}

func (m *Monitor) openPrometheus(libraries *slog.Logger) (err error) {
	o := m.opts
	var page *late
	if m.promPort, page, err = m.openPort("prometheus", o.Port); err != nil {
		return err
	}
	reached, err := base(o.ExternalURL, m.promPort)
	if err != nil {
		return err
	}
	told := prom.Alertmanager{URL: o.AlertmanagerURL, HTTPFile: o.AlertmanagerHTTPFile}
	if m.alertmanager != nil {
		u, err := base(nil, m.alertPort)
		if err != nil {
			return err
		}
		told = prom.Alertmanager{URL: u, Handler: m.alertAPI}
	}
	m.prometheus, err = prom.New(prom.Options{
		Folder: m.folder, Jobs: m.jobs(o.Jobs), ScrapeHTTPFile: o.ScrapeHTTPFile, ScrapeInterval: o.ScrapeInterval, ResendDelay: o.ResendDelay,
		TimeScale: o.TimeScale, Rules: o.Rules, Notify: told, RetentionTime: o.RetentionTime, RetentionBytes: o.RetentionBytes, ExternalURL: reached,
		Self: m.gatherer(), Revision: o.Revision, Log: o.Log, Libraries: libraries,
	})
	if err != nil {
		return err
	}
	page.Handler = newGuard(m.promPages(), o.AllowedHosts, m.token, queries,
		"/api/v1/write", "/api/v1/read", "/api/v1/otlp", "/api/v1/admin", "/-/reload", "/-/quit")
	return nil
}

// URL is where the embedded Prometheus answers; blank where there is none.
func (m *Monitor) URL() string { return address(m.promPort) }

// AlertmanagerURL is where the embedded Alertmanager answers; blank where there is none.
func (m *Monitor) AlertmanagerURL() string { return address(m.alertPort) }

func address(srv *listen.Server) string {
	if srv == nil {
		return ""
	}
	return srv.URL()
}

// TokenFile holds the token that writes need.
func (m *Monitor) TokenFile() string { return m.tokenFile }

// ClientFile is what amtool takes as --http.config.file.
func (m *Monitor) ClientFile() string { return m.folder.Path(ClientName) }

// Run works until ctx ends or a part fails, then stops in order: first nobody asks any more, then nothing is scraped
// and evaluated, then nobody is told.
func (m *Monitor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var layers []*layer // in the order they start
	if m.alertmanager != nil {
		layers = append(layers, newLayer(ctx, cancel, m.alertmanager.Run))
	}
	if m.prometheus != nil {
		layers = append(layers, newLayer(ctx, cancel, m.prometheus.Run))
	}
	for _, srv := range m.ports() {
		layers = append(layers, newLayer(ctx, cancel, srv.Run))
	}
	m.running.Store(true)
	<-ctx.Done()
	m.running.Store(false)
	m.end()
	var errs []error
	for _, l := range slices.Backward(layers) {
		l.stop()
		<-l.done
		errs = append(errs, l.err)
	}
	return errors.Join(append(errs, m.Close())...)
}

// layer is one thing that runs until it is stopped, which is not when the caller's context ends.
type layer struct {
	stop context.CancelFunc
	done chan struct{}
	err  error // once done is closed
}

// newLayer starts a layer; ended is called when it ends, for whatever reason.
func newLayer(ctx context.Context, ended func(), run func(context.Context) error) *layer {
	l := &layer{done: make(chan struct{})}
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(l.done)
		defer ended()
		l.err = run(ctx)
	}()
	return l
}

// Registry takes further metrics for the page of the monitor.
func (m *Monitor) Registry() *prometheus.Registry { return m.registry }

// ports are those that are bound.
func (m *Monitor) ports() []*listen.Server {
	return slices.DeleteFunc([]*listen.Server{m.alertPort, m.promPort}, func(s *listen.Server) bool { return s == nil })
}

// Close releases a monitor that is not run, or whose run ended. It may be called more than once.
func (m *Monitor) Close() error {
	m.closeOnce.Do(func() {
		m.end()
		var errs []error
		for _, srv := range m.ports() {
			_ = srv.Close() // a port that was served is closed already
		}
		if m.prometheus != nil {
			errs = append(errs, m.prometheus.Close())
		}
		if m.alertmanager != nil {
			m.alertmanager.Close()
		}
		if m.folder != nil {
			errs = append(errs, m.folder.Close())
		}
		m.closeErr = errors.Join(errs...)
	})
	return m.closeErr
}
