package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/config"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/feed/binance"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// inputs are the sources of one publisher.
type inputs struct {
	market    feed.Source
	positions feed.Source
	clock     feed.Clock
	strategy  bool // positions are dated in the time of that clock
	// tap sees every market event before the engine does: demonstration positions open at the prices of the feed.
	tap func(feed.Event)
	// synthetic says in words what on this run is not real; blank where everything is.
	synthetic string
	stats     func() binance.Stats // of the exchange's feed; nil where there is none
	// marketHint says where market data is looked for, to whoever finds none.
	marketHint string
}

// notice says for a page what is not real; blank where everything is.
func (in *inputs) notice() string {
	if in.synthetic == "" {
		return ""
	}
	return " NOT REAL: " + in.synthetic + "."
}

// defaultDemoSymbols are watched where the market is generated and nobody named symbols.
var defaultDemoSymbols = []position.Symbol{"BTCUSDT", "ETHUSDT", "SOLUSDT"}

func openInputs(ctx context.Context, c config.Config, rdb redis.UniversalClient, now func() time.Time, universe func() []position.Symbol, log *slog.Logger) (*inputs, error) {
	in := &inputs{clock: feed.Wall{}}
	symbols := c.Symbols
	kind := c.Feed.Kind
	if kind == config.FeedAuto {
		kind = config.FeedBinance
		if err := reachable(ctx, exchange(c)); err != nil {
			log.Info("the exchange cannot be reached: the market is generated", "err", err)
			kind, in.synthetic = config.FeedSynthetic, fmt.Sprintf("the exchange cannot be reached (%v), ", cause(err))
		}
	}
	switch kind {
	case config.FeedBinance:
		if len(symbols) == 0 && c.Positions.Kind == config.PositionsDemo {
			symbols = defaultDemoSymbols
		}
		o := exchange(c)
		o.Universe = func() []position.Symbol { return union(universe(), symbols) }
		o.HistoryBars, o.Log = c.Window, log
		src, err := binance.New(o)
		if err != nil {
			return nil, fmt.Errorf("binance feed: %w", err)
		}
		in.market, in.stats = src, src.Stats
	case config.FeedSynthetic:
		if len(symbols) == 0 {
			symbols = defaultDemoSymbols
		}
		src, err := feed.NewSynthetic(feed.SyntheticOptions{Symbols: symbols, Seed: c.Seed, Speed: c.Speed, HistoryBars: c.Window, Now: now})
		if err != nil {
			return nil, fmt.Errorf("synthetic feed: %w", err)
		}
		in.market, in.clock = src, src
		in.synthetic += "market data is generated (synthetic)"
	case config.FeedFile:
		files, err := feed.ParseReplayFiles(strings.Join(c.Feed.Files, ","))
		if err != nil {
			return nil, fmt.Errorf("file feed: %w", err)
		}
		src, err := feed.NewReplay(feed.ReplayOptions{Files: files, Speed: c.Speed, HistoryBars: c.Window, Now: now})
		if err != nil {
			return nil, fmt.Errorf("file feed: %w", err)
		}
		if len(symbols) == 0 {
			for _, f := range files {
				symbols = append(symbols, f.Symbol)
			}
		}
		in.market, in.clock, in.synthetic = src, src, "market data is a recording, replayed"
	case config.FeedRedis:
		src, err := feed.NewRedisMarket(feed.RedisMarketOptions{
			Client: rdb, Universe: universe, Limit: c.Window, Now: now, Log: log,
			MarketStatePrefix: readPrefix(c.Keys.MarketState, c.Keys.Prefix, "marketstate:"),
			RiskPrefix:        readPrefix(c.Keys.RiskProposal, c.Keys.Prefix, "risk:proposal:"),
		})
		if err != nil {
			return nil, fmt.Errorf("redis feed: %w", err)
		}
		in.market = src
		in.marketHint = ": tried " + strings.ReplaceAll(strings.Join(feed.DefaultCandleKeys, ", "), "%s", "<SYM>") + " and " +
			readPrefix(c.Keys.MarketState, c.Keys.Prefix, "marketstate:") + "<SYM>"
	default:
		return nil, fmt.Errorf("feed %q is not known", c.Feed.Kind)
	}

	if c.Positions.Kind == config.PositionsDemo {
		demo := feed.NewDemo(feed.DemoOptions{Symbols: symbols, Seed: c.Seed, Clock: in.clock, Now: now})
		in.positions, in.tap, in.strategy = demo, demo.Watch, true
		if in.synthetic != "" {
			in.synthetic += ", "
		}
		in.synthetic += "positions are made up (demo)"
		return in, nil
	}
	in.strategy = c.Positions.Kind == config.PositionsFile
	var err error
	in.positions, err = openPositions(c, rdb, universe, now, log)
	return in, err
}

// reachTime is how long --feed auto looks for the exchange.
const reachTime = 3 * time.Second

func exchange(c config.Config) binance.Options {
	return binance.Options{BaseURL: c.BinanceREST, StreamURL: c.BinanceStreams}
}

func reachable(ctx context.Context, o binance.Options) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	return binance.Reachable(ctx, o)
}

// cause is what an error comes down to, for a line that people read; the log has all of it.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// union is a with those of b that it lacks: the feed brings only what it is asked for, and a demonstration opens its
// positions at the prices of the feed.
func union(a, b []position.Symbol) []position.Symbol {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// readPrefix is where records of other services are read. A prefix of our own (KEY_PREFIX) moves what we write, so that a
// second instance touches nothing of the first; what others write stays where the contract says, unless it was named.
func readPrefix(set, own, tail string) string {
	if set == own+tail {
		return store.DefaultPrefix + tail
	}
	return set
}

// openPositions makes the source of real positions. universe are those that are taken to be open, where somebody keeps
// them; else nil.
func openPositions(c config.Config, rdb redis.UniversalClient, universe func() []position.Symbol, now func() time.Time, log *slog.Logger) (feed.Source, error) {
	mode := feed.PositionsAuto
	switch c.Positions.Kind {
	case config.PositionsAuto:
	case config.PositionsRedisHash:
		mode = feed.PositionsHash
	case config.PositionsRedisStream:
		mode = feed.PositionsStream
	case config.PositionsFile:
		return feed.NewPositionFile(feed.PositionFileOptions{Path: c.Positions.File, Now: now, Log: log})
	default:
		return nil, fmt.Errorf("position source %q is not known", c.Positions.Kind)
	}
	return feed.NewRedisPositions(feed.RedisPositionsOptions{Client: rdb, Mode: mode, Universe: universe, Symbols: c.Symbols, Now: now, Log: log})
}

// tapped hands every event of a source to tap as well.
type tapped struct {
	feed.Source
	tap func(feed.Event)
}

func (t tapped) Run(ctx context.Context, sink feed.Sink) error {
	return t.Source.Run(ctx, func(ev feed.Event) {
		t.tap(ev)
		sink(ev)
	})
}
