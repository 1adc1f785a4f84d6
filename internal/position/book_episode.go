package position

import (
	"strconv"
	"strings"
	"time"
)

const (
	// renewAfter is how far an opening time must move forward to mean another position (wire contract, "Episode").
	renewAfter = 60 * time.Second
	// ageJitter is how far an opening time derived from an age may wander: ages come in whole seconds.
	ageJitter = 2 * time.Second
)

// episodeID names a position from open to flat: the same for everyone who knows symbol, side and opening time.
func episodeID(sym Symbol, side Side, opened time.Time) string {
	letter := "L"
	if side == Short {
		letter = "S"
	}
	return string(sym) + "-" + letter + "-" + strconv.FormatInt(opened.Unix(), 10)
}

// nextEpisode is id, unless the episode that ended last had it: a record that comes back unchanged after an observed flat
// is another position, and says .2, .3 and so on behind the same opening time.
func nextEpisode(ended, id string) string {
	count, same := strings.CutPrefix(ended, id)
	if !same {
		return id
	}
	n := 1
	if count != "" {
		i, err := strconv.Atoi(strings.TrimPrefix(count, "."))
		if count[0] != '.' || err != nil {
			return id // a longer name that only begins like this one
		}
		n = i
	}
	return id + "." + strconv.Itoa(n+1)
}

// record takes one record of a snapshot and tells what it changed.
func (b *Book) record(r *Record, snap *Snapshot, now time.Time) (Change, bool) {
	s := b.slot(r.Symbol)
	if s.seq == b.seq {
		return Change{}, false
	}
	s.seq = b.seq
	if r.Flat() {
		return b.flat(s, r, snap)
	}
	if b.overruled(r.Symbol, snap) || r.Side.Sign() == 0 || !isPrice(r.Entry) {
		return Change{}, false
	}
	at := observedAt(r, snap, now)
	if !s.open {
		b.insert(s)
		s.begin(r, snap, openedAt(r, at))
		s.fill(r, snap)
		return Change{Kind: Opened, Symbol: s.symbol, After: s.pos, Reason: ReasonSeen}, true
	}
	if !b.decides(s, r, snap) {
		return Change{}, false
	}
	if s.owner != snap.Source {
		s.borrowed = true
	}
	before := s.pos
	kind, reason := s.judge(r, snap, at)
	if kind == Renewed && before.Episode == episodeID(s.symbol, r.Side, openedAt(r, at)) {
		// Back to the opening that named it, after a correction: no two positions share it.
		kind = Updated
	}
	if kind == Updated {
		s.anchor(r, at)
	} else {
		opened := openedAt(r, at)
		s.after = time.Time{}
		if kind == Flipped && !(s.borrowed && snap.Strategy) {
			// What is dated like its predecessor was not dated anew yet: the writer did not get round to it.
			s.after = before.OpenedAt
			if !opened.After(s.after) {
				opened = at
			}
		}
		s.begin(r, snap, opened)
	}
	confirmed := s.unconfirmed
	s.fill(r, snap)
	switch {
	case kind != Updated:
		return Change{Kind: kind, Symbol: s.symbol, Before: before, After: s.pos, Reason: reason}, true
	case confirmed:
		return Change{Kind: Updated, Symbol: s.symbol, Before: before, After: s.pos, Reason: ReasonConfirmed}, true
	case !sameContent(before, s.pos):
		return Change{Kind: Updated, Symbol: s.symbol, Before: before, After: s.pos, Reason: ReasonContent}, true
	}
	return Change{}, false
}

// flat takes a record that says in so many words that there is no position.
func (b *Book) flat(s *slot, r *Record, snap *Snapshot) (Change, bool) {
	b.sources[snap.Source].flat[s.symbol] = struct{}{}
	if !s.open || !b.decides(s, r, snap) {
		return Change{}, false
	}
	// A close event from before the opening is about an earlier position.
	dated := snap.Standing && !s.pos.Strategy && !r.UpdatedAt.IsZero()
	if dated && s.pos.OpenedAt.Sub(r.UpdatedAt) > renewAfter {
		return Change{}, false
	}
	reason := ReasonQuantityZero
	if r.Closed {
		reason = ReasonCloseEvent
	}
	before := s.pos
	b.remove(s)
	return Change{Kind: Closed, Symbol: s.symbol, Before: before, Reason: reason}, true
}

// observedAt is the moment at which the record's age was true, in the clock of its times.
func observedAt(r *Record, snap *Snapshot, now time.Time) time.Time {
	if !r.UpdatedAt.IsZero() && r.UpdatedAt.Before(now) {
		return r.UpdatedAt
	}
	return now.Round(0) // a date, not a stopwatch: ages go on while the machine sleeps
}

// openedAt is when the position was opened: as reported, else by its age, else when it was first seen.
func openedAt(r *Record, at time.Time) time.Time {
	switch {
	case !r.OpenedAt.IsZero():
		return r.OpenedAt
	case r.HasAge:
		return at.Add(-r.Age)
	}
	return at
}

