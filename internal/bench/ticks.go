package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

// probeEvery is the mean time between ticks that are followed all the way, at random phase.
const probeEvery = 20 * time.Millisecond

// tape is a market with a price for every symbol: the base, and where a symbol was probed far above it.
type tape struct {
	names []position.Symbol

	mu      sync.Mutex
	sink    feed.Sink // nil: nobody listens yet
	level   []float64
	offered []time.Time // ticks that are not evaluated yet
	lag     []float64   // seconds from a tick to its evaluation
}

const base, high = 100, 108 // the second lies beyond the last rung of the ladder

func newTape(symbols int) *tape {
	t := &tape{}
	for i := range symbols {
		t.names = append(t.names, position.Symbol(fmt.Sprintf("S%05dUSDT", i)))
		t.level = append(t.level, base)
	}
	return t
}

// Name is that of the market source.
func (t *tape) Name() string { return "bench" }

// Run gives a ready market state of every symbol and then takes what it is told.
func (t *tape) Run(ctx context.Context, sink feed.Sink) error {
	t.mu.Lock()
	now := time.Now()
	for _, name := range t.names {
		sink(feed.State{Symbol: name, State: usualState, At: now})
	}
	t.sink = sink
	t.mu.Unlock()
	<-ctx.Done()
	return nil
}

// tick offers one price near the level of a symbol.
func (t *tape) tick(i int, move float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sink == nil {
		return
	}
	now := time.Now()
	t.offered = append(t.offered, now)
	t.sink(feed.Price{Symbol: t.names[i], Price: t.level[i] * (1 + move), At: now})
}

// jump moves the level of a symbol to where other advice is due, and offers that price.
func (t *tape) jump(i int) {
	t.mu.Lock()
	t.level[i] = base + high - t.level[i]
	t.mu.Unlock()
	t.tick(i, 0)
}

// stepped notes what was evaluated.
func (t *tape) stepped(begin, end time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.offered) && t.offered[n].Before(begin) {
		t.lag = append(t.lag, end.Sub(t.offered[n]).Seconds())
		n++
	}
	t.offered = append(t.offered[:0], t.offered[n:]...)
}

// forget begins to count anew.
func (t *tape) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lag = t.lag[:0]
}

// account is the positions: one in every symbol.
type account struct{ names []position.Symbol }

// Name is that of a source that keeps positions up to date.
func (account) Name() string { return "redis_hash" }

// Run reports all positions every second.
func (a account) Run(ctx context.Context, sink feed.Sink) error {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		now := time.Now()
		records := make([]position.Record, len(a.names))
		for i, name := range a.names {
			records[i] = position.Record{Symbol: name, Side: position.Long, Entry: base, Current: base, Quantity: 1, Age: time.Hour, HasAge: true}
		}
		sink(feed.Snapshot{Snapshot: position.Snapshot{Source: a.Name(), At: now, Instance: "1", Complete: true, Records: records}})
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
	}
}

func measureTicks(ctx context.Context, r *run) error {
	return r.within(ctx, "ticks", func(client redis.UniversalClient, prefix string) error {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		t := newTape(r.Effort.Symbols[0])
		ended := make(chan error, 1)
		go func() {
			ended <- r.Publish(ctx, Desk{Market: t, Positions: account{t.names}, Redis: r.Dial(), Prefix: prefix, Stepped: t.stepped})
			stop()
		}()
		readable, err := r.followTicks(ctx, t, client, prefix)
		stop()
		if failed := <-ended; failed != nil && !errors.Is(failed, context.Canceled) {
			return failed
		}
		if err != nil {
			return err
		}
		note := fmt.Sprintf("%d symbols, %d ticks/s, %d ticks followed", len(t.names), r.Effort.TickRate, len(readable))
		r.add(Figure{Name: "tick_to_redis_p50_ms", Value: ptr(1e3 * quantile(readable, 0.5)), Unit: "ms", Target: ptr(1), Note: note})
		r.add(Figure{Name: "tick_to_redis_p99_ms", Value: ptr(1e3 * quantile(readable, 0.99)), Unit: "ms", Target: ptr(5), Note: note})
		t.mu.Lock()
		defer t.mu.Unlock()
		r.add(Figure{
			Name: "tick_evaluated_p99_ms", Value: ptr(1e3 * quantile(t.lag, 0.99)), Unit: "ms", Target: ptr(1),
			Note: fmt.Sprintf("%d symbols, %d ticks/s, %d ticks", len(t.names), r.Effort.TickRate, len(t.lag)),
		})
		return nil
	})
}

// followTicks lets ticks come in and follows some of them: how long, in seconds, until another client reads what they lead
// to.
func (r *run) followTicks(ctx context.Context, t *tape, client redis.UniversalClient, prefix string) ([]float64, error) {
	key := func(i int) string { return prefix + "harvest:proposal:" + string(t.names[i]) }
	if err := r.published(ctx, client, prefix, len(t.names), time.Minute); err != nil {
		return nil, err
	}
	// The time that is measured bounds no request: one that is under way when it is over would fail with whatever comes first,
	// the deadline of its connection or that of its context.
	measured, stop := context.WithTimeout(ctx, r.Effort.Ticks+2*time.Second)
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	load.Go(func() { t.flow(measured, r.Effort.TickRate) })
	select { // until everything goes at its pace
	case <-measured.Done():
	case <-time.After(2 * time.Second):
	}
	t.forget()

	rng := rand.New(rand.NewPCG(5, 1))
	var took []float64
	for n := 0; ; n++ {
		select {
		case <-measured.Done():
		case <-time.After(time.Duration(rng.Float64() * 2 * float64(probeEvery))):
		}
		if measured.Err() != nil {
			break
		}
		i := n % len(t.names)
		was, err := client.HGet(ctx, key(i), "revision").Result()
		if err != nil {
			return nil, err
		}
		begin := time.Now()
		t.jump(i)
		for is := was; is == was; {
			if is, err = client.HGet(ctx, key(i), "revision").Result(); err != nil {
				return nil, err
			}
			if time.Since(begin) > 10*time.Second {
				return nil, fmt.Errorf("a tick of %s led to no new proposal", t.names[i])
			}
		}
		took = append(took, time.Since(begin).Seconds())
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(took) == 0 {
		return nil, errors.New("no tick could be followed")
	}
	return took, nil
}

// flow offers ticks at a pace, of one symbol after the other, each a little off its level.
func (t *tape) flow(ctx context.Context, perSecond int) {
	every := time.NewTicker(time.Millisecond)
	defer every.Stop()
	rng := rand.New(rand.NewPCG(6, 1))
	begin, sent := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		for due := int(time.Since(begin).Seconds() * float64(perSecond)); sent < due; sent++ {
			t.tick(sent%len(t.names), 1e-5*(rng.Float64()-0.5))
		}
	}
}

// published waits until every symbol has a proposal.
func (r *run) published(ctx context.Context, client redis.UniversalClient, prefix string, symbols int, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		n, err := client.SCard(ctx, prefix+"harvest:expected").Result()
		if err != nil {
			return err
		}
		if int(n) >= symbols {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d symbols were published within %s", n, symbols, within)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
