package store

import (
	"slices"
	"strings"
	"time"
)

// FieldDoc says what one field of a record means: the table behind docs/KEYS.md.
type FieldDoc struct {
	Name    string
	Kind    string // number, text, word (one of a few), list or instant
	Unit    string // blank: none
	Meaning string
	Legacy  bool // in the hashes of the earlier services, too: exact, never to be renamed
	Beat    bool // moves with every heartbeat; the others only with a full publish
}

// KeyDoc says what one key is.
type KeyDoc struct {
	Pattern string // <SYM> stands for the symbol
	Type    string // of Redis
	Meaning string
	Writer  string
	Reader  string
	Life    string // time to live, and when the key goes
	Legacy  bool
	Fields  []FieldDoc
}

// described are kind, unit and meaning of the fields of a proposal, in no order: the order and what moves when is said by
// the table that reads and writes them.
var described = map[string][3]string{
	"revision":                {"number", "count", "grows by one with every full publish of this key; never goes back"},
	"harvest_action":          {"word", "", "the advice: NONE, PARTIAL_25, PARTIAL_50, PARTIAL_75 or FULL_CLOSE_PROPOSED"},
	"new_sl_proposed":         {"number", "quote currency", "a tighter stop; empty where none is proposed"},
	"R_net":                   {"number", "R", "profit after cost, in units of the risk of the position"},
	"risk_unit":               {"number", "quote currency", "what one unit of the position risks: the distance of its stop"},
	"cost_est":                {"number", "quote currency", "estimated cost of the exit, for one unit"},
	"kill_score":              {"number", "0 to 1", "score K; from 0.6 on a close is proposed"},
	"reason_codes":            {"list", "", "why, separated by commas"},
	"k_regime_flip":           {"number", "0 to 1", "part of K: the regime turned against the position"},
	"k_sigma_spike":           {"number", "0 to 1", "part of K: volatility above its reference"},
	"k_ts_drop":               {"number", "0 to 1", "part of K: trend strength below its reference"},
	"k_age_penalty":           {"number", "0 to 1", "part of K: age of the position"},
	"sigma":                   {"number", "per bar", "volatility of the market state behind the content"},
	"ts":                      {"number", "", "trend strength of it"},
	"p_trend":                 {"number", "0 to 1", "probability of a trending market"},
	"p_mr":                    {"number", "0 to 1", "probability of a mean-reverting market"},
	"p_chop":                  {"number", "0 to 1", "probability of a market without direction"},
	"computed_at_utc":         {"instant", "ISO 8601, UTC, no suffix", "content: when the advice was last published in full"},
	"position_side":           {"word", "", "LONG or SHORT"},
	"position_age_sec":        {"number", "s", "age of the position at the content, in strategy time"},
	"position_current_price":  {"number", "quote currency", "price at which it was evaluated"},
	"position_entry_price":    {"number", "quote currency", "entry price"},
	"position_unrealized_pnl": {"number", "quote currency", "profit of one unit before cost"},
	"schema_version":          {"number", "", "version of this table; a hash without it is of an earlier writer"},
	"episode":                 {"text", "", "identity of the position from open to flat"},
	"position_opened_epoch":   {"instant", "s since 1970", "when the episode began"},
	"position_current_sl":     {"number", "quote currency", "the stop that stands, as far as it is known; empty where none is"},
	"content_market_epoch":    {"instant", "s since 1970", "event time of the market data behind the content"},
	"content_position_epoch":  {"instant", "s since 1970", "event time of the position record behind the content"},
	"market_source":           {"word", "", "where market data comes from: redis, binance, replay or synthetic"},
	"position_source":         {"word", "", "where positions come from: redis_hash, redis_stream, file or demo"},
	"publisher":               {"text", "", "who wrote it"},
	"publisher_version":       {"text", "", "its release; absent of one that did not say"},
	"fence":                   {"number", "", "of the writer's lease; grows with every new holder, never goes back"},
	"last_update_epoch":       {"instant", "whole s since 1970", "heartbeat: when the symbol was last evaluated"},
	"market_epoch":            {"instant", "s since 1970", "input: event time of the newest valid market data seen"},
	"position_epoch":          {"instant", "s since 1970", "input: event time of the newest valid evidence that the position stands"},
	"input_state":             {"word", "", "fresh, stale_market or stale_position: stale advice is kept and marked, never renewed"},
	"valid_until_epoch":       {"instant", "s since 1970", "until when the publisher vouches for it: heartbeat and five intervals"},
	"position_peak_price":     {"number", "quote currency", "highest price of the episode"},
	"position_trough_price":   {"number", "quote currency", "lowest price of the episode"},
}

// ProposalFields describes every field of the proposal hash, in the order in which they are written.
func ProposalFields() []FieldDoc {
	docs := make([]FieldDoc, len(fields))
	for i := range fields {
		f := &fields[i]
		d := described[f.name]
		docs[i] = FieldDoc{Name: f.name, Kind: d[0], Unit: d[1], Meaning: d[2], Legacy: f.legacy, Beat: f.beat}
	}
	return docs
}

