package feed

import (
	"context"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"quantumharvest/internal/position"
)

const (
	// DemoName labels everything that is made of demonstration positions.
	DemoName = "demo"
	demoPoll = time.Second
	// demoBack is how many candles ago a first position may have been opened.
	demoBack = 240
	// demoNotional is about what a demonstration position is worth, in quote currency.
	demoNotional = 1000
	// demoWallHold keeps a position open for a look, however fast strategy time runs.
	demoWallHold = 30 * time.Second
)

// DemoOptions say what to demonstrate.
type DemoOptions struct {
	Symbols []position.Symbol // only these; empty: every symbol that the market mentions
	Seed    uint64
	Clock   Clock            // nil: Wall
	Now     func() time.Time // nil: time.Now
}

// Demo makes positions up, for demonstrations: one a symbol, opened at the prices that Watch sees, held for one to six
// hours of strategy time, closed, and opened anew after a few minutes, perhaps on the other side. Where the market
// brings a history the first one counts as opened some candles ago, at the close and the time of that candle, so that
// it has an age and a profit. The same seed on the same market makes the same positions.
//
// Its snapshots are named demo and their records carry no price of their own: the market is where prices come from.
type Demo struct {
	opts DemoOptions
	news chan struct{} // a symbol has got its first price

	mu      sync.Mutex
	symbols map[position.Symbol]*demoSymbol
	order   []*demoSymbol
}

// demoSymbol is one made-up position and what the market said about its symbol.
type demoSymbol struct {
	name  position.Symbol
	rng   *rand.Rand
	short bool // the side of the next position

	history []Candle
	price   float64

	open     bool
	rec      position.Record
	openedAt time.Time // wall time of the opening or closing
	until    time.Time // strategy time of the next turn
	started  bool
}

// NewDemo returns a source that waits for prices.
func NewDemo(opts DemoOptions) *Demo {
	if opts.Clock == nil {
		opts.Clock = Wall{}
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	d := &Demo{opts: opts, news: make(chan struct{}, 1), symbols: make(map[position.Symbol]*demoSymbol)}
	for _, s := range opts.Symbols {
		d.add(s)
	}
	return d
}

// Name is "demo".
func (*Demo) Name() string { return DemoName }

// add makes a symbol known. Sides alternate, so that there are longs and shorts to see.
func (d *Demo) add(name position.Symbol) *demoSymbol {
	if s := d.symbols[name]; s != nil {
		return s
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash never fails
	s := &demoSymbol{
		name: name, rng: rand.New(rand.NewPCG(d.opts.Seed, h.Sum64())),
		short: (uint64(len(d.order))+d.opts.Seed)%2 == 1,
	}
	d.symbols[name] = s
	d.order = append(d.order, s)
	return s
}

// Watch takes what the market says. It may be called from any goroutine.
func (d *Demo) Watch(ev Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch ev := ev.(type) {
	case History:
		n := len(ev.Candles)
		if s := d.watched(ev.Symbol); s != nil && n > 0 {
			if !s.started {
				s.history = slices.Clone(ev.Candles[max(0, n-demoBack-1):])
			}
			d.priced(s, ev.Candles[n-1].Close)
		}
	case Candle:
		if s := d.watched(ev.Symbol); s != nil {
			d.priced(s, ev.Close)
		}
	case Price:
		if s := d.watched(ev.Symbol); s != nil {
			d.priced(s, ev.Price)
		}
	}
}

// priced takes a price; nobody waits for a first position longer than for that.
func (d *Demo) priced(s *demoSymbol, price float64) {
	if s.price == 0 {
		select {
		case d.news <- struct{}{}:
		default:
		}
	}
	s.price = price
}

func (d *Demo) watched(name position.Symbol) *demoSymbol {
	if s := d.symbols[name]; s != nil || len(d.opts.Symbols) > 0 {
		return s
	}
	return d.add(name)
}

// Run reports the positions every second, and as soon as there is a first price, until ctx ends.
func (d *Demo) Run(ctx context.Context, sink Sink) error {
	ticker := time.NewTicker(demoPoll)
	defer ticker.Stop()
	for {
		if snap, ready := d.snapshot(); ready {
			sink(snap)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-d.news:
		}
	}
}

// snapshot lets every position take its turn and reports them. There is nothing to report before the first price.
func (d *Demo) snapshot() (Snapshot, bool) {
	wall := d.opts.Now()
	now := d.opts.Clock.Strategy(wall)
	d.mu.Lock()
	defer d.mu.Unlock()
	snap := Snapshot{Snapshot: position.Snapshot{Source: DemoName, At: wall, Complete: true, Alive: true, Strategy: true}}
	for _, s := range d.order {
		if s.price > 0 {
			s.turn(wall, now)
		}
		if s.started {
			snap.Records = append(snap.Records, s.rec)
		}
	}
	slices.SortFunc(snap.Records, func(a, b position.Record) int { return strings.Compare(string(a.Symbol), string(b.Symbol)) })
	return snap, len(snap.Records) > 0
}

// turn opens or closes where it is time: once a snapshot at most, so that every close is seen.
func (s *demoSymbol) turn(wall, now time.Time) {
	if s.started && (now.Before(s.until) || (s.open && wall.Sub(s.openedAt) < demoWallHold)) {
		return
	}
	switch {
	case s.open:
		s.rec = position.Record{Symbol: s.name, HasQuantity: true}
		s.until = now.Add(s.between(time.Minute, 5*time.Minute))
		s.short = s.rng.IntN(2) == 1
	default:
		s.rec = s.opening(now)
		s.until = now.Add(s.between(time.Hour, 6*time.Hour))
	}
	s.open, s.openedAt, s.started = !s.open, wall, true
	s.history = nil
}

func (s *demoSymbol) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(most-least)+1))
}

// opening is a new position: at a candle of the history where there is one, else just beside the price.
func (s *demoSymbol) opening(now time.Time) position.Record {
	r := position.Record{Symbol: s.name, Side: position.Long, OpenedAt: now, HasQuantity: true}
	if s.short {
		r.Side = position.Short
	}
	r.Entry = s.price * (1 + 0.002*(2*s.rng.Float64()-1))
	if n := len(s.history); n > 1 {
		i := s.rng.IntN(n - 1)
		bar := s.history[i]
		if at := bar.OpenTime.Add(bar.Interval); !bar.OpenTime.IsZero() && at.Before(now) {
			r.OpenedAt, r.Entry = at, bar.Close
			r.Peak, r.Trough = bar.Close, bar.Close
			for _, c := range s.history[i+1:] {
				r.Peak, r.Trough = max(r.Peak, c.High), min(r.Trough, c.Low)
			}
		}
	}
	// Three digits, as a person would choose.
	r.Quantity = demoNotional / r.Entry
	digits := math.Pow(10, 2-math.Floor(math.Log10(r.Quantity)))
	if q := math.Round(r.Quantity*digits) / digits; q > 0 && !math.IsInf(q, 1) {
		r.Quantity = q
	}
	return r
}
