package monitor

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"quantumharvest/internal/listen"
)

// listTimeout is how long the landing page waits for what it lists.
const listTimeout = 3 * time.Second

// gatherer shows all metrics of this monitor: its own, those of Prometheus and those of Alertmanager, so that one scrape
// of one port feeds the alerts about the monitor itself.
func (m *Monitor) gatherer() prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		all := prometheus.Gatherers{m.registry}
		if m.prometheus != nil {
			all = append(all, m.prometheus.Gatherers()...)
		}
		if m.alertmanager != nil {
			all = append(all, m.alertmanager.Gatherers()...)
		}
		return all.Gather()
	})
}

func (m *Monitor) ready(context.Context) (bool, string) {
	if !m.running.Load() {
		return false, "it is starting or stopping"
	}
	return true, ""
}

// promPages are the pages of the Prometheus port. There is no web interface behind /alerts and the like: people who try
// them get what the API says.
func (m *Monitor) promPages() http.Handler {
	mux := listen.NewMux(listen.Pages{
		Title:       "Quantum Harvest monitor",
		Description: "An embedded Prometheus: scrapes the desk, keeps the series, evaluates the rules. Its API is Prometheus' own.",
		Version:     m.opts.Version,
		Metrics:     listen.MetricsHandler(m.gatherer(), listen.MetricsOptions{Registry: m.registry, Logger: m.log}),
		Ready:       m.ready,
		Links: []listen.Link{
			{Path: "/api/v1/alerts", Text: "alerts that are pending or firing; also as /alerts"},
			{Path: "/api/v1/rules", Text: "rules with their state; also as /rules"},
			{Path: "/api/v1/targets", Text: "what is scraped, and whether it answers; also as /targets"},
			{Path: "/api/v1/query?query=up", Text: "a query"},
			{Path: "/api/v1/status/config", Text: "the configuration in use"},
		},
		Lists: m.promLists,
	})
	api := m.prometheus.Handler()
	mux.Handle("/api/v1/", api)
	for _, name := range []string{"alerts", "rules", "targets"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			r.URL.Path = "/api/v1/" + name
			api.ServeHTTP(w, r)
		})
	}
	// Where the links in alerts lead.
	mux.HandleFunc("GET /graph", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/api/v1/query?query="+url.QueryEscape(r.URL.Query().Get("g0.expr")), http.StatusFound)
	})
	return mux
}

// promLists are what the landing page of Prometheus shows: what fires, what waits, whether everything that should be
// scraped is, and who is told.
func (m *Monitor) promLists() []listen.List {
	firing := listen.List{Title: "Firing", Empty: "No alert fires."}
	pending := listen.List{Title: "Pending", Empty: "No alert waits."}
	for _, a := range m.prometheus.Alerts() {
		if slices.Contains(m.opts.Steady, a.Name) {
			continue // it fires to say that all works
		}
		line := listen.Line{Name: a.Name, Bad: a.Firing && a.Labels["severity"] == "critical"}
		if s := a.Labels["severity"]; s != "" {
			line.Name += " (" + s + ")"
		}
		line.Text = "since " + a.Since.UTC().Format(time.DateTime) + " UTC"
		if a.Summary != "" {
			line.Text = a.Summary + ", " + line.Text
		}
		if a.Firing {
			firing.Lines = append(firing.Lines, line)
		} else {
			pending.Lines = append(pending.Lines, line)
		}
	}
	slices.SortStableFunc(firing.Lines, func(a, b listen.Line) int {
		switch {
		case a.Bad == b.Bad:
			return 0
		case a.Bad:
			return -1
		}
		return 1
	})
	scraped := listen.List{Title: "Scraped"}
	for _, t := range m.prometheus.Targets() {
		line := listen.Line{Name: t.Job, Text: t.URL + " is up"}
		switch {
		case t.Error != "":
			line.Bad, line.Text = true, t.URL+" is down: "+t.Error
		case !t.Up:
			line.Text = t.URL + " was not scraped yet"
		}
		scraped.Lines = append(scraped.Lines, line)
	}
	told := listen.List{Title: "Notifications"}
	if at := m.AlertmanagerURL(); at != "" {
		told.Lines = []listen.Line{{Name: at, Path: at, Text: "the Alertmanager of this process: who is told, and what is silenced"}}
	} else {
		at := m.opts.AlertmanagerURL.Redacted()
		told.Lines = []listen.Line{{Name: at, Path: at, Text: "the Alertmanager elsewhere"}}
	}
	return []listen.List{firing, pending, scraped, told}
}

// alertLists are what the landing page of Alertmanager shows: who is told, and what is silenced.
func (m *Monitor) alertLists() []listen.List {
	told := listen.List{Title: "Receivers"}
	for _, r := range m.alertmanager.Receivers() {
		line := listen.Line{Name: r.Name, Text: strings.Join(r.Kinds, ", ")}
		if len(r.Kinds) == 0 {
			line.Text = "nobody is told"
		}
		told.Lines = append(told.Lines, line)
	}
	silenced := listen.List{Title: "Silences", Empty: "Nothing is silenced."}
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	all, err := m.alertmanager.Silences(ctx)
	if err != nil {
		silenced.Empty = "They cannot be listed: " + err.Error()
	}
	for _, s := range all {
		silenced.Lines = append(silenced.Lines, listen.Line{
			Name: s.Matchers, Path: "/api/v2/silence/" + s.ID,
			Text: fmt.Sprintf("until %s UTC, by %s: %s", s.Until.UTC().Format(time.DateTime), s.By, s.Comment),
		})
	}
	return []listen.List{told, silenced}
}

// alertPages are the pages of the Alertmanager port.
func (m *Monitor) alertPages() http.Handler {
	own := prometheus.NewRegistry()
	mux := listen.NewMux(listen.Pages{
		Title:       "Quantum Harvest notifications",
		Description: "An embedded Alertmanager: groups, silences, inhibits and notifies. Its API is Alertmanager's own; amtool works on it.",
		Version:     m.opts.Version,
		Metrics: listen.MetricsHandler(append(prometheus.Gatherers{own}, m.alertmanager.Gatherers()...),
			listen.MetricsOptions{Registry: own, Logger: m.log}),
		Ready: m.ready,
		Links: []listen.Link{
			{Path: "/api/v2/alerts", Text: "alerts, with what silences or inhibits them"},
			{Path: "/api/v2/alerts/groups", Text: "alerts as they are told"},
			{Path: "/api/v2/silences", Text: "silences; making one needs the token"},
			{Path: "/api/v2/receivers", Text: "receivers"},
			{Path: "/api/v2/status", Text: "status, with the configuration in use"},
		},
		Lists: m.alertLists,
	})
	mux.Handle("/api/", m.alertAPI)
	return mux
}