func earlierFields(rows ...[4]string) []FieldDoc {
	docs := make([]FieldDoc, len(rows))
	for i, r := range rows {
		docs[i] = FieldDoc{Name: r[0], Kind: r[1], Unit: r[2], Meaning: r[3], Legacy: true}
	}
	return docs
}

func newFields(rows ...[4]string) []FieldDoc {
	docs := earlierFields(rows...)
	for i := range docs {
		docs[i].Legacy = false
	}
	return docs
}

func positionRecord() []FieldDoc {
	return slices.Concat(earlierFields(
		[4]string{"symbol", "text", "", "as in the key"},
		[4]string{"side", "word", "", "LONG or SHORT"},
		[4]string{"entry_price", "number", "quote currency", "entry price, above 0"},
		[4]string{"current_price", "number", "quote currency", "last price the writer knew"},
		[4]string{"peak_price", "number", "quote currency", "highest price since the entry"},
		[4]string{"trough_price", "number", "quote currency", "lowest price since the entry"},
		[4]string{"age_sec", "number", "s", "age of the position"},
		[4]string{"unrealized_pnl", "number", "quote currency", "profit as the writer reports it"},
		[4]string{"current_sl", "number", "quote currency", "the stop that stands"},
		[4]string{"current_tp", "number", "quote currency", "the take-profit that stands"},
	), newFields(
		[4]string{"quantity", "number", "base currency", "size; 0 says that the position is closed"},
		[4]string{"opened_at_epoch", "instant", "s since 1970", "when it was opened"},
		[4]string{"updated_at_epoch", "instant", "s since 1970", "when the record was written"},
	))
}

func marketRecord() []FieldDoc {
	return slices.Concat(earlierFields(
		[4]string{"sigma", "number", "per bar", "volatility"},
		[4]string{"mu", "number", "per bar", "drift"},
		[4]string{"ts", "number", "", "trend strength"},
		[4]string{"p_trend", "number", "0 to 1", "probability of a trending market"},
		[4]string{"p_mr", "number", "0 to 1", "probability of a mean-reverting market"},
		[4]string{"p_chop", "number", "0 to 1", "probability of a market without direction"},
		[4]string{"dp", "number", "", "directional persistence"},
		[4]string{"vr", "number", "", "variance ratio"},
		[4]string{"spike_proxy", "number", "", "short volatility against long"},
		[4]string{"ts_timestamp", "instant", "s since 1970", "event time of the newest candle behind it"},
		[4]string{"buffer_size", "number", "candles", "closes that were at hand"},
	), producedMarks())
}

func producedMarks() []FieldDoc {
	return newFields(
		[4]string{"market_source", "word", "", "where market data comes from"},
		[4]string{"publisher", "text", "", "marks a record of ours, which is never read back as input"},
	)
}

func riskRecord() []FieldDoc {
	return slices.Concat(earlierFields(
		[4]string{"proposed_sl", "number", "quote currency", "stop"},
		[4]string{"proposed_tp", "number", "quote currency", "take-profit"},
		[4]string{"stop_dist_pct", "number", "fraction of the entry", "distance of the stop"},
		[4]string{"tp_dist_pct", "number", "fraction of the entry", "distance of the take-profit"},
		[4]string{"trail_gap_pct", "number", "fraction of the price", "distance at which a stop trails"},
		[4]string{"reason_codes", "list", "", "why, separated by commas"},
		[4]string{"sigma", "number", "per bar", "volatility behind it"},
		[4]string{"ts", "number", "", "trend strength behind it"},
		[4]string{"p_trend", "number", "0 to 1", "probability of a trending market"},
		[4]string{"p_mr", "number", "0 to 1", "probability of a mean-reverting market"},
		[4]string{"p_chop", "number", "0 to 1", "probability of a market without direction"},
		[4]string{"computed_at_utc", "instant", "ISO 8601, UTC, no suffix", "when it was computed"},
		[4]string{"position_side", "word", "", "LONG or SHORT"},
		[4]string{"position_entry_price", "number", "quote currency", "entry price"},
		[4]string{"position_current_price", "number", "quote currency", "price at which it was evaluated"},
		[4]string{"position_peak_price", "number", "quote currency", "highest price of the episode"},
		[4]string{"position_trough_price", "number", "quote currency", "lowest price of the episode"},
		[4]string{"position_age_sec", "number", "s", "age of the position"},
		[4]string{"position_unrealized_pnl", "number", "quote currency", "profit of one unit before cost"},
	), producedMarks())
}

