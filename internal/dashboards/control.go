package dashboards

import (
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/units"

	"quantumharvest/internal/rules"
)

// of asks for a gauge of the symbols chosen, once each where several exporters read the same Redis.
func of(metric string, matchers ...string) string {
	return "max by (symbol) (" + metric + `{` + strings.Join(append([]string{`symbol=~"$symbol"`}, matchers...), ", ") + `})`
}

// since is the age of a moment.
func since(metric string) string { return "time() - " + of(metric) }

const inputAge = `time() - min by (symbol) (
  quantum_harvest_market_input_timestamp_seconds{symbol=~"$symbol"}
  or label_replace(quantum_harvest_position_input_timestamp_seconds{symbol=~"$symbol"}, "input", "position", "", "")
)`

// ages are the three clocks of a proposal.
var ages = []query{
	{expr: since("quantum_harvest_last_update_epoch"), legend: "{{symbol}} heartbeat"},
	{expr: since("quantum_harvest_proposal_content_timestamp_seconds"), legend: "{{symbol}} content"},
	{expr: inputAge, legend: "{{symbol}} inputs"},
}

var (
	ageSteps  = []step{{"green", 0}, {"yellow", 30}, {"red", 60}}
	killSteps = []step{{"green", 0}, {"yellow", 0.6}, {"red", 0.8}}
)

// stop is the stop that counts: the proposed one, else the one that rests, else the one that defines 1 R.
var stop = of("quantum_harvest_new_sl") + `
or on (symbol) ` + of("quantum_harvest_position_stop_price") + `
or on (symbol) (` + of("quantum_harvest_position_entry_price") + ` - on (symbol) ` + of("quantum_harvest_risk_unit") + ` * on (symbol) ` + of("quantum_harvest_proposal_info", `side="LONG"`) + `)
or on (symbol) (` + of("quantum_harvest_position_entry_price") + ` + on (symbol) ` + of("quantum_harvest_risk_unit") + ` * on (symbol) ` + of("quantum_harvest_proposal_info", `side="SHORT"`) + `)`

// action is the action as a number, so that it can be a column.
const action = `max by (symbol) (
  quantum_harvest_action{symbol=~"$symbol", action="NONE"} * 0
  or quantum_harvest_action{symbol=~"$symbol", action="PARTIAL_25"} * 1
  or quantum_harvest_action{symbol=~"$symbol", action="PARTIAL_50"} * 2
  or quantum_harvest_action{symbol=~"$symbol", action="PARTIAL_75"} * 3
  or quantum_harvest_action{symbol=~"$symbol", action="FULL_CLOSE_PROPOSED"} * 4
)`

func control() board {
	full := func(expr, name string, c column) query { return query{expr: expr, legend: name, now: true, column: c} }
	return board{
		uid: rules.DashboardControl, file: "quantum_harvest_control.json", title: "Quantum — Harvest Control (P2.7)",
		description: "What is proposed for every open position, why, and how old it is.",
		panels: []panel{
			{
				shape: grid, title: "Actions", width: 24, height: 8,
				description: "What is proposed now. The stop is the proposed one, else the one that rests, else the one that defines 1 R.",
				queries: []query{
					full(action, "Action", column{mappings: map[int]text{
						0: {"NONE", "text"}, 1: {"PARTIAL_25", "yellow"}, 2: {"PARTIAL_50", "orange"}, 3: {"PARTIAL_75", "orange"}, 4: {"FULL_CLOSE_PROPOSED", "red"},
					}}),
					full(of("quantum_harvest_r_net"), "R", column{unit: units.NoUnit}),
					full(of("quantum_harvest_kill_score"), "Kill score", column{unit: units.NoUnit, steps: killSteps}),
					full(of("quantum_harvest_position_current_price"), "Price", column{unit: units.NoUnit}),
					full(stop, "Stop", column{unit: units.NoUnit}),
					full("count by (symbol) ("+of("quantum_harvest_new_sl")+")\nor on (symbol) 0 * "+of("quantum_harvest_kill_score"), "New stop",
						column{mappings: map[int]text{0: {"none", "text"}, 1: {"proposed", "blue"}}}),
					full(of("quantum_harvest_position_unrealized_pnl"), "PnL per unit", column{unit: units.NoUnit}),
					full(since("quantum_harvest_last_update_epoch"), "Heartbeat", column{unit: units.Seconds, steps: ageSteps}),
				},
			},
			{
				shape: lines, title: "Kill score", unit: units.NoUnit, width: 12, height: 8, low: cog.ToPtr(0.0), high: cog.ToPtr(1.0), steps: killSteps,
				description: "K of every position: a full close is proposed from 0.6 on.",
				queries:     []query{{expr: of("quantum_harvest_kill_score"), legend: "{{symbol}}"}},
			},
			{
				shape: lines, title: "R", unit: units.NoUnit, width: 12, height: 8,
				description: "Profit after cost in units of risk.",
				queries:     []query{{expr: of("quantum_harvest_r_net"), legend: "{{symbol}}"}},
			},
			{
				shape: lines, title: "New stop", unit: units.NoUnit, width: 12, height: 8,
				description: "Price, entry, and the stop: the proposed one, else the one that rests, else the one that defines 1 R. Choose one symbol to read it.",
				queries: []query{
					{expr: of("quantum_harvest_position_current_price"), legend: "{{symbol}} price"},
					{expr: of("quantum_harvest_position_entry_price"), legend: "{{symbol}} entry"},
					{expr: stop, legend: "{{symbol}} stop"},
				},
			},
			{
				shape: lines, title: "Kill score components", unit: units.NoUnit, width: 12, height: 8, low: cog.ToPtr(0.0),
				description: "What the kill score is made of.",
				queries: []query{
					{expr: of("quantum_harvest_k_regime_flip"), legend: "{{symbol}} regime flip"},
					{expr: of("quantum_harvest_k_sigma_spike"), legend: "{{symbol}} sigma spike"},
					{expr: of("quantum_harvest_k_ts_drop"), legend: "{{symbol}} trend drop"},
					{expr: of("quantum_harvest_k_age_penalty"), legend: "{{symbol}} age"},
				},
			},
			{
				shape: lines, title: "Harvest Metrics Freshness", unit: units.Seconds, width: 24, height: 8, low: cog.ToPtr(0.0), steps: ageSteps,
				description: "Age of heartbeat, content and older input of every symbol. Content may be as old as MAX_PUBLISH_AGE_SEC while nothing changes.",
				queries:     ages,
			},
		},
	}
}
