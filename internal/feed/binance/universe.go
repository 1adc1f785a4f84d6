package binance

import (
	"context"
	"sync"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

// statusTrading is the one status in which a symbol has live streams.
const statusTrading = "TRADING"

// listing is the exchange's own list of symbols. A subscription to a symbol that does not exist is accepted there and
// then silent for ever, so it is asked before.
type listing struct {
	kick  chan struct{} // to read it again out of turn
	mu    sync.Mutex
	known map[position.Symbol]string // status by symbol
}

func (l *listing) status(s position.Symbol) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	status, ok := l.known[s]
	return status, ok
}

func (l *listing) drop(s position.Symbol) {
	l.mu.Lock()
	delete(l.known, s)
	l.mu.Unlock()
	l.ask()
}

func (l *listing) ask() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

func (f *Feed) readListing(ctx context.Context) error {
	known, err := f.rest.symbols(ctx)
	if err != nil {
		return err
	}
	f.listing.mu.Lock()
	f.listing.known = known
	f.listing.mu.Unlock()
	return nil
}

// keepListing reads the list in turn and when asked, at most once a Timing.Repeat.
func (f *Feed) keepListing(ctx context.Context) {
	timer := time.NewTimer(f.opts.Timing.Symbols)
	defer timer.Stop()
	for sleep(ctx, f.opts.Timing.Repeat) {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-f.listing.kick:
		}
		if err := f.readListing(ctx); err != nil && ctx.Err() == nil {
			f.opts.Log.Warn("list of symbols not read, the last one stands", "source", sourceName, "err", err)
		}
		timer.Reset(f.opts.Timing.Symbols)
	}
}

// takeUniverse brings the symbols read up to date with those asked for. start runs a new line.
func (f *Feed) takeUniverse(start func(*line)) {
	wanted := make(map[position.Symbol]bool)
	changed := make(map[*line]bool)
	for _, s := range f.opts.Universe() {
		if wanted[s] || !f.listed(s) {
			continue
		}
		wanted[s] = true
		if f.tracks[s] != nil {
			continue
		}
		t := newTrack(f, s)
		t.market, t.public = f.room(routeMarket, start), f.room(routePublic, start)
		for _, l := range []*line{t.market, t.public} {
			l.add(t)
			changed[l] = true
		}
		f.mu.Lock()
		f.tracks[s], f.byStream[t.lower] = t, t
		f.mu.Unlock()
		f.opts.Log.Debug("symbol added", "source", sourceName, "symbol", s)
	}
	for s, t := range f.tracks {
		if wanted[s] {
			continue
		}
		f.mu.Lock()
		delete(f.tracks, s)
		delete(f.byStream, t.lower)
		f.mu.Unlock()
		t.mu.Lock()
		t.gone = true
		t.mu.Unlock()
		for _, l := range []*line{t.market, t.public} {
			l.remove(t)
			changed[l] = true
		}
		f.opts.Log.Debug("symbol removed", "source", sourceName, "symbol", s)
	}
	for l := range changed {
		l.signal()
	}
}

// listed tells whether a symbol can be read; where not, that is refused, for this symbol alone.
func (f *Feed) listed(s position.Symbol) bool {
	status, known := f.listing.status(s)
	bad := flaw{"symbol", feed.ReasonSymbol, string(s)}
	switch {
	case known && status == statusTrading:
		f.said.forget("listed " + string(s))
		return true
	case known:
		bad = flaw{"status", feed.ReasonDomain, status}
	}
	f.listing.ask()
	if f.said.may("listed "+string(s), f.opts.Timing.Repeat) {
		f.refuse(s, "exchangeInfo", bad)
	}
	return false
}

// room finds a line of the route that can take one symbol more, or starts one.
func (f *Feed) room(r route, start func(*line)) *line {
	for _, l := range f.lines {
		if l.route == r && l.size() < r.symbols {
			return l
		}
	}
	l := newLine(f, r)
	f.lines = append(f.lines, l)
	start(l)
	return l
}

// byStreamName finds a symbol as a stream spells it.
func (f *Feed) byStreamName(lower []byte) *track {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.byStream[string(lower)]
}
