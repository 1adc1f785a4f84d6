// Package top is the terminal view: a live table of every proposal in the store, with its ages, its reasons and its
// writer, for people. It attaches to any running system by reading the store and nothing else, so that what it shows is
// what every other reader of the wire contract gets.
//
// Ages are taken on the clock of the server, so that a wrong clock of this machine makes nothing look alive or dead. A
// store that goes away leaves the last picture on the screen, greyed and ageing, with the reason above it.
//
// The model (see update and lines) is a value: messages in, lines out, without a terminal or a clock.
package top

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// Reader reads everything that the store holds: of the expected symbols and of those in extra.
type Reader interface {
	Collect(ctx context.Context, extra []position.Symbol) (store.Collection, error)
}

// Options are what a view needs.
type Options struct {
	Reader Reader
	// Symbols are shown as expected, too: a publisher of the earlier deployment keeps no expected set.
	Symbols []position.Symbol
	// Header is the first line: what is looked at, for example the address of the store.
	Header string
	// Notices are lines shown at the bottom, the newest last, for example a log; nil: there is no such pane. Run reads
	// them until it returns: who writes must not wait for a reader that is gone.
	Notices <-chan string
	In      io.Reader // the keys; nil: a view without keys
	Out     io.Writer
	// Environ are the NAME=value lines that say what the terminal can do (TERM, NO_COLOR, ...).
	Environ []string
	Every   time.Duration    // between two readings of the store; 0: 500 ms
	Now     func() time.Time // nil: time.Now
}

const (
	defaultEvery = 500 * time.Millisecond
	// readTimeout bounds one reading. While it lasts, the screen goes on ageing.
	readTimeout = 5 * time.Second
	// tickEvery is how often ages move.
	tickEvery = 250 * time.Millisecond
	framesMax = 30 // per second
)

func (o *Options) complete() error {
	if o.Reader == nil || o.Out == nil {
		return errors.New("top: no reader or no output")
	}
	if o.Every <= 0 {
		o.Every = defaultEvery
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Symbols = slices.Compact(slices.Sorted(slices.Values(o.Symbols)))
	return nil
}

// Interactive tells whether out is a terminal that a view can be drawn on. Elsewhere Snapshot is what to show.
func Interactive(out io.Writer, environ []string) bool {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(f.Fd()) {
		return false
	}
	for _, line := range slices.Backward(environ) {
		if name, found := strings.CutPrefix(line, "TERM="); found {
			return name != "dumb"
		}
	}
	return true
}

// Run shows the view until ctx ends or the user quits; both are a nil error. The terminal is then as it was before. An
// error means that there was no terminal to draw on, never that the store was away.
func Run(ctx context.Context, o Options) error {
	return run(ctx, o)
}

func run(ctx context.Context, o Options, more ...tea.ProgramOption) error {
	if err := o.complete(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys := o.In
	if f, ok := keys.(*os.File); ok && !term.IsTerminal(f.Fd()) {
		keys = nil // a file or a pipe holds no keys; ^C still ends it
	}
	p := tea.NewProgram(program{newModel(o)}, append([]tea.ProgramOption{
		tea.WithInput(keys), tea.WithOutput(o.Out), tea.WithEnvironment(o.Environ), tea.WithFPS(framesMax),
		tea.WithoutSignalHandler(),
	}, more...)...)

	var running sync.WaitGroup
	running.Go(func() { poll(ctx, o, p.Send) })
	running.Go(func() { tick(ctx, o.Now, p.Send) })
	running.Go(func() { pass(ctx, o.Notices, p.Send) })
	running.Go(func() {
		<-ctx.Done()
		p.Send(leave{})
	})
	_, err := p.Run()
	cancel()
	running.Wait()
	return err
}

// poll reads the store at a steady pace.
func poll(ctx context.Context, o Options, send func(tea.Msg)) {
	ticker := time.NewTicker(o.Every)
	defer ticker.Stop()
	for {
		r := read(ctx, o)
		if ctx.Err() != nil {
			return
		}
		send(r)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// reading is one attempt to read the store.
type reading struct {
	begin, end time.Time // on the clock of this machine
	c          store.Collection
	err        error
}

// secondLook is how long a proposal that is expected and not there has to come or go before it is shown as missing: a
// position that closes leaves the expected set right behind its hash, and a reading may fall in between.
const secondLook = 100 * time.Millisecond

func read(ctx context.Context, o Options) reading {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	r := reading{begin: o.Now()}
	r.c, r.err = o.Reader.Collect(ctx, o.Symbols)
	if r.err == nil && lacks(r.c) {
		select {
		case <-ctx.Done():
		case <-time.After(secondLook):
			r.begin = o.Now()
			r.c, r.err = o.Reader.Collect(ctx, o.Symbols)
		}
	}
	r.end = o.Now()
	if r.err == nil && r.c.ExpectedErr != nil && len(r.c.Entries) == 0 {
		r.err = r.c.ExpectedErr // nothing is known to be expected and nothing was read: that is no picture
	}
	return r
}

// lacks tells whether any proposal is expected and not there.
func lacks(c store.Collection) bool {
	return slices.ContainsFunc(c.Entries, func(e store.Entry) bool {
		return e.Err == nil && !e.Found && slices.Contains(c.Expected, e.Symbol)
	})
}

// clock says what time it is.
type clock time.Time

func tick(ctx context.Context, now func() time.Time, send func(tea.Msg)) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			send(clock(now()))
		}
	}
}

// notice is one line for the pane at the bottom.
type notice string

func pass(ctx context.Context, lines <-chan string, send func(tea.Msg)) {
	for {
		select {
		case <-ctx.Done():
			return
		case line, more := <-lines:
			if !more {
				return
			}
			send(notice(line))
		}
	}
}

// leave ends the view.
type leave struct{}

// program is the model as the library wants it.
type program struct{ m model }

func (p program) Init() tea.Cmd { return nil }

func (p program) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	m, quit := p.m.update(msg)
	if quit {
		// A last, empty screen: some terminals keep rows of one whose size changed meanwhile.
		m.left = true
		return program{m}, tea.Quit
	}
	return program{m}, nil
}

func (p program) View() tea.View {
	v := tea.NewView(strings.Join(p.m.lines(), "\n"))
	v.AltScreen = true
	return v
}
