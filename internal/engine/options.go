package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

// Options say how an engine works. Every duration is > 0.
type Options struct {
	Heartbeat     time.Duration // between beats, whole seconds: a beat falls just after a multiple of it
	Cycle         time.Duration // between cycle reports and read-back audits (PUBLISH_INTERVAL_SEC)
	MarketStale   time.Duration // market input older than this is stale
	PositionStale time.Duration // position input older than this is stale
	ProduceEvery  time.Duration // between produced market states and stops of one symbol; their TTL is 10 times this
	Window        int           // closes kept per symbol; at least what the market-state kernel requires

	Market  kernel.MarketParams
	Stops   kernel.StopParams
	Harvest kernel.HarvestParams
	Gate    kernel.GateParams

	Symbols      []position.Symbol // only these are published; empty: every open position
	StateSymbols []position.Symbol // market states are produced for these, open or not; empty: for open positions
	NoProducing  bool              // write no market states and stops at all
	Publisher    string            // id of this writer, carried in everything it writes
	Version      string            // release of this writer, carried in every proposal
	// Holder names this process where it holds leases: see store.NewHolder.
	Holder        string
	Shards        int           // into how many shards the symbols of the prefix are divided; 0: one
	LeaseInterval time.Duration // a lease is taken over within three of them; 0: DefaultLeaseInterval
	MarketSource  string        // label of the market source: "synthetic", "replay", "redis", ...
	MarketHint    string        // where market data is looked for, for messages; blank or begins with a separator
	Clock         feed.Clock    // strategy time; nil: wall time
	// StrategyPositions: the positions of this run are dated in strategy time, so those that it remembers are, too.
	StrategyPositions bool
	DemoPositions     bool // this run was asked to make positions up
	Log               *slog.Logger
	Metrics           *Metrics // nil: not exported
}

// DefaultLeaseInterval lets a standby take over within six seconds.
const DefaultLeaseInterval = 2 * time.Second

func (o *Options) validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"heartbeat", o.Heartbeat},
		{"cycle", o.Cycle},
		{"market stale threshold", o.MarketStale},
		{"position stale threshold", o.PositionStale},
		{"produce interval", o.ProduceEvery},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("engine: %s is %v: it must be positive", d.name, d.value))
		}
	}
	if o.Heartbeat%time.Second != 0 {
		errs = append(errs, fmt.Errorf("engine: heartbeat %v is not a whole number of seconds: epochs on the wire are", o.Heartbeat))
	}
	if o.Publisher == "" {
		errs = append(errs, errors.New("engine: publisher id is blank"))
	}
	if o.Holder == "" {
		errs = append(errs, errors.New("engine: the holder of leases has no name"))
	}
	if o.Log == nil {
		errs = append(errs, errors.New("engine: no logger"))
	}
	return errors.Join(errs...)
}
