package engine

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/lease"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// Engine turns inputs into proposals. Make one with New.
type Engine struct {
	opts   Options
	clock  feed.Clock
	in     *inbox
	buf    []feed.Event
	est    *kernel.Estimator
	book   *position.Book
	filter map[position.Symbol]bool // nil: every symbol is covered

	symbols map[position.Symbol]*symbol
	order   []*symbol // by name: logs and tests are stable
	dirty   []*symbol

	keeper     *lease.Keeper
	noted      []int64 // by shard: the fence of the lease that was last logged and counted
	remembered []int64 // by shard: the fence of the lease under which the store's memory was read
	recalledAt time.Time
	unread     int // symbols of which that memory was out of reach

	// Positions that arrive before the durable memory was read wait here: the book must know stored episodes and
	// extremes before it meets the live ones.
	restored   bool
	restoredAt time.Time
	waiting    []feed.Snapshot
	ended      map[position.Symbol]store.Ended // the last episode of a symbol whose closing record was left
	unclaimed  map[position.Symbol]int         // in the store and no memory of ours: absences seen
	refused    map[string][]position.Symbol    // by source: positions whose record was refused at the last reading

	now       time.Time // of the step under way
	started   time.Time
	nextBeat  time.Time
	nextCycle time.Time
	lastCycle cycleCounts
	auditDue  bool            // since the last cycle; waits until something may be written
	audited   position.Symbol // the last one that was read back, or is to be

	beatNo uint64 // beats so far

	met    *Metrics
	counts counts
	said   map[saidKey]time.Time

	mu       sync.Mutex // guards what other goroutines read
	universe []position.Symbol
	status   Status

	shown           int // rows of the last status
	publishesAtOnce int // proposals in a batch
	readsAtOnce     int // proposals that are read back at once
	beatsAtOnce     int // heartbeats in one
	trips           [8]time.Duration
	tripNo          int

	wanting                 []*symbol // room for those of a batch whose proposals go in full
	urgentTurn, routineTurn turn
	routineLeft             bool // there may be something for Routine: it need not look otherwise
}

// New checks the options and returns an engine that has seen nothing yet.
func New(opts Options) (*Engine, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	est, err := kernel.NewEstimator(opts.Market)
	if err != nil {
		return nil, fmt.Errorf("engine: market-state parameters: %w", err)
	}
	for _, v := range []interface{ Validate() error }{opts.Stops, opts.Harvest, opts.Gate} {
		if err := v.Validate(); err != nil {
			return nil, fmt.Errorf("engine: parameters: %w", err)
		}
	}
	if opts.Window < est.Required() {
		return nil, fmt.Errorf("engine: a window of %d closes is too short: market state needs %d (MARKETSTATE_WINDOW_SIZE)", opts.Window, est.Required())
	}
	opts.Shards, opts.LeaseInterval = max(1, opts.Shards), cmp.Or(opts.LeaseInterval, DefaultLeaseInterval)
	keeper, err := lease.New(lease.Options{
		Holder: opts.Holder, Layout: store.NewLayout(opts.Shards, opts.Symbols), Shards: opts.Shards, Interval: opts.LeaseInterval,
	})
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	e := &Engine{
		opts:       opts,
		keeper:     keeper,
		noted:      make([]int64, opts.Shards),
		remembered: make([]int64, opts.Shards),

		clock: opts.Clock,
		in:    newInbox(),
		est:   est,
		// A hash that somebody keeps up to date counts for more than the last event of a stream.
		book:      position.NewBook("redis_hash", "redis_stream"),
		symbols:   make(map[position.Symbol]*symbol),
		ended:     make(map[position.Symbol]store.Ended),
		unclaimed: make(map[position.Symbol]int),
		refused:   make(map[string][]position.Symbol),
		said:      make(map[saidKey]time.Time),

		publishesAtOnce: mostPublishesAtOnce,
		readsAtOnce:     readsAtOnce,
		beatsAtOnce:     leastBeatsAtOnce,

		met: opts.Metrics,
	}
	if e.clock == nil {
		e.clock = feed.Wall{}
	}
	if e.met == nil {
		e.met = NewMetrics(nil)
	}
	if len(opts.Symbols) > 0 {
		e.filter = make(map[position.Symbol]bool, len(opts.Symbols))
		for _, s := range opts.Symbols {
			e.filter[s] = true
			e.symbol(s)
		}
	}
	for _, s := range opts.StateSymbols {
		e.symbol(s).market.produces = true
	}
	e.refreshUniverse()
	return e, nil
}

// Offer hands over one event. It never blocks and may be called from any goroutine: it is a feed.Sink.
func (e *Engine) Offer(ev feed.Event) { e.in.put(ev) }

// Wake is signalled when something was offered since the last step.
func (e *Engine) Wake() <-chan struct{} { return e.in.wake }

