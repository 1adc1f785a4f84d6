package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"quantumharvest/internal/buildinfo"
	"quantumharvest/internal/config"
	"quantumharvest/internal/embedded"
	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/listen"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// Env is what a command gives to the roles it runs.
type Env struct {
	Config config.Config
	Build  buildinfo.Info
	Out    io.Writer // what people read: the banner and the summary
	Log    *slog.Logger
}

// Up runs every role in one process until ctx ends, the configured time is over or a recording has ended, and prints
// a summary. It returns an error where an open position never got a proposal.
func Up(ctx context.Context, env Env) error {
	c := env.Config
	var emb *embedded.Server
	if c.Embedded {
		srv, err := embedded.Start(embedded.Options{Addr: hostPort("127.0.0.1", c.EmbeddedPort), Dir: c.DataDir, Log: env.Log})
		if err != nil {
			return fmt.Errorf("embedded redis: %w", err)
		}
		defer func() {
			if err := srv.Close(); err != nil {
				env.Log.Error("embedded redis did not close cleanly", "err", err)
			}
		}()
		emb = srv
		env.Config.Redis = config.Redis{Network: "tcp", Addr: srv.Addr()}
	}
	role, err := newPublisherRole(env, true)
	if err != nil {
		return err
	}
	defer role.close()
	exp, err := openExporterPort(env.Config, env.Build, role.store, role.count, true, env.Log)
	if err != nil {
		return err
	}
	banner(env, emb, role, exp)
	return role.run(ctx, env, exp)
}

// Publish runs the publisher on an existing Redis.
func Publish(ctx context.Context, env Env) error {
	role, err := newPublisherRole(env, false)
	if err != nil {
		return err
	}
	defer role.close()
	if env.Config.Once {
		role.pub.done = role.everyoneServed(time.Now())
	}
	env.Log.Info("publisher started", "redis", env.Config.Redis, "publisher", role.id, "metrics", role.port.URL()+"/metrics",
		"market", role.in.market.Name(), "positions", role.in.positions.Name())
	return role.run(ctx, env, nil)
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
	log   *slog.Logger
	ended atomic.Bool
}

func newPublisherRole(env Env, nextPort bool) (*publisherRole, error) {
	c := env.Config
	r := &publisherRole{id: or(c.PublisherID, defaultPublisherID()), rdb: connect(c.Redis), count: newPositionCount(), log: env.Log}
	ok := false
	defer func() {
		if !ok {
			r.close()
		}
	}()
	r.store = store.New(r.rdb, storeKeys(c), store.WithStreams(c.StreamEnabled))

	var eng *engine.Engine
	var err error
	r.in, err = openInputs(c, r.rdb, func() []position.Symbol { return eng.Symbols() }, env.Log)
	if err != nil {
		return nil, err
	}
	reg := newRegistry()
	harvest := kernel.DefaultHarvestParams()
	harvest.FallbackStopPct = c.FallbackStopPct
	eng, err = engine.New(engine.Options{
		Heartbeat: c.Heartbeat, Cycle: c.PublishInterval, MarketStale: c.MarketStale, PositionStale: c.PositionStale,
		ProduceEvery: c.StateInterval, Window: c.Window,
		Market: kernel.DefaultMarketParams(), Stops: kernel.DefaultStopParams(), Harvest: harvest,
		Gate:    kernel.GateParams{ChangeEpsPct: c.ChangeEps, MaxPublishAgeSec: c.MaxPublishAge.Seconds()},
		Symbols: c.Symbols, StateSymbols: c.StateSymbols, Publisher: r.id, MarketSource: r.in.market.Name(), MarketHint: r.in.marketHint, Clock: r.in.clock, StrategyPositions: r.in.strategy,
		Log: env.Log, Metrics: engine.NewMetrics(reg),
	})
	if err != nil {
		return nil, err
	}
	r.pub = &publisher{
		engine: eng, store: r.store, log: env.Log, met: newPublisherMetrics(reg), symbols: c.Symbols,
		sources: []feed.Source{
			tapped{r.in.market, r.watchMarket},
			tapped{r.in.positions, r.count.offer},
		},
		done: func(engine.Status) bool { return r.ended.Load() },
	}
	r.port, err = openPublisherPort(c, env.Build, reg, eng, nextPort, env.Log)
	if err != nil {
		return nil, err
	}
	ok = true
	return r, nil
}

func (r *publisherRole) watchMarket(ev feed.Event) {
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
	if err := r.store.Close(); err != nil {
		r.log.Debug("closing the connections", "err", err)
	}
}

// run runs the publisher and its ports until the end and prints the summary.
func (r *publisherRole) run(told context.Context, env Env, exp *listen.Server) error {
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
	group.Go(func() error { return r.port.Run(gctx) })
	if exp != nil {
		group.Go(func() error { return exp.Run(gctx) })
	}
	group.Go(func() error {
		defer stop()
		return r.pub.run(gctx)
	})
	err := group.Wait()
	st := r.pub.engine.Status()
	sum := summarize(env.Out, st, time.Since(begin))
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

// onceLimit is how long publish --once waits for its inputs and its store.
const onceLimit = 30 * time.Second

// everyoneServed ends a run as soon as the sources were read and every covered open position has advice in the store.
func (r *publisherRole) everyoneServed(begin time.Time) func(engine.Status) bool {
	return func(st engine.Status) bool {
		if r.ended.Load() || time.Since(begin) > onceLimit {
			return true
		}
		if !st.Restored {
			return false
		}
		counted, err := r.count.OpenPositions(context.Background())
		if err != nil {
			return false
		}
		seen := 0
		for _, s := range st.Symbols {
			if s.Open && s.Covered && s.Publishes == 0 && !s.Fenced {
				return false
			}
			if s.Open {
				seen++
			}
		}
		want := 0
		for _, n := range counted {
			want += n
		}
		return seen >= want
	}
}

func defaultPublisherID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "host"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// banner says plainly what runs where, and what of it is not real.
func banner(env Env, emb *embedded.Server, r *publisherRole, exp *listen.Server) {
	c := env.Config
	var b strings.Builder
	fmt.Fprintf(&b, "Quantum Harvest %s\n\n", env.Build.Version)
	if emb != nil {
		fmt.Fprintf(&b, "  redis      %s  (embedded)", emb.Addr())
		if emb.Moved() {
			fmt.Fprintf(&b, "; port %d was taken", c.EmbeddedPort)
		}
		if c.DataDir == "" {
			fmt.Fprint(&b, "; nothing is kept, --data DIR keeps it")
		}
		fmt.Fprintln(&b)
	} else {
		fmt.Fprintf(&b, "  redis      %s\n", c.Redis)
	}
	fmt.Fprintf(&b, "  exporter   %s/metrics\n  publisher  %s/metrics\n", exp.URL(), r.port.URL())
	fmt.Fprintf(&b, "  market     %s\n  positions  %s\n", r.in.market.Name(), r.in.positions.Name())
	if r.in.synthetic != "" {
		fmt.Fprintf(&b, "\n  NOT REAL: %s\n", r.in.synthetic)
	}
	if emb != nil {
		port := emb.Addr()[strings.LastIndexByte(emb.Addr(), ':')+1:]
		fmt.Fprintf(&b, "\n  redis-cli -p %s HGETALL %sBTCUSDT\n", port, c.Keys.Harvest)
	}
	fmt.Fprintf(&b, "  curl -s %s/metrics | grep quantum_harvest_last_update_epoch\n\n", exp.URL())
	fmt.Fprint(env.Out, b.String())
}
