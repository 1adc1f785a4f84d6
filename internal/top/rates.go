package top

import (
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// counts are publishes and heartbeats: how many, or per second.
type counts struct{ publishes, beats float64 }

func (c counts) since(d counts, span time.Duration) counts {
	s := span.Seconds()
	return counts{(c.publishes - d.publishes) / s, (c.beats - d.beats) / s}
}

// The window over which rates are taken, and how much of it must have been seen before they are shown.
const (
	rateWindow = 30 * time.Second
	rateLeast  = 3 * time.Second
)

// meter counts from outside what the writers do: a publish is a step of the revision, a beat one of the heartbeat. A
// heartbeat that moves more than once between two readings counts once: the rate is a lower bound.
type meter struct {
	last    map[position.Symbol]sight
	totals  map[position.Symbol]counts
	total   counts
	history []totals // oldest first; never changed, only replaced
}

type sight struct {
	revision int64
	content  time.Time
	beat     time.Time
}

type totals struct {
	at  time.Time
	all counts
	by  map[position.Symbol]counts
}

// lost forgets the past: what happened while nobody could look is not known.
func (m meter) lost() meter { return meter{} }

// observe takes in one picture and writes the rates into it.
func (m meter) observe(p *picture) meter {
	first := m.last == nil
	next := meter{
		last: make(map[position.Symbol]sight, len(p.rows)), totals: make(map[position.Symbol]counts, len(p.rows)),
		total: m.total,
	}
	for i := range p.rows {
		e := &p.rows[i].entry
		if !e.Found {
			continue
		}
		was, known := m.last[e.Symbol]
		now := sight{e.Proposal.Revision, e.Proposal.ComputedAt, e.Proposal.LastUpdate}
		next.last[e.Symbol] = now
		step := steps(was, now, known, first, &e.Proposal)
		c := m.totals[e.Symbol]
		next.totals[e.Symbol] = counts{c.publishes + step.publishes, c.beats + step.beats}
		next.total.publishes += step.publishes
		next.total.beats += step.beats
	}
	keep := 0
	for keep < len(m.history)-1 && p.at.Sub(m.history[keep+1].at) >= rateWindow {
		keep++
	}
	next.history = append(append([]totals(nil), m.history[min(keep, len(m.history)):]...),
		totals{p.at, next.total, next.totals})
	oldest := next.history[0]
	span := p.at.Sub(oldest.at)
	if span < rateLeast {
		return next
	}
	p.rates, p.rated = next.total.since(oldest.all, span), true
	for i := range p.rows {
		then, known := oldest.by[p.rows[i].symbol]
		if now, found := next.totals[p.rows[i].symbol]; known && found {
			p.rows[i].rates, p.rows[i].rated = now.since(then, span), true
		}
	}
	return next
}

func steps(was, now sight, known, first bool, p *store.Proposal) counts {
	switch {
	case first:
		return counts{}
	case !known:
		return counts{1, 1}
	}
	var c counts
	switch {
	case now.revision > was.revision:
		c.publishes = float64(now.revision - was.revision)
	case now.revision < was.revision, p.Revision == 0 && !now.content.Equal(was.content):
		c.publishes = 1 // a new hash, or an earlier writer, which has no revisions
	}
	if !now.beat.Equal(was.beat) {
		c.beats = 1
	}
	return c
}
