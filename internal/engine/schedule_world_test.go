package engine_test

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
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
	worldInterval = 2 * time.Second // lease interval
	// worldBound is how long after the last fault a symbol may be without a writer: three lease intervals, two round trips
	// to know what the other one knew, one beat.
	worldBound   = 3*worldInterval + 1500*time.Millisecond
	worldTimeout = 5 * time.Second
)

// world is a store, its publishers and the network between them, all in virtual time.
type world struct {
	t     *testing.T
	plan  plan
	tally tally

	now    time.Time
	queue  events
	serial int

	redis   *miniredis.Miniredis
	client  *redis.Client
	store   *store.Store
	offset  time.Duration // clock of the server minus true time
	downTo  time.Time     // the server does not answer before
	stormTo time.Time     // the network loses and delays until then

	shards    int
	symbols   []position.Symbol
	positions map[position.Symbol]position.Record // those that are open
	procs     []*proc
	made      int

	faultAt    time.Time // when the last thing went wrong, or stops being wrong
	whole      bool      // every symbol was written since then
	calm       bool      // and it was long enough ago
	replica    *miniredis.Miniredis
	seen       map[position.Symbol]seen
	holders    map[string]string // who took a shard under a fence
	forgot     bool              // the server lost what it had: records may be left twice
	violations []string
}

// seen is what was last seen of one hash.
type seen struct {
	revision, fence int64
	at              time.Time // of the last write, true time
	text            string
}

// proc is one process: from its start to its death.
type proc struct {
	w      *world
	id     string
	eng    *engine.Engine
	skew   time.Duration
	dead   bool
	paused bool
	held   []func() // what waits for the process to go on

	busy, beating, leasing bool // what is under way: urgent work, routine, an ask for the lease
	alone                  bool // a reading has the store to itself
	auditDue               bool
	toRead                 []position.Symbol // next part of a read-back
	turned                 bool              // there was room for writing since the last part
	wakeAt                 time.Time
}

type event struct {
	at     time.Time
	serial int
	do     func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].serial < q[j].serial
	}
	return q[i].at.Before(q[j].at)
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func newWorld(t *testing.T, seed uint64, without []string) *world {
	t.Helper()
	w := &world{
		t: t, plan: plan{rand.New(rand.NewPCG(seed, 7))}, now: time.Date(2026, 1, 23, 1, 32, 18, 0, time.UTC),
		positions: map[position.Symbol]position.Record{}, seen: map[position.Symbol]seen{}, holders: map[string]string{},
	}
	w.redis, w.replica = miniredis.NewMiniRedis(), miniredis.NewMiniRedis()
	if err := w.redis.Start(); err != nil {
		t.Fatal(err)
	}
	w.client = redis.NewClient(&redis.Options{Addr: w.redis.Addr(), MaxRetries: -1, Protocol: 2, DisableIdentity: true})
	if len(without) > 0 {
		w.client.AddHook(newSaboteur(without))
	}
	w.store = store.New(w.client, store.NewKeys(store.KeysOptions{}))
	w.shards = 1 + w.plan.IntN(3)
	for i := range 6 {
		sym := position.Symbol("S" + strconv.Itoa(i) + "USDT")
		w.symbols = append(w.symbols, sym)
		w.open(sym, position.Long)
	}
	w.tick()
	w.faultAt = w.now
	for range 2 + w.plan.IntN(2) {
		w.start()
	}
	w.after(w.plan.between(1, 12), w.misfortune)
	w.after(1, w.replicate)
	return w
}

func (w *world) close() {
	w.client.Close()
	w.redis.Close()
}

func (w *world) open(sym position.Symbol, side position.Side) {
	w.positions[sym] = position.Record{Symbol: sym, Side: side, Entry: 100, Current: 101, OpenedAt: w.now}
}

func (w *world) after(seconds float64, do func()) {
	w.serial++
	heap.Push(&w.queue, event{w.now.Add(time.Duration(seconds * float64(time.Second))), w.serial, do})
}

