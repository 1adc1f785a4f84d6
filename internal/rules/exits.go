package rules

// exitAlerts speak of what the advice asks for. Their names leave "Harvest" out: the desk is in order when they fire.
func exitAlerts() []Alert {
	return []Alert{
		{
			Name: "QuantumExitNotActedOn", Severity: Warning, For: "unacted",
			Expr: `max by (symbol) (last_over_time(quantum_harvest_action{action="FULL_CLOSE_PROPOSED"}[$gap]) == 1)
  and on (symbol) (
    min_over_time(quantum_harvest_action{action="FULL_CLOSE_PROPOSED"}[$attention]) == 0
    or
    time() - last_over_time(quantum_harvest_position_opened_timestamp_seconds[$gap]) < $attention
  )
  and on (symbol) (time() - last_over_time(quantum_harvest_last_update_epoch[$gap]) < $stale)`,
			Summary:     "{{ $labels.symbol }}: the advice turned to a full close and the position is still open",
			Description: "The advice for {{ $labels.symbol }} turned to FULL_CLOSE_PROPOSED within the last $attention, has stood for $unacted on a living heartbeat, and nobody has acted on it.",
			FirstStep:   "redis-cli HMGET quantum:harvest:proposal:{{ $labels.symbol }} harvest_action kill_score R_net reason_codes, then close or keep it on purpose.",
			Dashboard:   DashboardControl,
		},
	}
}
