package rules

// writerAlerts are about who publishes: nobody, too many, or one who may not.
func writerAlerts() []Alert {
	return []Alert{
		{
			Name: "QuantumHarvestPublisherDown", Severity: Critical, For: "interval3",
			Expr: `max(up{job="quantum-harvest-publisher"}) == 0
or
absent(up{job="quantum-harvest-publisher"}) and on () count(count_over_time(up{job="quantum-harvest-publisher"}[$hour]))`,
			Summary:     "No publisher answers",
			Description: "No target of the job quantum-harvest-publisher answers, or all of them are gone: nobody evaluates positions, and a new one would get no advice.",
			FirstStep:   "systemctl status quantum-harvest-proposal",
			Dashboard:   DashboardFreshness,
			Faults:      []int{17, 18},
		},
		{
			Name: "QuantumHarvestStandbyDown", Severity: Warning,
			// Two scrapes: one may fall into a restart. A process that stands still takes connections and does not answer, so
			// its scrapes fail only when their time is over.
			Expr: `up{job="quantum-harvest-publisher"} == 0
  and count_over_time(up{job="quantum-harvest-publisher"}[$slow]) - sum_over_time(up{job="quantum-harvest-publisher"}[$slow]) >= $down_seen
  and on () (max(up{job="quantum-harvest-publisher"}) == 1)`,
			Summary:     "The publisher at {{ $labels.instance }} does not answer, another does",
			Description: "One of several publishers is down. Advice goes on, but there may be nobody left to take over.",
			FirstStep:   "On the host of {{ $labels.instance }}: systemctl status quantum-harvest-proposal",
			Dashboard:   DashboardFreshness,
			Faults:      []int{17, 18},
		},
		{
			// One that writes in every cycle is over as soon as it ends; one that writes now and then is held on to in between.
			Name: "QuantumHarvestTwoWriters", Severity: Critical,
			Expr: `max by (job, instance) (
  changes(quantum_harvest_audit_mismatches_total[$cycle_recent]) >= 2
  or
  (
    changes(quantum_harvest_audit_mismatches_total[$cycle_flap]) >= 3 and changes(quantum_harvest_audit_mismatches_total[$cycle_recent]) > 0
    unless max_over_time(changes(quantum_harvest_audit_mismatches_total[$cycle_recent])[$cycle_memory:$cycle]) >= 3
  )
)
or max by (symbol) (resets(quantum_harvest_fence[$recent]) > 0)`,
			Summary:     "Somebody else writes the proposals",
			Description: "Proposals are found changed by somebody else again and again, or a fence went back: two writers share the prefix, one of which knows no lease, and readers see two answers.",
			FirstStep:   "redis-cli CLIENT LIST shows who is connected; stop the earlier publisher.",
			Dashboard:   DashboardFreshness,
			Faults:      []int{19},
		},
		{
			Name: "QuantumHarvestLeaseUnheld", Severity: Critical, For: "interval2",
			Expr:        `max by (shard) (last_over_time(quantum_harvest_lease_held[$gap])) == 0`,
			Summary:     "Nobody holds the lease of shard {{ $labels.shard }}",
			Description: "No living publisher holds the lease of shard {{ $labels.shard }}, so nobody may write its proposals.",
			FirstStep:   "Is a publisher running? Its log says what keeps it from the lease.",
			Dashboard:   DashboardFreshness,
			Faults:      []int{17, 18},
		},
		{
			Name: "QuantumHarvestLeaseFlapping", Severity: Warning,
			Expr: `max by (shard) (
  changes(quantum_harvest_lease_fence[$flap]) >= 3 and changes(quantum_harvest_lease_fence[$recent]) > 0
)`,
			Summary:     "The lease of shard {{ $labels.shard }} keeps changing hands",
			Description: "The lease of shard {{ $labels.shard }} was taken anew {{ $value }} times within about two minutes: publishers starve, restart or lose Redis again and again.",
			FirstStep:   "Look at quantum_harvest_lease_events_total by event, the load of the hosts and the latency of Redis.",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestLeaseRefused", Severity: Warning, For: "one",
			Expr:        `max by (job, instance) (changes(quantum_harvest_lease_events_total{event="layout_conflict"}[$gap])) > 0`,
			Summary:     "{{ $labels.instance }} is refused the lease",
			Description: "The publisher at {{ $labels.instance }} gets no lease and writes nothing: living publishers of the prefix divide the symbols in another way, or cover other ones.",
			FirstStep:   "redis-cli HGET quantum:harvest:lease layout; the log of this publisher names both layouts.",
			Dashboard:   DashboardFreshness,
		},
	}
}