// tick sets the clock of the server.
func (w *world) tick() { w.redis.SetTime(w.now.Add(w.offset)) }

func (w *world) run(steps int) {
	for range steps {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.tick()
		e.do()
		w.tally.steps++
		w.checkCalm()
	}
}

func (w *world) violation(format string, args ...any) {
	w.violations = append(w.violations, w.now.Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// start starts a process.
func (w *world) start() *proc {
	w.made++
	p := &proc{w: w, id: "p" + strconv.Itoa(w.made), skew: time.Duration(w.plan.between(-120, 120) * float64(time.Second))}
	eng, err := engine.New(engine.Options{
		Heartbeat: time.Second, Cycle: 10 * time.Second, MarketStale: time.Hour, PositionStale: time.Hour, ProduceEvery: time.Hour, NoProducing: true,
		Window: 300, Market: kernel.DefaultMarketParams(), Stops: kernel.DefaultStopParams(), Harvest: kernel.DefaultHarvestParams(),
		Gate: kernel.GateParams{ChangeEpsPct: 0.001, MaxPublishAgeSec: 7}, Publisher: p.id, Holder: store.NewHolder(p.id, "x"),
		Shards: w.shards, LeaseInterval: worldInterval, MarketSource: "redis", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	p.eng = eng
	eng.SetPublishesAtOnce([]int{1, 2, 1000}[w.made%3]) // so that others go beside them, or not
	eng.SetReadsAtOnce([]int{1, 1000, 2}[w.made%3])
	w.procs = append(w.procs, p)
	w.after(w.plan.between(0, 0.5), p.poll)
	w.after(w.plan.between(0, 0.5), func() { p.wake() })
	return p
}

func (p *proc) clock() time.Time { return p.w.now.Add(p.skew) }

// whenAwake runs do now, when the process goes on, or never.
func (p *proc) whenAwake(do func()) {
	switch {
	case p.dead:
	case p.paused:
		p.held = append(p.held, do)
	default:
		do()
	}
}

// poll reads the positions, once a second.
func (p *proc) poll() {
	p.whenAwake(func() {
		at := p.clock()
		records := make([]position.Record, 0, len(p.w.positions))
		for _, sym := range p.w.symbols {
			if r, ok := p.w.positions[sym]; ok {
				r.Current = 101 + float64(p.w.plan.IntN(8))
				records = append(records, r)
			}
			p.eng.Offer(feed.State{Symbol: sym, At: at, State: kernel.MarketState{
				Sigma: 0.008, Mu: 0.0001, TS: 0.4, PTrend: 0.4, PMR: 0.3, PChop: 0.3, DP: 0.5, VR: 1, SpikeProxy: 1,
			}})
		}
		p.eng.Offer(feed.Snapshot{Snapshot: position.Snapshot{
			Source: "redis_hash", At: at, Instance: "1", Complete: true, Alive: true, Records: records,
		}})
		p.w.after(1, p.poll)
		p.wake()
	})
}

// wake does what the loop around an engine does.
func (p *proc) wake() { p.whenAwake(p.loop) }

func (p *proc) loop() {
	w, now := p.w, p.clock()
	if !p.leasing {
		if ask, due := p.eng.AskLease(now); due {
			p.leasing = true
			var ans store.LeaseAnswer
			p.send(ask.Patience(), func() (err error) {
				before := w.leases()
				ans, err = w.store.AskLease(context.Background(), ask.LeaseAsk)
				w.observeLease(before)
				return err
			}, func(err error) {
				p.leasing = false
				p.eng.ConfirmLease(ask, ans, err, p.clock())
			})
		}
	}
	p.eng.Step(now)
	switch {
	case p.alone:
	case p.auditDue || len(p.toRead) > 0 && p.turned || p.eng.WantsRecall(now):
		if p.busy || p.beating {
			break
		}
		p.busy, p.alone = true, true
		if !p.eng.WantsRecall(now) {
			p.audit()
			break
		}
		recall := p.eng.BeginRecall(now)
		var m store.Memory
		p.send(worldTimeout, func() (err error) {
			m, err = w.store.Remember(context.Background(), p.eng.Symbols())
			return err
		}, func(err error) {
			p.busy, p.alone = false, false
			if err == nil {
				p.eng.Restore(recall, m, p.clock())
			}
		})
	default:
		p.write(&p.busy, func(now time.Time) engine.Work {
			work := p.eng.Urgent(now)
			p.auditDue = work.Audit && len(p.toRead) == 0
			p.turned = true
			return work
		})
		p.write(&p.beating, p.eng.Routine)
	}
	next := p.eng.NextBeat().Add(3 * time.Millisecond)
	if l := p.eng.NextLease(); !p.leasing && l.Before(next) {
		next = l
	}
	wait := max(next.Sub(now), time.Millisecond)
	if at := w.now.Add(wait); !p.wakeAt.After(w.now) || at.Before(p.wakeAt) {
		p.wakeAt = at
		w.after(wait.Seconds(), p.wake)
	}
}

// write sends work of one kind, where none of it is under way.
func (p *proc) write(busy *bool, kind func(time.Time) engine.Work) {
	if *busy {
		return
	}
	work := kind(p.clock())
	if work.Empty() {
		return
	}
	*busy = true
	var res store.Results
	p.send(worldTimeout, func() (err error) {
		res, err = p.w.store.Write(context.Background(), work.Batch)
		p.w.observe(p, res)
		return err
	}, func(err error) {
		*busy = false
		p.eng.Confirm(work, res, err, p.clock())
	})
}

// audit begins to read back what the store holds, or reads the next part of it.
func (p *proc) audit() {
	head, part := p.auditDue, p.toRead
	p.auditDue, p.toRead, p.turned = false, nil, false
	if head {
		part = nil
	}
	var c store.Collection
	var entries []store.Entry
	p.send(worldTimeout, func() (err error) {
		if head {
			c, err = p.w.store.Head(context.Background())
		} else {
			entries, err = p.w.store.Entries(context.Background(), part)
		}
		return err
	}, func(err error) {
		p.busy, p.alone = false, false
		if err != nil {
			return
		}
		if head {
			p.eng.AuditExpected(c, p.clock())
		} else {
			p.eng.AuditEntries(entries, p.clock())
		}
		p.toRead = p.eng.AuditNext()
	})
}

var errNoAnswer = errors.New("no answer")

// send takes something to the server and its answer back, over a network that delays and loses. What was not answered in
// time counts as failed, whatever becomes of it later.
func (p *proc) send(patience time.Duration, do func() error, done func(error)) {
	w := p.w
	there, back := w.plan.between(0.0002, 0.002), w.plan.between(0.0002, 0.002)
	lostThere, lostBack := false, false
	if w.now.Before(w.stormTo) {
		switch {
		case w.plan.chance(0.05):
			lostThere = true
			w.tally.lost++
		case w.plan.chance(0.05):
			lostBack = true
			w.tally.lost++
		case w.plan.chance(0.1):
			there = w.plan.between(0.05, 9)
			w.tally.delayed++
		case w.plan.chance(0.1):
			back = w.plan.between(0.05, 4)
			w.tally.delayed++
		}
		w.faultUntil(w.now.Add(max(worldTimeout, time.Duration((there+back)*float64(time.Second)))))
	}
	settled := false
	settle := func(err error) {
		if settled {
			return
		}
		settled = true
		p.whenAwake(func() {
			done(err)
			p.loop()
		})
	}
	if w.now.Before(w.downTo) {
		w.after(0.001, func() { settle(errNoAnswer) })
		return
	}
	if !lostThere {
		w.after(there, func() {
			if w.now.Before(w.downTo) {
				return
			}
			err := do()
			if !lostBack {
				w.after(back, func() { settle(err) })
			}
		})
	}
	w.after(patience.Seconds(), func() { settle(errNoAnswer) })
}
