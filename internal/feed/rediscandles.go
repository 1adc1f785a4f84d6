package feed

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// candleProbe is how many of the newest elements are read to see whether anything changed.
	candleProbe = 3
	// candleCatchUp and candleListCatchUp bound what is read to follow what the probe does not show: for a sorted set
	// there is an end to it, the newest known candle.
	candleCatchUp     = 2000
	candleListCatchUp = 64
	// candleDeepest bounds a window, as a multiple of the limit: one revision a second left behind makes 60 of one candle.
	candleDeepest = 64
	// candleReadMost bounds the elements of all windows of one poll, about a hundred bytes each; what is beyond waits for
	// the next poll, so that a start with many symbols stays within the deadline.
	candleReadMost = 200_000
	// candleKinds is how often it is looked whether a key that is preferred to the one in use has come up.
	candleKinds = 5 * time.Second
	// candleInterval is what the legacy keys hold; it counts where the data does not tell.
	candleInterval = time.Minute
)

// redisCandles is what is remembered of one symbol's candle key between polls.
type redisCandles struct {
	key, kind string // chosen now; blank: there is none
	kindsAt   time.Time
	fresh     bool // the window was read, and nothing was missed since
	sent      bool // candles went out, and nothing else took their place
	size      int64
	newest    []string // raw elements of the last reading
	readAt    time.Time
	depth     int // elements of a window; 0: as many as candles are wanted
	interval  time.Duration
	tail      []Candle // the newest candles known, with their times; empty for a list without times
	content   uint64   // of the window without times
	at        time.Time

	// Of a sorted set: the score of the newest candle, and how many elements were seen at it or above. More than one
	// are revisions left beside each other, which may stand before the newest few.
	lastScore float64
	atLast    int

	decoded map[string]storedCandle // elements read since the window, with their open times settled
}

// wantsKinds tells whether the types of a symbol's keys are asked for: as long as none is in use, where anything about
// that one is uncertain, and else now and then.
func (c *redisCandles) wantsKinds(now time.Time) bool {
	return c.kind == "" || !c.fresh || now.Sub(c.kindsAt) >= candleKinds || now.Before(c.kindsAt)
}

// chooseCandles picks the key to read: the first that exists with a type that the contract knows.
func (m *RedisMarket) chooseCandles(s *redisSymbol, kinds []*redis.StatusCmd, now time.Time, sink Sink) {
	if len(kinds) == 0 {
		return
	}
	s.candles.kindsAt = now
	var key, kind string
	for i, cmd := range kinds {
		name := s.keys.candles[i]
		if m.lost(cmd.Err()) {
			if name == s.candles.key && kind == "" {
				key, kind = name, s.candles.kind // as far as is known it is still there
			}
			continue
		}
		bad, is := replyFlaw(cmd.Err())
		switch found := cmd.Val(); {
		case is:
		case found == "none":
			m.defects.set(name, s.name, nil, now, sink)
			continue
		case found == "zset", found == "list":
			if kind == "" {
				key, kind = name, found
			} else {
				m.defects.set(name, s.name, nil, now, sink)
			}
			continue
		default:
			bad = flaw{"type", ReasonWrongType, found}
		}
		m.defects.set(name, s.name, []flaw{bad}, now, sink)
	}
	if c := &s.candles; c.key != key || c.kind != kind {
		c.key, c.kind, c.fresh = key, kind, false
	}
}

// forgetCandles is called when a ready market state takes the place of candles.
func (m *RedisMarket) forgetCandles(s *redisSymbol) {
	if s.candles.key != "" {
		m.defects.set(s.candles.key, s.name, nil, time.Time{}, nil)
	}
	s.candles = redisCandles{}
}

// candleReply are the answers for one candle key.
type candleReply struct {
	symbol *redisSymbol
	size   *redis.IntCmd
	list   *redis.StringSliceCmd
	set    *redis.ZSliceCmd
	atLast *redis.IntCmd // where revisions stand beside each other: how many now
	window bool          // the answer is a window, not what came since the last reading
	down   bool          // the answer begins with the newest
	asked  int           // as many elements at most
}

// askNewest asks for the newest n elements.
func askNewest(ctx context.Context, pipe redis.Pipeliner, s *redisSymbol, n int) candleReply {
	r := candleReply{symbol: s, asked: n}
	if s.candles.kind == "zset" {
		r.size = pipe.ZCard(ctx, s.candles.key)
		r.set = pipe.ZRangeWithScores(ctx, s.candles.key, int64(-n), -1)
		return r
	}
	r.size = pipe.LLen(ctx, s.candles.key)
	r.list = pipe.LRange(ctx, s.candles.key, int64(-n), -1)
	return r
}

// askProbe asks for what tells whether anything changed.
func askProbe(ctx context.Context, pipe redis.Pipeliner, s *redisSymbol) candleReply {
	r := askNewest(ctx, pipe, s, candleProbe)
	if c := &s.candles; c.revised() {
		r.atLast = pipe.ZCount(ctx, c.key, formatScore(c.lastScore), "+inf")
	}
	return r
}

// askSince asks for everything from the newest known candle on; for a list, as far as that can be guessed.
func askSince(ctx context.Context, pipe redis.Pipeliner, s *redisSymbol) candleReply {
	if s.candles.kind != "zset" {
		return askNewest(ctx, pipe, s, candleListCatchUp)
	}
	return candleReply{
		symbol: s, asked: candleCatchUp, down: true, size: pipe.ZCard(ctx, s.candles.key),
		set: pipe.ZRevRangeByScoreWithScores(ctx, s.candles.key, &redis.ZRangeBy{
			Min: formatScore(s.candles.lastScore), Max: "+inf", Count: candleCatchUp,
		}),
	}
}

