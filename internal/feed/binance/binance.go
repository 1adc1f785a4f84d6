// Package binance is live market data of Binance USDT-M futures, with no account: candles, mark prices and best quotes
// of the symbols of all open positions.
//
// It promises that no candle is lost or handed out twice, whatever the connections do, and that no stream falls silent
// unseen. Candles start with a history by REST and go on by WebSocket; a candle that the stream did not close in time is
// asked for by REST. Every event carries the exchange's own time, moved to our clock by a measured offset.
//
// A Price is the mark price, at which positions are valued and liquidated. The middle of the best quotes stands in for it
// only while the mark price is late.
package binance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

const sourceName = "binance"

// The exchange's own addresses, for REST and for streams. The routed paths /market and /public are appended to the latter.
const (
	DefaultBaseURL   = "https://fapi.binance.com"
	DefaultStreamURL = "wss://fstream.binance.com"
)

// Options say what is read, where and how. Zero values are replaced by the defaults named.
type Options struct {
	BaseURL   string // REST; blank: DefaultBaseURL
	StreamURL string // WebSocket without a path; blank: DefaultStreamURL
	// Universe names the symbols to read, as the exchange spells them. It is asked every Timing.Universe.
	Universe    func() []position.Symbol
	HistoryBars int           // closed candles a symbol starts with, at most 1400; 0: 300
	Interval    time.Duration // of one candle, one of the exchange's; 0: one minute
	// WeightShare is the part of the request weight that the exchange allows an address which this feed uses, in (0,1];
	// 0: 0.5. The rest is left to whoever else shares the address.
	WeightShare float64
	// HTTPClient carries REST and WebSocket handshakes; nil: one of our own, with the proxy of the environment.
	HTTPClient *http.Client
	Timing     Timing
	Log        *slog.Logger // nil: nothing is logged
	Now        func() time.Time
}

// Timing is how long things may take; a zero value is replaced by the default named.
type Timing struct {
	Tick         time.Duration // between looks at what is due; 250 ms
	Universe     time.Duration // between questions for the universe; 1 s
	MarkLate     time.Duration // a mark price older than this is stood in for by the quotes; 3 s
	MarkSilence  time.Duration // a mark price stream is expected every second and fails after this; 10 s
	KlineSilence time.Duration // a quiet candle stream is compared with REST after this; 10 s
	KlineOwed    time.Duration // and fails if what REST showed does not follow on it within this; 3 s
	BookSilence  time.Duration // all quote streams quiet for this while candles move have failed; 60 s
	ConnSilence  time.Duration // a connection for market streams without any message fails after this; 10 s
	GapWait      time.Duration // a missing candle is waited for on the stream before REST is asked; 1 s
	CloseGrace   time.Duration // a candle may be closed by the stream this late; 5 s
	Settle       time.Duration // a candle from REST is final this long after its end; 2 s
	Dial         time.Duration // to connect, subscribe, or answer one request; 10 s
	Ping         time.Duration // between pings of ours; 30 s
	Rotate       time.Duration // a connection is replaced after this; 23 h (the exchange ends it at 24 h)
	Drain        time.Duration // the replaced one is read on for this; 2 s
	RetryFirst   time.Duration // first pause before a connection is tried again; 500 ms
	RetryMost    time.Duration // longest such pause, jitter apart; 15 s
	Stable       time.Duration // a connection that lived this long starts the pauses afresh; 1 min
	Clock        time.Duration // between measurements of the clock offset; 10 min
	Symbols      time.Duration // between readings of the exchange's list of symbols; 1 h
	Repeat       time.Duration // what stays wrong is said again after this; 1 min
}

