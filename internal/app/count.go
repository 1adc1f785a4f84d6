package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

// positionCount counts open positions from their own source, independently of what the publisher makes of them. It is
// a feed.Sink that remembers the newest snapshot.
type positionCount struct {
	now func() time.Time

	mu     sync.Mutex
	source string
	open   map[position.Symbol]bool
	at     time.Time
	fault  error // of the last reading; nil: it succeeded
}

// countStale is the age from which a count no longer says anything about now.
const countStale = 15 * time.Second

func newPositionCount() *positionCount { return &positionCount{now: time.Now} }

func (c *positionCount) offer(ev feed.Event) {
	if out, ok := ev.(feed.Outage); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fault = out.Err
		return
	}
	snap, ok := ev.(feed.Snapshot)
	if !ok {
		return
	}
	open := make(map[position.Symbol]bool, len(snap.Records))
	for _, r := range snap.Records {
		if !r.Flat() {
			open[r.Symbol] = true
		}
	}
	// A refused record is a position that is there and cannot be read: it counts as open.
	for _, sym := range snap.Refused {
		open[sym] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sym := range snap.Lost { // out of sight: as it was
		if snap.Source == c.source && c.open[sym] {
			open[sym] = true
		}
	}
	c.source, c.open, c.at, c.fault = snap.Source, open, snap.At, nil
}

// OpenPositions returns the count of the newest snapshot and the name of its source. It fails where there is none that
// is fresh.
func (c *positionCount) OpenPositions(context.Context) (map[string]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault != nil && (c.at.IsZero() || c.now().Sub(c.at) > countStale) {
		return nil, fmt.Errorf("the position source cannot be read: %w", c.fault)
	}
	if c.at.IsZero() {
		return nil, errors.New("the position source has not been read yet")
	}
	if old := c.now().Sub(c.at); old > countStale {
		return nil, fmt.Errorf("the position source %s was last read %s ago", c.source, old.Round(time.Second))
	}
	return map[string]int{c.source: len(c.open)}, nil
}

// everRead tells whether the source was read at least once.
func (c *positionCount) everRead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.at.IsZero()
}
