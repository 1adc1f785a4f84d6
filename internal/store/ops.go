package store

import (
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

// Beat moves the heartbeat of one symbol, in one step on the server and only where the hash exists, is complete and
// carries exactly this revision and fence.
type Beat struct {
	Symbol     position.Symbol
	Revision   int64 // the revision the writer believes in
	Fence      int64 // the fence that the writer put into the hash
	LastUpdate time.Time
	MarketAt   time.Time
	PositionAt time.Time
	InputState InputState
	ValidUntil time.Time
	Peak       float64
	Trough     float64
}

// Close deletes the proposal of one symbol and leaves a closing record in the stream, in one step. The record is left
// even where streams are off, because whoever acts on proposals has no other way to learn that one ended, and it is
// left once per episode however often the close is repeated. Its harvest_action is always NONE, so that a reader of
// the stream never acts on it; the action that stood is in last_action.
type Close struct {
	Symbol  position.Symbol
	Episode string // only this episode is closed: a newer one is left alone, blank means any
	Fence   int64  // the highest fence that the hash may carry
	Reason  string // "flat", "flip", "renewed"
	At      time.Time
	Last    Proposal // the last published content, for the record; the zero value where none is known
}

// MarketStateRecord is a market state that our engine produced, for the legacy key.
type MarketStateRecord struct {
	Symbol     position.Symbol
	State      kernel.MarketState
	At         time.Time // event time of the newest candle behind it
	BufferSize int       // closes in the window
	TTL        time.Duration
	Publisher  string // id of the writer
	Source     string // label of the market behind it: "redis", "replay", "synthetic"
}

// StopsRecord is a stop proposal that our engine produced, for the legacy key.
type StopsRecord struct {
	Symbol    position.Symbol
	Stops     kernel.StopProposal
	State     kernel.MarketState
	Position  position.Position
	AgeSec    float64 // age of the position, seconds
	At        time.Time
	TTL       time.Duration
	Publisher string // id of the writer
	Source    string // label of the market behind it
}

// Batch is everything one step of the engine wants written. The store sends it in a bounded number of round trips,
// whatever its size.
type Batch struct {
	Lease     Lease
	Publishes []Proposal // Revision holds the believed revision (0: none)
	Beats     []Beat
	Closes    []Close
	Expect    []position.Symbol // to add to the expected set
	Unexpect  []position.Symbol // to remove from it
	States    []MarketStateRecord
	Stops     []StopsRecord
}

// Outcome is what the server said to one operation.
type Outcome string

// Outcomes. Only Done means that something was written.
const (
	Done         Outcome = "done"
	Missing      Outcome = "missing"       // a beat found no hash, or a close of any episode had nothing to close
	Incomplete   Outcome = "incomplete"    // a beat found a hash with fields missing
	Superseded   Outcome = "superseded"    // a beat found another revision than believed
	Unleased     Outcome = "unleased"      // the writer does not hold the lease of the shard
	Fenced       Outcome = "fenced"        // the hash carries a higher fence
	Foreign      Outcome = "foreign"       // a key that another service writes: left alone
	OtherEpisode Outcome = "other_episode" // a close found another episode: the hash is left alone, the record is left
	Failed       Outcome = "failed"        // refused before sending, or the server answered with an error for this key
)

// Result is the outcome of one operation.
type Result struct {
	Symbol   position.Symbol
	Outcome  Outcome
	Revision int64    // after a publish: the revision written; after a close: the one that the key had come to
	Repaired bool     // a publish or close replaced a key of the wrong type
	FencedBy FencedBy // with Fenced; with Unleased the holder of the lease and its fence
	Err      error    // with Failed
}

// FencedBy says who wrote the hash, or holds the lease, that refused a write.
type FencedBy struct {
	Publisher  string
	Fence      int64
	ValidUntil time.Time
}

// Results mirror a Batch, index by index.
type Results struct {
	Publishes  []Result
	Beats      []Result
	Closes     []Result
	States     []Result
	Stops      []Result
	RoundTrips int

	// ExpectErr is set where the expected set could not be changed (a denied command): the proposals of the batch are
	// not affected, but coverage cannot be certified from the set.
	ExpectErr error
	// StreamErr is the first failure to append to a stream. The write it belonged to was done all the same: a broken
	// stream never holds back a proposal.
	StreamErr error
}
