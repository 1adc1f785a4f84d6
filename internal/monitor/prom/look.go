package prom

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
)

// Alert is one that fires or waits.
type Alert struct {
	Name    string
	Labels  map[string]string // with those of the rule, without the name
	Summary string
	Firing  bool // else it waits
	Since   time.Time
}

// Alerts lists what fires and what waits, by name.
func (s *Server) Alerts() []Alert {
	var all []Alert
	for _, rule := range s.rules.AlertingRules() {
		for _, a := range rule.ActiveAlerts() {
			if a.State != rules.StateFiring && a.State != rules.StatePending {
				continue
			}
			l := a.Labels.Map()
			delete(l, labels.AlertName)
			all = append(all, Alert{rule.Name(), l, a.Annotations.Get("summary"), a.State == rules.StateFiring, a.ActiveAt})
		}
	}
	slices.SortStableFunc(all, func(a, b Alert) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Summary, b.Summary))
	})
	return all
}

// Target is one that is scraped.
type Target struct {
	Job, URL string
	Up       bool
	Error    string // why it is not up; blank also before the first scrape
}

// Targets lists what is scraped, by job and URL.
func (s *Server) Targets() []Target {
	var all []Target
	for job, list := range s.scrape.TargetsActive() {
		for _, t := range list {
			target := Target{Job: job, URL: t.URL().Redacted(), Up: t.Health() == scrape.HealthGood}
			if err := t.LastError(); err != nil {
				target.Error = err.Error()
			}
			all = append(all, target)
		}
	}
	slices.SortFunc(all, func(a, b Target) int { return cmp.Or(cmp.Compare(a.Job, b.Job), cmp.Compare(a.URL, b.URL)) })
	return all
}

// slack is what scraping and evaluating may be late beside missing two turns: a start, a host that is busy.
const slack = 15 * time.Second

// Progress tells whether scraping and evaluating go on. If not it says what hangs. A target that does not answer is scraped
// all the same.
func (s *Server) Progress() error {
	now, began := time.Now(), *s.began.Load()
	since := func(last time.Time, every time.Duration) (late time.Duration, ok bool) {
		if last.Before(began) {
			last = began
		}
		late = now.Sub(last)
		return late, late <= 3*every+slack
	}
	var scraped time.Time
	for _, list := range s.scrape.TargetsActive() {
		for _, t := range list {
			if at := t.LastScrape(); at.After(scraped) {
				scraped = at
			}
		}
	}
	if late, ok := since(scraped, s.interval()); !ok {
		return fmt.Errorf("monitor: nothing was scraped for %s", late.Round(time.Second))
	}
	for _, g := range s.rules.RuleGroups() {
		if late, ok := since(g.GetLastEvaluation(), g.Interval()); !ok {
			return fmt.Errorf("monitor: the rules of %s were not evaluated for %s", g.Name(), late.Round(time.Second))
		}
	}
	return nil
}
