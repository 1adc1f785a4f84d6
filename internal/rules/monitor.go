package rules

// Watchdog is the name of the alert that always fires.
const Watchdog = "Watchdog"

// ProofTest is the name of the alert that a proof sends to see whether alerts arrive. No rule makes it.
const ProofTest = "QuantumProofTest"

// monitorAlerts watch the watcher, as far as it can be seen from inside, and keep saying that it lives. They need
// Prometheus to scrape itself, as its default configuration does, and Alertmanager, where it is another process.
func monitorAlerts() []Alert {
	return []Alert{
		{
			Name: "QuantumHarvestRulesFailing", Severity: Critical,
			Expr:        `max by (rule_group) (changes(prometheus_rule_evaluation_failures_total{rule_group=~".*;quantum_harvest_.*"}[$recent])) > 0`,
			Summary:     "Alert rules fail: {{ $labels.rule_group }}",
			Description: "Prometheus cannot evaluate rules of {{ $labels.rule_group }}: alerts of that group may be blind.",
			FirstStep:   "The rules page of Prometheus shows the error beside the rule.",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestRulesMissed", Severity: Warning,
			Expr:        `max by (rule_group) (changes(prometheus_rule_group_iterations_missed_total{rule_group=~".*;quantum_harvest_.*"}[$recent])) > 0`,
			Summary:     "Evaluations are skipped: {{ $labels.rule_group }}",
			Description: "Prometheus is too slow to evaluate {{ $labels.rule_group }} in time: alerts come late.",
			FirstStep:   "Look at the load of Prometheus and at prometheus_rule_group_last_duration_seconds.",
			Dashboard:   DashboardFreshness,
		},
		{
			// For some seconds after a reload Prometheus knows no Alertmanager, and drops what it would send: that is its own way,
			// and over before an alert is due again.
			Name: "QuantumHarvestNotificationsFailing", Severity: Critical,
			Expr: `max by (job, instance) (
  changes(prometheus_notifications_errors_total[$resend])
  or (
    changes(prometheus_notifications_dropped_total[$resend])
    unless on (job, instance) (time() - prometheus_config_last_reload_success_timestamp_seconds < $reload)
  )
) > 0`,
			Summary:     "Alerts do not reach Alertmanager",
			Description: "Prometheus cannot deliver alerts to Alertmanager: whoever should be paged is not. This alert goes the same way; the dead man's switch on Watchdog is what pages.",
			FirstStep:   "systemctl status prometheus-alertmanager",
			Dashboard:   DashboardFreshness,
			Faults:      []int{24},
		},
		{
			// Alertmanager 0.25 names the integration alone; newer ones name the receiver, too, where they are told to. One that is
			// restarted counts from 0, and that is no failure.
			Name: "QuantumHarvestReceiverFailing", Severity: Critical,
			Expr:        `max by (job, instance, receiver_name, integration) (increase(alertmanager_notifications_failed_total[$retry])) > 0`,
			Summary:     "Notifications do not arrive: {{ if $labels.receiver_name }}{{ $labels.receiver_name }}, {{ end }}{{ $labels.integration }}",
			Description: "Alertmanager at {{ $labels.instance }} cannot deliver notifications by {{ $labels.integration }}: whoever is reached that way is not. This alert goes out by the others; where there are none nobody is told.",
			FirstStep:   "The log of Alertmanager says why: journalctl -u prometheus-alertmanager | grep 'Notify for alerts failed'",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestScrapeLimited", Severity: Warning,
			Expr: `max by (job, instance) (
  changes(prometheus_target_scrapes_exceeded_sample_limit_total[$recent])
  or changes(prometheus_target_scrapes_exceeded_body_size_limit_total[$recent])
) > 0`,
			Summary:     "A scrape is refused because it is too large",
			Description: "A target shows more series than sample_limit, or a larger page than body_size_limit, allows: nothing of that scrape is kept.",
			FirstStep:   "Raise sample_limit, or find who writes proposals under ever new names: redis-cli SCARD quantum:harvest:expected",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestConfigRejected", Severity: Warning, For: "one",
			Expr:        `min by (job, instance) ({__name__=~"(prometheus|quantum_harvest)_config_last_reload_successful"}) == 0`,
			Summary:     "{{ $labels.job }} at {{ $labels.instance }} runs on an old configuration",
			Description: "The last reload of the configuration failed: what was changed is not in force.",
			FirstStep:   "The log says every problem: journalctl -u 'quantum-harvest-*' | grep refused; for Prometheus: promtool check config /etc/prometheus/prometheus.yml",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: Watchdog, Severity: None,
			Expr:        `vector(1)`,
			Summary:     "Alerting works",
			Description: "This alert always fires. Send it to a receiver outside that raises the alarm when it stops: a process cannot report its own death.",
			FirstStep:   "Nothing: act when it is absent.",
			Dashboard:   DashboardFreshness,
			Faults:      []int{23, 24},
		},
	}
}