func (t *Timing) fill() error {
	var errs []error
	for _, d := range []struct {
		name  string
		into  *time.Duration
		usual time.Duration
	}{
		{"tick", &t.Tick, 250 * time.Millisecond},
		{"universe", &t.Universe, time.Second},
		{"mark late", &t.MarkLate, 3 * time.Second},
		{"mark silence", &t.MarkSilence, 10 * time.Second},
		{"kline silence", &t.KlineSilence, 10 * time.Second},
		{"kline owed", &t.KlineOwed, 3 * time.Second},
		{"book silence", &t.BookSilence, time.Minute},
		{"connection silence", &t.ConnSilence, 10 * time.Second},
		{"gap wait", &t.GapWait, time.Second},
		{"close grace", &t.CloseGrace, 5 * time.Second},
		{"settle", &t.Settle, 2 * time.Second},
		{"dial", &t.Dial, 10 * time.Second},
		{"ping", &t.Ping, 30 * time.Second},
		{"rotate", &t.Rotate, 23 * time.Hour},
		{"drain", &t.Drain, 2 * time.Second},
		{"first retry", &t.RetryFirst, 500 * time.Millisecond},
		{"longest retry", &t.RetryMost, 15 * time.Second},
		{"stable", &t.Stable, time.Minute},
		{"clock", &t.Clock, 10 * time.Minute},
		{"symbols", &t.Symbols, time.Hour},
		{"repeat", &t.Repeat, time.Minute},
	} {
		if *d.into == 0 {
			*d.into = d.usual
		}
		if *d.into < 0 {
			errs = append(errs, fmt.Errorf("%s is %v: it must be positive", d.name, *d.into))
		}
	}
	return errors.Join(errs...)
}

// maxHistory keeps a history inside one request (1500 candles) with room for the open one.
const maxHistory = 1400

