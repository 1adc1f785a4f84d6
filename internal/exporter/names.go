package exporter

import (
	"time"

	"quantumharvest/internal/store"
)

// Desc describes one metric, for registration and for the documentation made from it.
type Desc struct {
	Name   string
	Type   Type
	Help   string
	Labels []string
	// Legacy tells that the name is that of the earlier exporter: exact, never to be renamed.
	Legacy bool
}

// Type is the type of a metric as the exposition formats spell it.
type Type string

// The types in use.
const (
	Gauge     Type = "gauge"
	Counter   Type = "counter"
	Histogram Type = "histogram"
)

// gaugeColumn is a gauge with one sample per symbol, read from one field of the proposal hash.
type gaugeColumn struct {
	Desc
	field string                                // in the hash; a problem with it leaves the sample out
	value func(*store.Proposal) (float64, bool) // false: the proposal says there is none
}

func symbolGauge(name, field, help string, value func(*store.Proposal) (float64, bool)) gaugeColumn {
	return gaugeColumn{Desc{Name: "quantum_harvest_" + name, Type: Gauge, Help: help, Labels: []string{"symbol"}}, field, value}
}

func legacyGauge(name, field, help string, value func(*store.Proposal) (float64, bool)) gaugeColumn {
	c := symbolGauge(name, field, help, value)
	c.Legacy = true
	return c
}

// always is a number that is there whenever its field could be read.
func always(at func(*store.Proposal) float64) func(*store.Proposal) (float64, bool) {
	return func(p *store.Proposal) (float64, bool) { return at(p), true }
}

// ours is always, for a field that hashes of earlier writers do not have.
func ours(at func(*store.Proposal) float64) func(*store.Proposal) (float64, bool) {
	return func(p *store.Proposal) (float64, bool) { return at(p), p.SchemaVersion > 0 }
}

// price is a number where 0 stands for none.
func price(at func(*store.Proposal) float64) func(*store.Proposal) (float64, bool) {
	return func(p *store.Proposal) (float64, bool) { v := at(p); return v, v > 0 }
}

// instant is a moment, in seconds since 1970; the zero time stands for unknown.
func instant(at func(*store.Proposal) time.Time) func(*store.Proposal) (float64, bool) {
	return func(p *store.Proposal) (float64, bool) { t := at(p); return epoch(t), !t.IsZero() }
}

