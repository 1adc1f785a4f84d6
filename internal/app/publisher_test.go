package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// beatBatch is a batch of heartbeats of a second.
type beatBatch struct {
	of, at time.Time
	size   int
}

// crossing is a store that sees what is under way at the same time, and takes its time for heartbeats.
type crossing struct {
	*store.Store
	patience time.Duration
	slowness time.Duration // of readings

	mu      sync.Mutex
	writing map[position.Symbol]bool
	writes  int // under way
	reads   int
	beating int
	fails   bool

	beats  []beatBatch
	beside int // writes of proposals that began while heartbeats were under way
	readBy int // readings
	// Of a read-back: parts of the last one, whether anything was written since its last part, and how often that was so
	// before another.
	parts        int
	writtenSince bool
	between      int

	wrong []string
}

func (c *crossing) note(format string, args ...any) {
	if len(c.wrong) < 5 {
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

func (c *crossing) Write(ctx context.Context, b store.Batch) (store.Results, error) {
	var syms []position.Symbol
	for _, p := range b.Publishes {
		syms = append(syms, p.Symbol)
	}
	for _, p := range b.Beats {
		syms = append(syms, p.Symbol)
	}
	for _, p := range b.Closes {
		syms = append(syms, p.Symbol)
	}
	c.mu.Lock()
	if c.reads > 0 || c.writes > 1 {
		c.note("a write beside %d readings and %d writes", c.reads, c.writes)
	}
	for _, s := range syms {
		if c.writing[s] {
			c.note("%s is written twice at once", s)
		}
		c.writing[s] = true
	}
	if c.beating > 0 && len(b.Publishes) > 0 {
		c.beside++
	}
	c.writes++
	c.writtenSince = true
	c.beating += len(b.Beats)
	if len(b.Beats) > 0 {
		c.beats = append(c.beats, beatBatch{b.Beats[0].LastUpdate, time.Now(), len(b.Beats)})
	}
	fails := c.fails
	c.mu.Unlock()
	if len(b.Beats) > 0 {
		time.Sleep(c.patience)
	}
	res, err := store.Results{}, errors.New("away")
	if !fails {
		res, err = c.Store.Write(ctx, b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range syms {
		delete(c.writing, s)
	}
	c.writes--
	c.beating -= len(b.Beats)
	return res, err
}

func (c *crossing) read(do func()) {
	c.mu.Lock()
	if c.reads+c.writes > 0 {
		c.note("a reading beside %d readings and %d writes", c.reads, c.writes)
	}
	c.reads++
	c.readBy++
	c.mu.Unlock()
	time.Sleep(c.slowness)
	do()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads--
}

func (c *crossing) Head(ctx context.Context) (out store.Collection, err error) {
	c.mu.Lock()
	c.parts, c.writtenSince = 0, false
	c.mu.Unlock()
	c.read(func() { out, err = c.Store.Head(ctx) })
	return out, err
}

func (c *crossing) Entries(ctx context.Context, syms []position.Symbol) (out []store.Entry, err error) {
	c.mu.Lock()
	if c.writtenSince {
		c.between++
	}
	c.parts, c.writtenSince = c.parts+1, false
	c.mu.Unlock()
	c.read(func() { out, err = c.Store.Entries(ctx, syms) })
	return out, err
}

func (c *crossing) Remember(ctx context.Context, extra []position.Symbol) (out store.Memory, err error) {
	c.read(func() { out, err = c.Store.Remember(ctx, extra) })
	return out, err
}

// crossingDesk is a publisher of some symbols on such a store.
func crossingDesk(t *testing.T, symbols int) (*publisher, *crossing, []position.Symbol) {
	t.Helper()
	mr := miniredis.RunT(t)
	mr.SetTime(time.Time{}) // the clock of this machine
	st := store.New(redis.NewClient(&redis.Options{Addr: mr.Addr(), MaxRetries: -1, Protocol: 2}), store.NewKeys(store.KeysOptions{}))
	t.Cleanup(func() { _ = st.Close() })
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	eng, err := engine.New(engine.Options{
		Heartbeat: time.Second, Cycle: time.Second, MarketStale: time.Hour, PositionStale: time.Hour, ProduceEvery: time.Hour, NoProducing: true,
		Window: 300, Market: kernel.DefaultMarketParams(), Stops: kernel.DefaultStopParams(), Harvest: kernel.DefaultHarvestParams(),
		Gate: kernel.GateParams{ChangeEpsPct: 0.001, MaxPublishAgeSec: 1e6}, Publisher: "test", Holder: store.NewHolder("test", "1"),
		MarketSource: "redis", Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &crossing{Store: st, writing: map[position.Symbol]bool{}, patience: 20 * time.Millisecond, slowness: 20 * time.Millisecond}
	p := &publisher{
		engine: eng, heartbeat: time.Second, store: c, log: log, now: time.Now, met: newPublisherMetrics(prometheus.NewRegistry()),
		requests: make(chan func()),
	}
	var syms []position.Symbol
	for i := range symbols {
		syms = append(syms, position.Symbol(fmt.Sprintf("S%03dUSDT", i)))
	}
	return p, c, syms
}

// loop lets a publisher run until it is stopped.
func loop(t *testing.T, p *publisher) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { p.loop(ctx); close(ended) }()
	return func() { cancel(); <-ended }
}

// offer tells a publisher of a position in each symbol, and of a market in which it is worth a price.
func offer(p *publisher, syms []position.Symbol, price float64) {
	now := time.Now()
	var records []position.Record
	for _, s := range syms {
		p.engine.Offer(feed.State{Symbol: s, At: now, State: kernel.MarketState{
			Sigma: 0.008, Mu: 0.0001, TS: 0.4, PTrend: 0.4, PMR: 0.3, PChop: 0.3, DP: 0.5, VR: 1, SpikeProxy: 1,
		}})
		records = append(records, position.Record{Symbol: s, Side: position.Long, Entry: 100, Current: price, Age: time.Hour, HasAge: true})
	}
	p.engine.Offer(feed.Snapshot{Snapshot: position.Snapshot{
		Source: "redis_hash", At: now, Instance: "1", Complete: true, Alive: true, Records: records,
	}})
}

// Proposals go to the store beside heartbeats, no symbol twice at once, and readings have it to themselves, a part at a time.
func TestPublisherWritesBesideHeartbeats(t *testing.T) {
	t.Parallel()
	p, c, syms := crossingDesk(t, 450)
	stop := loop(t, p)
	offer(p, syms, 101)
	livetest.Eventually(t, 30*time.Second, func() error {
		for i := range syms {
			if i%50 == 0 { // here and there a price at which other advice is due
				p.engine.Offer(feed.Price{Symbol: syms[(i+time.Now().Nanosecond()/1e6)%len(syms)], Price: 100 + 8*float64(time.Now().Nanosecond()/1e7%2), At: time.Now()})
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.beside < 5 || c.readBy < 4 || c.between == 0 {
			return fmt.Errorf("%d times proposals went beside heartbeats, %d readings, %d times something was written between two parts of one", c.beside, c.readBy, c.between)
		}
		return nil
	})
	stop()
	for _, w := range c.wrong {
		t.Error(w)
	}
	if st := p.engine.Status(); st.Open != len(syms) || st.Repairs != 0 {
		t.Errorf("%d open, %d repairs", st.Open, st.Repairs)
	}
}

// A read-back that takes longer than a cycle comes to its end all the same.
func TestPublisherEndsALongReadBack(t *testing.T) {
	t.Parallel()
	p, c, syms := crossingDesk(t, 450)
	c.slowness = 700 * time.Millisecond // of each of two parts; a cycle is a second
	defer loop(t, p)()
	offer(p, syms, 101)
	livetest.Eventually(t, 30*time.Second, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.parts < 2 {
			return fmt.Errorf("%d parts of the last read-back were read", c.parts)
		}
		return nil
	})
}

// When heartbeats failed last and no position is left that has any, what else gets through tells that the store is back.
func TestStoreIsBackWithoutHeartbeats(t *testing.T) {
	t.Parallel()
	p, c, syms := crossingDesk(t, 1)
	defer loop(t, p)()
	failing := func(yes bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fails = yes
	}
	ready := func(want bool) {
		t.Helper()
		livetest.Eventually(t, 20*time.Second, func() error {
			if ok, why := p.ready(t.Context()); ok != want {
				return fmt.Errorf("ready: %v, %s", ok, why)
			}
			return nil
		})
	}
	offer(p, syms, 101)
	livetest.Eventually(t, 20*time.Second, func() error {
		if st := p.engine.Status(); st.Beats < 2 {
			return fmt.Errorf("%d heartbeats", st.Beats)
		}
		return nil
	})
	failing(true)
	ready(false)
	livetest.Eventually(t, 20*time.Second, func() error {
		offer(p, nil, 0)
		if st := p.engine.Status(); st.Open > 0 {
			return fmt.Errorf("%d open", st.Open)
		}
		return nil
	})
	failing(false)
	ready(true)
}

// Where nothing else happens the heartbeats of a beat go in several batches, all within their second, and not at once.
func TestHeartbeatsOfABeatAreSpread(t *testing.T) {
	t.Parallel()
	p, c, syms := crossingDesk(t, 250)
	c.patience = 0
	defer loop(t, p)()
	offer(p, syms, 101)
	livetest.Eventually(t, 30*time.Second, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		bySecond := map[time.Time][]beatBatch{}
		for _, b := range c.beats {
			bySecond[b.of] = append(bySecond[b.of], b)
		}
		for _, all := range bySecond {
			sum, apart := 0, 0
			for i, b := range all {
				sum += b.size
				if i > 0 && b.at.Sub(all[i-1].at) >= 50*time.Millisecond {
					apart++
				}
			}
			if len(all) == 3 && apart == 2 && sum == len(syms) {
				return nil
			}
		}
		return fmt.Errorf("no beat of %d in three batches that are apart: %v", len(syms), bySecond)
	})
}

// Heartbeats are spread over a part of the interval, by how many a batch has of all.
func TestHeartbeatsAreSpread(t *testing.T) {
	for _, c := range []struct {
		interval    time.Duration
		beats, open int
		want        time.Duration
	}{
		{time.Second, 0, 400, 0},
		{time.Second, 100, 400, 62500 * time.Microsecond},
		{time.Second, 100, 10_000, 2500 * time.Microsecond},
		{5 * time.Second, 3, 3, mostSpread},
		{400 * time.Millisecond, 100, 200, 50 * time.Millisecond},
		{time.Second, 2, 1, mostSpread}, // more than are open by now
		{time.Second, 2, 0, 0},
	} {
		if got := share(c.interval, c.beats, c.open); got != c.want {
			t.Errorf("%d of %d heartbeats every %v: %v, want %v", c.beats, c.open, c.interval, got, c.want)
		}
	}
}
