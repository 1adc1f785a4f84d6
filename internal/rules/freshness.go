package rules

// freshnessRecordings are the service level: the share of time for which the advice for a position was younger than
// 30 s. Each evaluation counts one for every position that must have advice. Where the desk cannot be seen, the
// positions of before are still owed and none of them is fresh: an outage costs budget instead of hiding.
func freshnessRecordings() []Recording {
	all := []Recording{
		{
			Record: "desk:quantum_harvest_advice_owed:count",
			Expr: `desk:quantum_harvest_positions_owed:sum > on () desk:quantum_harvest_proposals_present:count
or on () desk:quantum_harvest_proposals_present:count
or on () desk:quantum_harvest_advice_owed:count`,
		},
		{
			Record: "desk:quantum_harvest_advice_fresh:count",
			Expr: `(count(max by (symbol) (time() - quantum_harvest_last_update_epoch) <= $stale) or on () vector(0))
  and on () desk:quantum_harvest_advice_owed:count`,
		},
		{
			Record: "desk:quantum_harvest_advice_covered:ratio",
			Expr: `clamp_max(desk:quantum_harvest_proposals_present:count / on () desk:quantum_harvest_advice_owed:count, 1)
  and on () (desk:quantum_harvest_advice_owed:count > 0)`,
		},
	}
	for _, window := range []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"} {
		all = append(all, Recording{
			Record: "desk:quantum_harvest_advice_unfresh:ratio_rate" + window,
			Expr: `1 - clamp_max(
  sum_over_time(desk:quantum_harvest_advice_fresh:count[$w` + window + `]) / sum_over_time(desk:quantum_harvest_advice_owed:count[$w` + window + `]),
  1)`,
		})
	}
	for i := range all {
		all[i].Group = GroupSLO
	}
	return all
}

// burnAlerts fire when the error budget of the service level is spent too fast: over a long window, so that it matters,
// and over a short one, so that it still goes on. A long window counts only once most of it was seen.
func burnAlerts() []Alert {
	arm := func(long, short, burn string) string {
		return `(desk:quantum_harvest_advice_unfresh:ratio_rate` + long + ` > $burn` + burn + `
  and desk:quantum_harvest_advice_unfresh:ratio_rate` + short + ` > $burn` + burn + `
  and count_over_time(desk:quantum_harvest_advice_owed:count[$w` + long + `]) >= $seen` + long + `)`
	}
	return []Alert{
		{
			Name: "QuantumHarvestFreshnessBurnFast", Severity: Critical,
			Expr:        arm("1h", "5m", "14") + "\nor\n" + arm("6h", "30m", "6"),
			Summary:     "Advice was stale for {{ $value | humanizePercentage }} of the time: the budget of a month goes in days",
			Description: "Advice was younger than $stale for less of the time than $slo % allow: {{ $value | humanizePercentage }} of it was stale, and it goes on.",
			FirstStep:   "Find the alert that was firing in the last hours: ALERTS{subsystem=\"harvest\"} in Prometheus.",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestFreshnessBurnSlow", Severity: Warning,
			Expr:        arm("1d", "2h", "3") + "\nor\n" + arm("3d", "6h", "1"),
			Summary:     "Advice was stale for {{ $value | humanizePercentage }} of the time: the budget of a month will not last",
			Description: "Advice was younger than $stale for less of the time than $slo % allow: {{ $value | humanizePercentage }} of it was stale over a day or more.",
			FirstStep:   "Find what keeps coming back: the annotations of the dashboard show every alert.",
			Dashboard:   DashboardFreshness,
		},
	}
}
