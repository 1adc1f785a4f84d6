package position

import (
	"math"
	"slices"
	"strings"
	"time"
)

// What counts as evidence.
const (
	// absencesNeeded is how many living snapshots in a row must lack a symbol before it is flat.
	absencesNeeded = 2
	// silentAfter is how long a source may say nothing about its position before another source may speak for it.
	silentAfter = 30 * time.Second
	// settleTime is how long absence counts for nothing after a source came back as another incarnation, or after all
	// of it or the part with the position had vanished: whoever fills it again does so one position after the other.
	settleTime = 15 * time.Second
)

// ChangeKind is what happened to a position. The zero value is nothing.
type ChangeKind string

// The kinds of change.
const (
	Opened  ChangeKind = "opened"  // a position that was not there before
	Updated ChangeKind = "updated" // the same episode, with other content; also the first sight of a restored position
	Closed  ChangeKind = "closed"  // flat, by evidence
	Flipped ChangeKind = "flipped" // the other side: Before has ended, After is a new episode
	Renewed ChangeKind = "renewed" // the same side, but another position: Before has ended, After is a new episode
)

// Reason is the evidence behind a Change.
type Reason string

// The reasons for a change.
const (
	ReasonSeen         Reason = "seen"          // a source reports it
	ReasonContent      Reason = "content"       // something in it differs
	ReasonConfirmed    Reason = "confirmed"     // a restored position is reported by a source
	ReasonQuantityZero Reason = "quantity_zero" // closed: its source reports a quantity of zero
	ReasonCloseEvent   Reason = "close_event"   // closed: its source says so
	ReasonAbsent       Reason = "absent"        // closed: absent from two living snapshots in a row
	ReasonSide         Reason = "side"          // flipped
	ReasonOpenedLater  Reason = "opened_later"  // renewed: opened_at moved forward
	ReasonYounger      Reason = "younger"       // renewed: the reported age fell
	ReasonOtherClock   Reason = "other_clock"   // renewed: restored from a replay whose clock has begun anew
)

// Change is one thing that a snapshot did to one position.
type Change struct {
	Kind   ChangeKind
	Symbol Symbol
	Before Position // zero for Opened
	After  Position // zero for Closed
	Reason Reason
}

// Book keeps the identity, the extremes and the age of every open position. It has no clock and does no I/O: what it
// holds follows from the calls alone, so that two books that are told the same hold the same. It is not safe for
// concurrent use.
//
// Flat needs evidence: a record that says so, or absence from two complete snapshots in a row of one living
// incarnation of a source. Sources that vanish as a whole, restart or fall silent leave their positions standing;
// only Position.UpdatedAt stops moving.
//
// A position belongs to the source that reported it, and only that source decides about it, except that a source of
// higher priority always may, and any other may once the owner lacks the position or has been silent about it for 30
// seconds.
type Book struct {
	slots    map[Symbol]*slot
	open     []*slot // those with a position, by symbol
	sources  map[string]*source
	priority []string
	seq      uint64    // grows with every snapshot
	firstAt  time.Time // of the first snapshot
}

// slot is everything remembered of one symbol, whether a position is open or not.
type slot struct {
	symbol Symbol
	open   bool
	pos    Position
	owner  string // the source that decides; blank for a restored position of unknown origin

	// borrowed: the identity comes from durable memory or from another source, so there is no previous reading of
	// this source to compare with.
	borrowed    bool
	unconfirmed bool // restored and not reported since

	seq       uint64    // the last snapshot that mentioned the symbol in any way
	seenAt    time.Time // the last time the owner had it
	missing   int       // absences in a row
	unsettled time.Time // when sight of it was lost together with all others; zero: not
	ended     string    // the episode before this one: never used again
	floor     time.Time // with strategy time: the wall time before which no price belongs to this episode
	after     time.Time // after a flip: the opening of the other side, which this one cannot share

	// The previous reading of the owner.
	age     time.Duration
	hasAge  bool
	stamp   time.Time // UpdatedAt as reported
	stampAt time.Time // the same, never in the future

	// The last price of the record, with the time at which it changed.
	said   float64
	saidAt time.Time

	// The newest market price, known whether a position is open or not.
	price   float64
	priceAt time.Time
}

