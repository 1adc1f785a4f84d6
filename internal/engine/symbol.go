package engine

import (
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// symbol is everything the engine remembers of one instrument.
type symbol struct {
	name position.Symbol

	// Market side.
	series     *feed.Series
	seriesNew  bool // the series moved since state was computed from it
	consumed   bool // state comes ready from another service
	state      kernel.MarketState
	haveState  bool
	marketAt   time.Time // event time of the newest valid market input
	marketSeen time.Time // when it reached us: guards against clocks that step back
	stops      feed.Stops
	haveStops  bool
	produces   bool      // its market state is produced, whether a position is open or not
	producedAt time.Time // last time market state and stops were written under the legacy keys
	lastStops  kernel.StopProposal
	haveLast   bool

	// Position side; the position itself lives in the book.
	open         bool
	covered      bool // inside SYMBOLS
	positionAt   time.Time
	positionSeen time.Time

	// What we advise: the newest content computed or restored.
	content     store.Proposal
	reasons     kernel.Reasons // behind content; spelled out only when it is published
	haveContent bool
	evaluated   bool // considered at the current beat: advice may claim to be alive
	inputState  store.InputState
	waiting     string // why there is no advice yet; blank when there is

	// What the store holds, as far as it was confirmed.
	published     bool
	confirmed     store.Proposal // as written, for the audit
	last          kernel.Published
	lastState     store.InputState
	revision      int64
	lastPublishAt time.Time
	lastBeatAt    time.Time

	// What is to be written.
	want        PublishReason // blank: nothing
	repair      bool          // the store's copy is not to be trusted: publish in full
	beatDue     bool
	beatCarried bool // the publish under way is the due beat as well
	closing     []store.Close
	inFlight    bool
	retryAt     time.Time // after a failed write: not before
	fenced      store.FencedBy
	isFenced    bool

	dirty bool
	stats symbolStats
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

// forgetAdvice drops what belongs to an episode that has ended. The revision stays: it never goes back.
func (s *symbol) forgetAdvice() {
	s.content, s.haveContent = store.Proposal{}, false
	s.evaluated, s.inputState, s.waiting = false, "", ""
	s.published, s.confirmed, s.last, s.lastState = false, store.Proposal{}, kernel.Published{}, ""
	s.want, s.repair, s.beatDue = "", false, false
	s.haveLast = false
}

// PublishReason is why a proposal is published in full. The zero value is no publish.
type PublishReason string

// Reasons for a full publish; those of the gate carry its own names.
const (
	PublishFirst      PublishReason = "first"
	PublishRepair     PublishReason = "repair"
	PublishInputState PublishReason = "input_state"
)
