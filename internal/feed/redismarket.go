package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

const (
	redisMarketName = "redis"
	// futureTolerance is how far a stamp may lie ahead of our clock: clocks differ. Within it, it counts as now.
	futureTolerance = time.Minute
	// readyFresh is the age up to which a ready market state is evidence that somebody writes it: ten of the legacy
	// intervals, which is also the lifetime of its key.
	readyFresh = 10 * time.Minute
)

// MarketMode says which keys of a symbol are market input.
type MarketMode string

// The modes. In auto a symbol whose market state another service writes is consumed as it is, and every other one is
// read as candles; never both at a time.
const (
	MarketAuto    MarketMode = "auto"
	MarketCandles MarketMode = "candles"
	MarketReady   MarketMode = "marketstate"
)

// DefaultCandleKeys are the legacy keys of candles; the first that exists is read.
var DefaultCandleKeys = []string{"candles:%s:1m", "quantum:candles:%s", "klines:%s:1m"}

// RedisMarketOptions say where market input lies.
type RedisMarketOptions struct {
	// Client should have ContextTimeoutEnabled, so that a stuck read ends with its deadline.
	Client            redis.UniversalClient
	Universe          func() []position.Symbol // the symbols to read, asked before each poll
	CandleKeys        []string                 // each with one %s for the symbol; empty: DefaultCandleKeys
	MarketStatePrefix string                   // blank: quantum:marketstate: (a missing final colon is added)
	RiskPrefix        string                   // blank: quantum:risk:proposal:
	Mode              MarketMode               // blank: MarketAuto
	Poll              time.Duration            // between reads; 0: one second
	Deadline          time.Duration            // of one poll, all its round trips; 0: five seconds
	Limit             int                      // candles wanted of each symbol; 0: 300
	Log               *slog.Logger             // nil: nothing is logged
	Now               func() time.Time
}

// RedisMarket reads what other programs keep in Redis: candles under the legacy keys, or ready market states and stops.
// A poll takes at most three pipelined round trips, whatever the number of symbols: what is there, what is newest,
// and in full only what changed. Polls follow each other, so a slow server never collects requests.
//
// Writers may keep one element a candle or leave every revision of it behind; of those the latest counts. A window that
// holds too few candles for that reason is read further back by the polls that follow, up to 64 times its limit.
//
// A key that carries a publisher field was written by our own family and is never read back as input.
//
// In a Cluster a node that is out of reach costs the input of its own keys alone, and an Outage names it.
//
// Event times are the data's own: a candle that carries its time is as old as it says, a list without times as old as
// its last change seen. Reading the same again makes nothing younger.
type RedisMarket struct {
	opts    RedisMarketOptions
	symbols map[position.Symbol]*redisSymbol
	order   []*redisSymbol // the universe of this poll
	nodes   *redisNodes    // nil: one server
	missed  error          // what a node that is out of reach said in this poll; nil: all answered
	defects *defectBook
}

// redisSymbol is what is remembered of one symbol between polls.
type redisSymbol struct {
	name    position.Symbol
	keys    redisKeys
	candles redisCandles
	state   readyKey
	stops   readyKey
	// consumed: another service writes the market state, and it is taken as it is.
	consumed bool
	listed   bool
}

// redisKeys are the keys of one symbol.
type redisKeys struct {
	state, stops string
	candles      []string // the one that is preferred first
}

func (m *RedisMarket) keysOf(s position.Symbol) redisKeys {
	k := redisKeys{state: m.opts.MarketStatePrefix + string(s), stops: m.opts.RiskPrefix + string(s)}
	for _, pattern := range m.opts.CandleKeys {
		k.candles = append(k.candles, strings.Replace(pattern, "%s", string(s), 1))
	}
	return k
}

// NewRedisMarket checks the options; it does not ask Redis anything.
func NewRedisMarket(opts RedisMarketOptions) (*RedisMarket, error) {
	var errs []error
	if opts.Client == nil {
		errs = append(errs, errors.New("no client"))
	}
	if opts.Universe == nil {
		errs = append(errs, errors.New("no universe of symbols"))
	}
	if len(opts.CandleKeys) == 0 {
		opts.CandleKeys = DefaultCandleKeys
	}
	for _, pattern := range opts.CandleKeys {
		if strings.Count(pattern, "%s") != 1 {
			errs = append(errs, fmt.Errorf("candle key %q must hold %%s exactly once, for the symbol", pattern))
		}
	}
	for _, p := range []struct {
		into   *string
		legacy string
	}{{&opts.MarketStatePrefix, "quantum:marketstate:"}, {&opts.RiskPrefix, "quantum:risk:proposal:"}} {
		if *p.into == "" {
			*p.into = p.legacy
		}
		if !strings.HasSuffix(*p.into, ":") {
			*p.into += ":"
		}
	}
	switch opts.Mode {
	case "":
		opts.Mode = MarketAuto
	case MarketAuto, MarketCandles, MarketReady:
	default:
		errs = append(errs, fmt.Errorf("mode %q is none of %s, %s, %s", opts.Mode, MarketAuto, MarketCandles, MarketReady))
	}
	if opts.Poll == 0 {
		opts.Poll = time.Second
	}
	if opts.Deadline == 0 {
		opts.Deadline = 5 * time.Second
	}
	if opts.Limit == 0 {
		opts.Limit = defaultHistory
	}
	if opts.Poll < 0 || opts.Deadline < 0 || opts.Limit < 0 {
		errs = append(errs, fmt.Errorf("poll %v, deadline %v and limit %d must be positive", opts.Poll, opts.Deadline, opts.Limit))
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("redis market: %w", errors.Join(errs...))
	}
	return &RedisMarket{
		opts: opts, symbols: make(map[position.Symbol]*redisSymbol), nodes: nodesOf(opts.Client), defects: newDefectBook(redisMarketName),
	}, nil
}

