package engine_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

const (
	btc = position.Symbol("BTCUSDT")
	eth = position.Symbol("ETHUSDT")
)

// desk is an engine on a store, with the clock in the test's hand.
type desk struct {
	t      testing.TB
	eng    *engine.Engine
	store  *store.Store
	redis  *miniredis.Miniredis
	client *redis.Client
	now    time.Time
	prices map[position.Symbol]float64

	started int // engines made so far
	// lost are symbols whose part of the store does not answer when its memory is read.
	lost []position.Symbol
	// underWay is called, where it is set, before what an engine wants written is written.
	underWay func(urgent, routine engine.Work)
}

func newDesk(t testing.TB, change ...func(*engine.Options)) *desk {
	t.Helper()
	mr := miniredis.RunT(t)
	d := &desk{t: t, redis: mr, now: time.Date(2026, 1, 23, 1, 32, 18, 0, time.UTC), prices: map[position.Symbol]float64{}}
	// Patient: under the race detector a thousand publishes at once may take the embedded server seconds, and the clock of
	// these tests stands meanwhile.
	d.client = redis.NewClient(&redis.Options{Addr: mr.Addr(), MaxRetries: -1, ReadTimeout: time.Minute, Protocol: 2})
	t.Cleanup(func() { d.client.Close() })
	d.restart(change...)
	return d
}

// restart replaces the engine by a fresh one on the same store: a new process.
func (d *desk) restart(change ...func(*engine.Options)) {
	d.t.Helper()
	if d.eng != nil { // the one before gives its lease up, as a process does that is told to stop
		if _, err := d.store.AskLease(context.Background(), d.eng.LeaveLease(d.now).LeaseAsk); err != nil {
			d.t.Fatal(err)
		}
	}
	d.store = store.New(d.client, store.NewKeys(store.KeysOptions{}))
	d.redis.SetTime(d.now)
	d.eng = d.another(change...)
	d.started++
	d.lease(d.eng)
	d.recall(d.eng)
}

