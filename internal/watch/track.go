package watch

import (
	"cmp"
	"slices"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// silentAfter is from when on a proposal of an earlier writer, which does not say how long it is valid, counts as stale:
// that is when the alert on its heartbeat counts it, too. Where it has no heartbeat of its own, content is renewed once
// a minute and some more.
const (
	silentAfter        = 30 * time.Second
	contentSilentAfter = 90 * time.Second
)

// tracker turns readings into events: what is different from the last one that could be read.
type tracker struct {
	seen    map[position.Symbol]*memory
	begun   bool // there was a reading
	initial bool // the first reading tells, too
	unsure  bool // the store was away: what is gone may have been lost with it
}

// memory is what is known of one symbol.
type memory struct {
	last    store.Proposal
	stale   bool
	absent  int  // readings in a row without a proposal
	missing bool // missing was told
	dropped int  // readings since then, in a row, in which others are expected and this one is not
}

func newTracker(initial bool) *tracker {
	return &tracker{seen: map[position.Symbol]*memory{}, initial: initial}
}

// suspect says that the store was away, and may come back without what it held.
func (t *tracker) suspect() { t.unsure = true }

// observe takes in one reading and gives what happened since the one before.
func (t *tracker) observe(c store.Collection) []Event {
	expected := make(map[position.Symbol]bool, len(c.Expected))
	for _, sym := range c.Expected {
		expected[sym] = true
	}
	var events []Event
	at, quiet := c.ServerTime, !t.begun && !t.initial
	t.begun = true
	covered := make(map[position.Symbol]bool, len(c.Entries))
	found := 0
	for i := range c.Entries {
		e := &c.Entries[i]
		switch {
		case e.Err != nil:
			covered[e.Symbol] = true // nothing is known of it now, and that is no news about the position
			found++
		case e.Found:
			covered[e.Symbol] = true
			found++
			events = append(events, t.present(e, at)...)
		}
	}
	if quiet {
		events = nil
	}
	if c.ExpectedErr != nil {
		return events // who is not in this reading was not looked for
	}
	// Several proposals that vanish at once with nothing left were lost, not closed.
	known := 0
	for _, m := range t.seen {
		if !m.missing {
			known++
		}
	}
	wiped := found == 0 && known > 1
	for sym, m := range t.seen {
		if !covered[sym] {
			events = append(events, t.gone(sym, m, at, expected[sym], len(expected) > 0, wiped)...)
		}
	}
	t.unsure = false
	// Those that are gone came in any order.
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Symbol, b.Symbol) })
	return events
}

// present compares one proposal with the last one of its symbol.
func (t *tracker) present(e *store.Entry, at time.Time) []Event {
	p := e.Proposal
	m, known := t.seen[e.Symbol]
	if known {
		keep(&p, &m.last, e.Problems)
	}
	stale := expired(&p, at)
	if !known {
		t.seen[e.Symbol] = &memory{last: p, stale: stale}
		return opened(e.Symbol, p, at, stale)
	}
	before := *m
	*m = memory{last: p, stale: stale}
	if before.last.Episode != "" && p.Episode != "" && before.last.Episode != p.Episode {
		return append([]Event{about(Closed, e.Symbol, before.last, at)}, opened(e.Symbol, p, at, stale)...)
	}
	var events []Event
	add := func(kind Kind) {
		ev := about(kind, e.Symbol, p, at)
		ev.PreviousAction, ev.PreviousState = before.last.Action, before.last.InputState
		events = append(events, ev)
	}
	if (before.missing || before.stale) && !stale {
		add(Live)
	}
	if p.Action != before.last.Action {
		add(Action)
	}
	if p.InputState != before.last.InputState {
		add(State)
	}
	if stale && !before.stale {
		add(Stale)
	}
	return events
}

// keep stands in the last known value for a field that cannot be read: that is no change.
func keep(p, last *store.Proposal, problems []store.Problem) {
	for _, problem := range problems {
		switch problem.Field {
		case "harvest_action":
			p.Action = last.Action
		case "input_state":
			p.InputState = last.InputState
		case "episode":
			p.Episode = last.Episode
		case "schema_version":
			// Of a newer release, or spoilt: what only our fields say is not known, and so has not changed.
			p.InputState, p.Episode = last.InputState, last.Episode
		case "valid_until_epoch":
			p.ValidUntil = last.ValidUntil
		case "last_update_epoch":
			p.LastUpdate = last.LastUpdate
		}
	}
}

// droppedAfter is for how many readings a missing proposal must not be expected, while others are, before that counts as
// closed: a publisher that fills an emptied store again needs some seconds.
const droppedAfter = 30

// gone judges a symbol that has no proposal now.
func (t *tracker) gone(sym position.Symbol, m *memory, at time.Time, expected, others, wiped bool) []Event {
	m.absent++
	switch {
	case m.missing && !expected && others:
		if m.dropped++; m.dropped < droppedAfter {
			return nil
		}
	case m.missing:
		m.dropped = 0
		return nil
	case wiped, t.unsure, expected && m.absent > 1:
		m.missing, m.stale = true, false
		return []Event{about(Missing, sym, m.last, at)}
	case expected:
		return nil // deleted between the two halves of this reading: the next one tells
	}
	delete(t.seen, sym)
	return []Event{about(Closed, sym, m.last, at)}
}

func opened(sym position.Symbol, p store.Proposal, at time.Time, stale bool) []Event {
	events := []Event{about(Appeared, sym, p, at)}
	if stale {
		events = append(events, about(Stale, sym, p, at))
	}
	return events
}

// about makes an event about p in which nothing changed.
func about(kind Kind, sym position.Symbol, p store.Proposal, at time.Time) Event {
	return Event{Kind: kind, At: at, Symbol: sym, PreviousAction: p.Action, PreviousState: p.InputState, Proposal: p}
}

func expired(p *store.Proposal, at time.Time) bool {
	switch {
	case !p.ValidUntil.IsZero():
		return at.After(p.ValidUntil)
	case p.LastUpdate.IsZero():
		return false // nothing is known
	case p.LastUpdateDerived:
		return at.Sub(p.LastUpdate) >= contentSilentAfter
	}
	return at.Sub(p.LastUpdate) >= silentAfter
}
