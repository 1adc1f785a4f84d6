package feed

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"quantumharvest/internal/position"
)

// candleBytes bounds one candle record; a real one has a few hundred bytes.
const candleBytes = 4096

// flaw is what is wrong with one field of a record, before anyone knows where the record lies.
type flaw struct {
	field  string
	reason Reason
	value  string
}

func (f flaw) refusal(source, key string, symbol position.Symbol, at time.Time) Refusal {
	return Refusal{
		Symbol: symbol, Source: source, Key: key, Field: f.field, Reason: f.reason, Value: shorten(f.value), At: at,
	}
}

// priceFlaw checks one price.
func priceFlaw(field string, price float64) (flaw, bool) {
	switch {
	case math.IsNaN(price), math.IsInf(price, 0):
		return flaw{field, ReasonNotFinite, formatNumber(price)}, true
	case price <= 0:
		return flaw{field, ReasonDomain, formatNumber(price)}, true
	}
	return flaw{}, false
}

// candleFlaw checks the prices of a candle: finite, positive, low <= open, close <= high.
func candleFlaw(c Candle) (flaw, bool) {
	for _, p := range [...]struct {
		field string
		price float64
	}{{"close", c.Close}, {"open", c.Open}, {"high", c.High}, {"low", c.Low}} {
		if f, bad := priceFlaw(p.field, p.price); bad {
			return f, true
		}
	}
	switch {
	case c.Low > min(c.Open, c.Close):
		return flaw{"low", ReasonDomain, formatNumber(c.Low)}, true
	case c.High < max(c.Open, c.Close):
		return flaw{"high", ReasonDomain, formatNumber(c.High)}, true
	}
	return flaw{}, false
}

func formatNumber(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// samePrices tells whether two candles say the same about the market, whenever they arrived.
func samePrices(a, b Candle) bool {
	return a.Open == b.Open && a.High == b.High && a.Low == b.Low && a.Close == b.Close
}

// storedCandle is a candle as another program stored it, which may say more or less than a Candle.
type storedCandle struct {
	Candle
	timed  bool
	ended  bool // the close time is what it carries, so OpenTime has still to be derived from it
	marked bool // it says itself whether it is closed

	// What tells one revision of a candle from another.
	ranked bool    // from a sorted set: its place says nothing beyond its score
	score  float64 // in that set
	stamp  time.Time
	traded float64 // volume, which only grows while a candle is open
}

// Names under which other programs write the same thing; the first that is present is taken. They are case-sensitive:
// an exchange's own candle has t for the open time and T for the close time.
var (
	openNames   = []string{"open", "o"}
	highNames   = []string{"high", "h"}
	lowNames    = []string{"low", "l"}
	closeNames  = []string{"close", "c"}
	startNames  = []string{"open_time", "openTime", "t", "time", "timestamp", "ts"}
	endNames    = []string{"close_time", "closeTime", "T"}
	closedNames = []string{"closed", "is_closed", "isClosed", "x"}
	stampNames  = []string{"updated_at", "updatedAt", "update_time", "updateTime", "event_time", "eventTime", "E"}
	volumeNames = []string{"volume", "v"}
	symbolNames = []string{"symbol", "s"}
)

// decodeCandle reads one stored element: a JSON object with close or c, an exchange's array (time, open, high, low,
// close, volume, ...), or a bare close price.
func decodeCandle(symbol position.Symbol, raw string) (storedCandle, flaw, bool) {
	if len(raw) > candleBytes {
		return storedCandle{}, flaw{"element", ReasonTooLarge, raw[:shortenBytes]}, false
	}
	// Bare numbers first: NaN and Inf are no JSON, and deserve the better reason.
	if price, reason := parseNumber(raw); reason == "" || reason == ReasonNotFinite || reason == ReasonMissing {
		if reason != "" {
			return storedCandle{}, flaw{"close", reason, raw}, false
		}
		return finishCandle(storedCandle{Candle: Candle{
			Symbol: symbol, Open: price, High: price, Low: price, Close: price,
		}})
	}
	value, ok := decodeJSON(raw)
	if !ok {
		return storedCandle{}, flaw{"element", ReasonUnreadable, raw}, false
	}
	switch v := value.(type) {
	case map[string]any:
		outer := v
		if inner, nested := v["k"].(map[string]any); nested {
			v = inner
		}
		c, bad, ok := decodeCandleObject(symbol, v)
		if ok {
			c.readRevision(outer, v)
		}
		return c, bad, ok
	case []any:
		return decodeCandleArray(symbol, v)
	case json.Number, string:
		price, reason := jsonNumber(v)
		if reason != "" {
			return storedCandle{}, flaw{"close", reason, jsonText(v)}, false
		}
		return finishCandle(storedCandle{Candle: Candle{
			Symbol: symbol, Open: price, High: price, Low: price, Close: price,
		}})
	}
	return storedCandle{}, flaw{"element", ReasonUnreadable, raw}, false
}

// decodeJSON reads exactly one JSON value, numbers kept as text.
func decodeJSON(raw string) (any, bool) {
	dec := json.NewDecoder(bytes.NewReader([]byte(raw)))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) != nil {
		return nil, false
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, false
	}
	return value, true
}