func (d *desk) another(change ...func(*engine.Options)) *engine.Engine {
	d.t.Helper()
	o := engine.Options{
		Heartbeat: time.Second, Cycle: 10 * time.Second, MarketStale: 120 * time.Second, PositionStale: 30 * time.Second,
		ProduceEvery: time.Minute, Window: 300,
		Market: kernel.DefaultMarketParams(), Stops: kernel.DefaultStopParams(), Harvest: kernel.DefaultHarvestParams(),
		Gate:      kernel.GateParams{ChangeEpsPct: 0.001, MaxPublishAgeSec: 60},
		Publisher: "test-1", MarketSource: "redis", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, c := range change {
		c(&o)
	}
	o.Holder = store.NewHolder(o.Publisher, strconv.Itoa(d.started))
	eng, err := engine.New(o)
	if err != nil {
		d.t.Fatal(err)
	}
	return eng
}

// lease asks for the lease as long as an engine wants to at this moment. It tells whether the store answered.
func (d *desk) lease(eng *engine.Engine) bool {
	d.t.Helper()
	for range 5 {
		ask, due := eng.AskLease(d.now)
		if !due {
			return true
		}
		ans, err := d.store.AskLease(context.Background(), ask.LeaseAsk)
		eng.ConfirmLease(ask, ans, err, d.now)
		if err != nil {
			return false
		}
	}
	d.t.Fatal("the engine never stops asking for the lease at one moment")
	return false
}

// recall reads the memory of the store where an engine wants it.
func (d *desk) recall(eng *engine.Engine) {
	d.t.Helper()
	if !eng.WantsRecall(d.now) {
		return
	}
	recall := eng.BeginRecall(d.now)
	m, err := d.store.Remember(context.Background(), nil)
	for i := range m.Entries {
		if e := &m.Entries[i]; slices.Contains(d.lost, e.Symbol) {
			*e = store.Entry{Symbol: e.Symbol, Lost: true, Err: errors.New("node away")}
		}
	}
	if err == nil {
		eng.Restore(recall, m, d.now)
	}
}

// run steps one engine until it wants nothing more at this moment, as its owner would.
func (d *desk) run(eng *engine.Engine) {
	d.t.Helper()
	ctx := context.Background()
	for range 20 {
		if !d.lease(eng) {
			eng.Step(d.now)
			return
		}
		d.recall(eng)
		eng.Step(d.now)
		urgent, routine := eng.Urgent(d.now), eng.Routine(d.now) // both are under way
		if urgent.Empty() && routine.Empty() && !urgent.Audit {
			return
		}
		if d.underWay != nil {
			d.underWay(urgent, routine)
		}
		failed := false
		for _, work := range []engine.Work{routine, urgent} {
			if work.Empty() {
				continue
			}
			res, err := d.store.Write(ctx, work.Batch)
			eng.Confirm(work, res, err, d.now)
			failed = failed || err != nil
		}
		if failed {
			return
		}
		if urgent.Audit {
			c, err := d.store.Head(ctx)
			if err != nil {
				d.t.Fatal(err)
			}
			eng.AuditExpected(c, d.now)
			for part := eng.AuditNext(); len(part) > 0; part = eng.AuditNext() {
				entries, err := d.store.Entries(ctx, part)
				if err != nil {
					d.t.Fatal(err)
				}
				eng.AuditEntries(entries, d.now)
			}
		}
	}
	d.t.Fatal("the engine never came to rest at one moment")
}

// seconds lets time pass: every second the positions are read again, and market ticks arrive where live says so.
func (d *desk) seconds(n int, live bool, records ...position.Record) {
	d.t.Helper()
	for range n {
		d.now = d.now.Add(time.Second)
		d.redis.SetTime(d.now)
		if live {
			for sym, p := range d.prices {
				d.eng.Offer(feed.Price{Symbol: sym, Price: p, At: d.now})
			}
		}
		if records != nil {
			d.eng.Offer(d.snapshot(records...))
		}
		d.run(d.eng)
	}
}

func (d *desk) snapshot(records ...position.Record) feed.Snapshot {
	return feed.Snapshot{Snapshot: position.Snapshot{
		Source: "redis_hash", At: d.now, Instance: "run-1", Complete: true, Records: records,
	}}
}

// market loads a gently swinging history that ends at price.
func (d *desk) market(sym position.Symbol, price float64) {
	candles := make([]feed.Candle, 300)
	start := d.now.Truncate(time.Minute).Add(-300 * time.Minute)
	for i := range candles {
		p := price * (1 + 0.001*math.Sin(float64(i)/7) + 0.0002*math.Sin(float64(i)*2.3))
		if i == len(candles)-1 {
			p = price
		}
		candles[i] = feed.Candle{
			Symbol: sym, OpenTime: start.Add(time.Duration(i) * time.Minute), Interval: time.Minute,
			Open: p, High: p, Low: p, Close: p, Closed: true, At: d.now,
		}
	}
	d.prices[sym] = price
	d.eng.Offer(feed.History{Symbol: sym, Candles: candles, At: d.now})
}

func (d *desk) long(sym position.Symbol, entry, current float64) position.Record {
	return position.Record{
		Symbol: sym, Side: position.Long, Entry: entry, Current: current,
		OpenedAt: time.Date(2026, 1, 23, 0, 32, 18, 0, time.UTC),
	}
}

func (d *desk) hash(sym position.Symbol) map[string]string {
	d.t.Helper()
	h, err := d.client.HGetAll(context.Background(), "quantum:harvest:proposal:"+string(sym)).Result()
	if err != nil {
		d.t.Fatal(err)
	}
	return h
}

// whole checks that a hash has every field of the contract and returns it decoded.
func (d *desk) whole(sym position.Symbol) store.Proposal {
	d.t.Helper()
	h := d.hash(sym)
	p, problems := store.Decode(sym, h)
	if len(h) == 0 || len(problems) > 0 {
		d.t.Fatalf("proposal of %s is not whole: %d fields, problems %v", sym, len(h), problems)
	}
	return p
}

func (d *desk) symbol(sym position.Symbol) engine.SymbolStatus {
	d.t.Helper()
	d.eng.Snapshot(d.now)
	for _, s := range d.eng.Status().Symbols {
		if s.Symbol == sym {
			return s
		}
	}
	d.t.Fatalf("no status of %s", sym)
	return engine.SymbolStatus{}
}
