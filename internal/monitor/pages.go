package monitor

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"quantumharvest/internal/listen"
)

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
			{Path: "/api/v1/alerts", Text: "alerts that are pending or firing; /alerts is the same"},
			{Path: "/api/v1/rules", Text: "rules with their state; /rules is the same"},
			{Path: "/api/v1/targets", Text: "what is scraped, and whether it answers; /targets is the same"},
			{Path: "/api/v1/query?query=up", Text: "a query"},
			{Path: "/api/v1/status/config", Text: "the configuration in use"},
		},
		Lists: m.firing,
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

// firing lists the alerts that fire.
func (m *Monitor) firing() []listen.List {
	list := listen.List{Title: "Firing", Empty: "No alert fires."}
	for _, l := range m.prometheus.Firing() {
		list.Lines = append(list.Lines, l.String())
	}
	slices.Sort(list.Lines)
	lists := []listen.List{list}
	if at := m.AlertmanagerURL(); at != "" {
		lists = append(lists, listen.List{Title: "Notifications", Lines: []string{"by the Alertmanager at " + at}})
	} else {
		lists = append(lists, listen.List{Title: "Notifications", Lines: []string{"by the Alertmanager at " + m.opts.AlertmanagerURL.Redacted()}})
	}
	return lists
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
	})
	mux.Handle("/api/", m.alertAPI)
	return mux
}
