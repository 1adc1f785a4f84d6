package feed

import (
	"math"
	"sort"
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
	// of from, and everything is moved back to the front only when the end of the room is reached.
	barRoom   []seriesBar
	closeRoom []float64
	from, to  int
	closed    bool      // the newest candle is
	at        time.Time // input event time of the newest candle
	progress  Progress
}

// Progress is how far a series has come. Between two looks with the same Histories nothing but this has changed:
// Candles were added, and the newest one of the first look may have been revised.
type Progress struct {
	Histories uint64 // times that everything was forgotten
	Candles   uint64 // added since the last of them
}

// seriesBar is what a candle has beside its close. There are hundreds of them for every symbol.
type seriesBar struct {
	open              int64 // open time in nanoseconds since 1970; untimed where there is none
	opened, high, low float64
}

const untimed = math.MinInt64

// NewSeries makes an empty series that keeps limit candles, at least one.
func NewSeries(limit int) *Series {
	limit = max(limit, 1)
	room := limit + limit/8 + 8
	return &Series{limit: limit, barRoom: make([]seriesBar, room), closeRoom: make([]float64, room)}
}

// Closes are the close prices, oldest first; the last one is the last price of the still-open candle where there is
// one. The slice is valid until the next change and must not be written to.
func (s *Series) Closes() []float64 { return s.closeRoom[s.from:s.to:s.to] }

func (s *Series) bars() []seriesBar { return s.barRoom[s.from:s.to] }

// Progress tells how far the series has come, for those who keep something in step with its closes.
func (s *Series) Progress() Progress { return s.progress }

func (s *Series) clear() {
	s.from, s.to, s.at = 0, 0, time.Time{}
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
		if bars := s.bars(); len(bars) > 0 {
			last := bars[len(bars)-1]
			if bad, is := historyFlaw(last, s.closeRoom[s.to-1], bar, c); is {
				refused = append(refused, bad.refusal("", "", c.Symbol, c.At))
				continue
			}
			if bar.open != untimed && bar.open == last.open {
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
	bars := s.bars()
	n := len(bars)
	if n > 0 && bars[n-1].open == untimed {
		// A source that learned to tell the time starts afresh: the old closes cannot be placed against the new.
		s.clear()
		n = 0
	}
	if n == 0 || bar.open > bars[n-1].open {
		s.push(bar, c)
		return true, nil
	}
	last := &bars[n-1]
	same := func(i int) bool { return bars[i] == bar && s.closeRoom[s.from+i] == c.Close }
	text := func() string { return c.OpenTime.Format(time.RFC3339Nano) }
	if bar.open == last.open {
		switch {
		case same(n-1) && (s.closed || !c.Closed):
			return false, nil
		case s.closed && !c.Closed:
			return refuse(flaw{"open_time", ReasonOutOfOrder, text()})
		}
		*last, s.closeRoom[s.to-1], s.closed, s.at = bar, c.Close, c.Closed, c.At
		return true, nil
	}
	i := sort.Search(n, func(i int) bool { return bars[i].open >= bar.open })
	switch {
	case bars[i].open != bar.open:
		return refuse(flaw{"open_time", ReasonOutOfOrder, text()})
	case !same(i):
		return refuse(flaw{"open_time", ReasonDuplicate, text()})
	}
	return false, nil
}

// Revise moves the newest candle to a price that was seen at the given input event time, where that candle is still
// open and the price is not older than it. It tells whether Closes changed.
func (s *Series) Revise(price float64, at time.Time) bool {
	bars := s.bars()
	if _, bad := priceFlaw("price", price); bad || len(bars) == 0 || at.Before(s.at) {
		return false
	}
	last := &bars[len(bars)-1]
	if s.closed {
		return false
	}
	s.at = at
	if price == s.closeRoom[s.to-1] {
		return false
	}
	s.closeRoom[s.to-1] = price
	last.high, last.low = max(last.high, price), min(last.low, price)
	return true
}

// Extremes are the highest and lowest price of the candles that opened at since or later. It tells whether there is one.
func (s *Series) Extremes(since time.Time) (high, low float64, ok bool) {
	bars := s.bars()
	if since.IsZero() || len(bars) == 0 || bars[0].open == untimed {
		return 0, 0, false
	}
	from := since.UnixNano()
	for i := len(bars) - 1; i >= 0 && bars[i].open >= from; i-- {
		if !ok {
			high, low, ok = bars[i].high, bars[i].low, true
			continue
		}
		high, low = max(high, bars[i].high), min(low, bars[i].low)
	}
	return high, low, ok
}

func (s *Series) push(bar seriesBar, c Candle) {
	if s.to-s.from == s.limit {
		s.from++
	}
	if s.to == len(s.barRoom) {
		copy(s.closeRoom, s.closeRoom[s.from:s.to])
		s.from, s.to = 0, copy(s.barRoom, s.barRoom[s.from:s.to])
	}
	s.barRoom[s.to], s.closeRoom[s.to] = bar, c.Close
	s.to++
	s.closed, s.at = c.Closed, c.At
	s.progress.Candles++
}

func newSeriesBar(c Candle) seriesBar {
	bar := seriesBar{open: untimed, opened: c.Open, high: c.High, low: c.Low}
	if !c.OpenTime.IsZero() {
		bar.open = c.OpenTime.UnixNano()
	}
	return bar
}