// source is what is remembered of one supplier of snapshots.
type source struct {
	rank     int
	instance string
	at       time.Time // of its last snapshot
	flat     map[Symbol]struct{}
}

// NewBook returns an empty book. Where several sources report the same symbol the one named first here decides;
// sources that are not named come after those, in the order of their first snapshot.
func NewBook(sources ...string) *Book {
	return &Book{
		slots:    make(map[Symbol]*slot),
		sources:  make(map[string]*source),
		priority: slices.Clone(sources),
	}
}

// Get returns the open position of a symbol.
func (b *Book) Get(sym Symbol) (Position, bool) {
	if s := b.slots[sym]; s != nil && s.open {
		return s.pos, true
	}
	return Position{}, false
}

// Restore puts a position from durable memory back: its episode, extremes and opening time. It has no effect where a
// position of that symbol is open, and neither has one without symbol, side or entry.
// A source that reports the same position later keeps the identity (Updated), another one ends it (Flipped, Renewed),
// and a source that lives and lacks it twice closes it like any other.
func (b *Book) Restore(p Position) {
	s := b.slot(p.Symbol)
	if p.Symbol == "" || p.Side.Sign() == 0 || !isPrice(p.Entry) || s.open {
		return
	}
	peak, trough := p.Peak, p.Trough
	p.Peak, p.Trough = p.Entry, p.Entry
	s.pos = p
	s.owner = p.Source
	s.borrowed, s.unconfirmed = true, true
	s.extend(peak)
	s.extend(trough)
	if isPrice(p.Current) {
		s.extend(p.Current)
	} else {
		s.pos.Current, s.pos.CurrentAt = 0, time.Time{}
	}
	if p.Episode == "" && !p.OpenedAt.IsZero() {
		s.pos.Episode = episodeID(p.Symbol, p.Side, p.OpenedAt)
	}
	b.insert(s)
	s.mark(s.price, s.priceAt)
}

// Adopt gives an open position the identity and the extremes that durable memory has of it, and tells whether it did: not
// where the two cannot be the same, because of their side, because their openings lie more than a minute apart, or
// because this book saw the remembered one end.
func (b *Book) Adopt(p Position) bool {
	s := b.slots[p.Symbol]
	if s == nil || !s.open || s.pos.Side != p.Side || p.Episode == "" {
		return false
	}
	if s.pos.Episode != p.Episode {
		apart := s.pos.OpenedAt.Sub(p.OpenedAt).Abs()
		dated := !s.pos.OpenedAt.IsZero() && !p.OpenedAt.IsZero()
		if s.ended == p.Episode || (dated && apart > renewAfter) {
			return false
		}
		s.pos.Episode = p.Episode
		if dated {
			s.pos.OpenedAt = earlier(s.pos.OpenedAt, p.OpenedAt)
		}
	}
	s.extend(p.Peak)
	s.extend(p.Trough)
	return true
}

// Ended is the episode of the symbol that this book saw end last; blank where there is none.
func (b *Book) Ended(sym Symbol) string {
	if s := b.slots[sym]; s != nil {
		return s.ended
	}
	return ""
}

// NoteEnded tells the book which episode of a symbol ended last, as durable memory has it, so that no later one gets its
// name. It has no effect where a position is open, or where this book saw one end.
func (b *Book) NoteEnded(sym Symbol, episode string) {
	if s := b.slot(sym); !s.open && s.ended == "" {
		s.ended = episode
	}
}

// End takes an open position out of the book because somebody else saw it end. A source that reports it all the same
// opens a new episode.
func (b *Book) End(sym Symbol) {
	if s := b.slots[sym]; s != nil && s.open {
		b.remove(s)
	}
}

// Forget takes an open position out of the book as if it had never been seen, for durable memory that is read late and
// knows it better: see Restore.
func (b *Book) Forget(sym Symbol) {
	if s := b.slots[sym]; s != nil && s.open {
		ended := s.ended
		b.remove(s)
		s.ended = ended
	}
}