func (o *Options) fill() error {
	var errs []error
	if o.BaseURL == "" {
		o.BaseURL = DefaultBaseURL
	}
	if o.StreamURL == "" {
		o.StreamURL = DefaultStreamURL
	}
	for _, a := range []struct {
		name, use string
		text      *string
		schemes   [2]string
	}{
		{"base URL", "https://host[:port]", &o.BaseURL, [2]string{"https", "http"}},
		{"stream URL", "wss://host[:port]", &o.StreamURL, [2]string{"wss", "ws"}},
	} {
		*a.text = strings.TrimRight(*a.text, "/")
		u, err := url.Parse(*a.text)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", a.name, err))
		case u.Host == "" || u.Scheme != a.schemes[0] && u.Scheme != a.schemes[1] || u.RawQuery != "" || u.User != nil:
			errs = append(errs, fmt.Errorf("%s %q: write %s", a.name, u.Redacted(), a.use))
		}
	}
	if o.HistoryBars == 0 {
		o.HistoryBars = 300
	}
	if o.HistoryBars < 0 || o.HistoryBars > maxHistory {
		errs = append(errs, fmt.Errorf("history is %d bars: it must be 1 to %d", o.HistoryBars, maxHistory))
	}
	if o.Interval == 0 {
		o.Interval = time.Minute
	}
	if intervalNames[o.Interval] == "" {
		errs = append(errs, fmt.Errorf("interval %v is none of the exchange's", o.Interval))
	}
	if o.WeightShare == 0 {
		o.WeightShare = 0.5
	}
	if !(o.WeightShare > 0 && o.WeightShare <= 1) {
		errs = append(errs, fmt.Errorf("weight share %v is not in (0,1]", o.WeightShare))
	}
	if err := o.Timing.fill(); err != nil {
		errs = append(errs, err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return errors.Join(errs...)
}

// intervalNames are the exchange's candle lengths that start on a fixed grid. One second is known to its spot market
// only.
var intervalNames = map[time.Duration]string{
	time.Second: "1s", time.Minute: "1m", 3 * time.Minute: "3m", 5 * time.Minute: "5m", 15 * time.Minute: "15m",
	30 * time.Minute: "30m", time.Hour: "1h", 2 * time.Hour: "2h", 4 * time.Hour: "4h", 6 * time.Hour: "6h",
	8 * time.Hour: "8h", 12 * time.Hour: "12h", 24 * time.Hour: "1d",
}

// Feed reads the exchange. It is a feed.Source for one Run.
type Feed struct {
	opts   Options
	rest   *rest
	clock  *exchangeClock
	counts counters
	sink   feed.Sink

	mu       sync.RWMutex
	tracks   map[position.Symbol]*track
	byStream map[string]*track // by the symbol as streams spell it

	listing listing
	lines   []*line
	work    workQueue
	said    sayings
}

// New checks the options; it asks the exchange nothing. The error lists everything wrong with them.
func New(opts Options) (*Feed, error) {
	err := opts.fill()
	if opts.Universe == nil {
		err = errors.Join(err, errors.New("no universe of symbols"))
	}
	if err != nil {
		return nil, fmt.Errorf("binance feed: %w", err)
	}
	f := &Feed{
		opts: opts, tracks: make(map[position.Symbol]*track), byStream: make(map[string]*track),
	}
	f.clock = &exchangeClock{now: opts.Now}
	f.rest = newRest(&f.opts, f.clock)
	f.work.ready = make(chan struct{}, 1)
	f.listing.kick = make(chan struct{}, 1)
	return f, nil
}

// Name is "binance".
func (*Feed) Name() string { return sourceName }

// Run reads until ctx ends, then returns nil once everything it started has ended. Whatever is out of reach is an Outage
// event, is tried again with growing pauses and heals by itself; what is wrong with one symbol is a Refusal and leaves
// the others alone. A Feed runs once.
func (f *Feed) Run(ctx context.Context, sink feed.Sink) error {
	f.sink = sink
	defer f.rest.close()
	if !f.prepare(ctx) {
		return nil
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	for range restWorkers {
		wait.Go(func() { f.serveWork(ctx) })
	}
	wait.Go(func() { f.keepClock(ctx) })
	wait.Go(func() { f.keepListing(ctx) })

	tick := time.NewTicker(f.opts.Timing.Tick)
	defer tick.Stop()
	var asked time.Time
	for {
		if now := time.Now(); asked.IsZero() || now.Sub(asked) >= f.opts.Timing.Universe {
			asked = now
			f.takeUniverse(func(l *line) { wait.Go(func() { l.run(ctx) }) })
		}
		f.due(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (f *Feed) newPauses() *backoff.ExponentialBackOff {
	p := backoff.NewExponentialBackOff()
	p.InitialInterval, p.MaxInterval, p.RandomizationFactor = f.opts.Timing.RetryFirst, f.opts.Timing.RetryMost, 0.5
	p.Reset()
	return p
}

// prepare measures the clock and reads the list of symbols: without them no event could be dated or told from a mistake.
// It tells whether that succeeded before ctx ended.
func (f *Feed) prepare(ctx context.Context) bool {
	pause := f.newPauses()
	for {
		err := f.measureClock(ctx)
		if err == nil {
			err = f.readListing(ctx)
		}
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		f.outage(fmt.Errorf("start: %w", err))
		if !sleep(ctx, pause.NextBackOff()) {
			return false
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (f *Feed) outage(err error) {
	f.counts.outages.Add(1)
	f.sink(feed.Outage{Source: sourceName, Err: fmt.Errorf("read market data from binance: %w", err), At: f.opts.Now()})
}

func (f *Feed) refuse(symbol position.Symbol, key string, bad flaw) {
	f.counts.refusals.Add(1)
	f.sink(feed.Refusal{
		Symbol: symbol, Source: sourceName, Key: key, Field: bad.field, Reason: bad.reason, Value: printable(bad.value),
		At: f.opts.Now(),
	})
}

// sayings keep what stands wrong from being said again too soon.
type sayings struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (s *sayings) may(what string, every time.Duration) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.last[what]; ok && now.Sub(at) < every {
		return false
	}
	if s.last == nil {
		s.last = make(map[string]time.Time)
	}
	s.last[what] = now
	return true
}

func (s *sayings) forget(what string) {
	s.mu.Lock()
	delete(s.last, what)
	s.mu.Unlock()
}
