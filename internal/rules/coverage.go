package rules

// coverageAlerts compare what must have advice with what has it.
func coverageAlerts() []Alert {
	return []Alert{
		{
			Name: "QuantumHarvestProposalMissing", Severity: Critical, For: "interval3",
			Expr: `max by (symbol) (last_over_time(quantum_harvest_expected[$gap]) == 1)
  unless on (symbol) (last_over_time(quantum_harvest_proposal_present[$gap]) == 1)
  and on () (last_over_time(desk:quantum_harvest_positions_unadvised:sum[$gap]) > 0)`,
			Summary:     "{{ $labels.symbol }} has no proposal",
			Description: "{{ $labels.symbol }} is expected to have a proposal and has none that can be used, and there are more open positions than proposals.",
			FirstStep:   "The log of the publisher says why: journalctl -u quantum-harvest-proposal | grep {{ $labels.symbol }}",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestCoverageShort", Severity: Critical, For: "interval3",
			Expr:        `last_over_time(desk:quantum_harvest_positions_unadvised:sum[$gap]) > 0`,
			Summary:     "{{ $value }} open positions have no proposal",
			Description: "Counted at their source there are {{ $value }} more open positions than proposals in Redis.",
			FirstStep:   "harvest top shows what is advised; compare it with the positions at their source.",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestCoverageUnknown", Severity: Warning, For: "one",
			Expr: `max by (job, instance) (quantum_harvest_up == 1)
  unless on (job, instance) quantum_harvest_open_positions`,
			Summary:     "Open positions cannot be counted by {{ $labels.instance }}",
			Description: "The exporter cannot count the open positions at their source, so nobody can say whether every one of them has advice.",
			FirstStep:   "The log of the exporter says which source it asks and why it gets no answer.",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestPositionUncovered", Severity: Warning, For: "interval3",
			Expr:        `max(last_over_time(quantum_harvest_uncovered_positions[$gap])) > 0`,
			Summary:     "{{ $value }} open positions are outside SYMBOLS",
			Description: "SYMBOLS leaves {{ $value }} open positions out: nobody advises them.",
			FirstStep:   "Add them to SYMBOLS, or leave SYMBOLS out to watch every open position.",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestFieldsBad", Severity: Warning, For: "interval3",
			Expr:        `max by (symbol) (last_over_time(quantum_harvest_proposal_bad_fields[$gap])) > 0`,
			Summary:     "{{ $labels.symbol }}: {{ $value }} fields of the proposal cannot be read",
			Description: "{{ $value }} fields of the proposal of {{ $labels.symbol }} are missing or unreadable and stay so: their metrics, and alerts on them, are gone.",
			FirstStep:   "redis-cli HGETALL quantum:harvest:proposal:{{ $labels.symbol }}",
			Dashboard:   DashboardFreshness,
		},
	}
}
