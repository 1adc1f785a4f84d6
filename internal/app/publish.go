package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"quantumharvest/internal/config"
	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/footprint"
	"quantumharvest/internal/listen"
	"quantumharvest/internal/monitor"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/internal/supervise"
	"quantumharvest/kernel"
)

// Publish runs the publisher on an existing Redis.
func Publish(ctx context.Context, env Env) error {
	role, err := newPublisherRole(ctx, env, false)
	if err != nil {
		return err
	}
	defer role.close()
	if env.Config.Once {
		role.pub.done = role.everyoneServed(time.Now())
	}
	env.Log.Info("publisher started", "redis", env.Config.Redis, "publisher", role.id, "metrics", role.port.URL()+"/metrics",
		"market", role.in.market.Name(), "positions", role.in.positions.Name())
	return role.run(ctx, env, nil, nil)
}

// publisherRole is a publisher with all it needs.
type publisherRole struct {
	id    string
	rdb   redis.UniversalClient
	store *store.Store
	in    *inputs
	pub   *publisher
	port  *listen.Server
	count *positionCount
	look  *looking
	mon   *monitor.Monitor // beside it in up; nil: none
	log   *slog.Logger
	reg   *prometheus.Registry // of its page
	ended atomic.Bool
}

// opener makes the inputs of a publisher; universe says which symbols it wants market data of.
type opener func(rdb redis.UniversalClient, universe func() []position.Symbol) (*inputs, error)

// newPublisherRole makes the publisher that the settings describe.
func newPublisherRole(ctx context.Context, env Env, nextPort bool) (*publisherRole, error) {
	c := env.Config
	return assemblePublisher(env, connect(c.Redis), nextPort, func(rdb redis.UniversalClient, universe func() []position.Symbol) (*inputs, error) {
		return openInputs(ctx, c, rdb, clockOf(c), universe, env.Log)
	})
}

// assemblePublisher makes a publisher on a client, which it closes, and inputs.
func assemblePublisher(env Env, rdb redis.UniversalClient, nextPort bool, open opener) (*publisherRole, error) {
	c := env.Config
	r := &publisherRole{id: or(c.PublisherID, defaultPublisherID()), rdb: rdb, count: newPositionCount(), log: env.Log}
	r.count.now = clockOf(c)
	ok := false
	defer func() {
		if !ok {
			r.close()
		}
	}()
	r.store = store.New(r.rdb, storeKeys(c), store.WithStreams(c.StreamEnabled), store.WithClock(clockOf(c)))

	var eng *engine.Engine
	var err error
	now := clockOf(c)
	r.in, err = open(r.rdb, func() []position.Symbol { return eng.Symbols() })
	if err != nil {
		return nil, err
	}
	reg := newRegistry()
	r.reg = reg
	registerBuild(reg, env.Build)
	if r.in.stats != nil {
		registerFeed(reg, r.in.stats)
	}
	eng, err = engine.New(engine.Options{
		Heartbeat: c.Heartbeat, Cycle: c.PublishInterval, MarketStale: c.MarketStale, PositionStale: c.PositionStale,
		ProduceEvery: c.StateInterval, Window: c.Window,
		Market: kernel.DefaultMarketParams(), Stops: kernel.DefaultStopParams(), Harvest: harvestParams(c),
		Gate:    gateParams(c),
		Symbols: c.Symbols, StateSymbols: c.StateSymbols, NoProducing: !ownsProducedKeys(c),
		Publisher: r.id, Version: env.Build.Version, Holder: store.NewHolder(r.id, rand.Text()[:8]), Shards: c.Shards, LeaseInterval: c.LeaseInterval,
		MarketSource: r.in.market.Name(), MarketHint: r.in.marketHint, Clock: r.in.clock, StrategyPositions: r.in.strategy,
		DemoPositions: c.Positions.Kind == config.PositionsDemo,
		Log:           env.Log, Metrics: engine.NewMetrics(reg),
	})
	if err != nil {
		return nil, err
	}
	if !ownsProducedKeys(c) {
		env.Log.Info("market states and stops are not written: only the proposals have a prefix of this instance",
			"harvest_prefix", c.Keys.Harvest, "hint", "KEY_PREFIX moves everything that is written")
	}
	r.pub = &publisher{
		requests: make(chan func()), engine: eng, heartbeat: c.Heartbeat, store: r.store, now: now, log: env.Log, met: newPublisherMetrics(reg),
		sources: []feed.Source{
			tapped{r.in.market, r.watchMarket},
			tapped{r.in.positions, r.count.offer},
		},
		done: func(engine.Status) bool { return r.ended.Load() },
	}
	if r.look, err = openLooking(env, reg, r, nextPort); err != nil {
		return nil, err
	}
	r.port, err = openPublisherPort(c, env.Build, reg, r.pub, r.in.notice(), nextPort, env.Log)
	if err != nil {
		return nil, err
	}
	ok = true
	return r, nil
}