func epoch(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// columns are the gauges with one sample per symbol.
var columns = [...]gaugeColumn{
	legacyGauge("kill_score", "kill_score", "Kill score K of the proposal, between 0 and 1: close from 0.6 on.",
		always(func(p *store.Proposal) float64 { return p.KillScore })),
	legacyGauge("k_regime_flip", "k_regime_flip", "Component of the kill score: the regime turned against the position.",
		always(func(p *store.Proposal) float64 { return p.K.RegimeFlip })),
	legacyGauge("k_sigma_spike", "k_sigma_spike", "Component of the kill score: volatility above its reference.",
		always(func(p *store.Proposal) float64 { return p.K.SigmaSpike })),
	legacyGauge("k_ts_drop", "k_ts_drop", "Component of the kill score: trend strength below its reference.",
		always(func(p *store.Proposal) float64 { return p.K.TSDrop })),
	legacyGauge("k_age_penalty", "k_age_penalty", "Component of the kill score: age of the position.",
		always(func(p *store.Proposal) float64 { return p.K.AgePenalty })),
	legacyGauge("r_net", "R_net", "Profit of the position after cost, in units of its risk (R).",
		always(func(p *store.Proposal) float64 { return p.RNet })),
	legacyGauge("new_sl", "new_sl_proposed", "Proposed new stop price, in quote currency; no sample where no stop is proposed.",
		price(func(p *store.Proposal) float64 { return p.NewStop })),
	legacyGauge("last_update_epoch", "last_update_epoch",
		"Heartbeat: when the symbol was last evaluated, in seconds since 1970. The same as quantum_harvest_proposal_last_update_timestamp_seconds.",
		instant(func(p *store.Proposal) time.Time { return p.LastUpdate })),

	symbolGauge("proposal_last_update_timestamp_seconds", "last_update_epoch",
		"Heartbeat: when the symbol was last evaluated. The same as quantum_harvest_last_update_epoch.",
		instant(func(p *store.Proposal) time.Time { return p.LastUpdate })),
	symbolGauge("proposal_content_timestamp_seconds", "computed_at_utc",
		"Content: when the proposal was last published in full. Older than the heartbeat while nothing changes.",
		instant(func(p *store.Proposal) time.Time { return p.ComputedAt })),
	symbolGauge("market_input_timestamp_seconds", "market_epoch",
		"Market input: event time of the newest valid market data that the publisher has seen.",
		instant(func(p *store.Proposal) time.Time { return p.MarketAt })),
	symbolGauge("position_input_timestamp_seconds", "position_epoch",
		"Position input: event time of the newest valid evidence that the position stands.",
		instant(func(p *store.Proposal) time.Time { return p.PositionAt })),
	symbolGauge("content_market_timestamp_seconds", "content_market_epoch",
		"Event time of the market data behind the published content.",
		instant(func(p *store.Proposal) time.Time { return p.ContentMarketAt })),
	symbolGauge("content_position_timestamp_seconds", "content_position_epoch",
		"Event time of the position record behind the published content.",
		instant(func(p *store.Proposal) time.Time { return p.ContentPositionAt })),
	symbolGauge("valid_until_timestamp_seconds", "valid_until_epoch",
		"Until when the publisher vouches for the proposal: its last heartbeat and five intervals.",
		instant(func(p *store.Proposal) time.Time { return p.ValidUntil })),
	symbolGauge("revision", "revision", "Number of full publishes of the hash; never goes back.",
		ours(func(p *store.Proposal) float64 { return float64(p.Revision) })),
	symbolGauge("fence", "fence", "Fence of the writer of the hash; never goes back.",
		ours(func(p *store.Proposal) float64 { return float64(p.Fence) })),

	symbolGauge("position_entry_price", "position_entry_price", "Entry price of the position, in quote currency.",
		always(func(p *store.Proposal) float64 { return p.Entry })),
	symbolGauge("position_current_price", "position_current_price", "Price at which the position was last evaluated, in quote currency.",
		always(func(p *store.Proposal) float64 { return p.Current })),
	symbolGauge("position_peak_price", "position_peak_price", "Highest price since entry, in quote currency.",
		price(func(p *store.Proposal) float64 { return p.Peak })),
	symbolGauge("position_trough_price", "position_trough_price", "Lowest price since entry, in quote currency.",
		price(func(p *store.Proposal) float64 { return p.Trough })),
	symbolGauge("position_stop_price", "position_current_sl", "Stop price that rests now, in quote currency; no sample where there is none.",
		price(func(p *store.Proposal) float64 { return p.Stop })),
	symbolGauge("position_unrealized_pnl", "position_unrealized_pnl", "Unrealized profit per unit of base, in quote currency.",
		always(func(p *store.Proposal) float64 { return p.UnrealizedPnL })),
	symbolGauge("position_age_seconds", "position_age_sec", "Age of the position when the content was computed, in the clock of the strategy.",
		always(func(p *store.Proposal) float64 { return p.AgeSec })),
	symbolGauge("position_opened_timestamp_seconds", "position_opened_epoch", "When the position was opened, in the clock of the strategy.",
		instant(func(p *store.Proposal) time.Time { return p.OpenedAt })),
	symbolGauge("risk_unit", "risk_unit", "Risk of the position (1 R), in quote currency per unit of base.",
		always(func(p *store.Proposal) float64 { return p.RiskUnit })),
	symbolGauge("cost_est", "cost_est", "Estimated cost of a round trip, in quote currency per unit of base.",
		always(func(p *store.Proposal) float64 { return p.CostEst })),
	symbolGauge("sigma", "sigma", "Volatility of the market state: standard deviation of one log return, as a fraction per bar.",
		always(func(p *store.Proposal) float64 { return p.Sigma })),
	symbolGauge("ts", "ts", "Trend strength of the market state, no unit.",
		always(func(p *store.Proposal) float64 { return p.TS })),
	symbolGauge("p_trend", "p_trend", "Probability of the trending regime.",
		always(func(p *store.Proposal) float64 { return p.PTrend })),
	symbolGauge("p_mr", "p_mr", "Probability of the mean-reverting regime.",
		always(func(p *store.Proposal) float64 { return p.PMR })),
	symbolGauge("p_chop", "p_chop", "Probability of the choppy regime.",
		always(func(p *store.Proposal) float64 { return p.PChop })),
}

// The metrics that are not one number of one field.
var (
	descAction = Desc{
		Name: "quantum_harvest_action", Type: Gauge, Legacy: true, Labels: []string{"symbol", "action"},
		Help: "1 for the action that is proposed, 0 for the others; no samples where the action is unknown.",
	}
	descCacheAge = Desc{
		Name: "quantum_harvest_exporter_cache_age_seconds", Type: Gauge, Legacy: true,
		Help: "Age of what this scrape shows since it was read from Redis. Near 0 always: every scrape reads, nothing is kept.",
	}
	descUp = Desc{
		Name: "quantum_harvest_up", Type: Gauge,
		Help: "1 where Redis could be read for this scrape, else 0; then no metric of any symbol is shown.",
	}
	descInputState = Desc{
		Name: "quantum_harvest_input_state", Type: Gauge, Labels: []string{"symbol", "state"},
		Help: "1 for the state of the inputs behind the proposal: fresh, stale_market, stale_position.",
	}
	descInfo = Desc{
		Name: "quantum_harvest_proposal_info", Type: Gauge,
		Labels: []string{"symbol", "side", "publisher", "market_source", "position_source", "schema_version"},
		Help:   "Always 1: what the proposal is about and who made it. Sources named demo, synthetic or replay are not real.",
	}
	descExpected = Desc{
		Name: "quantum_harvest_expected", Type: Gauge, Labels: []string{"symbol"},
		Help: "1 for every symbol that must have a proposal: the expected set in Redis together with SYMBOLS.",
	}
	descPresent = Desc{
		Name: "quantum_harvest_proposal_present", Type: Gauge, Labels: []string{"symbol"},
		Help: "1 where Redis holds a proposal of the symbol with an action that can be read, else 0.",
	}
	descProblems = Desc{
		Name: "quantum_harvest_proposal_bad_fields", Type: Gauge, Labels: []string{"symbol"},
		Help: "Fields of the proposal that are missing or cannot be read, at this scrape.",
	}
	descSymbols = Desc{
		Name: "quantum_harvest_symbols", Type: Gauge, Labels: []string{"state"},
		Help: "Symbols by state: expected; found (a hash is there); incomplete (with bad fields); missing (expected, none there); unreadable (the key cannot be read as one); invalid (members of the expected set that are no symbols).",
	}
	descOpenPositions = Desc{
		Name: "quantum_harvest_open_positions", Type: Gauge, Labels: []string{"source"},
		Help: "Open positions, counted at their source and not by the publisher: what the proposals must cover.",
	}
	descRoundTrip = Desc{
		Name: "quantum_harvest_redis_round_trip_seconds", Type: Gauge,
		Help: "Round trip to Redis within the reading of this scrape.",
	}
	descClockOffset = Desc{
		Name: "quantum_harvest_redis_clock_offset_seconds", Type: Gauge,
		Help: "Clock of Redis minus clock of this host, to within the round trip.",
	}
	descLeaseShards = Desc{
		Name: "quantum_harvest_lease_shards", Type: Gauge,
		Help: "Shards into which the publishers divide the symbols; no sample where no publisher with leases was ever there.",
	}
	descLeaseHeld = Desc{
		Name: "quantum_harvest_lease_held", Type: Gauge, Labels: []string{"shard"},
		Help: "1 where a publisher holds the lease of the shard by the clock of Redis, else 0: nobody writes its symbols.",
	}
	descLeaseUntil = Desc{
		Name: "quantum_harvest_lease_valid_until_timestamp_seconds", Type: Gauge, Labels: []string{"shard"},
		Help: "Until when the lease of the shard holds, by the clock of Redis.",
	}
	descLeaseSince = Desc{
		Name: "quantum_harvest_lease_since_timestamp_seconds", Type: Gauge, Labels: []string{"shard"},
		Help: "Since when the lease of the shard is held by its holder, by the clock of Redis.",
	}
	descLeaseFence = Desc{
		Name: "quantum_harvest_lease_fence", Type: Gauge, Labels: []string{"shard"},
		Help: "Fence of the lease of the shard; grows whenever it is taken and never goes back.",
	}
	descLeaseInfo = Desc{
		Name: "quantum_harvest_lease_info", Type: Gauge, Labels: []string{"shard", "holder"},
		Help: "Always 1: the publisher that holds the shard.",
	}
	descPublishers = Desc{
		Name: "quantum_harvest_publishers", Type: Gauge,
		Help: "Publishers that live and share the symbols, those that stand by included.",
	}
	descBuildInfo = Desc{
		Name: "quantum_harvest_build_info", Type: Gauge, Labels: []string{"version", "revision", "goversion"},
		Help: "Always 1: what this program was built from.",
	}
	descReads = Desc{
		Name: "quantum_harvest_store_reads_total", Type: Counter,
		Help: "Readings of the store that were begun.",
	}
	descReadFailures = Desc{
		Name: "quantum_harvest_store_read_failures_total", Type: Counter, Labels: []string{"reason"},
		Help: "Readings of the store that failed, by reason: timeout, refused, auth, not_ready, canceled, other.",
	}
	descReadDuration = Desc{
		Name: "quantum_harvest_store_read_duration_seconds", Type: Histogram,
		Help: "Duration of readings of the store, failed ones included.",
	}
	descShared = Desc{
		Name: "quantum_harvest_store_reads_shared_total", Type: Counter,
		Help: "Scrapes that joined a reading under way instead of beginning their own.",
	}
	descBadFields = Desc{
		Name: "quantum_harvest_bad_fields_total", Type: Counter, Labels: []string{"field", "kind"},
		Help: "Fields of proposals that had no sample because they were missing or unparsable, once per reading.",
	}
	descSymbolErrors = Desc{
		Name: "quantum_harvest_symbol_errors_total", Type: Counter, Labels: []string{"reason"},
		Help: "Proposals that could not be read at all while others could, once per reading, by reason: wrong_type, auth, node_away, other.",
	}
	descDerived = Desc{
		Name: "quantum_harvest_derived_heartbeats_total", Type: Counter,
		Help: "Proposals of an earlier writer without last_update_epoch, where computed_at_utc stood in, once per reading.",
	}
	descCountFailures = Desc{
		Name: "quantum_harvest_position_count_failures_total", Type: Counter, Labels: []string{"reason"},
		Help: "Countings of the open positions at their source that failed, by reason: timeout, refused, auth, not_ready, canceled, other.",
	}
)

// Metrics is the table of every metric that this package makes.
var Metrics = allMetrics()

func allMetrics() []Desc {
	var all []Desc
	for i := range columns {
		all = append(all, columns[i].Desc)
	}
	return append(all, descAction, descCacheAge, descUp, descInputState, descInfo, descExpected, descPresent, descProblems,
		descSymbols, descOpenPositions, descRoundTrip, descClockOffset,
		descLeaseShards, descLeaseHeld, descLeaseUntil, descLeaseSince, descLeaseFence, descLeaseInfo, descPublishers, descBuildInfo, descReads, descReadFailures,
		descReadDuration, descShared, descBadFields, descSymbolErrors, descDerived, descCountFailures)
}
