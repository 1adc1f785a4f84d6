package app

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"quantumharvest/internal/buildinfo"
	"quantumharvest/internal/engine"
	"quantumharvest/internal/exporter"
	"quantumharvest/internal/feed/binance"
	"quantumharvest/internal/flight"
	"quantumharvest/internal/listen"
	"quantumharvest/internal/monitor"
	"quantumharvest/internal/tracing"
)

// MetricDoc describes one metric of ours: the table behind docs/METRICS.md.
type MetricDoc struct {
	Name   string
	Type   string // gauge, counter or histogram
	Labels []string
	Help   string
	Ports  []string // publisher, exporter, monitor
	When   string   // what it takes for the metric to be there, as "while X is set"; blank: it always is
	Legacy bool     // the name is that of the earlier services: exact, never to be renamed
}

// MetricDocs lists every metric of ours by name, from the registries themselves and the tables of those who read at scrape.
func MetricDocs() []MetricDoc {
	byName := map[string]*MetricDoc{}
	add := func(port string, d MetricDoc) {
		have, ok := byName[d.Name]
		if !ok {
			have = &d
			byName[d.Name] = have
		}
		if !slices.Contains(have.Ports, port) {
			have.Ports = append(have.Ports, port)
		}
	}
	r := &metricRecorder{add: func(d MetricDoc) { add("publisher", d) }}
	engine.NewMetrics(r)
	newPublisherMetrics(r)
	registerBuild(r, buildinfo.Info{})
	only := func(when string) *metricRecorder {
		return &metricRecorder{add: func(d MetricDoc) { d.When = when; add("publisher", d) }}
	}
	registerFeed(only("with market data of an exchange (`HARVEST_FEED`)"), func() binance.Stats { return binance.Stats{} })
	only("while `DEBUG_DIR` is set").MustRegister(flight.Counter())
	only("while `OTEL_EXPORTER_OTLP_ENDPOINT` is set").MustRegister(tracing.Spans())
	for _, port := range []string{"publisher", "exporter", "monitor"} {
		newReloadGauges(&metricRecorder{add: func(d MetricDoc) { add(port, d) }})
	}
	for _, d := range exporter.Metrics {
		add("exporter", MetricDoc{Name: d.Name, Type: string(d.Type), Labels: d.Labels, Help: d.Help, Legacy: d.Legacy})
	}
	for _, d := range listen.Metrics {
		for _, port := range []string{"publisher", "exporter", "monitor"} {
			add(port, MetricDoc{Name: d.Name, Type: d.Type, Labels: d.Labels, Help: d.Help})
		}
	}
	for _, d := range monitor.Metrics {
		add("monitor", MetricDoc{Name: d.Name, Type: d.Type, Labels: d.Labels, Help: d.Help})
	}
	all := make([]MetricDoc, 0, len(byName))
	for _, d := range byName {
		all = append(all, *d)
	}
	slices.SortFunc(all, func(a, b MetricDoc) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// metricRecorder takes the place of a registry, and notes what it is given.
type metricRecorder struct{ add func(MetricDoc) }

// described reads what prometheus.Desc says of itself: it has no other way to be asked.
var described = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"),(?: unit: "[^"]*",)? constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// Register notes the metrics of a collector.
func (r *metricRecorder) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 100)
	c.Describe(descs)
	close(descs)
	for desc := range descs {
		m := described.FindStringSubmatch(desc.String())
		if m == nil {
			return fmt.Errorf("what a metric says of itself has another form: %s", desc)
		}
		d := MetricDoc{Type: collectorType(c)}
		if _, err := fmt.Sscanf(m[1]+" "+m[2], "%q %q", &d.Name, &d.Help); err != nil {
			return err
		}
		for label := range strings.SplitSeq(m[3], ",") {
			if name, _, ok := strings.Cut(label, "="); ok {
				d.Labels = append(d.Labels, name)
			}
		}
		for label := range strings.SplitSeq(m[4], ",") {
			if label != "" {
				d.Labels = append(d.Labels, label)
			}
		}
		r.add(d)
	}
	return nil
}

// MustRegister is Register for several; a metric that does not describe itself is a broken invariant.
func (r *metricRecorder) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister is of no use here.
func (r *metricRecorder) Unregister(prometheus.Collector) bool { return false }

// collectorType tells what a collector makes: by its kind where it has samples by label and shows none yet, else by a
// sample.
func collectorType(c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.GaugeVec:
		return "gauge"
	case *prometheus.HistogramVec:
		return "histogram"
	}
	samples := make(chan prometheus.Metric, 100)
	c.Collect(samples)
	close(samples)
	for s := range samples {
		var m dto.Metric
		if err := s.Write(&m); err != nil {
			continue
		}
		switch {
		case m.GetCounter() != nil:
			return "counter"
		case m.GetHistogram() != nil:
			return "histogram"
		case m.GetGauge() != nil:
			return "gauge"
		}
	}
	panic(fmt.Sprintf("%s makes no metric of a type that is known", reflect.TypeOf(c)))
}
