package engine

import (
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// readsAtOnce is how many proposals are read back at once. What a tick leads to waits for each such part, and the memory that
// reading takes stays as long as the process does. Where the way to the store is long there are more, as of heartbeats.
const readsAtOnce = 250

// AuditExpected begins to compare what the store holds with what was confirmed, with everything but the proposals: symbols that
// somebody took out of the expected set come back into it. AuditNext and AuditEntries go on with the proposals.
func (e *Engine) AuditExpected(c store.Collection, now time.Time) {
	e.keepTime(now)
	e.routineLeft = true
	expected := make(map[position.Symbol]bool, len(c.Expected))
	for _, name := range c.Expected {
		expected[name] = true
	}
	e.audited = ""
	for _, s := range e.order {
		here := s.open || s.refused
		s.stray = !here && expected[s.name] && len(s.closing) == 0
		if here && !expected[s.name] && s.covered && e.writable(s.shard) != 0 {
			s.expect = true
		}
	}
}

// AuditNext gives the symbols whose proposals are to be read back next, in order: a part, behind those that it gave before. It
// gives none where all have been. A part has the store to itself.
func (e *Engine) AuditNext() (part []position.Symbol) {
	most := e.readsAtOnce * e.beatsAtOnce / leastBeatsAtOnce
	for _, s := range e.order[behind(e.order, e.audited):] {
		switch here := s.open || s.refused; {
		case !s.covered, e.writable(s.shard) == 0:
		case s.held.proposal.Revision != 0, !here && (s.stray || e.book.Ended(s.name) != ""):
			if len(part) == most {
				return part
			}
			part, e.audited = append(part, s.name), s.name
		}
	}
	return part
}

// AuditEntries takes in what the store holds of a part. A hash that differs in content was changed by someone else: it is
// counted and written in full with the next batch. Symbols whose position has ended leave the expected set.
func (e *Engine) AuditEntries(entries []store.Entry, now time.Time) {
	e.keepTime(now)
	e.routineLeft = true
	for i := range entries {
		en := &entries[i]
		s, ok := e.symbols[en.Symbol]
		if !ok || !s.covered || e.writable(s.shard) == 0 {
			continue
		}
		if !s.open && !s.refused {
			e.auditEnded(s, en)
		}
		if en.Lost || s.held.proposal.Revision == 0 || s.held.distrust || s.inFlight {
			continue
		}
		if isWhole(en) && sameContent(en.Proposal, s.held.proposal) {
			continue
		}
		s.held.distrust = true
		e.met.auditMismatches.Inc()
		e.repaired(s, "other content than was published")
	}
}

// auditEnded looks at what the store holds of a symbol that has no position.
func (e *Engine) auditEnded(s *symbol, en *store.Entry) {
	_, unclaimed := e.unclaimed[s.name]
	switch {
	case len(s.closing) > 0:
	case s.endStands(en, e.book.Ended(s.name)):
		// The server that forgot its close was promoted: it is closed once more.
		e.endRecalled(s, en.Proposal, reasonFlat)
	case s.stray && s.stats.everOpen && !unclaimed:
		s.unexpect = true // it was ours and has ended; taking it out had failed
	}
}

// endStands tells that the store holds a proposal of the episode that ended here last.
func (s *symbol) endStands(en *store.Entry, ended string) bool {
	return isWhole(en) && ended != "" && en.Proposal.Episode == ended && !s.inFlight
}

// isWhole tells that the store holds a hash of which every field could be read.
func isWhole(en *store.Entry) bool { return en.Found && en.Err == nil && len(en.Problems) == 0 }

// sameContent compares everything that only a full publish may change.
func sameContent(got, want store.Proposal) bool {
	for _, p := range []*store.Proposal{&got, &want} {
		p.LastUpdate, p.MarketAt, p.PositionAt, p.ValidUntil = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		p.Peak, p.Trough = 0, 0
	}
	return store.SameHash(&got, &want)
}