// Symbols are the ones market data is wanted for: those of open positions and those configured. It may be called from
// any goroutine; the slice is the caller's to read, never to change.
func (e *Engine) Symbols() []position.Symbol {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.universe
}

// Waiting is how many events wait for the next step. It may be called from any goroutine.
func (e *Engine) Waiting() int { return e.in.len() }

// Publishing is why a proposal of the symbol was last put into a Work in full; blank where it never was. For whoever calls Urgent and Routine.
func (e *Engine) Publishing(name position.Symbol) PublishReason {
	if s := e.symbols[name]; s != nil {
		return s.publishing
	}
	return ""
}

// NextBeat is when Step wants to be called at the latest.
func (e *Engine) NextBeat() time.Time { return e.nextBeat }

// symbol returns the state of one instrument, made where it is new.
func (e *Engine) symbol(name position.Symbol) *symbol {
	if s, ok := e.symbols[name]; ok {
		return s
	}
	s := &symbol{name: name, shard: store.ShardOf(name, e.opts.Shards), market: marketSide{series: feed.NewSeries(e.opts.Window)}, covered: e.filter == nil || e.filter[name]}
	if last := e.ended[name]; last.Episode != "" {
		s.revision = last.Revision
		e.book.NoteEnded(name, last.Episode)
	}
	e.symbols[name] = s
	i, _ := slices.BinarySearchFunc(e.order, name, func(s *symbol, name position.Symbol) int {
		return compareSymbols(s.name, name)
	})
	e.order = slices.Insert(e.order, i, s)
	return s
}

func compareSymbols(a, b position.Symbol) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (e *Engine) touch(s *symbol) {
	if !s.dirty {
		s.dirty = true
		e.dirty = append(e.dirty, s)
	}
}

// Stepped is what one step did, for whoever measures it: Step itself reads no clock.
type Stepped struct {
	Beat      bool // everything open was evaluated, because a beat was due
	Evaluated int  // open positions evaluated
}

// Step takes in what was offered and evaluates what moved: everything, when a beat is due. What is to be written then comes
// from Urgent and Routine; until they are asked the wish stands.
func (e *Engine) Step(now time.Time) Stepped {
	e.keepTime(now)

	events, merged := e.in.take(e.buf)
	e.counts.merged += merged
	e.met.mergedTicks.Add(float64(merged))
	for _, ev := range events {
		e.take(ev)
	}
	clear(events)
	e.buf = events

	before := e.counts.evaluations
	beat := !now.Before(e.nextBeat)
	if beat {
		e.noteLeases()
		for _, s := range e.order {
			if s.open && s.covered {
				e.evaluate(s)
				s.beatDue = s.advice.have && s.advice.state != ""
			}
		}
		e.beatNo++
		e.routineLeft = true
		e.nextBeat = now.Truncate(e.opts.Heartbeat).Add(e.opts.Heartbeat)
	} else {
		for _, s := range e.dirty {
			if s.open && s.covered {
				e.evaluate(s)
				e.routineLeft = e.routineLeft || s.beatDue
			}
		}
	}
	for _, s := range e.dirty {
		s.dirty = false
	}
	e.dirty = e.dirty[:0]

	if !now.Before(e.nextCycle) {
		e.reportCycle(now)
		e.auditDue = true
		e.nextCycle = now.Truncate(e.opts.Cycle).Add(e.opts.Cycle)
	}
	if beat {
		e.Snapshot(now)
	}
	return Stepped{Beat: beat, Evaluated: int(e.counts.evaluations - before)}
}

// keepTime notes the moment and survives a wall clock that jumps: a beat that would lie further ahead than one
// interval is pulled back.
func (e *Engine) keepTime(now time.Time) {
	if e.started.IsZero() {
		e.started = now
		e.nextBeat = now
		e.nextCycle = now.Truncate(e.opts.Cycle).Add(e.opts.Cycle)
	}
	if now.Round(0).Before(e.now.Round(0)) {
		e.met.clockSteps.Inc()
	}
	if e.nextBeat.Round(0).Sub(now.Round(0)) > e.opts.Heartbeat {
		e.nextBeat = now
	}
	if e.nextCycle.Round(0).Sub(now.Round(0)) > e.opts.Cycle {
		e.nextCycle = now
	}
	e.now = now
}

// elapsed is the engine's own monotonic seconds, on which the gate measures ages.
func (e *Engine) elapsed(now time.Time) float64 { return now.Sub(e.started).Seconds() }

func (e *Engine) refreshUniverse() {
	universe := make([]position.Symbol, 0, len(e.order))
	for _, s := range e.order {
		_, unclaimed := e.unclaimed[s.name] // whether its position is gone is to be found out
		if s.open || unclaimed || s.market.produces || e.filter[s.name] {
			universe = append(universe, s.name)
		}
	}
	e.mu.Lock()
	e.universe = universe
	e.mu.Unlock()
}
