package app

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"quantumharvest/internal/buildinfo"
	"quantumharvest/internal/config"
	"quantumharvest/internal/exporter"
	"quantumharvest/internal/listen"
)

// newRegistry is a registry with the figures every process of ours has.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// registerBuild says which build this is, on the port of the publisher as on that of the exporter.
func registerBuild(reg prometheus.Registerer, build buildinfo.Info) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "quantum_harvest_publisher_build_info", Help: "1, with the build of the publisher.",
		ConstLabels: prometheus.Labels{"version": build.Version, "revision": build.Commit, "goversion": build.GoVersion},
	})
	info.Set(1)
	reg.MustRegister(info)
}

// openPublisherPort serves the publisher's own figures.
func openPublisherPort(c config.Config, build buildinfo.Info, reg *prometheus.Registry, pub *publisher, notice string, next bool, log *slog.Logger) (*listen.Server, error) {
	return listen.New(listen.Options{
		Name: "publisher", Address: hostPort(c.ListenHost, c.PublisherPort), NextFree: next, WebConfigFile: c.WebConfigFile, Logger: log,
		Handler: listen.NewMux(listen.Pages{
			Title:       "Quantum Harvest publisher",
			Description: "Evaluates open positions and publishes exit proposals." + notice,
			Version:     build.Version,
			Metrics:     listen.MetricsHandler(reg, listen.MetricsOptions{Registry: reg, Logger: log}),
			Ready:       pub.draining.ready(pub.ready),
		}),
	})
}

// recheck is a heartbeat and a little: by then a publisher that lives has repaired what was lost.
const recheck = 1100 * time.Millisecond

// openExporterPort serves what the store holds.
func openExporterPort(c config.Config, build buildinfo.Info, reader exporter.Reader, counter exporter.PositionCounter, notice string, next bool, log *slog.Logger) (*exporterPort, error) {
	port := &exporterPort{draining: new(draining)}
	page, err := port.page(c, build, reader, counter, notice, log)
	if err != nil {
		return nil, err
	}
	port.Server, err = listen.New(listen.Options{
		Name: "exporter", Address: hostPort(c.ListenHost, c.MetricsPort), NextFree: next, WebConfigFile: c.WebConfigFile, Logger: log,
		Handler: page,
	})
	return port, err
}

func (port *exporterPort) page(c config.Config, build buildinfo.Info, reader exporter.Reader, counter exporter.PositionCounter, notice string, log *slog.Logger) (http.Handler, error) {
	reg := prometheus.NewRegistry()
	var err error
	port.exp, err = exporter.New(exporter.Options{
		Reader: reader, Counter: counter, Symbols: c.Symbols, PollInterval: c.PollInterval, Logger: log, Registry: reg, Recheck: recheck,
		Build: exporter.Build{Version: build.Version, Revision: build.Commit, GoVersion: build.GoVersion},
	})
	if err != nil {
		return nil, fmt.Errorf("exporter: %w", err)
	}
	return listen.NewMux(listen.Pages{
		Title:       "Quantum Harvest exporter",
		Description: "Reads the proposals in Redis at every scrape." + notice,
		Version:     build.Version,
		Metrics:     listen.MetricsHandler(port.exp, listen.MetricsOptions{Registry: reg, Logger: log}),
		Ready:       port.draining.ready(port.exp.Ready),
	}), nil
}
