// Package feed brings the outside in: candles, prices, ready market states and stops, and position snapshots, from
// Redis, files and generators. Every record is checked field by field here, at the edge; a refused one becomes a
// Refusal event with field, reason and symbol, and never stops another.
//
// A source pushes events into a Sink and knows nothing about who consumes them.
package feed

import (
	"context"
	"fmt"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

// Event is one thing a source has to say. The concrete types are History, Candle, Price, State, Stops, Snapshot,
// Refusal, Outage and End.
type Event interface{ event() }

// Sink takes events. It may be called from several goroutines and must not block for long.
type Sink func(Event)

// Source is one supplier of events. Run blocks until ctx ends (nil), the source has ended by itself (an End event,
// then nil) or cannot go on (an error). A source that is merely out of reach reports an Outage, backs off and goes on.
type Source interface {
	// Name is short, stable and used as a label: "synthetic", "replay", "redis", "redis_hash", "demo", ...
	Name() string
	Run(ctx context.Context, sink Sink) error
}

// Clock maps wall time to strategy time: the time in which positions age. Live sources use Wall; a replay runs faster.
type Clock interface {
	Strategy(wall time.Time) time.Time
}

// Wall is the identity clock.
type Wall struct{}

// Strategy returns wall unchanged.
func (Wall) Strategy(wall time.Time) time.Time { return wall }

// Candle is one bar of one symbol. Prices are > 0 and Low <= Open, Close <= High.
type Candle struct {
	Symbol                 position.Symbol
	OpenTime               time.Time // strategy time; zero where the source carries no time
	Interval               time.Duration
	Open, High, Low, Close float64
	// Closed is false for the still-open candle, whose Close is the last price and which a later event with the same
	// OpenTime revises.
	Closed bool
	At     time.Time // input event time on the wall clock: the exchange's own where carried, else arrival
}

// History replaces all candles of a symbol, oldest first: at the start and after a gap.
type History struct {
	Symbol  position.Symbol
	Candles []Candle
	At      time.Time // input event time of the newest candle
}

// Price is a trade, mark or mid price between candles.
type Price struct {
	Symbol position.Symbol
	Price  float64
	At     time.Time
	// High and Low are the extremes of the ticks that this one stands for, where it stands for several; else 0.
	High, Low float64
}

// State is a ready market state written by another service.
type State struct {
	Symbol position.Symbol
	State  kernel.MarketState
	At     time.Time
}

// Stops is a ready stop proposal written by another service.
type Stops struct {
	Symbol      position.Symbol
	StopDistPct float64 // fraction of entry, >= 0
	ProposedSL  float64
	ProposedTP  float64 // 0: none
	At          time.Time
}

// Snapshot is one reading of a position source.
type Snapshot struct{ position.Snapshot }

// Outage says that a source cannot be read at the moment.
type Outage struct {
	Source string
	Err    error
	At     time.Time
}

// End says that a source has no more to give (a recording that ran out).
type End struct {
	Source string
	At     time.Time
}

// Reason is why an input was refused. The set is fixed: it is a metric label.
type Reason string

// Reasons for a refusal.
const (
	ReasonMissing    Reason = "missing_field"    // a required field is absent or empty
	ReasonUnreadable Reason = "unreadable_value" // not a number, not JSON, not the type it should be
	ReasonNotFinite  Reason = "not_finite"       // NaN or infinite
	ReasonDomain     Reason = "out_of_domain"    // zero or negative price, probability outside [0,1], ...
	ReasonSide       Reason = "unknown_side"     // neither LONG nor SHORT
	ReasonSymbol     Reason = "bad_symbol"       // blank, quoted, too long, or not the symbol of its key
	ReasonWrongType  Reason = "wrong_redis_type" // a key that is not the type the contract says
	ReasonOutOfOrder Reason = "out_of_order"     // older than what was already seen
	ReasonDuplicate  Reason = "duplicate"        // seen already, with other content
	ReasonGap        Reason = "gap"              // candles are missing in between
	ReasonFuture     Reason = "from_the_future"  // event time ahead of the clock beyond tolerance
	ReasonKernel     Reason = "kernel_refused"   // the kernel refused the combination
	ReasonPnL        Reason = "pnl_disagrees"    // reported profit differs from price arithmetic by more than 0.1 R
	ReasonTooLarge   Reason = "too_large"        // a record beyond the size limit
)

// Reasons lists every Reason, so that counters can start at zero.
var Reasons = []Reason{
	ReasonMissing, ReasonUnreadable, ReasonNotFinite, ReasonDomain, ReasonSide, ReasonSymbol, ReasonWrongType,
	ReasonOutOfOrder, ReasonDuplicate, ReasonGap, ReasonFuture, ReasonKernel, ReasonPnL, ReasonTooLarge,
}

// Refusal is an input that was not accepted: normal, counted, shown, never fatal.
type Refusal struct {
	Symbol position.Symbol // blank where not even the symbol could be read
	Source string
	Key    string // where it was found: a Redis key, a file and line
	Field  string
	Reason Reason
	Value  string // the offending text, shortened and safe to print
	At     time.Time
}

// Error says what was refused, where and why.
func (r Refusal) Error() string {
	return fmt.Sprintf("%s: %s field %q: %s (got %q)", r.Source, r.Key, r.Field, r.Reason, r.Value)
}

func (Candle) event()   {}
func (History) event()  {}
func (Price) event()    {}
func (State) event()    {}
func (Stops) event()    {}
func (Snapshot) event() {}
func (Refusal) event()  {}
func (Outage) event()   {}
func (End) event()      {}
