package rules

// viewRecordings are evaluated before the alerts that use them, in the same group and at the same moment.
func viewRecordings() []Recording {
	return []Recording{
		{
			// Positions that must have a proposal, counted at their source. Nothing where they cannot be counted.
			Record: "desk:quantum_harvest_positions_owed:sum",
			Group:  GroupAlerts,
			Expr: `sum(max by (source) (quantum_harvest_open_positions))
  - on () (max(quantum_harvest_uncovered_positions) or on () vector(0))`,
		},
		{
			// Proposals that are there; 0 where there are none, nothing where the store cannot be seen.
			Record: "desk:quantum_harvest_proposals_present:count",
			Group:  GroupAlerts,
			Expr: `(count(max by (symbol) (quantum_harvest_proposal_present) == 1) or on () vector(0))
  and on () (max(quantum_harvest_up) == 1)`,
		},
		{
			Record: "desk:quantum_harvest_positions_unadvised:sum",
			Group:  GroupAlerts,
			Expr:   `clamp_min(desk:quantum_harvest_positions_owed:sum - on () desk:quantum_harvest_proposals_present:count, 0)`,
		},
		{
			// Alerts that were firing a moment ago and have lost the series they looked at; hidden names the alert.
			Record: "symbol:quantum_harvest_alerts_hidden:max",
			Group:  GroupAlerts,
			Expr: `max by (symbol, hidden) (label_replace(max_over_time(ALERTS{alertname=~"QuantumHarvestMetricsStale|QuantumHarvestHeartbeatLost", alertstate="firing"}[$memory]), "hidden", "$1", "alertname", "(.*)"))
  unless on (symbol) quantum_harvest_last_update_epoch
or
max by (symbol, hidden) (label_replace(max_over_time(ALERTS{alertname=~"QuantumHarvestKillScoreHigh|QuantumHarvestKillScoreCritical", alertstate="firing"}[$memory]), "hidden", "$1", "alertname", "(.*)"))
  unless on (symbol) quantum_harvest_kill_score`,
		},
	}
}

// sightAlerts tell that something can no longer be seen. They come first in the group of the legacy alerts: in the
// evaluation in which a vanished series resolves one of those, SightLost fires already.
func sightAlerts() []Alert {
	return []Alert{
		{
			Name: "QuantumHarvestSightLost", Severity: Warning,
			Expr: `symbol:quantum_harvest_alerts_hidden:max
  and on () (
    absent(quantum_harvest_up == 1)
    or on () absent(quantum_harvest_open_positions)
    or on () (max(up{job="quantum-harvest-publisher"}) == 0)
    or on () (max(quantum_harvest_publisher_store_up) == 0)
  )
or
symbol:quantum_harvest_alerts_hidden:max
  and on (symbol) (quantum_harvest_expected == 1)
  and on () (desk:quantum_harvest_positions_unadvised:sum > 0)`,
			Summary:     "{{ $labels.symbol }}: {{ $labels.hidden }} was firing and can no longer be seen",
			Description: "{{ $labels.hidden }} of {{ $labels.symbol }} resolved because its series vanished, not because its cause ended, and nothing says that the position was closed.",
			FirstStep:   "Treat {{ $labels.hidden }} as still firing; look at the position at the exchange.",
			Dashboard:   DashboardControl,
			Faults:      []int{13, 20},
		},
		{
			// A Redis that comes back may show the heartbeat of before it went, until the publisher has written: one look at it
			// says nothing, and nothing is said of a heartbeat that could not be seen a moment ago. Nor is one lost that another
			// exporter sees move: the first reads a replica that stands still.
			Name: "QuantumHarvestHeartbeatLost", Severity: Critical, KeepFiringFor: "interval2",
			Expr: `max by (symbol) (
  (time() - quantum_harvest_last_update_epoch)
  and (
    (
      time() - quantum_harvest_last_update_epoch > $lost
      and changes(quantum_harvest_last_update_epoch[$lost]) == 0 and count_over_time(quantum_harvest_last_update_epoch[$lost]) >= $lost_seen
      unless on (job, instance) min_over_time(quantum_harvest_up[$lost]) == 0
    )
    or
    (changes(quantum_harvest_last_update_epoch[$three]) == 0 and count_over_time(quantum_harvest_last_update_epoch[$three]) >= $three_seen)
  )
  unless on (symbol) (time() - quantum_harvest_last_update_epoch <= $lost and changes(quantum_harvest_last_update_epoch[$three]) > 0)
)`,
			Summary:     "{{ $labels.symbol }}: the heartbeat stands still",
			Description: "{{ $labels.symbol }} was last evaluated {{ $value | humanizeDuration }} ago. Its advice, kill score included, is that of then.",
			FirstStep:   "Is the publisher running and can it reach Redis? systemctl status quantum-harvest-proposal",
			Dashboard:   DashboardFreshness,
			Faults:      []int{16, 17, 18},
		},
		{
			Name: "QuantumHarvestStoreDown", Severity: Critical, For: "interval",
			Expr:        `min by (job, instance) (last_over_time(quantum_harvest_up[$gap])) == 0`,
			Summary:     "Redis cannot be read by {{ $labels.instance }}",
			Description: "The exporter answers but cannot read Redis: no proposal can be seen, and every alert about a symbol has gone blind.",
			FirstStep:   "redis-cli PING; then the log of the exporter, which says why it cannot read.",
			Dashboard:   DashboardFreshness,
			Faults:      []int{13, 14, 15},
		},
		{
			Name: "QuantumHarvestExporterAbsent", Severity: Critical, For: "interval3",
			Expr:        `absent(up{job="quantum-harvest-exporter"})`,
			Summary:     "Prometheus has no target quantum-harvest-exporter",
			Description: "No target of the job quantum-harvest-exporter is scraped, not even an unreachable one: QuantumHarvestExporterDown cannot see that.",
			FirstStep:   "Look at scrape_configs in the configuration of Prometheus.",
			Dashboard:   DashboardFreshness,
		},
	}
}