func decodeCandleObject(symbol position.Symbol, object map[string]any) (storedCandle, flaw, bool) {
	c := storedCandle{Candle: Candle{Symbol: symbol}}
	if name, value, ok := lookup(object, symbolNames); ok {
		if text, isText := value.(string); !isText || position.Symbol(text) != symbol {
			return c, flaw{name, ReasonSymbol, jsonText(value)}, false
		}
	}
	name, value, ok := lookup(object, closeNames)
	if !ok {
		return c, flaw{"close", ReasonMissing, ""}, false
	}
	price, reason := jsonNumber(value)
	if reason != "" {
		return c, flaw{name, reason, jsonText(value)}, false
	}
	// A record of closes alone is a bar without extent.
	c.Open, c.Close = price, price
	for _, f := range []struct {
		names []string
		into  *float64
	}{{openNames, &c.Open}, {highNames, &c.High}, {lowNames, &c.Low}} {
		name, value, ok := lookup(object, f.names)
		if !ok {
			continue
		}
		price, reason := jsonNumber(value)
		if reason == "" && price <= 0 {
			reason = ReasonDomain
		}
		if reason != "" {
			return c, flaw{name, reason, jsonText(value)}, false
		}
		*f.into = price
	}
	if c.High == 0 {
		c.High = max(c.Open, c.Close)
	}
	if c.Low == 0 {
		c.Low = min(c.Open, c.Close)
	}
	if bad, ok := c.readTime(object); !ok {
		return c, bad, false
	}
	if name, value, ok := lookup(object, closedNames); ok {
		closed, isBool := value.(bool)
		if !isBool {
			return c, flaw{name, ReasonUnreadable, jsonText(value)}, false
		}
		c.Closed, c.marked = closed, true
	}
	return finishCandle(c)
}

func (c *storedCandle) readTime(object map[string]any) (flaw, bool) {
	name, value, ok := lookup(object, startNames)
	if !ok {
		if name, value, ok = lookup(object, endNames); !ok {
			return flaw{}, true
		}
		c.ended = true
	}
	at, reason := jsonTime(value)
	if reason != "" {
		return flaw{name, reason, jsonText(value)}, false
	}
	c.OpenTime, c.timed = at, true
	return flaw{}, true
}

// readRevision takes what tells this revision from others of the same candle. The stamp may lie in the envelope. It only
// decides between two that are valid, so what is absent or unreadable is no flaw.
func (c *storedCandle) readRevision(outer, object map[string]any) {
	for _, place := range []struct {
		object map[string]any
		names  []string
	}{{object, stampNames}, {outer, stampNames}, {object, endNames}} {
		if _, value, ok := lookup(place.object, place.names); ok {
			if at, reason := jsonTime(value); reason == "" {
				c.stamp = at
				break
			}
		}
	}
	if _, value, ok := lookup(object, volumeNames); ok {
		c.traded, _ = jsonNumber(value)
	}
}

func lookup(object map[string]any, names []string) (string, any, bool) {
	for _, name := range names {
		if value, ok := object[name]; ok {
			return name, value, true
		}
	}
	return "", nil, false
}

