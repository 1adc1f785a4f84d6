package feed

import (
	"hash/fnv"
	"slices"
	"strconv"
	"time"
)

// candleVerdict is what a reading of the newest elements was good for.
type candleVerdict int

const (
	candlesTaken     candleVerdict = iota // nothing new, or all of it taken
	candlesUncovered                      // it does not reach back to what is known: more may
	candlesUncertain                      // only the window can tell
)

// decodeElement reads one element; a sorted set may keep the time in the score alone.
func (s *redisSymbol) decodeElement(e candleElements, i int) (storedCandle, flaw, bool) {
	c, bad, ok := decodeCandle(s.name, e.raw[i])
	if ok && e.scores != nil {
		c.ranked, c.score = true, e.scores[i]
		if !c.timed {
			if at, reason := parseTime(strconv.FormatFloat(c.score, 'f', -1, 64)); reason == "" {
				c.OpenTime, c.timed = at, true
			}
		}
	}
	return c, bad, ok
}

// follow takes the newest elements as revisions of what is known and as what came after it. It does nothing wherever
// that is not certain.
func (m *RedisMarket) follow(s *redisSymbol, e candleElements, size int64, now time.Time, sink Sink) candleVerdict {
	c := &s.candles
	// What stands wrong in the window is looked at again once in a while: it may have moved out.
	if len(c.tail) == 0 || len(e.raw) == 0 || m.defects.due(c.key, c.readAt, now) {
		return candlesUncertain
	}
	elements, verdict := s.newestElements(e, now)
	if verdict != candlesTaken {
		return verdict
	}
	last := c.tail[len(c.tail)-1]
	switch first, end := elements[0].OpenTime, elements[len(elements)-1].OpenTime; {
	case end.Before(last.OpenTime):
		return candlesUncertain
	case first.After(last.OpenTime):
		return candlesUncovered
	}
	if size-c.size > int64(c.added(e)) {
		return candlesUncovered // there is more that is new: history, filled in behind
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
			return candlesUncovered
		}
	}
	older := slices.IndexFunc(c.tail, func(k Candle) bool { return !k.OpenTime.Before(candles[0].OpenTime) })
	tail := slices.Clone(c.tail[:older])
	for _, e := range candles {
		switch {
		case e.OpenTime.Equal(last.OpenTime) && last.Closed && !e.Closed:
			e = last // a revision from before it closed
		case e.OpenTime.Before(last.OpenTime), e.OpenTime.Equal(last.OpenTime) && samePrices(e, last) && e.Closed == last.Closed:
		default:
			c.at = e.At
			c.sent = true
			sink(e)
		}
		tail = append(tail, e)
	}
	c.tail = tail[max(0, len(tail)-candleProbe):]
	c.size, c.newest = size, slices.Clone(e.raw[max(0, len(e.raw)-candleProbe):])
	c.mark(elements[len(elements)-1], e.scores)
	return candlesTaken
}

// added is how many of the newest elements are new, or more where that cannot be told.
func (c *redisCandles) added(e candleElements) int {
	n := 0
	for i := len(e.raw) - 1; i >= 0; i-- {
		switch {
		case !slices.Contains(c.newest, e.raw[i]):
			n++
		case e.scores == nil:
			return n // a list has everything new behind what is known
		}
	}
	return n
}

// newestElements are the candles among the newest elements, one after the other without a gap, from the oldest that is
// remembered on.
func (s *redisSymbol) newestElements(e candleElements, now time.Time) ([]storedCandle, candleVerdict) {
	c := &s.candles
	if c.decoded == nil {
		c.decoded = make(map[string]storedCandle)
	} else if len(c.decoded) > 2*(len(e.raw)+candleProbe) {
		clear(c.decoded)
	}
	elements := make([]storedCandle, 0, len(e.raw))
	for i := len(e.raw) - 1; i >= 0; i-- {
		element, known := c.decoded[e.raw[i]]
		if !known || e.scores != nil && element.score != e.scores[i] {
			var ok bool
			if element, _, ok = s.decodeElement(e, i); !ok || !element.timed {
				return nil, candlesUncertain
			}
			element.settle(c.interval)
			c.decoded[e.raw[i]] = element
		}
		if element.OpenTime.Sub(now) > futureTolerance {
			return nil, candlesUncertain
		}
		if len(elements) > 0 && element.OpenTime.Before(c.tail[0].OpenTime) {
			break
		}
		elements = append(elements, element)
	}
	slices.Reverse(elements)
	kept := elements[:0]
	for _, element := range elements {
		if n := len(kept); n > 0 {
			switch last := kept[n-1]; element.OpenTime.Sub(last.OpenTime) {
			case 0:
				if contradicts(element, last) {
					return nil, candlesUncertain
				}
				if supersedes(element, last) {
					kept[n-1] = element
				}
				continue
			case c.interval:
			default:
				return nil, candlesUncertain
			}
		}
		kept = append(kept, element)
	}
	return kept, candlesTaken
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

// takeWindow takes a whole window in. One that holds fewer candles than are wanted, because much of it is revisions or
// refused, is left for the next poll to read further back, where there is more: a short history helps nobody.
func (m *RedisMarket) takeWindow(r candleReply, w candleElements, now time.Time, sink Sink) {
	s, c := r.symbol, &r.symbol.candles
	c.size, c.newest = r.size.Val(), slices.Clone(w.raw[max(0, len(w.raw)-candleProbe):])
	c.lastScore, c.atLast, c.decoded = 0, 0, nil
	c.fresh, c.readAt = c.size > 0, now // a key that has just gone may be another by now
	elements := make([]storedCandle, 0, len(w.raw))
	var flaws []flaw
	timed := 0
	for i := range w.raw {
		e, bad, ok := s.decodeElement(w, i)
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
		if !c.deepen(r, len(elements), len(w.raw), m.opts.Limit) {
			m.takeUntimed(s, elements, now, sink)
		}
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
	if c.deepen(r, len(elements), len(w.raw), m.opts.Limit) {
		return
	}
	elements = elements[max(0, len(elements)-m.opts.Limit):]
	c.mark(elements[len(elements)-1], w.scores)
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

// deepen tells whether the window has to be read again, further back, and how far: by what it has shown of how many
// elements make a candle, the newest not counted, which has only begun; with a quarter to spare.
func (c *redisCandles) deepen(r candleReply, candles, elements, limit int) bool {
	depth := elements * limit / max(candles-1, 1)
	depth += depth / 4
	if candles >= limit {
		if r.asked > limit {
			c.depth = min(depth, r.asked) // no deeper than is needed
		}
		return false
	}
	deepest := limit * candleDeepest
	if r.size.Val() <= int64(elements) || r.asked >= deepest {
		return false
	}
	c.depth = min(max(depth, 2*r.asked), deepest)
	c.fresh = false
	return true
}

// mark remembers where in a sorted set the newest candle stands.
func (c *redisCandles) mark(newest storedCandle, scores []float64) {
	c.lastScore, c.atLast = newest.score, 0
	for _, score := range scores {
		if score >= c.lastScore {
			c.atLast++
		}
	}
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
