package prom

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
)

const (
	// takeTargetsEvery is how often the scrape manager looks whether it was given other targets.
	takeTargetsEvery = time.Second
	// takeTargetsLimit is for how long a reload waits for it.
	takeTargetsLimit = 15 * time.Second
	// restoreTurns is for how many evaluations a reload that comes right after a start waits for `for` clauses to be restored:
	// groups that are replaced before would begin to wait anew.
	restoreTurns = 5
)

// Reload is a configuration that was checked and waits to be put in force.
type Reload struct {
	server *Server
	config *config.Config
	jobs   []Job
	rules  []RuleFile
}

// read checks what would be scraped and evaluated. What is on disk is read once: what was checked is what will run.
func (s *Server) read(jobs []Job, files []RuleFile) (*Reload, error) {
	read, err := s.load.read(files)
	if err != nil {
		return nil, err
	}
	o := s.opts
	o.Jobs = jobs
	conf, err := configuration(o, names(read))
	if err != nil {
		return nil, err
	}
	return &Reload{s, conf, jobs, read}, nil
}

// Prepare checks other jobs and rules, and waits until the server can take them. With an error nothing changes, and the
// metrics say so.
func (s *Server) Prepare(ctx context.Context, jobs []Job, files []RuleFile) (*Reload, error) {
	r, err := s.read(jobs, files)
	if err != nil {
		s.loaded.bad()
		return nil, err
	}
	select {
	case <-s.started:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	most := restoreTurns * s.interval()
	late := time.After(most)
	if !s.restored() {
		s.log.Info("the new configuration waits until the alerts of before the start are restored: replaced earlier, they would begin to wait anew", "at_most", most)
	}
	for !s.restored() {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late:
			return r, nil
		case <-time.After(s.interval() / 40):
		}
	}
	return r, nil
}

// restored tells whether every alert waits on from where it was before the start.
func (s *Server) restored() bool {
	for _, rule := range s.rules.AlertingRules() {
		if !rule.Restored() {
			return false
		}
	}
	return true
}

// Apply puts it in force. Alerts of groups that did not change are not touched; in a group that did, those of a rule with
// the same name and labels go on, with the time they have waited. With an error all is as before. A server that stops
// takes nothing any more.
func (r *Reload) Apply() error {
	s := r.server
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if s.stopped {
		return nil
	}
	was := Reload{s, s.config.Load(), s.opts.Jobs, *s.load.files.Load()}
	if err := r.apply(); err != nil {
		s.loaded.bad()
		if back := was.apply(); back != nil {
			err = errors.Join(err, fmt.Errorf("monitor: go back to the old configuration: %w", back))
		}
		return err
	}
	s.loaded.ok()
	return nil
}

func (r *Reload) apply() error {
	s := r.server
	s.begin()
	s.load.files.Store(&r.rules)
	if err := s.updateRules(r.config); err != nil {
		return err
	}
	if err := s.scrape.ApplyConfig(r.config); err != nil {
		return fmt.Errorf("monitor: scraping: %w", err)
	}
	s.config.Store(r.config)
	s.opts.Jobs = r.jobs
	want := scrapeTargets(r.jobs)
	s.targets <- want
	// Stopped before it has taken them, the scrape manager would begin to scrape behind its own end.
	late := time.Now().Add(takeTargetsLimit)
	for ; !s.scrapes(r.jobs) && time.Now().Before(late); time.Sleep(10 * time.Millisecond) {
	}
	s.begin()
	return nil
}

// scrapes tells whether these targets are scraped, and no others.
func (s *Server) scrapes(jobs []Job) bool {
	taken := s.scrape.TargetsActive()
	for _, j := range jobs {
		want, is := map[string]bool{}, map[string]bool{}
		for _, g := range jobGroups(j) {
			for _, t := range g.Targets {
				want[string(t[model.AddressLabel])] = true
			}
		}
		for _, t := range taken[j.Name] {
			is[t.URL().Host] = true
		}
		if !maps.Equal(want, is) {
			return false
		}
	}
	return !slices.ContainsFunc(slices.Collect(maps.Keys(taken)), func(name string) bool {
		return len(taken[name]) > 0 && !slices.ContainsFunc(jobs, func(j Job) bool { return j.Name == name })
	})
}

func (s *Server) updateRules(c *config.Config) error {
	if err := s.rules.Update(s.interval(), c.RuleFiles, labels.EmptyLabels(), s.opts.ExternalURL.String(), nil); err != nil {
		return fmt.Errorf("monitor: rules: %w", err)
	}
	return nil
}

// begin notes that what is scraped and evaluated begins now: what is new has not been late yet.
func (s *Server) begin() {
	now := time.Now()
	s.began.Store(&now)
}

// configState shows whether the configuration that was read last is in force, under the names that rules and dashboards
// about Prometheus know.
type configState struct {
	good   *atomic.Bool
	goodAt *atomic.Pointer[time.Time]

	goodGauge, goodAtGauge prometheus.Gauge
}

func newConfigState(reg prometheus.Registerer) configState {
	c := configState{
		good: &atomic.Bool{}, goodAt: &atomic.Pointer[time.Time]{},
		goodGauge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prometheus_config_last_reload_successful", Help: "Whether the last configuration reload attempt was successful.",
		}),
		goodAtGauge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "prometheus_config_last_reload_success_timestamp_seconds", Help: "Timestamp of the last successful configuration reload.",
		}),
	}
	reg.MustRegister(c.goodGauge, c.goodAtGauge)
	c.ok()
	return c
}

func (c configState) ok() {
	now := time.Now().UTC()
	c.good.Store(true)
	c.goodAt.Store(&now)
	c.goodGauge.Set(1)
	c.goodAtGauge.SetToCurrentTime()
}

func (c configState) bad() {
	c.good.Store(false)
	c.goodGauge.Set(0)
}
