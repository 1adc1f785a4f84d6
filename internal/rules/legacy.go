package rules

// legacyAlerts are those of the earlier deployment. Names, expressions, durations, severities and labels are part of
// the wire contract.
func legacyAlerts() []Alert {
	return []Alert{
		{
			Name: "QuantumHarvestMetricsStale", Severity: Warning, Legacy: true, For: "stale_for",
			Expr:        `(time() - quantum_harvest_last_update_epoch) > $stale`,
			Summary:     "{{ $labels.symbol }}: metrics are stale",
			Description: "The heartbeat of {{ $labels.symbol }} is {{ $value | humanizeDuration }} old.",
			FirstStep:   "Is the publisher running and can it reach Redis? systemctl status quantum-harvest-proposal",
			Dashboard:   DashboardFreshness,
			Faults:      []int{17, 18},
		},
		{
			Name: "QuantumHarvestKillScoreHigh", Severity: Warning, Legacy: true, For: "two",
			Expr:        `quantum_harvest_kill_score >= 0.6`,
			Summary:     "{{ $labels.symbol }}: kill score {{ $value | printf \"%.2f\" }}",
			Description: "The kill score of {{ $labels.symbol }} has been at 0.6 or above for $two: the advice is to close in full.",
			FirstStep:   "redis-cli HMGET quantum:harvest:proposal:{{ $labels.symbol }} harvest_action kill_score reason_codes",
			Dashboard:   DashboardControl,
		},
		{
			Name: "QuantumHarvestKillScoreCritical", Severity: Critical, Legacy: true, For: "one",
			Expr:        `quantum_harvest_kill_score >= 0.8`,
			Summary:     "{{ $labels.symbol }}: kill score {{ $value | printf \"%.2f\" }}, critical",
			Description: "The kill score of {{ $labels.symbol }} has been at 0.8 or above for $one: close the position.",
			FirstStep:   "redis-cli HMGET quantum:harvest:proposal:{{ $labels.symbol }} harvest_action kill_score reason_codes",
			Dashboard:   DashboardControl,
		},
		{
			Name: "QuantumHarvestExporterDown", Severity: Critical, Legacy: true, For: "one",
			Expr:        `up{job="quantum-harvest-exporter"} == 0`,
			Summary:     "The exporter at {{ $labels.instance }} does not answer",
			Description: "Prometheus cannot scrape the exporter: no proposal can be seen, and every alert about a symbol has gone blind.",
			FirstStep:   "systemctl status quantum-harvest-metrics-exporter",
			Dashboard:   DashboardFreshness,
			Faults:      []int{20},
		},
	}
}
