package rules

// storeAlerts tell that Redis answers, but not as it should.
func storeAlerts() []Alert {
	return []Alert{
		{
			Name: "QuantumHarvestStoreErrors", Severity: Warning,
			Expr: `max by (job, instance) (
  changes(quantum_harvest_publish_total{result="failed"}[$recent])
  or changes(quantum_harvest_heartbeat_total{result="failed"}[$recent])
  or changes(quantum_harvest_close_total{result="failed"}[$recent])
) > 0
or max by (job, instance) (changes(quantum_harvest_side_write_errors_total[$recent])) > 0
or max by (job, instance) (changes(quantum_harvest_wrong_type_total[$recent])) > 0
or max by (job, instance) (quantum_harvest_symbols{state=~"unreadable|invalid"}) > 0`,
			Summary:     "Redis refuses single reads or writes ({{ $labels.instance }})",
			Description: "Redis answers, but keys cannot be read or written as they should: one has another type, a permission is missing, or the node of a Cluster that holds it is away.",
			FirstStep:   "redis-cli TYPE quantum:harvest:proposal:BTCUSDT must say hash; the log names the key.",
			Dashboard:   DashboardFreshness,
			Faults:      []int{12},
		},
		{
			Name: "QuantumHarvestStoreInterrupted", Severity: Warning,
			Expr: `max by (job, instance) (
  changes(quantum_harvest_publisher_store_errors_total[$recent])
  or changes(quantum_harvest_store_read_failures_total{reason!="canceled"}[$recent])
) > 0`,
			Summary:     "Redis was away for {{ $labels.instance }}",
			Description: "Work at Redis failed within the last minute: a restart, a failover or a break in the network, perhaps over already.",
			FirstStep:   "Is QuantumHarvestStoreDown firing, too? If not: redis-cli INFO replication, and the log of the sentinels.",
			Dashboard:   DashboardFreshness,
			Faults:      []int{13, 14, 15},
		},
		{
			Name: "QuantumHarvestPublisherStoreDown", Severity: Warning, For: "interval2",
			Expr:        `min by (job, instance) (last_over_time(quantum_harvest_publisher_store_up[$gap])) == 0`,
			Summary:     "The publisher at {{ $labels.instance }} cannot write to Redis",
			Description: "The publisher at {{ $labels.instance }} evaluates but cannot reach Redis. Where the exporter can, the way between this publisher and Redis is broken.",
			FirstStep:   "From the host of the publisher: redis-cli -u \"$REDIS_URL\" PING",
			Dashboard:   DashboardFreshness,
			Faults:      []int{13, 15},
		},
		{
			Name: "QuantumHarvestStoreSlow", Severity: Warning, For: "interval",
			Expr: `max by (job, instance) (
  last_over_time(quantum_harvest_redis_round_trip_seconds[$gap])
  or last_over_time(quantum_harvest_publisher_redis_round_trip_seconds[$gap])
) > $round`,
			Summary:     "Redis takes {{ $value | humanizeDuration }} to answer {{ $labels.instance }}",
			Description: "One round trip to Redis takes {{ $value | humanizeDuration }}; more than $round makes heartbeats late.",
			FirstStep:   "redis-cli --latency, redis-cli SLOWLOG GET 10",
			Dashboard:   DashboardFreshness,
			Faults:      []int{16},
		},
	}
}
