package rules

// beating is the part of an expression that leaves out symbols whose heartbeat is lost: that has its own alert, and one
// cause pages once.
const beating = `and on (symbol) (time() - quantum_harvest_last_update_epoch < $lost)`

// BenignReasons are the reasons for which an input may be refused without anything being wrong.
var BenignReasons = []string{"duplicate", "gap", "out_of_order", "pnl_disagrees"}

// inputAlerts tell that a living publisher works on inputs that do not move or cannot be used.
func inputAlerts() []Alert {
	return []Alert{
		{
			Name: "QuantumHarvestMarketStale", Severity: Warning, For: "interval", KeepFiringFor: "interval2",
			Expr: `max by (symbol) (
  time() - quantum_harvest_market_input_timestamp_seconds > $market
  or
  quantum_harvest_input_state{state="stale_market"} == 1
)
` + beating,
			Summary:     "{{ $labels.symbol }}: market data does not move",
			Description: "The publisher evaluates {{ $labels.symbol }}, but its market data is older than $market or cannot be used. The last good advice is kept and marked stale_market.",
			FirstStep:   "Is the writer of candles or market states running? On an exchange feed look at QuantumHarvestFeedDown.",
			Dashboard:   DashboardFreshness,
			Faults:      []int{3},
		},
		{
			Name: "QuantumHarvestPositionStale", Severity: Warning, For: "interval", KeepFiringFor: "interval2",
			Expr: `max by (symbol) (
  time() - quantum_harvest_position_input_timestamp_seconds > $position
  or
  quantum_harvest_input_state{state="stale_position"} == 1
)
` + beating,
			Summary:     "{{ $labels.symbol }}: position data does not move",
			Description: "The publisher evaluates {{ $labels.symbol }}, but nothing has shown for $position that the position stands. It is not taken for closed: the last good advice is kept and marked stale_position.",
			FirstStep:   "Is the writer of the positions running? redis-cli HGETALL quantum:state:positions:{{ $labels.symbol }}",
			Dashboard:   DashboardFreshness,
			Faults:      []int{7},
		},
		{
			Name: "QuantumHarvestInputRefused", Severity: Warning,
			Expr: `max by (symbol, reason) (
  changes(quantum_harvest_symbol_refusals_total{reason!~"duplicate|gap|out_of_order|pnl_disagrees"}[$recent])
) > 0`,
			Summary:     "{{ $labels.symbol }}: input is refused ({{ $labels.reason }})",
			Description: "Market or position data of {{ $labels.symbol }} keeps being refused as {{ $labels.reason }}. The last good advice stays and ages.",
			FirstStep:   "The log names key, field and value: journalctl -u quantum-harvest-proposal | grep 'input refused'",
			Dashboard:   DashboardFreshness,
			Faults:      []int{4, 5, 8, 9, 10, 11},
		},
		{
			Name: "QuantumHarvestContentStale", Severity: Warning, For: "interval", KeepFiringFor: "interval2",
			Expr: `max by (symbol) (time() - quantum_harvest_proposal_content_timestamp_seconds > $content)
  and on (symbol) (quantum_harvest_input_state{state="fresh"} == 1)
  ` + beating,
			Summary:     "{{ $labels.symbol }}: the advice is {{ $value | humanizeDuration }} old although its inputs are fresh",
			Description: "The heartbeat and the inputs of {{ $labels.symbol }} move, but the advice was last published {{ $value | humanizeDuration }} ago: full publishes do not get through.",
			FirstStep:   "Look at quantum_harvest_publish_total by result and at the log of the publisher.",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestFeedDown", Severity: Warning, For: "interval3",
			Expr: `max by (job, instance) (
  last_over_time(quantum_harvest_feed_connections[$gap]) == 0
  or
  (changes(quantum_harvest_feed_silences_total[$flap]) >= 3 and changes(quantum_harvest_feed_silences_total[$recent]) > 0)
)`,
			Summary:     "The exchange feed of {{ $labels.instance }} is down or keeps falling silent",
			Description: "The publisher at {{ $labels.instance }} has no stream to the exchange, or streams fall silent again and again: market data will go stale.",
			FirstStep:   "Can the host reach the exchange? The log names the stream.",
			Dashboard:   DashboardFreshness,
		},
		{
			Name: "QuantumHarvestFeedBlocked", Severity: Warning,
			Expr:        `max by (job, instance) (quantum_harvest_feed_blocked_until_timestamp_seconds - time()) > 0`,
			Summary:     "The exchange keeps {{ $labels.instance }} away for {{ $value | humanizeDuration }}",
			Description: "The exchange answered that requests from here are over its limit or banned. Streams go on; history and gaps cannot be filled.",
			FirstStep:   "Find what else asks the exchange from this address, and do not restart: that asks more.",
			Dashboard:   DashboardFreshness,
		},
	}
}
