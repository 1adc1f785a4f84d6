package rules

// Blind is the name of the alert that is told to nobody and keeps others quiet.
const Blind = "QuantumHarvestBlind"

// blindAlerts tell that nothing can be seen through any exporter, and that whoever is paged knows of every one of them. They
// come after the alerts that say so, in the same group: in the evaluation in which the last exporter is told of, what
// follows from it keeps quiet.
func blindAlerts() []Alert {
	return []Alert{
		{
			Name: Blind, Severity: None,
			// Who is told that one exporter of several is down still has to hear what the others see. An exporter of the earlier
			// deployment, or of another job, shows heartbeats.
			Expr: `count by (cause) (label_replace(ALERTS{alertname=~"QuantumHarvestExporterDown|QuantumHarvestExporterAbsent|QuantumHarvestStoreDown", alertstate="firing"}, "cause", "$1", "alertname", "(.*)"))
  unless on () (
    up{job="quantum-harvest-exporter"}
    unless on (job, instance) ALERTS{alertname=~"QuantumHarvestExporterDown|QuantumHarvestStoreDown", alertstate="firing"}
  )
  unless on () (quantum_harvest_up == 1)
  unless on () quantum_harvest_last_update_epoch`,
			Summary:     "No exporter sees the desk ({{ $labels.cause }})",
			Description: "{{ $labels.cause }} is firing and no exporter is left that sees Redis: alerts that look through one say nothing. This alert is told to nobody; it keeps them quiet beside {{ $labels.cause }}.",
			FirstStep:   "Nothing: act on {{ $labels.cause }}.",
			Dashboard:   DashboardFreshness,
			Faults:      []int{13, 20},
		},
	}
}
