package engine_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// recorder keeps the arguments of every pipeline that passes, so that the same bytes can be sent again without us.
type recorder struct{ last [][]any }

func (r *recorder) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		r.last = r.last[:0]
		for _, c := range cmds {
			r.last = append(r.last, append([]any(nil), c.Args()...))
		}
		return next(ctx, cmds)
	}
}

// cycle is an engine with n open positions on a real redis-server.
type cycle struct {
	eng    *engine.Engine
	store  *store.Store
	client *redis.Client
	rec    *recorder
	now    time.Time
	names  []position.Symbol
	recs   []position.Record
	trips  int
}

func newCycle(b *testing.B, n int, eps float64) *cycle {
	b.Helper()
	srv := realserver.Redis(b)
	c := &cycle{client: redis.NewClient(&redis.Options{Addr: srv.Addr(), MaxRetries: -1}), rec: &recorder{}, now: time.Now().Truncate(time.Second)}
	b.Cleanup(func() { c.client.Close() })
	c.client.AddHook(c.rec)
	c.store = store.New(c.client, store.NewKeys(store.KeysOptions{}))
	var err error
	c.eng, err = engine.New(engine.Options{
		Heartbeat: time.Second, Cycle: time.Hour, MarketStale: time.Hour, PositionStale: time.Hour, ProduceEvery: 100 * time.Hour,
		Window: 300, Market: kernel.DefaultMarketParams(), Stops: kernel.DefaultStopParams(), Harvest: kernel.DefaultHarvestParams(),
		Gate:      kernel.GateParams{ChangeEpsPct: eps, MaxPublishAgeSec: 1e9},
		Publisher: "bench", Holder: "bench#1", LeaseInterval: time.Minute, MarketSource: "redis", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		sym := position.Symbol(fmt.Sprintf("S%04dUSDT", i))
		c.names = append(c.names, sym)
		c.recs = append(c.recs, position.Record{
			Symbol: sym, Side: position.Long, Entry: 100, Current: 101, Age: time.Hour, HasAge: true,
		})
		c.eng.Offer(feed.State{Symbol: sym, At: c.now, State: kernel.MarketState{
			Sigma: 0.008, Mu: 0.0001, TS: 0.4, PTrend: 0.4, PMR: 0.3, PChop: 0.3, DP: 0.5, VR: 1, SpikeProxy: 1,
		}})
	}
	c.step(b) // first publish of all, scripts loaded
	return c
}

// step lets one second pass: a price for every symbol, a reading of all positions, and whatever the engine makes of it.
func (c *cycle) step(b *testing.B) engine.Work {
	ctx := context.Background()
	c.now = c.now.Add(time.Second)
	for i, sym := range c.names {
		c.eng.Offer(feed.Price{Symbol: sym, Price: 101 + float64(i%7)*0.01, At: c.now})
	}
	c.eng.Offer(feed.Snapshot{Snapshot: position.Snapshot{Source: "redis_hash", At: c.now, Instance: "1", Complete: true, Records: c.recs}})
	for ask, due := c.eng.AskLease(c.now); due; ask, due = c.eng.AskLease(c.now) {
		ans, err := c.store.AskLease(ctx, ask.LeaseAsk)
		if err != nil {
			b.Fatal(err)
		}
		c.eng.ConfirmLease(ask, ans, nil, c.now)
	}
	if c.eng.WantsRecall(c.now) {
		recall := c.eng.BeginRecall(c.now)
		m, err := c.store.Remember(ctx, nil)
		if err != nil {
			b.Fatal(err)
		}
		c.eng.Restore(recall, m, c.now)
	}
	work := c.eng.Step(c.now, true)
	res, err := c.store.Write(ctx, work.Batch)
	c.eng.Confirm(work, res, err, c.now)
	if err != nil {
		b.Fatal(err)
	}
	c.trips = res.RoundTrips
	return work
}

// raw sends what the last step sent once more, through the same client.
func (c *cycle) raw(b *testing.B) {
	ctx := context.Background()
	pipe := c.client.Pipeline()
	for _, args := range c.rec.last {
		pipe.Do(ctx, args...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCycle compares a whole cycle of 1,000 symbols (prices and positions in, evaluation, gate, encoding, round
// trip, confirmation) with sending the same scripts and bytes raw, alternately, so that both meet the same machine.
func BenchmarkCycle(b *testing.B) {
	const symbols = 1000
	for _, kind := range []struct {
		name string
		eps  float64
		want func(engine.Work) int
	}{
		{"publish", 0, func(w engine.Work) int { return len(w.Batch.Publishes) }},
		{"beat", 1, func(w engine.Work) int { return len(w.Batch.Beats) }},
	} {
		b.Run(kind.name, func(b *testing.B) {
			c := newCycle(b, symbols, kind.eps)
			var ours, raw time.Duration
			for b.Loop() {
				begin := time.Now()
				work := c.step(b)
				ours += time.Since(begin)
				if n := kind.want(work); n != symbols {
					b.Fatalf("a cycle wrote %d of %d", n, symbols)
				}
				begin = time.Now()
				c.raw(b)
				raw += time.Since(begin)
			}
			n := float64(b.N)
			b.ReportMetric(ours.Seconds()*1e3/n, "cycle-ms")
			b.ReportMetric(raw.Seconds()*1e3/n, "raw-ms")
			b.ReportMetric(ours.Seconds()/raw.Seconds(), "ratio")
			b.ReportMetric(float64(c.trips), "round-trips")
		})
	}
}
