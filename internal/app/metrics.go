package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed/binance"
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
			Name: "quantum_harvest_publisher_redis_round_trip_seconds", Help: "Time that Redis took for the question with which the last read-back began.",
		}),
	}
	reg.MustRegister(m.storeErrors, m.storeUp, m.storeSeconds, m.cycleSeconds, m.evalSeconds, m.clockOffset, m.roundTrip)
	return m
}

// stepped observes one step that took that long.
func (m *publisherMetrics) stepped(s engine.Stepped, took time.Duration) {
	switch {
	case s.Beat:
		m.cycleSeconds.Observe(took.Seconds())
	case s.Evaluated > 0:
		m.evalSeconds.Observe(took.Seconds())
	}
}

// observe takes a read-back in that began at that moment.
func (m *publisherMetrics) observe(c store.Collection, begin time.Time) {
	m.roundTrip.Set(c.RTT.Seconds())
	if !c.ServerTime.IsZero() {
		m.clockOffset.Set(begin.Add(c.RTT / 2).Sub(c.ServerTime).Seconds())
	}
}

// registerFeed exports how the live feed of an exchange is doing.
func registerFeed(reg prometheus.Registerer, stats func() binance.Stats) {
	counter := func(name, help string, value func(binance.Stats) uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "quantum_harvest_feed_" + name, Help: help},
			func() float64 { return float64(value(stats())) }))
	}
	gauge := func(name, help string, value func(binance.Stats) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "quantum_harvest_feed_" + name, Help: help},
			func() float64 { return value(stats()) }))
	}
	counter("reconnects_total", "Connections to the exchange that had to be made again.", func(s binance.Stats) uint64 { return s.Reconnects })
	counter("rotations_total", "Connections to the exchange that were replaced before their time was over.", func(s binance.Stats) uint64 { return s.Rotations })
	counter("silences_total", "Streams of the exchange that fell silent beyond their interval.", func(s binance.Stats) uint64 { return s.Silences })
	counter("gaps_filled_total", "Gaps in the candles that were filled by request.", func(s binance.Stats) uint64 { return s.GapsFilled })
	counter("candles_total", "Candles taken from the exchange.", func(s binance.Stats) uint64 { return s.Candles })
	counter("unknown_messages_total", "Messages of the exchange that are none of ours, or unreadable as a whole.", func(s binance.Stats) uint64 { return s.Unknown })
	counter("requests_failed_total", "Requests to the exchange without a usable answer.", func(s binance.Stats) uint64 { return s.FailedRequests })
	gauge("connections", "Open streams to the exchange.", func(s binance.Stats) float64 { return float64(s.Connections) })
	gauge("waiting_symbols", "Symbols that have no history from the exchange yet.", func(s binance.Stats) float64 { return float64(s.Waiting) })
	gauge("used_weight", "Request weight of the current minute, as the exchange counts it.", func(s binance.Stats) float64 { return float64(s.UsedWeight) })
	gauge("clock_offset_seconds", "Clock of the exchange minus that of this process.", func(s binance.Stats) float64 { return s.ClockOffset.Seconds() })
	gauge("blocked_until_timestamp_seconds", "Until when the exchange told us to keep away; 0: it did not.", func(s binance.Stats) float64 {
		if s.BlockedUntil.IsZero() {
			return 0
		}
		return float64(s.BlockedUntil.Unix())
	})
}