// judge tells whether the record is still about the position in the slot.
//
// A reported opening time is believed: moved forward by more than a minute, it is another position. An age alone is
// weaker, since many writers leave it as it once was: it only speaks where it fell by more than a minute, or where it
// changed, fell behind the clock by more than a minute, and the entry differs too. Against durable memory, where there
// is no previous age to compare with, the entry must differ.
func (s *slot) judge(r *Record, snap *Snapshot, at time.Time) (ChangeKind, Reason) {
	if r.Side != s.pos.Side {
		return Flipped, ReasonSide
	}
	if s.pos.OpenedAt.IsZero() {
		return Updated, ""
	}
	later := openedAt(r, at).Sub(s.pos.OpenedAt)
	if s.borrowed && snap.Strategy && later < -renewAfter {
		// A replayed clock that starts anew makes new positions, which look older than those of the last run.
		return Renewed, ReasonOtherClock
	}
	if !r.OpenedAt.IsZero() {
		if later > renewAfter {
			return Renewed, ReasonOpenedLater
		}
		return Updated, ""
	}
	if !r.HasAge || later <= renewAfter {
		return Updated, ""
	}
	otherEntry := r.Entry != s.pos.Entry
	switch {
	case s.borrowed || !s.hasAge:
		if otherEntry {
			return Renewed, ReasonYounger
		}
	case s.age-r.Age > renewAfter, otherEntry && r.Age != s.age:
		return Renewed, ReasonYounger
	}
	return Updated, ""
}

// anchor corrects the opening time of a position that goes on. An unchanged age is no news: it was true when it was
// first reported and has grown since. A small step forward of a reported time is kept out, so that many small steps
// cannot hide a renewal.
func (s *slot) anchor(r *Record, at time.Time) {
	opened := openedAt(r, at)
	switch {
	case s.pos.OpenedAt.IsZero():
		s.pos.OpenedAt = opened
	case !opened.After(s.after):
	case !r.OpenedAt.IsZero():
		if opened.Before(s.pos.OpenedAt) {
			s.pos.OpenedAt = opened
		}
	case !r.HasAge:
	case s.borrowed || !s.hasAge:
		if s.pos.OpenedAt.Sub(opened) > ageJitter {
			s.pos.OpenedAt = opened
		}
	case r.Age != s.age && opened.Sub(s.pos.OpenedAt).Abs() > ageJitter:
		s.pos.OpenedAt = opened
	}
	if s.pos.Episode == "" {
		s.pos.Episode = episodeID(s.symbol, s.pos.Side, s.pos.OpenedAt)
	}
}

// begin starts an episode. Only the market price outlives the one before.
func (s *slot) begin(r *Record, snap *Snapshot, opened time.Time) {
	s.pos = Position{
		Symbol: s.symbol, Side: r.Side, Entry: r.Entry, Peak: r.Entry, Trough: r.Entry,
		Episode: nextEpisode(s.ended, episodeID(s.symbol, r.Side, opened)), OpenedAt: opened, Strategy: snap.Strategy,
	}
	s.floor = snap.At
	s.said, s.saidAt = 0, time.Time{}
	s.mark(s.price, s.priceAt)
}

// fill takes over what the record says about the position in the slot.
func (s *slot) fill(r *Record, snap *Snapshot) {
	p := &s.pos
	stamped := !r.UpdatedAt.IsZero() && !snap.Strategy
	if stamped && !r.UpdatedAt.Equal(s.stamp) {
		s.stamp, s.stampAt = r.UpdatedAt, earlier(r.UpdatedAt, snap.At)
	}

	evidence := snap.At
	if stamped && !snap.Standing {
		// Never backwards for an old record, and never ahead of the reading: a stamp from the future is worth the
		// moment it was first seen, so that a source that stopped cannot look alive.
		evidence = s.stampAt
		if evidence.Before(p.UpdatedAt) {
			evidence = p.UpdatedAt
		}
		evidence = earlier(evidence, snap.At)
	}
	p.UpdatedAt = evidence

	p.Entry, p.Stop, p.Target = r.Entry, r.Stop, r.Target
	p.Quantity = 0
	if r.HasQuantity {
		p.Quantity = r.Quantity
	}
	p.ReportedPnL, p.HasPnL = perUnit(r)
	p.ReportedPrice = r.Current
	p.Source, p.Strategy = snap.Source, snap.Strategy

	s.extend(r.Entry)
	s.extend(r.Peak)
	s.extend(r.Trough)
	s.extend(r.Current)
	if isPrice(r.Current) {
		if stamped {
			s.saidAt = s.stampAt
		} else if r.Current != s.said {
			// A record that never changes must not pass for a live price.
			s.saidAt = snap.At
		}
		s.said = r.Current
		if !s.saidAt.Before(p.CurrentAt) {
			p.Current, p.CurrentAt = r.Current, s.saidAt
		}
	}

	s.age, s.hasAge = r.Age, r.HasAge
	s.owner = snap.Source
	s.borrowed, s.unconfirmed = false, false
	s.sighted(snap.At)
}

// perUnit converts a reported profit to one unit of base.
func perUnit(r *Record) (float64, bool) {
	pnl := r.PnL
	if r.HasQuantity && r.Quantity > 0 {
		pnl /= r.Quantity
	}
	if !r.HasPnL || pnl-pnl != 0 { // infinite for a vanishing quantity
		return 0, false
	}
	return pnl, true
}

// sameContent compares two states of one position without the times of evidence and price.
func sameContent(a, b Position) bool {
	a.UpdatedAt, b.UpdatedAt = time.Time{}, time.Time{}
	a.CurrentAt, b.CurrentAt = time.Time{}, time.Time{}
	return a == b
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