func formatScore(score float64) string { return strconv.FormatFloat(score, 'g', -1, 64) }

// revised tells whether revisions of the newest candle stand beside each other.
func (c *redisCandles) revised() bool { return c.kind == "zset" && c.atLast > 1 }

// candleElements are raw elements, oldest first, with their scores where they have any.
type candleElements struct {
	raw    []string
	scores []float64
}

func (r candleReply) elements() (candleElements, error) {
	if r.size.Err() != nil {
		return candleElements{}, r.size.Err()
	}
	if r.list != nil {
		raw, err := r.list.Result()
		return candleElements{raw: raw}, err
	}
	set, err := r.set.Result()
	e := candleElements{raw: make([]string, len(set)), scores: make([]float64, len(set))}
	for i, z := range set {
		e.raw[i], _ = z.Member.(string)
		e.scores[i] = z.Score
	}
	if r.down {
		slices.Reverse(e.raw)
		slices.Reverse(e.scores)
	}
	return e, err
}

// readCandles reads what is newest for every symbol that lives on candles, and more where that does not tell it all:
// what came since, or the whole window. A window that turns out too short is read further back by the next poll.
func (m *RedisMarket) readCandles(ctx context.Context, sink Sink) error {
	pipe := m.opts.Client.Pipeline()
	var probes []candleReply
	for _, s := range m.order {
		if !s.consumed && s.candles.kind != "" {
			probes = append(probes, askProbe(ctx, pipe, s))
		}
	}
	if len(probes) == 0 {
		return nil
	}
	if err := m.nodes.execute(ctx, pipe); err != nil {
		return err
	}
	now := m.opts.Now()
	pipe = m.opts.Client.Pipeline()
	var more []candleReply
	var windows []*redisSymbol
	for _, p := range probes {
		switch m.takeProbe(p, now, sink) {
		case candlesUncovered:
			if p.list != nil && p.symbol.candles.window(m.opts.Limit) <= candleListCatchUp {
				windows = append(windows, p.symbol)
				continue
			}
			more = append(more, askSince(ctx, pipe, p.symbol))
		case candlesUncertain:
			windows = append(windows, p.symbol)
		}
	}
	for _, s := range m.affordable(windows) {
		w := askNewest(ctx, pipe, s, s.candles.window(m.opts.Limit))
		w.window = true
		more = append(more, w)
	}
	if len(more) == 0 {
		return nil
	}
	if err := m.nodes.execute(ctx, pipe); err != nil {
		return err
	}
	now = m.opts.Now()
	for _, r := range more {
		s, c := r.symbol, &r.symbol.candles
		e, err := r.elements()
		if m.lost(err) {
			c.fresh = false
			continue
		}
		if bad, is := replyFlaw(err); is {
			m.refuseCandles(s, bad, now, sink)
			continue
		}
		// From the reading itself: between the round trips more may have been written.
		switch {
		case r.window:
			m.takeWindow(r, e, now, sink)
		case r.down && len(e.raw) == r.asked, m.follow(s, e, r.size.Val(), now, sink) != candlesTaken:
			c.fresh = false
		}
	}
	return nil
}

// takeProbe looks whether anything changed, and takes it if it can be told from the newest few.
func (m *RedisMarket) takeProbe(p candleReply, now time.Time, sink Sink) candleVerdict {
	s, c := p.symbol, &p.symbol.candles
	e, err := p.elements()
	if m.lost(err) {
		c.fresh = false
		return candlesTaken
	}
	if bad, is := replyFlaw(err); is {
		m.refuseCandles(s, bad, now, sink)
		return candlesTaken
	}
	size := p.size.Val()
	if !c.fresh || size < c.size {
		return candlesUncertain
	}
	// What came since may have brought fewer elements than a probe.
	known := c.newest[max(0, len(c.newest)-len(e.raw)):]
	same := size == c.size && len(known) > 0 && slices.Equal(known, e.raw[len(e.raw)-len(known):])
	switch {
	case p.atLast != nil && (!same || p.atLast.Val() != int64(c.atLast)):
		return candlesUncovered
	case same:
		c.newest = e.raw
		return candlesTaken
	case size == 0:
		return candlesTaken
	}
	return m.follow(s, e, size, now, sink)
}

// affordable are those of the symbols whose windows one poll reads: all, or those that were read longest ago.
func (m *RedisMarket) affordable(symbols []*redisSymbol) []*redisSymbol {
	sum := 0
	for _, s := range symbols {
		sum += s.candles.window(m.opts.Limit)
	}
	if sum <= candleReadMost {
		return symbols
	}
	slices.SortStableFunc(symbols, func(a, b *redisSymbol) int { return a.candles.readAt.Compare(b.candles.readAt) })
	for sum > candleReadMost && len(symbols) > 1 {
		last := len(symbols) - 1
		sum -= symbols[last].candles.window(m.opts.Limit)
		// Not to be taken for fresh before its turn comes.
		symbols[last].candles.fresh = false
		symbols = symbols[:last]
	}
	return symbols
}

func (c *redisCandles) window(limit int) int { return max(c.depth, limit) }

func (m *RedisMarket) refuseCandles(s *redisSymbol, bad flaw, now time.Time, sink Sink) {
	s.candles.fresh = false
	if bad.reason == ReasonWrongType {
		return // it has just become something else: the next poll asks for its type and says which
	}
	m.defects.set(s.candles.key, s.name, []flaw{bad}, now, sink)
}
