package alert

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	alertlib "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
)

// deliveryLimit is for how long a reload waits for notifications under way. One that is broken off may have arrived
// without being noted, and would be sent again.
const deliveryLimit = 5 * time.Second

// parts are what a duty is made with, beside its configuration.
type parts struct {
	log       *slog.Logger
	silencer  *silence.Silencer
	groups    marker.GroupMarker
	pipelines *notify.PipelineBuilder
	metrics   *dispatch.DispatcherMetrics
}

// Reload is a configuration that was checked and waits to be put in force.
type Reload struct {
	server    *Server
	config    *Config
	tmpl      *template.Template
	routes    *dispatch.Route
	receivers map[string][]notify.Integration
}

// read makes what can fail of a configuration.
func (s *Server) read(c *Config) (*Reload, error) {
	tmpl, err := c.templates()
	if err != nil {
		return nil, err
	}
	tmpl.ExternalURL = s.opts.ExternalURL
	routes := dispatch.NewRoute(c.c.Route, nil)
	receivers, err := c.receivers(routes, tmpl, s.opts.Log, s.parts.log)
	if err != nil {
		return nil, err
	}
	return &Reload{s, c, tmpl, routes, receivers}, nil
}

// Prepare reads another configuration and checks it. With an error nothing changes, and the metrics say so.
func (s *Server) Prepare(read func() (*Config, error)) (*Reload, error) {
	c, err := read()
	if err != nil {
		s.loaded.bad()
		return nil, err
	}
	r, err := s.read(c)
	if err != nil {
		s.loaded.bad()
	}
	return r, err
}

// Apply puts it in force: routes, receivers and inhibitions are made anew over the same alerts, silences and log of what was
// notified. A server that does not run has nobody to tell.
func (r *Reload) Apply() {
	s := r.server
	s.swap.Lock()
	defer s.swap.Unlock()
	if !s.running {
		return
	}
	was, is := s.duty.Load(), s.newDuty(r)
	is.startInhibiting()
	was.gate.shut(deliveryLimit)
	was.stop()
	is.startNotifying()
	s.take(is)
	s.loaded.ok()
}

// duty is who is told what, by one configuration.
type duty struct {
	config     *Config
	inhibitor  *inhibit.Inhibitor
	dispatcher *dispatch.Dispatcher
	gate       *gate
	told       []Receiver
	running    sync.WaitGroup
}

func (s *Server) newDuty(r *Reload) *duty {
	var events eventrecorder.Recorder // none
	p := s.parts
	d := &duty{config: r.config}
	for _, name := range slices.Sorted(maps.Keys(r.receivers)) {
		told := Receiver{Name: name}
		for _, i := range r.receivers[name] {
			told.Kinds = append(told.Kinds, i.Name())
		}
		d.told = append(d.told, told)
	}
	d.inhibitor = inhibit.NewInhibitor(s.alerts, r.config.c.InhibitRules, p.log, events)
	d.gate = &gate{next: p.pipelines.New(
		r.receivers, func() time.Duration { return 0 }, d.inhibitor, p.silencer,
		timeinterval.NewIntervener(r.config.timeIntervals()), p.groups, s.notified, nil,
	)}
	d.dispatcher = dispatch.NewDispatcher(
		s.alerts, r.routes, d.gate, p.groups, func(d time.Duration) time.Duration { return max(d, notify.MinTimeout) },
		maintainEvery, limits{}, p.log, events, p.metrics, r.tmpl,
	)
	return d
}

// take makes a duty the one that is shown.
func (s *Server) take(d *duty) {
	s.duty.Store(d)
	s.api.Update(d.config.c, func(ctx context.Context, labels model.LabelSet) {
		d.inhibitor.Mutes(ctx, labels)
		s.parts.silencer.Mutes(ctx, labels)
	})
}

func (d *duty) startInhibiting() {
	d.running.Go(d.inhibitor.Run)
	d.inhibitor.WaitForLoading()
}

func (d *duty) startNotifying() {
	d.running.Go(func() { d.dispatcher.Run(time.Now()) })
	d.dispatcher.WaitForLoading()
}

func (d *duty) stop() {
	d.dispatcher.Stop()
	d.inhibitor.Stop()
	d.running.Wait()
}

// gate lets notifications pass until it is shut.
type gate struct {
	next notify.Stage

	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

// Exec passes on. Behind a gate that is shut it waits for the dispatcher to end, whose successor has the same alerts.
func (g *gate) Exec(ctx context.Context, log *slog.Logger, alerts ...*alertlib.Alert) (context.Context, []*alertlib.Alert, error) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		<-ctx.Done()
		return ctx, nil, ctx.Err()
	}
	g.inside.Add(1)
	g.mu.Unlock()
	defer g.inside.Done()
	return g.next.Exec(ctx, log, alerts...)
}

// shut lets nothing pass any more, and waits no longer than limit for what is under way.
func (g *gate) shut(limit time.Duration) {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	empty := make(chan struct{})
	go func() {
		defer close(empty)
		g.inside.Wait()
	}()
	select {
	case <-empty:
	case <-time.After(limit):
	}
}

// configState shows whether the configuration that was read last is in force, under Alertmanager's names.
type configState struct{ good, goodAt prometheus.Gauge }

func newConfigState(reg prometheus.Registerer) configState {
	c := configState{
		prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "alertmanager_config_last_reload_successful", Help: "Whether the last configuration reload attempt was successful.",
		}),
		prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "alertmanager_config_last_reload_success_timestamp_seconds", Help: "Timestamp of the last successful configuration reload.",
		}),
	}
	reg.MustRegister(c.good, c.goodAt)
	c.ok()
	return c
}

func (c configState) ok() {
	c.good.Set(1)
	c.goodAt.SetToCurrentTime()
}

func (c configState) bad() { c.good.Set(0) }
