package engine

import (
	"sync"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

// inbox holds what the sources said since the last step, in order. Of several prices of one symbol only the newest is
// kept, in the place of the oldest, so that memory is bounded by the number of symbols and latency under overload
// degrades evenly; what was merged away is counted.
type inbox struct {
	wake chan struct{}

	mu     sync.Mutex
	events []feed.Event
	latest map[tickKey]int // index into events of the one that may still be replaced
	merged uint64
}

// tickKey names what may be replaced by a newer one of its kind.
type tickKey struct {
	symbol position.Symbol
	kind   byte
}

const (
	kindPrice byte = iota
	kindOpenCandle
)

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1), latest: make(map[tickKey]int)}
}

func (b *inbox) put(ev feed.Event) {
	b.mu.Lock()
	key, mergeable := mergeKey(ev)
	if i, seen := b.latest[key]; mergeable && seen && sameBar(b.events[i], ev) {
		b.events[i] = mergeTicks(b.events[i], ev)
		b.merged++
	} else {
		if mergeable {
			b.latest[key] = len(b.events)
		} else if c, ok := ev.(feed.Candle); ok {
			// A closed candle ends its open one: a later revision belongs behind it.
			delete(b.latest, tickKey{symbol: c.Symbol, kind: kindOpenCandle})
		}
		b.events = append(b.events, ev)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.events)
}

// take empties the inbox into buf, which the caller owns until the next take.
func (b *inbox) take(buf []feed.Event) (events []feed.Event, merged uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	events, b.events = b.events, buf[:0]
	clear(b.latest)
	merged, b.merged = b.merged, 0
	return events, merged
}

func mergeKey(ev feed.Event) (tickKey, bool) {
	switch ev := ev.(type) {
	case feed.Price:
		return tickKey{symbol: ev.Symbol, kind: kindPrice}, true
	case feed.Candle:
		if !ev.Closed {
			return tickKey{symbol: ev.Symbol, kind: kindOpenCandle}, true
		}
	}
	return tickKey{}, false
}

func sameBar(old, ev feed.Event) bool {
	o, ok := old.(feed.Candle)
	if !ok {
		return true
	}
	n, ok := ev.(feed.Candle)
	return ok && o.OpenTime.Equal(n.OpenTime)
}

// mergeTicks keeps the newest of two ticks, and the extremes of both: a high that was merged away was still a high. Prices
// that arrive out of order do not turn the clock back. An open candle carries its own extremes.
func mergeTicks(old, ev feed.Event) feed.Event {
	o, ok := old.(feed.Price)
	if !ok {
		return ev
	}
	n := ev.(feed.Price)
	high, low := max(o.Price, o.High, n.Price, n.High), min(o.Price, n.Price)
	for _, l := range [...]float64{o.Low, n.Low} {
		if l > 0 {
			low = min(low, l)
		}
	}
	if n.At.Before(o.At) {
		n = o
	}
	n.High, n.Low = high, low
	return n
}
