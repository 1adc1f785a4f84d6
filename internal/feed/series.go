package feed

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"
	"time"
)

// Series keeps the newest candles of one symbol in order, so that their closes can be handed to a kernel without
// copying. The newest candle may still be open; it is revised until it closes.
//
// Series guards the order: what is older than, or contradicts, what it holds is refused. Gaps are accepted silently:
// the sources of this package see them first and report them with the place where they lie.
//
// A Series is for one goroutine.
type Series struct {
	limit int
	// Both rooms hold the same candles at the same places, from..to, with places to spare: dropping the oldest is a step
	// of from, and everything is moved back to the front only when the end of the rooms is reached. A symbol whose market
	// state comes ready from elsewhere never has any. There are hundreds of candles for every symbol, so of those behind
	// the newest no more is kept than what is asked of them.
	closes   []float64 // of every candle
	digests  []uint32  // of what else was said about a candle; that of the newest is not made yet
	from, to int
	opens    openTimes // of the same candles

	newest   seriesBar
	closed   bool      // the newest candle is
	at       time.Time // input event time of the newest candle
	highs    records   // of the candles before the newest
	lows     records   // the same of their lows, with the sign turned
	progress Progress
}

// Progress is how far a series has come. Between two looks with the same Histories nothing but this has changed:
// Candles were added, and the newest one of the first look may have been revised.
type Progress struct {
	Histories uint64 // times that everything was forgotten
	Candles   uint64 // added since the last of them
}

// seriesBar is what a candle has beside its close.
type seriesBar struct {
	open              int64
	opened, high, low float64
}

const untimed = math.MinInt64

var digestSeed = maphash.MakeSeed()

// digest tells two contents of a candle apart, but for one pair in four billion.
func (b seriesBar) digest() uint32 { return uint32(maphash.Comparable(digestSeed, b)) }

// records are the values of candles that no later one reaches, oldest first: the first that is not too old is the highest
// since then.
type records []record

type record struct {
	open  int64
	value float64
}

const (
	// recordsRoom is for how many records there is room: 300 candles have about twenty.
	recordsRoom = 24
	// recordsMore is how many more there is room for where that is not enough.
	recordsMore = 8
)

func (r *records) add(open int64, value float64) {
	kept := *r
	for len(kept) > 0 && kept[len(kept)-1].value <= value {
		kept = kept[:len(kept)-1]
	}
	if len(kept) == cap(kept) {
		// Twice as much room, as append gives, would be half empty, and what it leaves behind as much again.
		kept = append(make(records, 0, max(recordsRoom, len(kept)+recordsMore)), kept...)
	}
	*r = append(kept, record{open, value})
}

// forget drops what is older than open, in place.
func (r *records) forget(open int64) {
	if n := r.since(open); n > 0 {
		*r = slices.Delete(*r, 0, n)
	}
}

// since is the place of the first record at open or later.
func (r *records) since(open int64) int {
	n, _ := slices.BinarySearchFunc(*r, open, func(r record, open int64) int { return cmp.Compare(r.open, open) })
	return n
}

// highest is the highest value at open or later.
func (r *records) highest(open int64) float64 {
	if n := r.since(open); n < len(*r) {
		return (*r)[n].value
	}
	return math.Inf(-1)
}

// NewSeries makes an empty series that keeps limit candles, at least one.
func NewSeries(limit int) *Series { return &Series{limit: max(limit, 1)} }

// Closes are the close prices, oldest first; the last one is the last price of the still-open candle where there is
// one. The slice is valid until the next change and must not be written to.
func (s *Series) Closes() []float64 { return s.closes[s.from:s.to:s.to] }

// Progress tells how far the series has come, for those who keep something in step with its closes.
func (s *Series) Progress() Progress { return s.progress }

func (s *Series) clear() {
	s.from, s.to, s.at = 0, 0, time.Time{}
	s.opens = s.opens[:0]
	s.highs, s.lows = s.highs[:0], s.lows[:0]
	s.progress = Progress{Histories: s.progress.Histories + 1}
}

// Replace forgets everything and takes these candles, oldest first, all of them with an open time or all without. It
// returns a refusal for each candle that was left out because it is no candle or out of order.
func (s *Series) Replace(candles []Candle) []Refusal {
	s.clear()
	var refused []Refusal
	for _, c := range candles {
		if bad, is := candleFlaw(c); is {
			refused = append(refused, bad.refusal("", "", c.Symbol, c.At))
			continue
		}
		bar := newSeriesBar(c)
		if s.to > s.from {
			if bad, is := historyFlaw(s.newest, s.closes[s.to-1], bar, c); is {
				refused = append(refused, bad.refusal("", "", c.Symbol, c.At))
				continue
			}
			if bar.open != untimed && bar.open == s.newest.open {
				continue
			}
		}
		s.push(bar, c)
	}
	return refused
}

