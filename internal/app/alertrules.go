package app

import (
	"fmt"
	"time"

	"github.com/prometheus/common/model"
)

// alertRulesName is what the API shows as the file of the built-in rules.
const alertRulesName = "quantum_harvest_alerts.yml"

// alertRules are the four alerts that deployments of the earlier services know, with their thresholds and times divided
// by scale.
func alertRules(scale int) []byte {
	after := func(d time.Duration) string { return model.Duration(d / time.Duration(scale)).String() }
	return fmt.Appendf(nil, `groups:
- name: quantum_harvest_alerts
  interval: %[1]s
  rules:
  - alert: QuantumHarvestMetricsStale
    expr: (time() - quantum_harvest_last_update_epoch) > %[2]d
    for: %[3]s
    labels: {severity: warning, component: quantum-trader, subsystem: harvest}
    annotations:
      summary: 'Harvest advice for {{ $labels.symbol }} is stale'
      description: 'The last heartbeat of {{ $labels.symbol }} is {{ $value | humanizeDuration }} old.'
  - alert: QuantumHarvestKillScoreHigh
    expr: quantum_harvest_kill_score >= 0.6
    for: %[3]s
    labels: {severity: warning, component: quantum-trader, subsystem: harvest}
    annotations:
      summary: 'Kill score of {{ $labels.symbol }} is high'
      description: 'The kill score of {{ $labels.symbol }} is {{ $value | printf "%%.2f" }}: an exit is near.'
  - alert: QuantumHarvestKillScoreCritical
    expr: quantum_harvest_kill_score >= 0.8
    for: %[4]s
    labels: {severity: critical, component: quantum-trader, subsystem: harvest}
    annotations:
      summary: 'Kill score of {{ $labels.symbol }} is critical'
      description: 'The kill score of {{ $labels.symbol }} is {{ $value | printf "%%.2f" }}: a full close is proposed.'
  - alert: QuantumHarvestExporterDown
    expr: up{job="%[5]s"} == 0
    for: %[4]s
    labels: {severity: critical, component: quantum-trader, subsystem: harvest}
    annotations:
      summary: 'The harvest exporter does not answer'
      description: 'Prometheus cannot scrape {{ $labels.instance }}: nothing is known of heartbeats and scores.'
`, after(10*time.Second), 30/scale, after(2*time.Minute), after(time.Minute), exporterJob)
}