// KeyDocs describes every key that is read or written, under the names of the default prefix. Times to live follow from
// how often market states are produced.
func KeyDocs(produceEvery time.Duration) []KeyDoc {
	k := NewKeys(KeysOptions{})
	const sym = "<SYM>"
	var (
		produced  = "10 times MARKETSTATE_PUBLISH_INTERVAL: " + strings.TrimSuffix((10*produceEvery).String(), "0s") + " by default"
		unbounded = "no time to live"
		stream    = "cut to about 10,000 entries"
		closing   = append(earlierFields([4]string{"symbol", "text", "", "whose proposal it was"}), ProposalFields()...)
	)
	return []KeyDoc{
		{
			Pattern: k.Proposal(sym), Type: "hash", Legacy: true, Fields: ProposalFields(),
			Meaning: "the proposal: what to do with one open position, with the ages of the evaluation, the content and the inputs",
			Writer:  "publisher that holds the lease", Reader: "bots, exporter, harvest top, watch and proof",
			Life: unbounded + ": expiry would silence the staleness alerts; deleted when the position is closed",
		},
		{
			Pattern: k.Expected(), Type: "set", Meaning: "the symbols that must have a proposal", Writer: "publisher", Reader: "exporter, harvest top, proof",
			Life: unbounded + "; a symbol leaves it when its position is closed",
		},
		{
			Pattern: k.Lease(), Type: "hash", Meaning: "who may write which shard", Writer: "publishers, by one script", Reader: "publishers, exporter, proof",
			Life: unbounded + "; what is in it runs out two lease intervals after its last renewal",
			Fields: newFields(
				[4]string{"layout", "text", "", "how the symbols are divided, and which are covered: the same for all publishers of a prefix"},
				[4]string{"<shard>:holder", "text", "", "publisher that may write the shard; empty: nobody"},
				[4]string{"<shard>:fence", "number", "", "grows with every new holder: the time of Redis in microseconds, at least one more than before"},
				[4]string{"<shard>:until_ms", "instant", "ms since 1970", "until when, by the clock of Redis"},
				[4]string{"<shard>:since_ms", "instant", "ms since 1970", "since when the holder holds it"},
				[4]string{"<shard>:ttl_ms", "number", "ms", "for how long one renewal is good"},
				[4]string{"member:<publisher>", "text", "ms since 1970, ms", "until when a publisher counts as living, and for how long one sign is good"},
			),
		},
		{
			Pattern: k.closed, Type: "hash", Meaning: "of every symbol the last episode whose closing record was left, and the revision it had come to",
			Writer: "publisher", Reader: "publisher", Life: unbounded + "; one field for each symbol ever traded",
			Fields: newFields([4]string{"<SYM>", "text", "", "episode and revision, separated by a space"}),
		},
		{
			Pattern: k.stream, Type: "stream", Legacy: true, Fields: closing,
			Meaning: "full publishes where ENABLE_STREAM is on; closing records of ended positions always",
			Writer:  "publisher", Reader: "whoever likes", Life: stream,
		},
		{
			Pattern: k.MarketState(sym), Type: "hash", Legacy: true, Fields: marketRecord(),
			Meaning: "market state of a symbol: read where another service writes it, else written by the publisher from candles, never both",
			Writer:  "another service, or the publisher", Reader: "publisher (of others only)", Life: produced,
		},
		{Pattern: k.marketStream, Type: "stream", Legacy: true, Meaning: "produced market states, where ENABLE_STREAM is on", Writer: "publisher", Reader: "whoever likes", Life: stream},
		{
			Pattern: k.Risk(sym), Type: "hash", Legacy: true, Fields: riskRecord(),
			Meaning: "stops of a position: read where another service writes them, else written by the publisher, never both",
			Writer:  "another service, or the publisher", Reader: "publisher (of others only)", Life: produced,
		},
		{Pattern: k.riskStream, Type: "stream", Legacy: true, Meaning: "produced stops, where ENABLE_STREAM is on", Writer: "publisher", Reader: "whoever likes", Life: stream},
		{
			Pattern: DefaultPrefix + "state:positions:" + sym, Type: "hash", Legacy: true, Meaning: "an open position", Fields: positionRecord(),
			Writer: "your position service", Reader: "publisher; exporter, to count", Life: "its writer's; absence alone is no proof of a close",
		},
		{
			Pattern: DefaultPrefix + "state:positions", Type: "hash", Legacy: true, Meaning: "all open positions in one hash: symbol, and JSON with the fields above",
			Writer: "your position service", Reader: "publisher; exporter, to count", Life: "its writer's",
		},
		{
			Pattern: DefaultPrefix + "stream:execution", Type: "stream", Legacy: true, Meaning: "executions; the last entry of a symbol is its position, with the fields above",
			Writer: "your execution service", Reader: "publisher; exporter, to count", Life: "its writer's",
		},
		{Pattern: "candles:" + sym + ":1m", Type: "sorted set or list", Legacy: true, Meaning: "candles: JSON with close or c, or bare numbers; newest with the highest score, or last", Writer: "your market data service", Reader: "publisher", Life: "its writer's"},
		{Pattern: DefaultPrefix + "candles:" + sym, Type: "sorted set or list", Legacy: true, Meaning: "the same, under another name", Writer: "your market data service", Reader: "publisher", Life: "its writer's"},
		{Pattern: "klines:" + sym + ":1m", Type: "sorted set or list", Legacy: true, Meaning: "the same, under another name", Writer: "your market data service", Reader: "publisher", Life: "its writer's"},
	}
}