// historyFlaw says why bar cannot follow last in a history.
func historyFlaw(last seriesBar, lastClose float64, bar seriesBar, c Candle) (flaw, bool) {
	text := c.OpenTime.Format(time.RFC3339Nano)
	switch {
	case last.open == untimed && bar.open == untimed:
		return flaw{}, false
	case last.open == untimed || bar.open == untimed:
		return flaw{"open_time", ReasonMissing, ""}, true
	case bar.open < last.open:
		return flaw{"open_time", ReasonOutOfOrder, text}, true
	case bar.open == last.open && (bar != last || c.Close != lastClose):
		return flaw{"open_time", ReasonDuplicate, text}, true
	}
	return flaw{}, false
}

// Apply adds a candle or revises the newest one. It tells whether Closes or the closed state of the newest candle
// changed. What is already there with the same content is ignored without a word; a correction of the newest candle is
// taken; every other contradiction is refused: an older candle with other content (duplicate), one that was never seen
// or has already been dropped (out of order), an open one after it was closed (out of order), one without an open time.
// The refusal names neither source nor key, which only the source knows.
func (s *Series) Apply(c Candle) (changed bool, refusal *Refusal) {
	refuse := func(f flaw) (bool, *Refusal) {
		r := f.refusal("", "", c.Symbol, c.At)
		return false, &r
	}
	if bad, is := candleFlaw(c); is {
		return refuse(bad)
	}
	bar := newSeriesBar(c)
	if bar.open == untimed {
		return refuse(flaw{"open_time", ReasonMissing, ""})
	}
	if s.to > s.from && s.newest.open == untimed {
		// A source that learned to tell the time starts afresh: the old closes cannot be placed against the new.
		s.clear()
	}
	if s.to == s.from || bar.open > s.newest.open {
		s.push(bar, c)
		return true, nil
	}
	text := func() string { return c.OpenTime.Format(time.RFC3339Nano) }
	if bar.open == s.newest.open {
		switch {
		case bar == s.newest && c.Close == s.closes[s.to-1] && (s.closed || !c.Closed):
			return false, nil
		case s.closed && !c.Closed:
			return refuse(flaw{"open_time", ReasonOutOfOrder, text()})
		}
		s.newest, s.closes[s.to-1], s.closed, s.at = bar, c.Close, c.Closed, c.At
		return true, nil
	}
	i, known := s.opens.find(bar.open)
	i += s.from
	switch {
	case !known:
		return refuse(flaw{"open_time", ReasonOutOfOrder, text()})
	case s.digests[i] != bar.digest() || s.closes[i] != c.Close:
		return refuse(flaw{"open_time", ReasonDuplicate, text()})
	}
	return false, nil
}

// Revise moves the newest candle to a price that was seen at the given input event time, where that candle is still
// open and the price is not older than it. It tells whether Closes changed.
func (s *Series) Revise(price float64, at time.Time) bool {
	if _, bad := priceFlaw("price", price); bad || s.to == s.from || s.closed || at.Before(s.at) {
		return false
	}
	s.at = at
	if price == s.closes[s.to-1] {
		return false
	}
	s.closes[s.to-1] = price
	s.newest.high, s.newest.low = max(s.newest.high, price), min(s.newest.low, price)
	return true
}

// Extremes are the highest and lowest price of the candles that opened at since or later. It tells whether there is one.
func (s *Series) Extremes(since time.Time) (high, low float64, ok bool) {
	if since.IsZero() || s.to == s.from || s.newest.open == untimed {
		return 0, 0, false
	}
	from := since.UnixNano()
	if s.newest.open < from {
		return 0, 0, false
	}
	return max(s.newest.high, s.highs.highest(from)), min(s.newest.low, -s.lows.highest(from)), true
}

func (s *Series) push(bar seriesBar, c Candle) {
	if s.closes == nil {
		room := s.limit + max(s.limit/16, 4)
		s.closes, s.digests = make([]float64, room), make([]uint32, room)
	}
	if s.to > s.from && bar.open != untimed {
		s.digests[s.to-1] = s.newest.digest()
		s.highs.add(s.newest.open, s.newest.high)
		s.lows.add(s.newest.open, -s.newest.low)
	}
	if s.to-s.from == s.limit {
		s.from++
		s.opens.drop()
	}
	if s.to == len(s.closes) {
		copy(s.digests, s.digests[s.from:s.to])
		s.from, s.to = 0, copy(s.closes, s.closes[s.from:s.to])
	}
	s.closes[s.to] = c.Close
	s.to++
	s.opens.add(bar.open)
	s.newest, s.closed, s.at = bar, c.Closed, c.At
	s.highs.forget(s.opens.oldest())
	s.lows.forget(s.opens.oldest())
	s.progress.Candles++
}

func newSeriesBar(c Candle) seriesBar {
	bar := seriesBar{open: untimed, opened: c.Open, high: c.High, low: c.Low}
	if !c.OpenTime.IsZero() {
		bar.open = c.OpenTime.UnixNano()
	}
	return bar
}