func (r *publisherRole) watchMarket(ev feed.Event) {
	if r.pub.trace != nil {
		note(r.pub.trace, ev, r.pub.now())
	}
	if r.in.tap != nil {
		r.in.tap(ev)
	}
	if _, over := ev.(feed.End); over {
		r.ended.Store(true)
	}
}

// close releases what was opened, in the opposite order. The port is released by whoever runs it, or here.
func (r *publisherRole) close() {
	if r.port != nil {
		r.port.Close()
	}
	r.look.close()
	if err := r.store.Close(); err != nil {
		r.log.Debug("closing the connections", "err", err)
	}
}

// publisherGarbage may gather in a process that publishes and does nothing else. What it keeps are closes and their sorted
// returns, numbers that the collector need not look through: running three times in two seconds with ten thousand symbols, it saves
// nearly as much memory as they need.
const publisherGarbage = 16 << 20

// run runs the publisher and its ports until the end and prints the summary.
func (r *publisherRole) run(told context.Context, env Env, exp *exporterPort, live *view) error {
	manager, err := supervise.New(env.Log)
	if err != nil {
		return err
	}
	ctx := told
	if env.Config.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, env.Config.For)
		defer cancel()
	}
	begin := time.Now()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, gctx := errgroup.WithContext(ctx)
	if live != nil {
		live.take()
	}
	ports, portsDone := r.pub.draining.portsOf(gctx)
	defer portsDone()
	progress := []func(context.Context) error{r.pub.progress(), r.port.Alive}
	group.Go(func() error { return r.port.Run(ports) })
	group.Go(func() error {
		r.look.run(gctx)
		return nil
	})
	group.Go(func() error {
		small := footprint.Options{Log: r.log}
		if exp == nil {
			small.Garbage = publisherGarbage
		}
		footprint.Tend(gctx, small)
		return nil
	})
	if exp != nil {
		context.AfterFunc(gctx, func() { exp.draining.on.Store(true) })
		progress = append(progress, exp.progress())
		group.Go(func() error { return exp.Run(ports) })
	}
	if live != nil {
		group.Go(func() error {
			defer stop() // whoever quits the table ends the run
			return live.run(gctx, env, r, exp.URL())
		})
	}
	group.Go(func() error {
		defer stop()
		defer portsDone()
		return r.pub.run(gctx)
	})
	running := tuning(env.Config)
	reload := newReloading(env, r.reg, func(ctx context.Context, c config.Config) error {
		watch := func() error { return nil }
		if r.mon != nil {
			var err error
			if watch, err = prepareMonitor(ctx, r.mon, c, []string{exp.URL()}, []string{r.port.URL()}); err != nil {
				return err
			}
		}
		if err := r.pub.retune(ctx, tuning(c)); err != nil {
			return err
		}
		if err := watch(); err != nil {
			return errors.Join(err, r.pub.retune(ctx, running))
		}
		running = tuning(c)
		if exp != nil {
			exp.exp.SetSymbols(c.Symbols)
		}
		return nil
	})
	group.Go(func() error {
		reload.run(gctx, manager)
		return nil
	})
	group.Go(func() error {
		manager.Run(gctx, supervise.Part{Progress: allOf(progress...), Status: r.pub.status})
		return nil
	})
	err = group.Wait()
	st := r.pub.engine.Status()
	sum := summarize(env.Out, st, time.Since(begin), env.Config.Once, r.count.everRead())
	if sum != nil && env.Config.Role == config.Publish && told.Err() != nil {
		// A service that is told to stop has not failed; what it leaves undone was said all along, and is said again.
		env.Log.Warn("stopped", "err", sum)
		sum = nil
	}
	if err == nil {
		err = sum
	}
	return err
}

// clockOf is the clock of this process: the machine's, but for drills of one that is off.
func clockOf(c config.Config) func() time.Time {
	if c.ClockOffset == 0 {
		return time.Now
	}
	return func() time.Time { return time.Now().Add(c.ClockOffset) }
}

func defaultPublisherID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "host"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}