// Age is how long the position of a symbol has been open, in its own clock: strategy time where its opening is known
// in strategy time, wall time otherwise. It is never negative, and 0 where there is no position or no opening time.
func (b *Book) Age(sym Symbol, wall, strategy time.Time) time.Duration {
	s := b.slots[sym]
	if s == nil || !s.open || s.pos.OpenedAt.IsZero() {
		return 0
	}
	now := wall
	if s.pos.Strategy {
		now = strategy
	}
	return max(0, now.Sub(s.pos.OpenedAt))
}

// Price takes a market price with its event time. The newest of all prices is the current one; every price since the
// position was opened widens its extremes. A symbol without a position keeps the price for the moment it gets one.
func (b *Book) Price(sym Symbol, price float64, at time.Time) {
	if !isPrice(price) {
		return
	}
	s := b.slot(sym)
	if !at.Before(s.priceAt) {
		s.price, s.priceAt = price, at
	}
	s.mark(price, at)
}

// Range takes the extremes of a candle that opened at openTime, in the clock of the position's own opening, and has
// the event time at. They belong to the position only where the candle did not open before it; of an older candle
// nothing but its close (see Price) is known to lie after the entry. A candle without times is no evidence.
func (b *Book) Range(sym Symbol, high, low float64, openTime, at time.Time) {
	s := b.slots[sym]
	if s == nil || !s.open || !isPrice(high) || !isPrice(low) || openTime.IsZero() || at.IsZero() {
		return
	}
	if s.pos.OpenedAt.IsZero() || openTime.Before(s.pos.OpenedAt) {
		return
	}
	s.extend(high)
	s.extend(low)
}

// Observe takes one snapshot and returns what it changed: the reported positions in the order of the records, then the
// absent ones by symbol. strategyNow is the strategy time of the reading and dates the records of a Strategy snapshot.
// Updated is only reported where more than the times of evidence and price moved.
//
// Of two records of one symbol in one snapshot the first counts.
func (b *Book) Observe(snap Snapshot, strategyNow time.Time) []Change {
	b.seq++
	if b.firstAt.IsZero() {
		b.firstAt = snap.At
	}
	counts := b.arrive(&snap)

	now := snap.At
	if snap.Strategy {
		now = strategyNow
	}
	var changes []Change
	for i := range snap.Records {
		if c, ok := b.record(&snap.Records[i], &snap, now); ok {
			changes = append(changes, c)
		}
	}
	for _, sym := range snap.Refused {
		s := b.slot(sym)
		if s.seq == b.seq {
			continue
		}
		s.seq = b.seq
		if s.open && s.owner == snap.Source {
			s.sighted(snap.At)
		}
	}
	for _, sym := range snap.Lost {
		s := b.slot(sym)
		if s.seq == b.seq {
			continue
		}
		s.seq = b.seq
		if s.owner == snap.Source {
			s.missing, s.unsettled = 0, snap.At
		}
	}
	return b.absent(changes, &snap, counts)
}

// arrive notes the snapshot with its source and tells whether absence from it is evidence.
func (b *Book) arrive(snap *Snapshot) bool {
	src := b.sources[snap.Source]
	first := src == nil
	if first {
		src = &source{rank: slices.Index(b.priority, snap.Source), flat: make(map[Symbol]struct{})}
		if src.rank < 0 {
			src.rank = len(b.priority) + len(b.sources)
		}
		b.sources[snap.Source] = src
	}
	reborn := !first && src.instance != snap.Instance
	lives := snap.Alive || len(snap.Records)+len(snap.Refused) > 0
	fresh := snap.At.After(src.at) // the same reading, delivered twice, is one reading
	src.instance, src.at = snap.Instance, snap.At
	clear(src.flat)

	if reborn || (snap.Complete && !lives) {
		for _, s := range b.open {
			if s.owner == snap.Source {
				s.unsettled = snap.At
			}
		}
	}
	return !first && !reborn && snap.Complete && lives && fresh
}

// absent judges the positions that the snapshot does not mention.
func (b *Book) absent(changes []Change, snap *Snapshot, counts bool) []Change {
	flat := false
	for _, s := range b.open {
		if s.seq == b.seq {
			continue
		}
		own := s.owner == snap.Source
		switch {
		case !own && !(counts && b.orphaned(s, snap.At)):
			continue
		case !counts || s.settling(snap.At):
			s.missing = 0
			continue
		case !own:
			s.owner, s.missing = snap.Source, 0
		}
		s.missing++
		if s.missing >= absencesNeeded {
			changes = append(changes, Change{Kind: Closed, Symbol: s.symbol, Before: s.pos, Reason: ReasonAbsent})
			s.close()
			flat = true
		}
	}
	if flat {
		b.open = slices.DeleteFunc(b.open, func(s *slot) bool { return !s.open })
	}
	return changes
}

