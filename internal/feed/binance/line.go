package binance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// route is one of the exchange's paths for streams. On any other path the streams of a route are silent without an
// error.
type route struct {
	name    string
	path    string
	symbols int // that fit on one connection
}

var (
	routeMarket = route{"market", "/market/stream", connStreams / 2} // candles and mark price
	routePublic = route{"public", "/public/stream", connStreams}     // best quotes
)

// streamBackoffMost is the longest pause between replacements of a connection because of the same silent stream.
const streamBackoffMost = 5 * time.Minute

// line keeps one connection alive for a set of symbols. Its connection may change; what comes over the old and the new
// one is merged by the tracks, so two may overlap and nothing is lost in between.
type line struct {
	f       *Feed
	route   route
	changed chan struct{}

	mu     sync.Mutex
	tracks map[*track]bool
}

func newLine(f *Feed, r route) *line {
	return &line{f: f, route: r, changed: make(chan struct{}, 1), tracks: make(map[*track]bool)}
}

func (l *line) add(t *track) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tracks[t] = true
}

func (l *line) remove(t *track) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tracks, t)
}

func (l *line) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tracks)
}

func (l *line) signal() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *line) all() []*track {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*track, 0, len(l.tracks))
	for t := range l.tracks {
		all = append(all, t)
	}
	return all
}

func (l *line) streams() []string {
	var names []string
	for _, t := range l.all() {
		if l.route == routePublic {
			names = append(names, t.bookStream())
		} else {
			names = append(names, t.klineStream(), t.markStream())
		}
	}
	return names
}

// run connects whenever there are symbols to read, until ctx ends.
func (l *line) run(ctx context.Context) {
	pause := l.f.newPauses()
	for {
		streams := l.streams()
		if len(streams) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-l.changed:
			}
			continue
		}
		began := time.Now()
		c, err := l.connect(ctx, streams)
		if err == nil {
			err = l.serve(ctx, c)
		}
		l.spoken(nil)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue // nothing left to read
		}
		l.f.counts.reconnects.Add(1)
		l.f.outage(err)
		if time.Since(began) >= l.f.opts.Timing.Stable {
			pause.Reset()
		}
		if !sleep(ctx, pause.NextBackOff()) {
			return
		}
	}
}

// serve lives with a connection and its planned successors. It returns the error that ended the last one, or nil when
// there is nothing left to read.
func (l *line) serve(ctx context.Context, c *conn) error {
	timing := &l.f.opts.Timing
	var drains sync.WaitGroup
	successors := make(chan *conn, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		c.close()
		drains.Wait()
		select {
		case n := <-successors:
			if n != nil {
				n.close()
			}
		default:
		}
	}()
	tick := time.NewTicker(timing.Tick)
	defer tick.Stop()
	// Spread out, so that lines do not rotate together.
	rotateAt := c.born.Add(timing.Rotate - rand.N(timing.Rotate/20+1))
	var (
		replacing   bool
		replaceFrom time.Time // not before
		wait        = timing.MarkSilence
	)
	replace := func(silent int) {
		replacing = true
		drains.Go(func() {
			n, err := l.successor(ctx, silent)
			if err != nil && ctx.Err() == nil {
				l.f.opts.Log.Warn("connection not replaced, the old one goes on", "source", sourceName,
					"route", l.route.name, "err", err)
			}
			if ctx.Err() != nil && n != nil {
				n.close()
				n = nil
			}
			successors <- n
		})
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.done:
			if !replacing {
				return c.err
			}
			// Its successor is on the way already, and is as good as a new one.
			l.f.outage(c.err)
			n := <-successors
			if n == nil {
				return errors.New("the successor of a lost connection failed as well")
			}
			c.close()
			l.f.counts.reconnects.Add(1)
			c, replacing = n, false
			c.subscribe(l.streams())
			rotateAt = c.born.Add(timing.Rotate)
		case <-l.changed:
			streams := l.streams()
			if len(streams) == 0 && !replacing {
				return nil
			}
			c.subscribe(streams)
		case n := <-successors:
			replacing = false
			if n == nil {
				replaceFrom = time.Now().Add(wait)
				rotateAt = latest(rotateAt, replaceFrom)
				continue
			}
			old := c
			c = n
			c.subscribe(l.streams())
			l.f.counts.rotations.Add(1)
			rotateAt = c.born.Add(timing.Rotate)
			drains.Go(func() {
				sleep(ctx, timing.Drain)
				old.close()
			})
		case <-tick.C:
			now := time.Now()
			if l.size() == 0 && !replacing {
				return nil
			}
			l.spoken(c)
			if err := l.dead(now, c); err != nil {
				l.f.counts.silences.Add(1)
				return err
			}
			silent := l.silentStreams(now, c)
			if len(silent) == 0 && now.Sub(replaceFrom) > timing.Stable {
				wait = timing.MarkSilence
			}
			switch {
			case replacing || now.Before(replaceFrom):
			case len(silent) > 0:
				replaceFrom = now.Add(wait)
				wait = min(2*wait, max(streamBackoffMost, timing.MarkSilence))
				l.f.listing.ask() // the symbol may have ceased to trade
				replace(len(silent))
			case now.After(rotateAt):
				replace(0)
			}
		}
	}
}

