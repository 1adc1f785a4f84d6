package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// recorder keeps the arguments of the pipelines of one step, so that the same bytes can be sent again without us.
type recorder struct {
	on bool

	mu    sync.Mutex
	pipes [][][]any
}

func (r *recorder) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if r.on {
			r.record(cmds)
		}
		return next(ctx, cmds)
	}
}

// record copies the arguments of commands, and the texts that they point to: a store writes its next batch into the same memory.
// They are in few pieces, so that the garbage collector has no more to look through than without them.
func (r *recorder) record(cmds []redis.Cmder) {
	var all strings.Builder
	number, texts := 0, 0
	for _, c := range cmds {
		number += len(c.Args())
		for _, a := range c.Args() {
			if text, ok := a.(*string); ok {
				all.WriteString(*text)
				texts++
			}
		}
	}
	rest, args, cut := all.String(), make([]any, 0, number), make([]string, 0, texts)
	pipe := make([][]any, len(cmds))
	for i, c := range cmds {
		from := len(args)
		for _, a := range c.Args() {
			if text, ok := a.(*string); ok {
				cut = append(cut, rest[:len(*text)])
				rest = rest[len(*text):]
				a = &cut[len(cut)-1]
			}
			args = append(args, a)
		}
		pipe[i] = args[from:len(args):len(args)]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pipes = append(r.pipes, pipe)
}

// cycle is an engine with many open positions that writes to a store.
type cycle struct {
	eng       *engine.Engine
	store     *store.Store
	client    redis.UniversalClient
	rec       *recorder
	prefix    string
	now       time.Time
	names     []position.Symbol
	positions []position.Record
}

// what a step of a cycle wrote.
type written struct{ publishes, beats int }

// newCycle publishes everything once. With an eps of 0 every step publishes everything in full, with 1 it beats only.
func newCycle(ctx context.Context, client redis.UniversalClient, prefix string, symbols int, eps float64) (*cycle, error) {
	c := &cycle{client: client, rec: &recorder{}, prefix: prefix, now: time.Now().Truncate(time.Second)}
	client.AddHook(c.rec)
	c.store = store.New(client, store.NewKeys(store.KeysOptions{Prefix: prefix}))
	var err error
	c.eng, err = engine.New(engine.Options{
		Heartbeat: time.Second, Cycle: time.Hour, MarketStale: time.Hour, PositionStale: time.Hour, ProduceEvery: 100 * time.Hour,
		Window: stateWindow, Market: kernel.DefaultMarketParams(), Stops: kernel.DefaultStopParams(), Harvest: kernel.DefaultHarvestParams(),
		Gate:      kernel.GateParams{ChangeEpsPct: eps, MaxPublishAgeSec: 1e9},
		Publisher: "bench", Holder: "bench#1", LeaseInterval: time.Minute, MarketSource: "redis", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return nil, err
	}
	for i := range symbols {
		sym := position.Symbol(fmt.Sprintf("S%05dUSDT", i))
		c.names = append(c.names, sym)
		c.positions = append(c.positions, position.Record{
			Symbol: sym, Side: position.Long, Entry: 100, Current: 101, Age: time.Hour, HasAge: true,
		})
		c.eng.Offer(feed.State{Symbol: sym, At: c.now, State: usualState})
	}
	for range 2 { // the scripts are loaded, and what every symbol takes once is there
		if w, err := c.step(ctx); err != nil {
			return nil, err
		} else if w.publishes+w.beats != symbols {
			return nil, fmt.Errorf("a step wrote %d of %d symbols", w.publishes+w.beats, symbols)
		}
	}
	return c, nil
}

// usualState is a market in which nothing is urgent.
var usualState = kernel.MarketState{
	Sigma: 0.008, Mu: 0.0001, TS: 0.4, PTrend: 0.4, PMR: 0.3, PChop: 0.3, DP: 0.5, VR: 1, SpikeProxy: 1,
}

// step lets one second pass: a price for every symbol, a reading of all positions, and whatever the engine makes of it,
// batch after batch until nothing is left to write.
func (c *cycle) step(ctx context.Context) (w written, err error) {
	c.now = c.now.Add(time.Second)
	for i, sym := range c.names {
		c.eng.Offer(feed.Price{Symbol: sym, Price: 101 + float64(i%7)*0.01, At: c.now})
	}
	c.eng.Offer(feed.Snapshot{Snapshot: position.Snapshot{Source: "redis_hash", At: c.now, Instance: "1", Complete: true, Records: c.positions}})
	for ask, due := c.eng.AskLease(c.now); due; ask, due = c.eng.AskLease(c.now) {
		ans, err := c.store.AskLease(ctx, ask.LeaseAsk)
		if err != nil {
			return w, err
		}
		c.eng.ConfirmLease(ask, ans, nil, c.now)
	}
	if c.eng.WantsRecall(c.now) {
		recall := c.eng.BeginRecall(c.now)
		m, err := c.store.Remember(ctx, nil)
		if err != nil {
			return w, err
		}
		c.eng.Restore(recall, m, c.now)
	}
	c.eng.Step(c.now)
	return c.write(ctx)
}

// write carries to the store what there is, as a publisher does: what is urgent and what is routine beside each other.
func (c *cycle) write(ctx context.Context) (w written, err error) {
	answers := make(chan func() error, 2)
	send := func(busy *bool, work engine.Work) {
		if work.Empty() {
			return
		}
		*busy = true
		go func() {
			res, err := c.store.Write(ctx, work.Batch)
			answers <- func() error {
				*busy = false
				c.eng.Confirm(work, res, err, c.now)
				w.publishes += len(work.Batch.Publishes)
				w.beats += len(work.Batch.Beats)
				return err
			}
		}()
	}
	urgent, routine := false, false
	for {
		if err == nil && !urgent {
			send(&urgent, c.eng.Urgent(c.now))
		}
		if err == nil && !routine {
			send(&routine, c.eng.Routine(c.now))
		}
		if !urgent && !routine {
			return w, err
		}
		err = errors.Join(err, (<-answers)())
	}
}

// recorded is a step of which is kept what it sends.
func (c *cycle) recorded(ctx context.Context) (written, error) {
	c.rec.on, c.rec.pipes = true, nil
	defer func() { c.rec.on = false }()
	return c.step(ctx)
}

// raw sends what was recorded once more, through the same client, in pipelines as large, and as many at once: of proposals two are
// under way, of heartbeats one.
func (c *cycle) raw(ctx context.Context, atOnce int) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, commands := range c.rec.pipes {
		group.Go(func() error {
			pipe := c.client.Pipeline()
			for _, args := range commands {
				pipe.Do(ctx, args...)
			}
			_, err := pipe.Exec(ctx)
			return err
		})
	}
	return group.Wait()
}

// compare has whole cycles and their bytes take turns. beats: they beat only. What is recorded is a cycle that nobody measures,
// because recording takes time and memory that we do not need.
func (c *cycle) compare(ctx context.Context, rounds int, beats bool) (duel, error) {
	whole := func(step func(context.Context) (written, error)) func() error {
		return func() error {
			w, err := step(ctx)
			if n := map[bool]int{false: w.publishes, true: w.beats}[beats]; err == nil && n != len(c.names) {
				err = fmt.Errorf("a cycle wrote %d of %d symbols", n, len(c.names))
			}
			return err
		}
	}
	return fight(ctx, rounds, whole(c.step), whole(c.recorded), func() error { return c.raw(ctx, map[bool]int{false: 2, true: 1}[beats]) })
}

func measureCycles(ctx context.Context, r *run) error {
	const rival = "the same scripts and bytes, sent raw through the same client"
	type row struct {
		symbols, rounds int
		beats           bool
	}
	small, large := r.Effort.Symbols[0], r.Effort.Symbols[1]
	for _, one := range []row{
		{small, 2 * r.Effort.Rounds, false},
		{small, 2 * r.Effort.Rounds, true},
		{large, r.Effort.Rounds, false},
	} {
		kind, eps := "full", 0.0
		if one.beats {
			kind, eps = "beat", 1
		}
		name := fmt.Sprintf("cycle_%d_%s", one.symbols, kind)
		err := r.within(ctx, name, func(client redis.UniversalClient, prefix string) error {
			c, err := newCycle(ctx, client, prefix, one.symbols, eps)
			if err != nil {
				return err
			}
			d, err := c.compare(ctx, one.rounds, one.beats)
			if err != nil {
				return err
			}
			ratio := d.ratio()
			r.add(Figure{Name: name + "_ratio", Value: &ratio, Unit: "1", Target: ptr(1.3), Rival: rival, Ratio: &ratio})
			r.add(Figure{Name: name + "_ms", Value: ptr(1e3 * quantile(d.ours, 0.5)), Unit: "ms", Rival: rival, Ratio: &ratio})
			if one.beats {
				return nil // scraped is what was published in full
			}
			return r.measureScrape(ctx, c)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
