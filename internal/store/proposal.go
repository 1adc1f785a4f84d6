package store

import (
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

// SchemaVersion is written into every proposal hash. A field that is added keeps it. It grows by one in the release that
// announces the end of a field, or a new word in one that has few: from the release after that one on, a reader that knows
// only the schema before this one would misread the hash (docs/UPGRADE.md).
const SchemaVersion = 1

// MaxSchema is the newest schema that this version reads: one step of the schema leaves everything in place that readers of
// the one before know, so that the parts of a desk can be upgraded in any order.
const MaxSchema = SchemaVersion + 1

// InputState says whether the content of a proposal rests on live inputs. The zero value is not a state.
type InputState string

// The input states. Where both inputs are stale, stale_position is shown: an unknown position is the graver of the two.
const (
	InputFresh         InputState = "fresh"
	InputStaleMarket   InputState = "stale_market"
	InputStalePosition InputState = "stale_position"
)

// Proposal is the hash <HARVEST_PREFIX><SYM>, typed: the one schema of the wire contract. Times are whole seconds on
// the wire except where noted.
type Proposal struct {
	Symbol position.Symbol // from the key, not a field

	// Content: moves only with a full publish.
	Action            kernel.Action
	NewStop           float64 // 0 = none, written as the empty string
	RNet              float64
	RiskUnit          float64
	CostEst           float64
	KillScore         float64
	Reasons           []string // reason_codes
	K                 kernel.KillComponents
	Sigma, TS         float64
	PTrend            float64
	PMR               float64
	PChop             float64
	ComputedAt        time.Time // computed_at_utc: when this content was computed
	Side              position.Side
	AgeSec            float64
	Current           float64 // position_current_price
	Entry             float64 // position_entry_price
	UnrealizedPnL     float64 // position_unrealized_pnl, per unit
	SchemaVersion     int
	Revision          int64 // assigned by the server: stored or believed, whichever is higher, plus one
	Episode           string
	OpenedAt          time.Time // position_opened_epoch (ours)
	Stop              float64   // position_current_sl (ours); 0 = none, written empty
	ContentMarketAt   time.Time // content_market_epoch: event time of the market input behind the content
	ContentPositionAt time.Time // content_position_epoch
	InputState        InputState
	MarketSource      string // market_source (ours): "redis", "replay", "synthetic", ...
	PositionSource    string // position_source (ours): "redis_hash", "file", "demo", ...
	Publisher         string // id of the writer
	PublisherVersion  string // publisher_version (ours): the release of the writer; blank of one that does not say
	Fence             int64

	// Beat: moves every heartbeat.
	LastUpdate time.Time // last_update_epoch: the symbol was evaluated
	// LastUpdateDerived is set by Decode where an earlier writer's hash has no heartbeat and computed_at_utc stands in.
	LastUpdateDerived bool
	MarketAt          time.Time // market_epoch: event time of the newest valid market input seen
	PositionAt        time.Time // position_epoch
	ValidUntil        time.Time // valid_until_epoch
	Peak              float64   // position_peak_price (ours): durable memory of the extremes
	Trough            float64   // position_trough_price (ours)
}
