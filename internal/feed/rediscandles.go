package feed

import (
	"context"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// candleProbe is how many of the newest elements are read to see whether anything changed.
	candleProbe = 3
	// candleInterval is what the legacy keys hold; it counts where the data does not tell.
	candleInterval = time.Minute
)

// redisCandles is what is remembered of one symbol's candle key between polls.
type redisCandles struct {
	key, kind string // chosen now; blank: there is none
	fresh     bool   // the window was read, and nothing was missed since
	sent      bool   // candles went out, and nothing else took their place
	size      int64
	newest    []string // raw elements of the last probe
	readAt    time.Time
	interval  time.Duration
	tail      []Candle // the newest candles known, with their times; empty for a list without times
	content   uint64   // of the window without times
	at        time.Time
}

// chooseCandles picks the key to read: the first that exists with a type that the contract knows.
func (m *RedisMarket) chooseCandles(s *redisSymbol, kinds []*redis.StatusCmd, now time.Time, sink Sink) {
	var key, kind string
	for i, cmd := range kinds {
		name := candleKey(m.opts.CandleKeys[i], s.name)
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
}

// askNewest asks for the newest n elements.
func askNewest(ctx context.Context, pipe redis.Pipeliner, s *redisSymbol, n int) candleReply {
	r := candleReply{symbol: s}
	if s.candles.kind == "zset" {
		r.size = pipe.ZCard(ctx, s.candles.key)
		r.set = pipe.ZRangeWithScores(ctx, s.candles.key, int64(-n), -1)
		return r
	}
	r.size = pipe.LLen(ctx, s.candles.key)
	r.list = pipe.LRange(ctx, s.candles.key, int64(-n), -1)
	return r
}

// elements are the raw elements, with their scores where they have any.
func (r candleReply) elements() (raw []string, scores []float64, err error) {
	if r.size.Err() != nil {
		return nil, nil, r.size.Err()
	}
	if r.list != nil {
		raw, err = r.list.Result()
		return raw, nil, err
	}
	set, err := r.set.Result()
	for _, z := range set {
		text, _ := z.Member.(string)
		raw, scores = append(raw, text), append(scores, z.Score)
	}
	return raw, scores, err
}

// readCandles reads what is newest for every symbol that lives on candles, and in full what cannot be told from that.
func (m *RedisMarket) readCandles(ctx context.Context, sink Sink) error {
	pipe := m.opts.Client.Pipeline()
	var probes []candleReply
	for _, s := range m.order {
		if !s.consumed && s.candles.kind != "" {
			probes = append(probes, askNewest(ctx, pipe, s, candleProbe))
		}
	}
	if len(probes) == 0 {
		return nil
	}
	if err := execute(ctx, pipe); err != nil {
		return err
	}
	now := m.opts.Now()
	pipe = m.opts.Client.Pipeline()
	var windows []candleReply
	for _, p := range probes {
		s, c := p.symbol, &p.symbol.candles
		raw, scores, err := p.elements()
		if bad, is := replyFlaw(err); is {
			m.refuseCandles(s, bad, now, sink)
			continue
		}
		changed := c.size != p.size.Val() || !slices.Equal(c.newest, raw)
		if c.fresh && !changed {
			continue
		}
		if c.fresh && p.size.Val() >= c.size && m.follow(s, raw, scores, now, sink) {
			c.size, c.newest = p.size.Val(), raw
			continue
		}
		windows = append(windows, askNewest(ctx, pipe, s, m.opts.Limit))
	}
	if len(windows) == 0 {
		return nil
	}
	if err := execute(ctx, pipe); err != nil {
		return err
	}
	now = m.opts.Now()
	for _, w := range windows {
		s, c := w.symbol, &w.symbol.candles
		raw, scores, err := w.elements()
		if bad, is := replyFlaw(err); is {
			m.refuseCandles(s, bad, now, sink)
			continue
		}
		// From the window itself: between the round trips more may have been written.
		c.size, c.newest = w.size.Val(), slices.Clone(raw[max(0, len(raw)-candleProbe):])
		m.takeWindow(s, raw, scores, now, sink)
		c.fresh, c.readAt = true, now
	}
	return nil
}

func (m *RedisMarket) refuseCandles(s *redisSymbol, bad flaw, now time.Time, sink Sink) {
	s.candles.fresh = false
	m.defects.set(s.candles.key, s.name, []flaw{bad}, now, sink)
}

// decodeElement reads one element; a sorted set may keep the time in the score alone.
func (s *redisSymbol) decodeElement(raw string, scores []float64, i int) (storedCandle, flaw, bool) {
	c, bad, ok := decodeCandle(s.name, raw)
	if ok && !c.timed && scores != nil {
		if at, reason := parseTime(strconv.FormatFloat(scores[i], 'f', -1, 64)); reason == "" {
			c.OpenTime, c.timed = at, true
		}
	}
	return c, bad, ok
}

// follow takes the newest elements as revisions of what is known. It refuses, having done nothing, wherever that is
// not certain: then the window has to be read.
func (m *RedisMarket) follow(s *redisSymbol, raw []string, scores []float64, now time.Time, sink Sink) bool {
	c := &s.candles
	// What stands wrong in the window is looked at again once in a while: it may have moved out.
	if len(c.tail) == 0 || len(raw) == 0 || m.defects.stands(c.key) && now.Sub(c.readAt) >= defectRepeat {
		return false
	}
	last := c.tail[len(c.tail)-1]
	elements := make([]storedCandle, 0, len(raw))
	for i := range raw {
		e, _, ok := s.decodeElement(raw[i], scores, i)
		if !ok || !e.timed || e.OpenTime.Sub(now) > futureTolerance {
			return false
		}
		e.settle(c.interval)
		if n := len(elements); n > 0 && e.OpenTime.Sub(elements[n-1].OpenTime) != c.interval {
			return false
		}
		elements = append(elements, e)
	}
	if elements[0].OpenTime.After(last.OpenTime) || elements[len(elements)-1].OpenTime.Before(last.OpenTime) {
		return false
	}
	candles := finishWindow(elements, c.interval, now)
	for _, e := range candles {
		if !e.OpenTime.Before(last.OpenTime) {
			break
		}
		known := slices.ContainsFunc(c.tail, func(k Candle) bool {
			return k.OpenTime.Equal(e.OpenTime) && samePrices(k, e)
		})
		if !known {
			return false
		}
	}
	for _, e := range candles {
		if e.OpenTime.Before(last.OpenTime) || e.OpenTime.Equal(last.OpenTime) && samePrices(e, last) && e.Closed == last.Closed {
			continue
		}
		c.at = e.At
		c.sent = true
		sink(e)
	}
	c.tail = candles
	return true
}

// settle derives the open time where the element carries the close time, which may be the last instant of the candle
// or the first one after it.
func (c *storedCandle) settle(interval time.Duration) {
	if c.ended {
		c.OpenTime, c.ended = c.OpenTime.Add(-time.Millisecond).Truncate(interval), false
	}
}

// finishWindow makes candles of ordered elements. Only the newest can be open, and where it does not say, the clock
// decides. Its event time is now, bounded by its close, because it was seen to change.
func finishWindow(elements []storedCandle, interval time.Duration, now time.Time) []Candle {
	candles := make([]Candle, len(elements))
	for i, e := range elements {
		c := e.Candle
		c.Interval = interval
		end := c.OpenTime.Add(interval)
		if i < len(elements)-1 || !e.marked {
			c.Closed = i < len(elements)-1 || !now.Before(end)
		}
		c.At = end
		if now.Before(end) {
			c.At = now
		}
		candles[i] = c
	}
	return candles
}

// takeWindow takes a whole window in.
func (m *RedisMarket) takeWindow(s *redisSymbol, raw []string, scores []float64, now time.Time, sink Sink) {
	c := &s.candles
	elements := make([]storedCandle, 0, len(raw))
	var flaws []flaw
	timed := 0
	for i := range raw {
		e, bad, ok := s.decodeElement(raw[i], scores, i)
		if ok && e.timed && e.OpenTime.Sub(now) > futureTolerance {
			bad, ok = flaw{"time", ReasonFuture, e.OpenTime.Format(time.RFC3339)}, false
		}
		if !ok {
			flaws = append(flaws, bad)
			continue
		}
		if e.timed {
			timed++
		}
		elements = append(elements, e)
	}
	if timed == 0 {
		m.defects.set(c.key, s.name, flaws, now, sink)
		m.takeUntimed(s, elements, now, sink)
		return
	}
	if timed < len(elements) {
		flaws = append(flaws, flaw{"time", ReasonMissing, ""})
		elements = slices.DeleteFunc(elements, func(e storedCandle) bool { return !e.timed })
	}
	times := make([]time.Time, len(elements))
	for i, e := range elements {
		times[i] = e.OpenTime
	}
	slices.SortFunc(times, time.Time.Compare)
	if c.interval = commonInterval(times); c.interval == 0 {
		c.interval = candleInterval
	}
	for i := range elements {
		elements[i].settle(c.interval)
	}
	elements, disorder := arrange(elements, c.interval)
	m.defects.set(c.key, s.name, append(flaws, disorder...), now, sink)
	candles := finishWindow(elements, c.interval, now)
	newest := &candles[len(candles)-1]
	says := elements[len(elements)-1].marked
	switch last := len(c.tail) - 1; {
	case last >= 0 && c.tail[last].OpenTime.Equal(newest.OpenTime) && samePrices(c.tail[last], *newest):
		// Read again, as after an outage: it is as old as it was. Only where it says that it closed is that news.
		if !says || c.tail[last].Closed == newest.Closed {
			newest.At = c.at
		}
	case last < 0 && !newest.Closed:
		// Seen for the first time: nobody knows when it was last revised, only when it began.
		if newest.OpenTime.Before(newest.At) {
			newest.At = newest.OpenTime
		}
	}
	c.at, c.content = newest.At, 0
	c.tail = slices.Clone(candles[max(0, len(candles)-candleProbe):])
	c.sent = true
	sink(History{Symbol: s.name, Candles: candles, At: newest.At})
}

// takeUntimed takes a window of closes in that carry no time: they are as old as their last change.
func (m *RedisMarket) takeUntimed(s *redisSymbol, elements []storedCandle, now time.Time, sink Sink) {
	c := &s.candles
	c.tail = nil
	if len(elements) == 0 {
		return
	}
	hash := fnv.New64a()
	candles := make([]Candle, len(elements))
	for i, e := range elements {
		candles[i] = e.Candle
		candles[i].Interval, candles[i].Closed = candleInterval, true
		_, _ = hash.Write([]byte(formatNumber(e.Close))) // a hash never fails
		_, _ = hash.Write([]byte{0})
	}
	if content := hash.Sum64(); content != c.content || c.at.IsZero() {
		c.content, c.at = content, now
	}
	for i := range candles {
		candles[i].At = c.at
	}
	c.sent = true
	sink(History{Symbol: s.name, Candles: candles, At: c.at})
}
