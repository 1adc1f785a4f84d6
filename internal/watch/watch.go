// Package watch is the alarm for people who have no Alertmanager: it reads the store once a second and runs a command,
// or prints a line, whenever the advice for a symbol or its state changes, and when the store itself goes away.
//
// The command learns what happened from its environment and from JSON on its standard input. Nothing from the store is
// ever put into a command line, where a shell would read it. Commands of one symbol run one after the other; how many
// run at a time, for how long, and how many wait, is bounded. One that fails is logged and counted and changes nothing.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// Reader reads everything that the store holds: of the expected symbols and of those in extra.
type Reader interface {
	Collect(ctx context.Context, extra []position.Symbol) (store.Collection, error)
}

// Handler is told of every event, in order. It must not block for long: the next reading waits for it.
type Handler interface {
	Handle(Event)
}

// Options are what a watch needs.
type Options struct {
	Reader  Reader
	Handler Handler
	Symbols []position.Symbol // watched in addition to the expected ones
	On      []Kind            // events to tell; empty: all
	// Initial tells what is there at the first reading as events, too.
	Initial bool
	Every   time.Duration    // between two readings; 0: 1 s
	Log     *slog.Logger     // nil: slog.Default
	Now     func() time.Time // nil: time.Now
}

const (
	defaultEvery = time.Second
	// readTimeout bounds one reading.
	readTimeout = 5 * time.Second
	// lostAfter is how many readings in a row must fail before the store counts as lost: one alone is a hiccup.
	lostAfter = 2
)

// Run watches until ctx ends, which is no error.
func Run(ctx context.Context, o Options) error {
	if o.Reader == nil || o.Handler == nil {
		return errors.New("watch: no reader or no handler")
	}
	for _, k := range o.On {
		if !slices.Contains(Kinds, k) {
			return fmt.Errorf("watch: %q is not an event", k)
		}
	}
	if o.Every <= 0 {
		o.Every = defaultEvery
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	w := watcher{o: o, tracker: newTracker(o.Initial)}
	ticker := time.NewTicker(o.Every)
	defer ticker.Stop()
	for {
		w.step(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

type watcher struct {
	o       Options
	tracker *tracker
	failed  int  // readings in a row
	lost    bool // store_lost was told
	blind   bool // the expected set could not be read
}

// step is one reading and what follows from it.
func (w *watcher) step(ctx context.Context) {
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	c, err := w.o.Reader.Collect(reading, w.o.Symbols)
	if ctx.Err() != nil {
		return
	}
	if err == nil && c.ExpectedErr != nil && len(c.Entries) == 0 {
		err = c.ExpectedErr
	}
	if err != nil {
		w.failed++
		if w.failed >= lostAfter && !w.lost {
			w.lost = true
			w.o.Log.Warn("the store cannot be read", "err", err)
			w.tell(Event{Kind: StoreLost, At: w.o.Now(), Error: err.Error()})
		}
		return
	}
	w.failed = 0
	if w.lost {
		w.lost = false
		w.o.Log.Info("the store can be read again")
		w.tell(Event{Kind: StoreBack, At: w.o.Now()})
		w.tracker.suspect()
	}
	if blind := c.ExpectedErr != nil; blind != w.blind {
		w.blind = blind
		if blind {
			w.o.Log.Warn("the expected symbols cannot be read: nothing is known of those that SYMBOLS does not name", "err", c.ExpectedErr)
		}
	}
	if c.ServerTime.IsZero() {
		c.ServerTime = w.o.Now()
	}
	for _, e := range w.tracker.observe(c) {
		w.tell(e)
	}
}

func (w *watcher) tell(e Event) {
	if len(w.o.On) == 0 || slices.Contains(w.o.On, e.Kind) {
		w.o.Handler.Handle(e)
	}
}
