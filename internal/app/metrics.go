package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/store"
)

// publisherMetrics are the figures of the way between the engine and its store.
type publisherMetrics struct {
	storeErrors  prometheus.Counter
	storeUp      prometheus.Gauge
	storeSeconds prometheus.Histogram
	cycleSeconds prometheus.Histogram
	evalSeconds  prometheus.Histogram
	clockOffset  prometheus.Gauge
	roundTrip    prometheus.Gauge
}

func newPublisherMetrics(reg prometheus.Registerer) *publisherMetrics {
	m := &publisherMetrics{
		storeErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quantum_harvest_publisher_store_errors_total", Help: "Pieces of work the store did not carry out at all.",
		}),
		storeUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quantum_harvest_publisher_store_up", Help: "1 where the last piece of work reached the store.",
		}),
		storeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quantum_harvest_publisher_store_seconds", Help: "Time of one piece of work at the store: write, and read-back where due.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 4, 9), NativeHistogramBucketFactor: 1.1,
		}),
		cycleSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quantum_harvest_cycle_seconds", Help: "Time of a step at a beat: every open position evaluated, the batch made.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10), NativeHistogramBucketFactor: 1.1,
		}),
		evalSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quantum_harvest_evaluation_seconds", Help: "Time of a step between beats: what moved evaluated, the batch made.",
			Buckets: prometheus.ExponentialBuckets(0.00001, 4, 10), NativeHistogramBucketFactor: 1.1,
		}),
		clockOffset: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quantum_harvest_publisher_clock_offset_seconds",
			Help: "Clock of this process minus the clock of Redis, at the last read-back; half the round trip is the error.",
		}),
		roundTrip: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quantum_harvest_publisher_redis_round_trip_seconds", Help: "Time of the last read-back of all proposals.",
		}),
	}
	reg.MustRegister(m.storeErrors, m.storeUp, m.storeSeconds, m.cycleSeconds, m.evalSeconds, m.clockOffset, m.roundTrip)
	return m
}

// stepped observes one step that took that long.
func (m *publisherMetrics) stepped(w engine.Work, took time.Duration) {
	switch {
	case w.Beat:
		m.cycleSeconds.Observe(took.Seconds())
	case w.Evaluated > 0:
		m.evalSeconds.Observe(took.Seconds())
	}
}

func (m *publisherMetrics) observe(c store.Collection) {
	m.roundTrip.Set(c.RTT.Seconds())
	if !c.ServerTime.IsZero() {
		m.clockOffset.Set(time.Now().Add(-c.RTT / 2).Sub(c.ServerTime).Seconds())
	}
}
