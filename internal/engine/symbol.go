package engine

import (
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// symbol is everything the engine remembers of one instrument. What every batch looks at comes first, here and in the parts: of
// ten thousand symbols the rest is not in the processor's cache.
type symbol struct {
	name  position.Symbol
	shard int

	covered bool // inside SYMBOLS
	open    bool // the position itself lives in the book
	refused bool // its record is there and was refused at the last reading
	// unread: what the store holds of it was out of reach when its memory was read. recalled: it was read at least once.
	unread, recalled bool

	// What is to be written beside what follows from advice and held.
	beatDue  bool
	expect   bool // to be put into the expected set
	dropped  bool // not covered any more, and to be taken out of the expected set for that
	unexpect bool // to be taken out of it, without a position having ended
	stray    bool // it was in it without a position when the read-back under way began

	// What is under way.
	inFlight    bool
	beatCarried bool // the publish under way is the due beat as well
	dirty       bool
	retryBeat   uint64 // after a failed write: not before this beat
	closing     []store.Close

	market marketSide
	advice advice
	held   held

	positionAt   time.Time
	positionSeen time.Time // when it reached us
	checkedPnL   [2]float64

	// revision is the highest this key ever had, as far as is known. It never goes back, whoever the position is.
	revision int64
	// fence goes into the hash where that of the lease is too low for what stands there; 0: it is not. A challenge is the
	// fence that was found there and has not been answered yet.
	fence, challenge int64
	challengedAt     time.Time

	publishing PublishReason // why a batch last had it in full; blank: none had
	lastBeatAt time.Time
	stats      symbolStats
}

// marketSide is what is known of the market of one symbol.
type marketSide struct {
	consumed   bool      // state comes ready from another service
	produces   bool      // its state is produced, whether a position is open or not
	moved      bool      // the series moved since state was computed from it
	haveState  bool      // of state
	haveStops  bool      // of stops
	haveOwn    bool      // of ownStops
	producedAt time.Time // last time state and stops were written under the legacy keys
	at         time.Time // event time of the newest valid input

	series    *feed.Series
	followed  follower // of series
	state     kernel.MarketState
	seen      time.Time // when the newest input reached us: guards against clocks that step back
	quotedAt  time.Time // when a price between candles last arrived; zero: never
	revisedAt time.Time // when an open candle last arrived
	stops     feed.Stops
	ownStops  kernel.StopProposal
}

// advice is what we think of the open position. Its zero value is no advice.
type advice struct {
	have    bool
	reasons kernel.Reasons // behind content; spelled out only when it is published
	// state says whether the inputs behind content live. Blank: this process has not looked at it yet, so it cannot
	// vouch for it.
	state   store.InputState
	content store.Proposal // the newest good content, computed here or restored
	why     string         // why there is no newer content; blank where there is nothing to explain
}

// held is what the store holds of ours, as far as it confirmed it. Its zero value is nothing.
type held struct {
	distrust bool           // what stands there may be something else by now
	at       float64        // when it was published, on the engine's own clock; the gate measures ages on it
	proposal store.Proposal // Revision 0: nothing
}

// symbolStats are the counts behind the end-of-run summary.
type symbolStats struct {
	evaluations uint64
	publishes   uint64
	beats       uint64
	limited     uint64
	refusals    map[feed.Reason]uint64
	lastRefusal feed.Refusal
	everOpen    bool
	everServed  bool // the store confirmed a proposal, now or before this process
}

func (s *symbol) refuse(r feed.Refusal) {
	if s.stats.refusals == nil {
		s.stats.refusals = make(map[feed.Reason]uint64)
	}
	s.stats.refusals[r.Reason]++
	s.stats.lastRefusal = r
}

// endEpisode drops all that belongs to the position that was.
func (s *symbol) endEpisode() {
	s.advice, s.held = advice{}, held{}
	s.beatDue, s.checkedPnL = false, [2]float64{}
	s.market.haveOwn = false
}

// marketMoved notes a valid market input. Its event time never goes back.
func (s *symbol) marketMoved(at, now time.Time) {
	if at.After(s.market.at) {
		s.market.at, s.market.seen = at, now
	}
}

// PublishReason is why a proposal is published in full. The zero value is no publish.
type PublishReason string

// Reasons for a full publish; those of the gate carry its own names.
const (
	PublishFirst      PublishReason = "first"
	PublishRepair     PublishReason = "repair"
	PublishInputState PublishReason = "input_state"
)
