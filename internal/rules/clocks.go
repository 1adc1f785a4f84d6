package rules

// clockAlerts tell that ages cannot be trusted, or that the heartbeat is too rare for them.
func clockAlerts() []Alert {
	return []Alert{
		{
			Name: "QuantumHarvestClockSkew", Severity: Warning, For: "interval",
			Expr: `max by (job, instance, clock) (
  label_replace(abs(last_over_time(quantum_harvest_publisher_clock_offset_seconds[$gap])), "clock", "publisher and Redis", "", "")
  or label_replace(abs(last_over_time(quantum_harvest_redis_clock_offset_seconds[$gap])), "clock", "exporter and Redis", "", "")
  or label_replace(abs(last_over_time(quantum_harvest_feed_clock_offset_seconds[$gap])), "clock", "publisher and exchange", "", "")
) > $skew`,
			Summary:     "The clocks of {{ $labels.clock }} differ by {{ $value | humanizeDuration }}",
			Description: "Seen from {{ $labels.instance }}, the clocks of {{ $labels.clock }} differ by {{ $value | humanizeDuration }}: ages are wrong by as much.",
			FirstStep:   "timedatectl on both hosts: System clock synchronized must say yes.",
			Dashboard:   DashboardFreshness,
			Faults:      []int{22},
		},
		{
			Name: "QuantumHarvestHeartbeatSkewed", Severity: Warning, For: "interval",
			Expr: `max by (symbol) (
  quantum_harvest_last_update_epoch - timestamp(quantum_harvest_last_update_epoch) > $skew
  or
  (
    timestamp(quantum_harvest_last_update_epoch) - quantum_harvest_last_update_epoch > $behind
    and changes(quantum_harvest_last_update_epoch[$three]) >= 2
  )
)`,
			Summary:     "{{ $labels.symbol }}: the heartbeat is {{ $value | humanizeDuration }} away from the clock of Prometheus",
			Description: "The heartbeat of {{ $labels.symbol }} moves, but its clock is ahead or behind by {{ $value | humanizeDuration }}. Ahead, it would look fresh for as long after its death.",
			FirstStep:   "timedatectl on the hosts of publisher and Prometheus.",
			Dashboard:   DashboardFreshness,
			Faults:      []int{22},
		},
		{
			Name: "QuantumHarvestCadenceLow", Severity: Warning,
			Expr: `max by (symbol) (
  changes(quantum_harvest_last_update_epoch[$long]) < $half * (count_over_time(quantum_harvest_last_update_epoch[$long]) - 1)
  and count_over_time(quantum_harvest_last_update_epoch[$long]) >= $warm
  and changes(quantum_harvest_last_update_epoch[$minute]) < $half * (count_over_time(quantum_harvest_last_update_epoch[$minute]) - 1)
)`,
			Summary:     "{{ $labels.symbol }}: the heartbeat is too rare",
			Description: "The heartbeat of {{ $labels.symbol }} moved {{ $value }} times in about three minutes, in less than half of the scrapes: the publisher is slow, or is not this one.",
			FirstStep:   "Look at quantum_harvest_cycle_seconds and the load of the publisher's host.",
			Dashboard:   DashboardFreshness,
		},
	}
}