// orphaned tells whether nobody is left to decide about a position: it was restored from a source that does not report
// to this book, or its source stopped reporting altogether while another one goes on.
func (b *Book) orphaned(s *slot, at time.Time) bool {
	if s.owner == "" {
		return true
	}
	last := b.firstAt
	if owner := b.sources[s.owner]; owner != nil {
		last = owner.at
	}
	return at.Sub(last) > silentAfter
}

// decides tells whether the source of a record may speak for the position in the slot.
func (b *Book) decides(s *slot, r *Record, snap *Snapshot) bool {
	if s.owner == snap.Source {
		return true
	}
	// An event that is older than what is known already is no news.
	if snap.Standing && !r.UpdatedAt.After(s.pos.UpdatedAt) {
		return false
	}
	owner := b.sources[s.owner]
	if owner == nil || b.sources[snap.Source].rank < owner.rank {
		return true
	}
	return s.missing > 0 || snap.At.Sub(s.seenAt) > silentAfter
}

// overruled tells whether a source of higher priority says at this moment that there is no such position.
func (b *Book) overruled(sym Symbol, snap *Snapshot) bool {
	rank := b.sources[snap.Source].rank
	for _, o := range b.sources {
		if _, flat := o.flat[sym]; flat && o.rank < rank && snap.At.Sub(o.at) <= silentAfter {
			return true
		}
	}
	return false
}

func (b *Book) slot(sym Symbol) *slot {
	s := b.slots[sym]
	if s == nil {
		// The caller's text may be a piece of something large.
		sym = Symbol(strings.Clone(string(sym)))
		s = &slot{symbol: sym}
		b.slots[sym] = s
	}
	return s
}

func (b *Book) insert(s *slot) {
	s.open = true
	i, _ := b.find(s.symbol)
	b.open = slices.Insert(b.open, i, s)
}

func (b *Book) remove(s *slot) {
	s.close()
	if i, found := b.find(s.symbol); found {
		b.open = slices.Delete(b.open, i, i+1)
	}
}

func (b *Book) find(sym Symbol) (int, bool) {
	return slices.BinarySearchFunc(b.open, sym, func(s *slot, sym Symbol) int {
		return strings.Compare(string(s.symbol), string(sym))
	})
}

// close forgets everything but the market price, the name of what ended, and that the symbol was mentioned.
func (s *slot) close() {
	*s = slot{symbol: s.symbol, seq: s.seq, price: s.price, priceAt: s.priceAt, ended: s.pos.Episode}
}

// sighted notes that the owner has the position.
func (s *slot) sighted(at time.Time) {
	s.seenAt, s.missing, s.unsettled = at, 0, time.Time{}
}

// settling tells whether sight was lost of this position together with all others of its source, not long ago.
func (s *slot) settling(at time.Time) bool {
	if s.unsettled.IsZero() {
		return false
	}
	if at.Before(s.unsettled) { // the clock stepped back: wait the whole time anew
		s.unsettled = at
	}
	return at.Sub(s.unsettled) <= settleTime
}

// mark takes a market price.
func (s *slot) mark(price float64, at time.Time) {
	if !s.open || price == 0 {
		return
	}
	since := s.pos.OpenedAt
	if s.pos.Strategy {
		since = s.floor
	}
	if !at.Before(since) {
		s.extend(price)
	}
	if !at.Before(s.pos.CurrentAt) {
		s.pos.Current, s.pos.CurrentAt = price, at
	}
}

// extend widens the extremes by one price; within an episode they never narrow.
func (s *slot) extend(price float64) {
	if !isPrice(price) {
		return
	}
	s.pos.Peak = max(s.pos.Peak, price)
	s.pos.Trough = min(s.pos.Trough, price)
}

func isPrice(v float64) bool { return v > 0 && !math.IsInf(v, 1) }
