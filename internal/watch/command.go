package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// CommandOptions say what is run on an event, and within what bounds.
type CommandOptions struct {
	// Command is given to the shell of the system: sh -c, on Windows cmd /C. It is the operator's text and nothing else.
	Command  string
	Timeout  time.Duration // of one run; 0: 10 s
	Parallel int           // runs at a time, never two of one symbol; 0: 4
	Waiting  int           // events that may wait; the oldest is dropped for one more; 0: 256
	Environ  []string      // NAME=value lines below those of the event
	Out, Err io.Writer     // output of the command; nil: dropped
	Log      *slog.Logger  // nil: slog.Default
}

const (
	defaultTimeout  = 10 * time.Second
	defaultParallel = 4
	defaultWaiting  = 256
	// pipesAfter is how long the output of a command is waited for after its end: a child that it left behind may
	// hold it open.
	pipesAfter = time.Second
	// endWithin is how long commands under way may still take when the watch ends.
	endWithin = 5 * time.Second
)

// Tally is what became of the events so far.
type Tally struct {
	Run     int // commands that ended well
	Failed  int // ended otherwise, did not start or took too long
	Dropped int // events for which there was no room, or no time before the end
}

// Commands runs a command on every event. It is a Handler; Run does the work.
type Commands struct {
	o    CommandOptions
	wake chan struct{} // something waits, or something ended

	mu      sync.Mutex
	waiting []Event
	busy    map[string]bool // symbols whose command runs
	running int
	tally   Tally
	closed  bool
}

// NewCommands makes one; the error says what is missing.
func NewCommands(o CommandOptions) (*Commands, error) {
	if o.Command == "" {
		return nil, errors.New("watch: no command")
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	if o.Waiting <= 0 {
		o.Waiting = defaultWaiting
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Commands{o: o, wake: make(chan struct{}, 1), busy: map[string]bool{}}, nil
}

// Tally gives the counts so far.
func (c *Commands) Tally() Tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tally
}

// Handle takes in one event and returns at once. Where too many wait already, the oldest is dropped: what is newer says
// more about now.
func (c *Commands) Handle(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.tally.Dropped++
		return
	}
	if len(c.waiting) >= c.o.Waiting {
		old := c.waiting[0]
		c.waiting = slices.Delete(c.waiting, 0, 1)
		c.tally.Dropped++
		c.o.Log.Warn("an event is dropped: commands take longer than events come", "event", string(old.Kind), "symbol", old.Symbol, "waiting", len(c.waiting))
	}
	c.waiting = append(c.waiting, e)
	c.poke()
}

func (c *Commands) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run runs commands until ctx ends. Those under way then have a few seconds to end, and what waits is dropped and
// counted.
func (c *Commands) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running sync.WaitGroup
	for {
		for e, ok := c.next(); ok; e, ok = c.next() {
			running.Go(func() { c.finish(e, c.execute(work, e)) })
		}
		select {
		case <-ctx.Done():
			c.end()
			defer time.AfterFunc(endWithin, stop).Stop()
			running.Wait()
			return nil
		case <-c.wake:
		}
	}
}

// next takes the oldest event whose symbol is not busy.
func (c *Commands) next() (Event, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running >= c.o.Parallel {
		return Event{}, false
	}
	at := slices.IndexFunc(c.waiting, func(e Event) bool { return !c.busy[string(e.Symbol)] })
	if at < 0 {
		return Event{}, false
	}
	e := c.waiting[at]
	c.waiting = slices.Delete(c.waiting, at, at+1)
	c.busy[string(e.Symbol)] = true
	c.running++
	return e, true
}

func (c *Commands) finish(e Event, err error) {
	c.mu.Lock()
	delete(c.busy, string(e.Symbol))
	c.running--
	if err == nil {
		c.tally.Run++
	} else {
		c.tally.Failed++
	}
	failed := c.tally.Failed
	c.mu.Unlock()
	if err != nil {
		c.o.Log.Error("the command failed", "event", string(e.Kind), "symbol", e.Symbol, "err", err, "failures", failed)
	}
	c.poke()
}

func (c *Commands) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if n := len(c.waiting); n > 0 {
		c.tally.Dropped += n
		c.waiting = nil
		c.o.Log.Warn("events are dropped: the watch was told to stop", "events", n)
	}
}

// execute runs the command for one event, to its end or its timeout.
func (c *Commands) execute(ctx context.Context, e Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write the event as JSON: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	cmd := shell(ctx, c.o.Command)
	cmd.Env = append(slices.Clone(c.o.Environ), e.environment()...)
	cmd.Stdin = bytes.NewReader(append(body, '\n'))
	cmd.Stdout, cmd.Stderr = c.o.Out, c.o.Err
	cmd.WaitDelay = pipesAfter
	err = cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil:
		return nil // it ended well, and may have left something behind that holds its output
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("it did not end within %s and was stopped", c.o.Timeout)
	case ctx.Err() != nil:
		return errors.New("it was stopped at the end of the watch")
	}
	return err
}
