package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"quantumharvest/internal/position"
)

const (
	syntheticName = "synthetic"
	// syntheticRevision is how often, in wall time, the open candle is revised.
	syntheticRevision = time.Second
)

// SyntheticOptions say which market is made up.
type SyntheticOptions struct {
	Symbols     []position.Symbol
	Seed        uint64        // the same seed gives the same bars
	Speed       float64       // virtual seconds a second, above 0 and at most 1e6; 0: 1
	HistoryBars int           // bars each symbol starts with; 0: 300
	Interval    time.Duration // of one bar, at least a second; 0: one minute
	Now         func() time.Time
}

// Synthetic is a made-up market, see Generator. It starts with a history that ends where the clock starts, then revises
// the open candle about once a second and closes it on the virtual minute. Its name labels everything made of it.
//
// Synthetic is also the Clock of that market: wall time at speed 1.
type Synthetic struct {
	*virtualClock
	opts SyntheticOptions
}

// Name is "synthetic".
func (*Synthetic) Name() string { return syntheticName }

// NewSynthetic makes the market and starts its clock. The error lists everything wrong with the options.
func NewSynthetic(opts SyntheticOptions) (*Synthetic, error) {
	var errs []error
	if len(opts.Symbols) == 0 {
		errs = append(errs, errors.New("no symbols"))
	}
	seen := make(map[position.Symbol]bool, len(opts.Symbols))
	for _, s := range opts.Symbols {
		if seen[s] {
			errs = append(errs, fmt.Errorf("symbol %s is named twice", s))
		}
		seen[s] = true
	}
	if opts.HistoryBars == 0 {
		opts.HistoryBars = defaultHistory
	}
	if opts.HistoryBars < 0 {
		errs = append(errs, fmt.Errorf("history is %d bars: it must be positive", opts.HistoryBars))
	}
	if opts.Interval == 0 {
		opts.Interval = time.Minute
	}
	if opts.Interval < time.Second {
		errs = append(errs, fmt.Errorf("interval is %v: it must be at least a second", opts.Interval))
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	start := opts.Now()
	// Strategy time has no monotonic part: it is stored and compared with what was stored.
	clock, err := newVirtualClock(start.Round(0), opts.Speed)
	if err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("synthetic market: %w", errors.Join(errs...))
	}
	clock.release(start)
	return &Synthetic{virtualClock: clock, opts: opts}, nil
}

// syntheticTrack is one symbol while the market runs.
type syntheticTrack struct {
	symbol    position.Symbol
	generator *Generator
	bar       Bar // the open one
}

// Run makes the market until ctx ends. However late it is called back, no bar is left out.
func (s *Synthetic) Run(ctx context.Context, sink Sink) error {
	// Bars lie on the grid of virtual time, like those of an exchange; open is where the open one begins.
	open := s.start.Truncate(s.opts.Interval)
	tracks := make([]*syntheticTrack, len(s.opts.Symbols))
	for i, symbol := range s.opts.Symbols {
		t := &syntheticTrack{symbol: symbol, generator: NewGenerator(s.opts.Seed, symbol)}
		tracks[i] = t
		if ctx.Err() != nil {
			return nil
		}
		sink(s.history(t, open))
		t.bar = t.generator.Next()
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var revised time.Time
	for {
		now := s.opts.Now()
		for closing := open.Add(s.opts.Interval); !closing.After(s.Strategy(now)); closing = closing.Add(s.opts.Interval) {
			if ctx.Err() != nil {
				return nil
			}
			for _, t := range tracks {
				sink(s.candle(t, open, barTicks, now))
				t.bar = t.generator.Next()
			}
			open, now = closing, s.opts.Now()
		}
		if revised.IsZero() || now.Sub(revised) >= syntheticRevision || now.Before(revised) {
			revised = now
			passed := float64(s.Strategy(now).Sub(open)) / float64(s.opts.Interval)
			ticks := min(max(int(passed*barTicks), 1), barTicks)
			for _, t := range tracks {
				c := s.candle(t, open, ticks, now)
				c.Closed = false
				sink(c)
			}
		}
		wait := min(s.wait(now, open.Add(s.opts.Interval)), revised.Add(syntheticRevision).Sub(now))
		timer.Reset(max(wait, replayPause))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
}

// history makes the bars before open.
func (s *Synthetic) history(t *syntheticTrack, open time.Time) History {
	h := History{Symbol: t.symbol, At: s.opts.Now(), Candles: make([]Candle, s.opts.HistoryBars)}
	for i := range h.Candles {
		t.bar = t.generator.Next()
		begin := open.Add(-time.Duration(s.opts.HistoryBars-i) * s.opts.Interval)
		h.Candles[i] = s.candle(t, begin, barTicks, h.At)
	}
	return h
}

// candle is the open bar of a symbol after its first ticks; it counts as closed.
func (s *Synthetic) candle(t *syntheticTrack, open time.Time, ticks int, at time.Time) Candle {
	high, low, last := t.bar.until(ticks)
	return Candle{
		Symbol: t.symbol, OpenTime: open, Interval: s.opts.Interval,
		Open: t.bar.Open, High: high, Low: low, Close: last, Closed: true, At: at,
	}
}