// Name is "redis".
func (*RedisMarket) Name() string { return redisMarketName }

// Run polls until ctx ends. While Redis is away it reports an Outage, at first and then every ten seconds, backs off to
// two seconds, and goes on by itself; afterwards everything is read in full.
func (m *RedisMarket) Run(ctx context.Context, sink Sink) error {
	var away outage
	return pollLoop(ctx, m.opts.Poll, func(ctx context.Context) error {
		err := m.poll(ctx, sink)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			for _, s := range m.symbols {
				s.candles.fresh = false
			}
		}
		report := err
		if err == nil {
			report = m.missed
		}
		if report != nil {
			report = fmt.Errorf("read market input from redis: %w", report)
		}
		away.note(redisMarketName, report, m.opts.Now(), m.opts.Log, sink)
		return err
	})
}

// lost tells whether an answer is missing because its node is out of reach.
func (m *RedisMarket) lost(err error) bool {
	if !m.nodes.lost(err) {
		return false
	}
	m.missed = err
	return true
}

// redisReplies are the answers to the first round trip for one symbol.
type redisReplies struct {
	state, stops readyReply
	kinds        []*redis.StatusCmd // type of each candle key, where candles are wanted
}

// poll reads once. An error means that Redis could not be read; what is wrong with one key is a refusal.
func (m *RedisMarket) poll(ctx context.Context, sink Sink) error {
	ctx, cancel := context.WithTimeout(ctx, m.opts.Deadline)
	defer cancel()
	m.missed = nil
	m.takeUniverse()
	started := m.opts.Now()
	pipe := m.opts.Client.Pipeline()
	replies := make([]redisReplies, len(m.order))
	for i, s := range m.order {
		r := &replies[i]
		if m.opts.Mode != MarketCandles {
			r.state = askReady(ctx, pipe, s.keys.state, readyStateFields)
			r.stops = askReady(ctx, pipe, s.keys.stops, readyStopsFields)
		}
		if m.opts.Mode != MarketReady && !s.consumed && s.candles.wantsKinds(started) {
			for _, key := range s.keys.candles {
				r.kinds = append(r.kinds, pipe.Type(ctx, key))
			}
		}
	}
	if err := m.nodes.execute(ctx, pipe); err != nil {
		return err
	}
	now := m.opts.Now()
	for i, s := range m.order {
		if !s.consumed {
			m.chooseCandles(s, replies[i].kinds, now, sink)
		}
		if m.opts.Mode != MarketCandles {
			m.takeReady(s, &replies[i], now, sink)
		}
	}
	err := m.readCandles(ctx, sink)
	m.defects.repeat(m.opts.Now(), sink)
	return err
}

// takeUniverse brings the symbols up to date with those asked for.
func (m *RedisMarket) takeUniverse() {
	for _, s := range m.order {
		s.listed = false
	}
	m.order = m.order[:0]
	for _, name := range m.opts.Universe() {
		s := m.symbols[name]
		if s == nil {
			s = &redisSymbol{name: name, keys: m.keysOf(name)}
			m.symbols[name] = s
		}
		if !s.listed {
			s.listed = true
			m.order = append(m.order, s)
		}
	}
	if len(m.order) == len(m.symbols) {
		return
	}
	for name, s := range m.symbols {
		if s.listed {
			continue
		}
		delete(m.symbols, name)
		for _, key := range append(s.keys.candles, s.keys.state, s.keys.stops) {
			m.defects.set(key, name, nil, time.Time{}, nil)
		}
	}
}

// replyFlaw says what a failed command means for its key.
func replyFlaw(err error) (flaw, bool) {
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return flaw{}, false
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return flaw{"type", ReasonWrongType, ""}, true
	}
	return flaw{"reply", ReasonUnreadable, err.Error()}, true
}
