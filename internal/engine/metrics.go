package engine

import (
	"github.com/prometheus/client_golang/prometheus"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// resultPublished is the result label of a due beat that a full publish carried.
const resultPublished = "published"

// resultError is the result label of a write whose whole batch failed; the others are store outcomes.
const resultError = "error"

// The event labels of the leases.
const (
	leaseAcquired = "acquired"
	leaseRenewed  = "renewed"
	leaseReleased = "released"
	leaseLost     = "lost"
	leaseConflict = "layout_conflict"
	leaseError    = "error"
)

// maxRefusedSymbols bounds the label of refusals per symbol: whoever writes garbage under ever new names fills one
// shared series, not the memory.
const maxRefusedSymbols = 10_000

// Metrics are the publisher's own figures, for the port of the publisher.
type Metrics struct {
	publishes       *prometheus.CounterVec
	beats           *prometheus.CounterVec
	closes          *prometheus.CounterVec
	produced        *prometheus.CounterVec
	outages         *prometheus.CounterVec
	refusals        *prometheus.CounterVec
	symbolRefusals  *prometheus.CounterVec
	refusedAt       *prometheus.GaugeVec
	refusedNow      prometheus.Gauge
	limited         prometheus.Counter
	evaluations     prometheus.Counter
	mergedTicks     prometheus.Counter
	auditMismatches prometheus.Counter
	repairs         prometheus.Counter
	wrongType       prometheus.Counter
	clockSteps      prometheus.Counter
	cycles          prometheus.Counter
	roundTrips      prometheus.Counter
	sideErrors      prometheus.Counter
	openPositions   prometheus.Gauge
	uncovered       prometheus.Gauge
	advised         prometheus.Gauge
	fenced          prometheus.Gauge
	leases          *prometheus.CounterVec
	leasesHeld      prometheus.Gauge

	refused map[position.Symbol]bool
}

// NewMetrics makes the figures and registers them where reg is not nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &Metrics{
		publishes:       vec("quantum_harvest_publish_total", "Full publishes of a proposal, by result; only done wrote something.", "result"),
		beats:           vec("quantum_harvest_heartbeat_total", "Heartbeats of a proposal, by result: done by themselves, published with a full publish; the others wrote nothing.", "result"),
		closes:          vec("quantum_harvest_close_total", "Closing records of ended episodes, by result.", "result"),
		produced:        vec("quantum_harvest_produced_total", "Market states and stops written under their own keys, by result.", "result"),
		outages:         vec("quantum_harvest_source_outages_total", "Times an input source was reported unreadable.", "source"),
		refusals:        vec("quantum_harvest_refusals_total", "Inputs that were refused, by reason.", "reason"),
		symbolRefusals:  vec("quantum_harvest_symbol_refusals_total", "Inputs that were refused, by symbol and reason.", "symbol", "reason"),
		limited:         counter("quantum_harvest_publish_rate_limited_total", "Evaluations whose full publish the gate held back."),
		evaluations:     counter("quantum_harvest_evaluations_total", "Evaluations of open positions."),
		mergedTicks:     counter("quantum_harvest_merged_ticks_total", "Price ticks replaced by a newer one before they were looked at."),
		auditMismatches: counter("quantum_harvest_audit_mismatches_total", "Proposals found changed by someone else when read back."),
		repairs:         counter("quantum_harvest_repairs_total", "Proposals written in full because the copy in the store was missing, not whole or not ours."),
		wrongType:       counter("quantum_harvest_wrong_type_total", "Proposal keys that were found with another Redis type and replaced."),
		clockSteps:      counter("quantum_harvest_clock_steps_total", "Times the wall clock was seen to step back."),
		cycles:          counter("quantum_harvest_cycles_total", "Publish cycles reported."),
		roundTrips:      counter("quantum_harvest_store_round_trips_total", "Round trips to the store for writing."),
		sideErrors:      counter("quantum_harvest_side_write_errors_total", "Writes of which the expected set or a stream could not be changed."),
		openPositions:   gauge("quantum_harvest_publisher_open_positions", "Open positions the publisher knows."),
		uncovered:       gauge("quantum_harvest_uncovered_positions", "Open positions outside SYMBOLS: nobody advises them."),
		advised:         gauge("quantum_harvest_advised_positions", "Open positions with advice."),
		leases:          vec("quantum_harvest_lease_events_total", "What became of the leases of the shards: acquired, renewed (once an ask), released to another publisher, lost; layout_conflict: other publishers divide the symbols in another way; error: the server could not be asked.", "event"),
		leasesHeld:      gauge("quantum_harvest_leases_held", "Shards that this publisher writes for."),
		fenced:          gauge("quantum_harvest_fenced_positions", "Open positions that another publisher holds."),
		refusedAt: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "quantum_harvest_symbol_refused_timestamp_seconds",
			Help: "When an input was last refused, by symbol and reason. A fault that stands is refused again every 4 s.",
		}, []string{"symbol", "reason"}),
		refusedNow: gauge("quantum_harvest_refused_positions", "Positions whose record is there and refused, and that are not open: nobody advises them."),
		refused:    make(map[position.Symbol]bool),
	}
	for _, o := range []store.Outcome{store.Done, store.Fenced, store.Unleased, store.Failed, resultError} {
		m.publishes.WithLabelValues(string(o))
	}
	for _, o := range []store.Outcome{store.Done, store.Missing, store.Incomplete, store.Superseded, store.Fenced, store.Unleased, store.Failed, resultPublished, resultError} {
		m.beats.WithLabelValues(string(o))
	}
	for _, o := range []store.Outcome{store.Done, store.OtherEpisode, store.Failed} {
		m.closes.WithLabelValues(string(o))
	}
	for _, ev := range []string{leaseAcquired, leaseRenewed, leaseReleased, leaseLost, leaseConflict, leaseError} {
		m.leases.WithLabelValues(ev)
	}
	for _, r := range feed.Reasons {
		m.refusals.WithLabelValues(string(r))
	}
	if reg != nil {
		reg.MustRegister(m.publishes, m.beats, m.closes, m.produced, m.outages, m.refusals, m.symbolRefusals, m.refusedAt, m.refusedNow, m.limited,
			m.evaluations, m.mergedTicks, m.auditMismatches, m.repairs, m.wrongType, m.clockSteps, m.cycles, m.roundTrips, m.sideErrors, m.openPositions,
			m.uncovered, m.advised, m.fenced, m.leases, m.leasesHeld)
	}
	return m
}

func (m *Metrics) countRefusal(r feed.Refusal) {
	m.refusals.WithLabelValues(string(r.Reason)).Inc()
	label := r.Symbol
	switch {
	case label == "":
		label = "_none"
	case m.refused[label]:
	case len(m.refused) >= maxRefusedSymbols:
		label = "_other"
	default:
		m.refused[label] = true
	}
	m.symbolRefusals.WithLabelValues(string(label), string(r.Reason)).Inc()
	m.refusedAt.WithLabelValues(string(label), string(r.Reason)).Set(float64(r.At.Unix()))
}

func (m *Metrics) positions(st Status) {
	m.openPositions.Set(float64(st.Open))
	m.uncovered.Set(float64(st.Uncovered))
	m.advised.Set(float64(st.Advised))
	fenced := 0
	for _, s := range st.Symbols {
		if s.Open && s.Elsewhere {
			fenced++
		}
	}
	m.fenced.Set(float64(fenced))
	m.refusedNow.Set(float64(len(st.Refused)))
}