// decodeCandleArray reads an exchange's REST candle.
func decodeCandleArray(symbol position.Symbol, array []any) (storedCandle, flaw, bool) {
	c := storedCandle{Candle: Candle{Symbol: symbol}, timed: true}
	names := [...]string{"time", "open", "high", "low", "close"}
	if len(array) <= len(names) {
		return c, flaw{"element", ReasonMissing, jsonText(array)}, false
	}
	at, reason := jsonTime(array[0])
	if reason != "" {
		return c, flaw{names[0], reason, jsonText(array[0])}, false
	}
	c.OpenTime = at
	for i, into := range []*float64{&c.Open, &c.High, &c.Low, &c.Close} {
		price, reason := jsonNumber(array[i+1])
		if reason != "" {
			return c, flaw{names[i+1], reason, jsonText(array[i+1])}, false
		}
		*into = price
	}
	if len(array) > len(names) {
		c.traded, _ = jsonNumber(array[len(names)])
	}
	return finishCandle(c)
}

func finishCandle(c storedCandle) (storedCandle, flaw, bool) {
	if bad, is := candleFlaw(c.Candle); is {
		return c, bad, false
	}
	return c, flaw{}, true
}

// commonInterval is the most frequent positive distance between neighbouring times (the shortest on a tie), 0 where
// there is none. A gap or a doubled row does not move it.
func commonInterval(times []time.Time) time.Duration {
	count := make(map[time.Duration]int)
	for i := 1; i < len(times); i++ {
		if d := times[i].Sub(times[i-1]); d > 0 {
			count[d]++
		}
	}
	var best time.Duration
	for d, n := range count {
		if n > count[best] || n == count[best] && d < best {
			best = d
		}
	}
	return best
}

// arrange brings the timed candles of one symbol into order and drops what cannot stand beside the others, naming each
// kind of flaw once. Candles that lie in wrong order are sorted and kept. Of those with the same open time the latest
// revision stays: a writer may leave every revision of a candle behind, and that is no flaw unless two of them both say
// that they are closed and contradict each other. Gaps are named and kept.
func arrange(candles []storedCandle, interval time.Duration) ([]storedCandle, []flaw) {
	var flaws []flaw
	note := func(reason Reason, at time.Time) {
		if !slices.ContainsFunc(flaws, func(f flaw) bool { return f.reason == reason }) {
			flaws = append(flaws, flaw{"time", reason, at.Format(time.RFC3339Nano)})
		}
	}
	for i := 1; i < len(candles); i++ {
		if candles[i].OpenTime.Before(candles[i-1].OpenTime) {
			note(ReasonOutOfOrder, candles[i].OpenTime)
			slices.SortStableFunc(candles, func(a, b storedCandle) int { return a.OpenTime.Compare(b.OpenTime) })
			break
		}
	}
	kept := candles[:0]
	for _, c := range candles {
		n := len(kept)
		if n == 0 {
			kept = append(kept, c)
			continue
		}
		last := kept[n-1]
		switch distance := c.OpenTime.Sub(last.OpenTime); {
		case distance == 0:
			if contradicts(c, last) {
				note(ReasonDuplicate, c.OpenTime)
			}
			if supersedes(c, last) {
				kept[n-1] = c
			}
			continue
		case distance < interval:
			note(ReasonDomain, c.OpenTime) // it overlaps its neighbour
			continue
		case distance > interval:
			note(ReasonGap, c.OpenTime)
		}
		kept = append(kept, c)
	}
	return kept, flaws
}

// contradicts tells whether two candles with the same open time cannot be revisions of one.
func contradicts(a, b storedCandle) bool {
	return a.Closed && b.Closed && !samePrices(a.Candle, b.Candle)
}

// supersedes tells which of two candles with the same open time is the later revision; old lies before c. One that says
// it is closed is the last. In a list the place decides, in a sorted set the score. Equal scores, as where the score is
// the open time, leave the order to the text of the members, which means nothing: then the content decides as far as it
// can, by its stamp, its volume, or its extent, because within a candle the high only rises and the low only falls.
func supersedes(c, old storedCandle) bool {
	if c.Closed != old.Closed {
		return c.Closed
	}
	if !c.ranked {
		return true
	}
	order := cmp.Compare(c.score, old.score)
	if order == 0 {
		order = c.stamp.Compare(old.stamp)
	}
	if order == 0 {
		order = cmp.Compare(c.traded, old.traded)
	}
	if order == 0 {
		order = cmp.Compare(c.High-c.Low, old.High-old.Low)
	}
	return order >= 0
}
