package monitor

import (
	"github.com/prometheus/client_golang/prometheus"

	"quantumharvest/internal/monitor/folder"
)

// Desc describes one metric of this package, for registration and for the documentation made from it.
type Desc struct {
	Name   string
	Type   string // counter or gauge
	Help   string
	Labels []string
}

var descDamaged = Desc{
	Name:   "quantum_harvest_monitor_damaged_total",
	Type:   "counter",
	Help:   "Parts of the monitor's data that could not be read and were set aside since the start: tsdb, tsdb-block, silences, nflog, alerts.json, token.",
	Labels: []string{"part"},
}

var descBuild = Desc{
	Name:   "quantum_harvest_monitor_build_info",
	Type:   "gauge",
	Help:   "1, with the build of the monitor.",
	Labels: []string{"version", "revision", "goversion"},
}

// Metrics is the table of the metrics that the monitor has of its own, beside those of its libraries (prometheus_*,
// alertmanager_*).
var Metrics = []Desc{descBuild, descDamaged}

// parts are the values of the label "part".
var parts = []string{"tsdb", "tsdb-block", "silences", "nflog", "alerts.json", tokenName}

// damage shows what was set aside.
type damage struct {
	folder *folder.Folder
	desc   *prometheus.Desc
}

func newDamage(f *folder.Folder) *damage {
	return &damage{f, prometheus.NewDesc(descDamaged.Name, descDamaged.Help, descDamaged.Labels, nil)}
}

// Describe sends the description.
func (d *damage) Describe(ch chan<- *prometheus.Desc) { ch <- d.desc }

// Collect sends a count for every part.
func (d *damage) Collect(ch chan<- prometheus.Metric) {
	counts := d.folder.Damaged()
	for _, p := range parts {
		ch <- prometheus.MustNewConstMetric(d.desc, prometheus.CounterValue, float64(counts[p]), p)
	}
}
