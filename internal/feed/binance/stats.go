package binance

import (
	"sync/atomic"
	"time"
)

// Stats is what a Feed did so far. Counts only grow.
type Stats struct {
	Symbols     int // read now
	Waiting     int // of those, without a history yet
	Connections int // open now

	Connects   uint64 // connections made
	Reconnects uint64 // connections that failed and had to be made again
	Rotations  uint64 // connections replaced by plan or because a stream on them was silent, nothing lost in between
	Silences   uint64 // streams, or whole connections, that were silent beyond their interval
	Outages    uint64 // Outage events

	Candles    uint64 // closed candles handed out, histories apart
	GapsFilled uint64 // of those, by REST because no stream delivered them
	Histories  uint64 // histories handed out
	Duplicates uint64 // closed candles that came once more, and were not handed out
	Late       uint64 // messages older than what was already known
	Merged     uint64 // quotes replaced by a newer one before anyone looked at them
	Unknown    uint64 // messages that are none of ours, or unreadable as a whole
	Refusals   uint64 // Refusal events

	// ClockOffset is how far the exchange's clock is ahead of ours; it means nothing while ClockMeasured is zero.
	ClockOffset    time.Duration
	ClockMeasured  time.Time
	ClockFailures  uint64
	UsedWeight     int       // request weight of the current minute, as the exchange counts it for our address
	WeightLimit    int       // what this feed allows itself in a minute
	BlockedUntil   time.Time // the exchange told us to keep away until then; zero: it did not
	Requests       uint64    // REST requests sent
	FailedRequests uint64    // of those, without a usable answer
}

type counters struct {
	connections                                        atomic.Int64
	connects, reconnects, rotations, silences, outages atomic.Uint64
	candles, gapsFilled, histories, duplicates, late   atomic.Uint64
	merged, unknown, refusals, clockFailures           atomic.Uint64
}

// Stats may be called at any time, from any goroutine.
func (f *Feed) Stats() Stats {
	c := &f.counts
	s := Stats{
		Connections: int(c.connections.Load()),
		Connects:    c.connects.Load(), Reconnects: c.reconnects.Load(), Rotations: c.rotations.Load(),
		Silences: c.silences.Load(), Outages: c.outages.Load(), Candles: c.candles.Load(),
		GapsFilled: c.gapsFilled.Load(), Histories: c.histories.Load(), Duplicates: c.duplicates.Load(),
		Late: c.late.Load(), Merged: c.merged.Load(), Unknown: c.unknown.Load(), Refusals: c.refusals.Load(),
		ClockFailures: c.clockFailures.Load(),
		Requests:      f.rest.requests.Load(), FailedRequests: f.rest.failed.Load(),
	}
	s.ClockOffset, s.ClockMeasured = f.clock.reading()
	s.UsedWeight, s.WeightLimit, s.BlockedUntil = f.rest.budget.reading()
	f.mu.RLock()
	defer f.mu.RUnlock()
	s.Symbols = len(f.tracks)
	for _, t := range f.tracks {
		t.mu.Lock()
		if !t.ready {
			s.Waiting++
		}
		t.mu.Unlock()
	}
	return s
}
