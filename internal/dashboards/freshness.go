package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/units"

	"quantumharvest/internal/rules"
)

// named is a query with another legend.
func (q query) named(legend string) query {
	q.legend = legend
	return q
}

func freshness() board {
	zero := cog.ToPtr(0.0)
	return board{
		uid: rules.DashboardFreshness, file: "quantum_harvest_freshness.json", title: "Harvest Metrics Freshness",
		description: "Whether the advice is alive: ages, writers, refusals, and the alerts about them.",
		panels: []panel{
			{
				shape: numbers, title: "Heartbeat age", unit: units.Seconds, width: 8, height: 5, steps: ageSteps,
				description: "Since the symbol was last evaluated.", queries: []query{ages[0].named("{{symbol}}")},
			},
			{
				shape: numbers, title: "Content age", unit: units.Seconds, width: 8, height: 5, steps: []step{{"green", 0}, {"yellow", 90}, {"red", 120}},
				description: "Since the advice was last published in full: up to MAX_PUBLISH_AGE_SEC while nothing changes.", queries: []query{ages[1].named("{{symbol}}")},
			},
			{
				shape: numbers, title: "Input age", unit: units.Seconds, width: 8, height: 5, steps: ageSteps,
				description: "Of the older one of market and position data.", queries: []query{ages[2].named("{{symbol}}")},
			},
			{shape: lines, title: "Ages", unit: units.Seconds, width: 16, height: 8, low: zero, steps: ageSteps, description: "The three clocks of every symbol.", queries: ages},
			{
				shape: grid, title: "Alerts", width: 8, height: 8, description: "Alerts that are pending or firing; Watchdog always is.",
				queries: []query{{
					expr: `count by (alertname, severity, alertstate) (ALERTS{subsystem="harvest"})`, legend: "count", now: true,
				}},
			},
			{
				shape: lines, title: "Publishes", unit: units.WritesPerSecond, width: 8, height: 8, low: zero,
				description: "Full publishes by result, and those that the gate held back.",
				queries: []query{
					{expr: "sum by (result) (rate(quantum_harvest_publish_total[1m]))", legend: "{{result}}"},
					{expr: "sum(rate(quantum_harvest_publish_rate_limited_total[1m]))", legend: "rate limited"},
				},
			},
			{
				shape: lines, title: "Heartbeats", unit: units.WritesPerSecond, width: 8, height: 8, low: zero, description: "Heartbeats by result.",
				queries: []query{{expr: "sum by (result) (rate(quantum_harvest_heartbeat_total[1m]))", legend: "{{result}}"}},
			},
			{
				shape: lines, title: "Refusals", unit: units.CountsPerSecond, width: 8, height: 8, low: zero, description: "Inputs that were refused, by reason.",
				queries: []query{{expr: "sum by (reason) (rate(quantum_harvest_refusals_total[1m]))", legend: "{{reason}}"}},
			},
			{
				shape: grid, title: "Lease owner", width: 8, height: 6,
				description: "Who may write; a shard that is not listed is held by nobody. With an earlier publisher, which knows no lease: who wrote the proposals.",
				queries: []query{{
					expr: `max by (shard, holder) (quantum_harvest_lease_info)
or
max by (holder) (label_replace(quantum_harvest_proposal_info, "holder", "$1", "publisher", "(.*)")) unless on () quantum_harvest_lease_shards`, now: true,
				}},
			},
			{
				shape: lines, title: "Cycle time", unit: units.Seconds, width: 8, height: 6, low: zero,
				description: "Time to evaluate every open position at a beat.",
				queries: []query{
					{expr: "histogram_quantile(0.99, sum by (le) (rate(quantum_harvest_cycle_seconds_bucket[1m])))", legend: "99 %"},
					{expr: "sum(rate(quantum_harvest_cycle_seconds_sum[1m])) / sum(rate(quantum_harvest_cycle_seconds_count[1m]))", legend: "mean"},
				},
			},
			{
				shape: lines, title: "Redis", unit: units.Seconds, width: 8, height: 6, low: zero, description: "Round trips to Redis, as exporter and publisher see them.",
				queries: []query{
					{expr: "max by (instance) (quantum_harvest_redis_round_trip_seconds)", legend: "exporter {{instance}}"},
					{expr: "max by (instance) (quantum_harvest_publisher_redis_round_trip_seconds)", legend: "publisher {{instance}}"},
				},
			},
			{
				shape: lines, title: "Coverage", unit: units.Short, width: 12, height: 6, low: zero,
				description: "Positions that must have advice, counted at their source, and proposals that are there.",
				queries: []query{
					{expr: "sum(max by (source) (quantum_harvest_open_positions))", legend: "open positions"},
					{expr: "count(max by (symbol) (quantum_harvest_proposal_present) == 1) or on () vector(0)", legend: "proposals"},
					{expr: "max(quantum_harvest_uncovered_positions)", legend: "outside SYMBOLS"},
				},
			},
			{
				shape: lines, title: "Stale time", unit: units.PercentUnit, width: 12, height: 6, low: zero,
				description: "Share of time for which the advice for a position was older than 30 s: the service level.",
				queries: []query{
					{expr: "desk:quantum_harvest_advice_unfresh:ratio_rate5m", legend: "5 minutes"},
					{expr: "desk:quantum_harvest_advice_unfresh:ratio_rate1h", legend: "1 hour"},
					{expr: "desk:quantum_harvest_advice_unfresh:ratio_rate1d", legend: "1 day"},
				},
			},
		},
	}
}
