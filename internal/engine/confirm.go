package engine

import (
	"errors"
	"time"

	"quantumharvest/internal/store"
)

// Confirm takes in what became of a Work of Urgent or Routine. With a non-nil err nothing is known to have been written:
// everything open is written in full when the store is back.
func (e *Engine) Confirm(w Work, res store.Results, err error, now time.Time) {
	e.keepTime(now)
	e.routineLeft = true // what was under way may be due again
	if err != nil {
		e.storeFailed(w)
		return
	}
	e.met.roundTrips.Add(float64(res.RoundTrips))
	if err := errors.Join(res.ExpectErr, res.StreamErr); err != nil {
		e.met.sideErrors.Inc()
		e.redrop(w.Batch.Unexpect)
		e.say("side write", "", "proposals were written, but not everything beside them", "err", err)
	}
	for i, r := range res.Publishes {
		e.confirmPublish(w, w.Batch.Publishes[i], r)
	}
	for i, r := range res.Beats {
		e.confirmBeat(w, w.Batch.Beats[i], r)
	}
	for i, r := range res.Closes {
		e.confirmClose(w, w.Batch.Closes[i], r)
	}
	for _, group := range [2][]store.Result{res.States, res.Stops} {
		for _, r := range group {
			e.met.produced.WithLabelValues(string(r.Outcome)).Inc()
			if r.Outcome == store.Failed {
				e.say("produced", r.Symbol, "produced record was refused by the store", "err", r.Err)
			}
		}
	}
}

func (e *Engine) storeFailed(w Work) {
	e.counts.storeErrors++
	for _, p := range w.Batch.Publishes {
		e.symbols[p.Symbol].inFlight = false
		e.met.publishes.WithLabelValues(resultError).Inc()
	}
	for _, b := range w.Batch.Beats {
		e.symbols[b.Symbol].inFlight = false
		e.met.beats.WithLabelValues(resultError).Inc()
	}
	for _, c := range w.Batch.Closes {
		e.symbols[c.Symbol].inFlight = false
	}
	e.redrop(w.Batch.Unexpect)
	// A write whose answer was lost may or may not have arrived, and the store may come back empty or old.
	for _, s := range e.order {
		s.held.distrust = true
		s.expect = s.open || s.refused
		s.market.producedAt = time.Time{}
	}
	clear(e.remembered)
	e.keeper.Hurry() // the server that is asked next may be another one, and remember less
}

func (e *Engine) confirmPublish(w Work, p store.Proposal, r store.Result) {
	s := e.symbols[p.Symbol]
	s.inFlight = false
	e.met.publishes.WithLabelValues(string(r.Outcome)).Inc()
	switch r.Outcome {
	case store.Done:
	case store.Fenced:
		e.fencedBy(s, r)
		return
	case store.Unleased:
		e.unleased(s, w.Batch.Lease, r)
		return
	default:
		s.held.distrust = true
		s.retryBeat = e.beatNo + 1
		e.say("publish", s.name, "proposal was not written", "outcome", r.Outcome, "err", r.Err)
		return
	}
	e.counts.publishes++
	s.stats.publishes++
	s.stats.everServed = true
	s.revision = max(s.revision, r.Revision)
	s.lastBeatAt = w.sent
	if r.Repaired {
		e.met.wrongType.Inc()
		e.repaired(s, "its key had another type")
	}
	if s.beatCarried {
		s.beatDue = false
		s.stats.beats++
		e.counts.beats++
		e.met.beats.WithLabelValues(resultPublished).Inc()
	}
	if s.open && s.advice.content.Episode == p.Episode {
		p.Revision = r.Revision
		s.held = held{proposal: p, at: e.elapsed(w.sent)}
	}
	// Otherwise the position closed or flipped while the write was under way; the close follows.
}

func (e *Engine) confirmBeat(w Work, b store.Beat, r store.Result) {
	s := e.symbols[b.Symbol]
	s.inFlight = false
	e.met.beats.WithLabelValues(string(r.Outcome)).Inc()
	if s.held.proposal.Revision != b.Revision {
		return // the position closed or flipped meanwhile: the answer is about what was
	}
	switch r.Outcome {
	case store.Done:
		e.counts.beats++
		s.stats.beats++
		s.beatDue = false
		s.lastBeatAt = b.LastUpdate
		h := &s.held.proposal
		h.LastUpdate, h.ValidUntil, h.MarketAt, h.PositionAt = b.LastUpdate, b.ValidUntil, b.MarketAt, b.PositionAt
		h.Peak, h.Trough = b.Peak, b.Trough
	case store.Fenced:
		e.fencedBy(s, r)
	case store.Unleased:
		e.unleased(s, w.Batch.Lease, r)
	case store.Failed:
		s.held.distrust = true
		s.retryBeat = e.beatNo + 1
		e.say("beat", s.name, "heartbeat was not written", "err", r.Err)
	default: // missing, incomplete, superseded: the copy in the store is not ours or not whole
		s.held.distrust = true
		e.repaired(s, string(r.Outcome))
	}
}

func (e *Engine) repaired(s *symbol, found string) {
	e.counts.repairs++
	e.met.repairs.Inc()
	e.say("repair", s.name, "proposal in the store is not whole: publishing in full", "found", found)
}

func (e *Engine) confirmClose(w Work, c store.Close, r store.Result) {
	s := e.symbols[c.Symbol]
	s.inFlight = false
	e.met.closes.WithLabelValues(string(r.Outcome)).Inc()
	switch r.Outcome {
	case store.Fenced:
		e.fencedBy(s, r)
	case store.Unleased:
		e.unleased(s, w.Batch.Lease, r)
	case store.Failed:
		s.retryBeat = e.beatNo + 1
		e.say("close", s.name, "closing record was not written", "err", r.Err)
	default:
		s.closing = s.closing[1:]
		s.revision = max(s.revision, r.Revision) // an answer to a publish may have been lost
		e.counts.closes++
	}
}
