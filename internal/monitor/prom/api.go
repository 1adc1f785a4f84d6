package prom

import (
	"context"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// newAPI is the one place that knows the long list of arguments, which changes between releases.
func (s *Server) newAPI(registry features.Collector, text parser.Parser) *v1.API {
	started := time.Now().UTC()
	self := s.opts.Self
	if self == nil {
		self = s.Gatherers()
	}
	return v1.NewAPI(
		s.engine,
		s.store.db,
		nil, nil, // appenders: nothing is written from outside
		s.store.db,
		func(context.Context) v1.ScrapePoolsRetriever { return s.scrape },
		func(context.Context) v1.TargetRetriever { return s.scrape },
		func(context.Context) v1.AlertmanagerRetriever { return s.notify },
		func() config.Config { return *s.config.Load() },
		map[string]string{}, // there are no flags of Prometheus
		v1.GlobalURLOptions{ListenAddress: s.opts.ExternalURL.Host, Host: s.opts.ExternalURL.Host, Scheme: s.opts.ExternalURL.Scheme},
		func(f http.HandlerFunc) http.HandlerFunc { return f }, // the data is open before anything is served
		s.store,
		s.store.dir,
		false,    // admin API
		false, 0, // search API
		s.opts.Libraries,
		func(context.Context) v1.RulesRetriever { return s.rules },
		0, 0, 0, // remote read
		false, // agent
		// No origin matches; the header is taken off every request anyway.
		regexp.MustCompile(`^$`),
		func() (v1.RuntimeInfo, error) { return s.runtimeInfo(started) },
		buildInfo(s.opts.Revision),
		func() []notifications.Notification { return nil },
		func() (<-chan notifications.Notification, func(), bool) { return nil, nil, false },
		self,
		prometheus.NewRegistry(), // of the parts that are off
		nil,                      // statistics as Prometheus renders them
		false, nil,               // remote write
		false, false, false, // OTLP
		false,
		s.lookback(),
		false,
		false,
		nil,
		registry,
		v1.OpenAPIOptions{ExternalURL: s.opts.ExternalURL.String()},
		text,
	)
}

const modulePath = "github.com/prometheus/prometheus"

// buildInfo says which Prometheus the libraries are of: clients choose what they ask by it. A library v0.315.0 is
// Prometheus 3.15.0.
func buildInfo(revision string) *v1.PrometheusVersion {
	v := &v1.PrometheusVersion{Version: "3.0.0", Revision: revision, Branch: "embedded"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.GoVersion = info.GoVersion
	for _, m := range info.Deps {
		if m.Path != modulePath {
			continue
		}
		parts := strings.SplitN(strings.TrimPrefix(m.Version, "v0."), ".", 2)
		if n, err := strconv.Atoi(parts[0]); err == nil && len(parts) == 2 {
			v.Version = strconv.Itoa(n/100) + "." + strconv.Itoa(n%100) + "." + parts[1]
		}
	}
	return v
}