// spoken tells the tracks since when their candle stream should speak.
func (l *line) spoken(c *conn) {
	if l.route == routePublic {
		return
	}
	for _, t := range l.all() {
		var since time.Time
		if c != nil {
			since = c.since(t.klineStream())
		}
		t.mu.Lock()
		t.klineAcked = since
		t.mu.Unlock()
	}
}

// dead says why a connection as a whole is of no use any more; nil where it is.
func (l *line) dead(now time.Time, c *conn) error {
	timing := &l.f.opts.Timing
	quiet := now.Sub(c.lastMessage())
	switch {
	case c.overdue(now):
		return fmt.Errorf("connection %s: a subscription was not confirmed within %v", l.route.path, timing.Dial)
	case l.route == routeMarket && quiet > timing.ConnSilence:
		return fmt.Errorf("connection %s: silent for %v", l.route.path, quiet.Round(time.Millisecond))
	case l.route == routePublic && quiet > timing.BookSilence && l.moved(c.lastMessage()):
		return fmt.Errorf("connection %s: no quotes for %v, while candles move", l.route.path, quiet.Round(time.Millisecond))
	}
	return nil
}

// moved tells whether a candle of any symbol of the line moved since.
func (l *line) moved(since time.Time) bool {
	for _, t := range l.all() {
		t.mu.Lock()
		moved := t.klineAt.After(since.Add(l.f.opts.Timing.BookSilence / 2))
		t.mu.Unlock()
		if moved {
			return true
		}
	}
	return false
}

// silentStreams are the streams that should have spoken on c. New ones are reported.
func (l *line) silentStreams(now time.Time, c *conn) []string {
	if l.route == routePublic {
		return nil
	}
	var all, fresh []string
	for _, t := range l.all() {
		streams, news := t.silent(now, c.since(t.klineStream()), c.since(t.markStream()))
		all = append(all, streams...)
		if news {
			fresh = append(fresh, streams...)
		}
	}
	if len(fresh) > 0 {
		l.f.counts.silences.Add(uint64(len(fresh)))
	}
	repeat := len(all) > 0 && l.f.said.may("silent "+fmt.Sprintf("%p", l), outageRepeat)
	if len(fresh) > 0 || repeat {
		const named = 5
		shown := fresh // what was said before need not be named again
		if len(fresh) == 0 {
			shown = all
		}
		list := strings.Join(shown[:min(len(shown), named)], ", ")
		if len(shown) > named {
			list += ", ..."
		}
		l.f.outage(fmt.Errorf("%d streams are silent beyond their interval: %s", len(all), list))
	}
	return all
}

// successor makes a connection that can take over: confirmed, and delivering the mark price of all symbols but as many
// as were silent before. If it delivers nothing at all it is no better than the old one.
func (l *line) successor(ctx context.Context, silent int) (*conn, error) {
	streams := l.streams()
	if len(streams) == 0 {
		return nil, nil
	}
	c, err := l.connect(ctx, streams)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(l.f.opts.Timing.Tick)
	defer tick.Stop()
	until := time.Now().Add(l.f.opts.Timing.Dial)
	for {
		enough := l.route == routePublic || c.markCount()+silent >= l.size() && c.markCount() > 0
		if c.confirmed() && enough {
			return c, nil
		}
		if time.Now().After(until) {
			if c.confirmed() && c.markCount() > 0 {
				return c, nil
			}
			c.close()
			return nil, errors.New("the new connection delivers nothing")
		}
		select {
		case <-ctx.Done():
			c.close()
			return nil, ctx.Err()
		case <-c.done:
			err := c.err
			c.close()
			return nil, err
		case <-tick.C:
		}
	}
}
