package feed

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func barAt(minute int, price float64, closed bool) Candle {
	c := storedAt(minute, price).Candle
	c.Symbol, c.Interval, c.Closed = "BTCUSDT", time.Minute, closed
	c.At = c.OpenTime.Add(time.Minute)
	return c
}

func seriesOf(candles ...Candle) *Series {
	s := NewSeries(4)
	s.Replace(candles)
	return s
}

func TestSeriesApply(t *testing.T) {
	noTime := barAt(5, 5, true)
	noTime.OpenTime = time.Time{}
	base := []Candle{barAt(0, 1, true), barAt(1, 2, true), barAt(2, 3, false)}
	for name, tc := range map[string]struct {
		base    []Candle
		candle  Candle
		want    []float64
		changed bool
		reason  Reason
	}{
		"first":                  {nil, barAt(0, 1, true), []float64{1}, true, ""},
		"next":                   {base, barAt(3, 4, true), []float64{1, 2, 3, 4}, true, ""},
		"after a gap":            {base, barAt(9, 4, true), []float64{1, 2, 3, 4}, true, ""},
		"revision":               {base, barAt(2, 3.5, false), []float64{1, 2, 3.5}, true, ""},
		"same revision":          {base, barAt(2, 3, false), []float64{1, 2, 3}, false, ""},
		"closes":                 {base, barAt(2, 3, true), []float64{1, 2, 3}, true, ""},
		"correction of newest":   {base[:2], barAt(1, 2.5, true), []float64{1, 2.5}, true, ""},
		"newest again":           {base[:2], barAt(1, 2, true), []float64{1, 2}, false, ""},
		"opened again":           {base[:2], barAt(1, 2.5, false), []float64{1, 2}, false, ReasonOutOfOrder},
		"opened again, the same": {base[:2], barAt(1, 2, false), []float64{1, 2}, false, ""},
		"old, the same":          {base, barAt(0, 1, true), []float64{1, 2, 3}, false, ""},
		"old, other content":     {base, barAt(0, 9, true), []float64{1, 2, 3}, false, ReasonDuplicate},
		"older than all":         {base, barAt(-1, 9, true), []float64{1, 2, 3}, false, ReasonOutOfOrder},
		"unknown in between":     {[]Candle{barAt(0, 1, true), barAt(2, 3, true)}, barAt(1, 2, true), []float64{1, 3}, false, ReasonOutOfOrder},
		"no time":                {base, noTime, []float64{1, 2, 3}, false, ReasonMissing},
		"zero":                   {base, barAt(3, 0, true), []float64{1, 2, 3}, false, ReasonDomain},
		"NaN":                    {base, barAt(3, math.NaN(), true), []float64{1, 2, 3}, false, ReasonNotFinite},
		"time after none":        {[]Candle{noTime, noTime}, barAt(3, 7, true), []float64{7}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := seriesOf(tc.base...)
			changed, refusal := s.Apply(tc.candle)
			var reason Reason
			if refusal != nil {
				reason = refusal.Reason
				if refusal.Symbol != "BTCUSDT" || refusal.Field == "" || !refusal.At.Equal(tc.candle.At) {
					t.Errorf("refusal %+v", refusal)
				}
			}
			if changed != tc.changed || reason != tc.reason {
				t.Errorf("changed %v, reason %q; want %v, %q", changed, reason, tc.changed, tc.reason)
			}
			if diff := cmp.Diff(tc.want, s.Closes()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSeriesReplace(t *testing.T) {
	noTime := barAt(0, 7, true)
	noTime.OpenTime = time.Time{}
	for name, tc := range map[string]struct {
		candles []Candle
		want    []float64
		reasons []Reason
	}{
		"empty":        {nil, nil, nil},
		"keeps newest": {[]Candle{barAt(0, 1, true), barAt(1, 2, true), barAt(2, 3, true), barAt(3, 4, true), barAt(4, 5, true)}, []float64{2, 3, 4, 5}, nil},
		"no times":     {[]Candle{noTime, noTime}, []float64{7, 7}, nil},
		"mixed":        {[]Candle{barAt(0, 1, true), noTime}, []float64{1}, []Reason{ReasonMissing}},
		"disorder":     {[]Candle{barAt(1, 1, true), barAt(0, 2, true), barAt(1, 3, true), barAt(1, 1, true)}, []float64{1}, []Reason{ReasonOutOfOrder, ReasonDuplicate}},
		"no candle":    {[]Candle{barAt(0, -1, true), barAt(1, 2, true)}, []float64{2}, []Reason{ReasonDomain}},
	} {
		t.Run(name, func(t *testing.T) {
			s := seriesOf(barAt(-9, 99, true))
			var reasons []Reason
			for _, r := range s.Replace(tc.candles) {
				reasons = append(reasons, r.Reason)
			}
			if diff := cmp.Diff(tc.reasons, reasons); diff != "" {
				t.Error(diff)
			}
			if !slices.Equal(tc.want, s.Closes()) {
				t.Errorf("closes %v, want %v", s.Closes(), tc.want)
			}
		})
	}
}

func TestSeriesRevise(t *testing.T) {
	s := NewSeries(4)
	if s.Revise(1, candleStart) {
		t.Error("an empty series was revised")
	}
	s.Replace([]Candle{barAt(0, 1, true), barAt(1, 2, false)})
	at := barAt(1, 2, false).At
	for _, tc := range []struct {
		price   float64
		at      time.Time
		changed bool
		want    float64
	}{
		{2.5, at, true, 2.5},
		{2.5, at.Add(time.Second), false, 2.5},
		{9, at, false, 2.5}, // older than what came before
		{math.NaN(), at.Add(time.Minute), false, 2.5},
		{-1, at.Add(time.Minute), false, 2.5},
		{1.5, at.Add(time.Minute), true, 1.5},
	} {
		if got := s.Revise(tc.price, tc.at); got != tc.changed {
			t.Errorf("Revise(%v) = %v", tc.price, got)
		}
		if diff := cmp.Diff([]float64{1, tc.want}, s.Closes()); diff != "" {
			t.Error(diff)
		}
	}
	s.Apply(barAt(1, 3, true))
	if s.Revise(4, at.Add(time.Hour)) {
		t.Error("a closed candle was revised")
	}
}

// A series holds the newest closes of what was accepted, in order, whatever comes in.
func TestSeriesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 6).Draw(t, "limit")
		s := NewSeries(limit)
		type held struct {
			minute int
			price  float64
			closed bool
		}
		var model []held
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			from := 0
			if len(model) > 0 {
				from = model[len(model)-1].minute
			}
			h := held{
				from + rapid.IntRange(-3, 2).Draw(t, "minute"), float64(rapid.IntRange(1, 4).Draw(t, "price")),
				rapid.Bool().Draw(t, "closed"),
			}
			_, refusal := s.Apply(barAt(h.minute, h.price, h.closed))
			n := len(model)
			switch {
			case n == 0 || h.minute > model[n-1].minute:
				if refusal != nil {
					t.Fatalf("refused %+v: %v", h, refusal)
				}
				model = append(model, h)
			case h.minute == model[n-1].minute && refusal == nil && !(model[n-1].closed && !h.closed):
				model[n-1] = h
			}
			if len(model) > limit {
				model = model[1:]
			}
			var want []float64
			for _, h := range model {
				want = append(want, h.price)
			}
			if !slices.Equal(want, s.Closes()) {
				t.Fatalf("closes %v, want %v", s.Closes(), want)
			}
		}
	})
}

// A series knows the extremes since any time, and tells what it holds from what contradicts it, as one that keeps every
// candle whole would.
func TestSeriesExtremesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 12).Draw(t, "limit")
		s := NewSeries(limit)
		candle := func(minute int) Candle {
			low, high := rapid.IntRange(1, 9).Draw(t, "low"), rapid.IntRange(10, 19).Draw(t, "high")
			price := rapid.IntRange(low, high)
			c := barAt(minute, float64(price.Draw(t, "close")), rapid.Bool().Draw(t, "closed"))
			c.Open, c.High, c.Low = float64(price.Draw(t, "open")), float64(high), float64(low)
			return c
		}
		var model []Candle
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			n := len(model)
			switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); {
			case n > 0 && kind == 0: // a price
				price := float64(rapid.IntRange(1, 19).Draw(t, "price"))
				s.Revise(price, model[n-1].At)
				if last := &model[n-1]; !last.Closed {
					last.Close, last.High, last.Low = price, max(last.High, price), min(last.Low, price)
				}
			case n > 0 && kind == 1: // the newest again, perhaps lower than it was
				c := candle(s.newestMinute())
				if changed, _ := s.Apply(c); changed {
					model[n-1] = c
				}
			case n > 1 && kind == 2: // an older one again
				i := rapid.IntRange(0, n-2).Draw(t, "which")
				if changed, refusal := s.Apply(model[i]); changed || refusal != nil {
					t.Fatalf("what it holds: %v, %v", changed, refusal)
				}
				c := model[i]
				if c.High++; rapid.Bool().Draw(t, "low instead") {
					c.High, c.Low = c.High-1, c.Low/2
				}
				if _, refusal := s.Apply(c); refusal == nil || refusal.Reason != ReasonDuplicate {
					t.Fatalf("other content: %v", refusal)
				}
			default:
				minute := 0
				if n > 0 {
					minute = s.newestMinute() + rapid.IntRange(1, 3).Draw(t, "gap")
				}
				c := candle(minute)
				if _, refusal := s.Apply(c); refusal != nil {
					t.Fatal(refusal)
				}
				if model = append(model, c); len(model) > limit {
					model = model[1:]
				}
			}
			for i := range model {
				since := model[i].OpenTime.Add(-time.Second)
				high, low := 0.0, math.Inf(1)
				for _, c := range model[i:] {
					high, low = max(high, c.High), min(low, c.Low)
				}
				if h, l, ok := s.Extremes(since); !ok || h != high || l != low {
					t.Fatalf("since %v: %v, %v, %v, want %v, %v", since, h, l, ok, high, low)
				}
			}
			if _, _, ok := s.Extremes(model[len(model)-1].OpenTime.Add(time.Second)); ok {
				t.Fatal("extremes of no candle")
			}
		}
	})
}

func (s *Series) newestMinute() int {
	return int(time.Unix(0, s.newest.open).Sub(candleStart) / time.Minute)
}

func TestSeriesAllocatesNothing(t *testing.T) {
	s := NewSeries(300)
	minute := 0
	sum := 0.0
	if got := testing.AllocsPerRun(2000, func() {
		s.Apply(barAt(minute, 1, false))
		s.Revise(2, barAt(minute, 1, false).At)
		s.Apply(barAt(minute, 3, true))
		sum += s.Closes()[0]
		minute++
	}); got != 0 {
		t.Errorf("%v allocations a candle", got)
	}
}

// Records have room for as many as there usually are, and little more: there are two lists of them for every symbol.
func TestRecordsRoom(t *testing.T) {
	var r records
	for i := range 100 {
		r.add(int64(i), -float64(i)) // falling, so that every one is kept
		if room := cap(r); room > max(recordsRoom, len(r)+recordsMore) {
			t.Fatalf("%d records have room for %d", len(r), room)
		}
	}
	if allocs := testing.AllocsPerRun(10, func() {
		var r records
		for i := range recordsRoom {
			r.add(int64(i), -float64(i))
		}
	}); allocs != 1 {
		t.Errorf("as many records as there usually are take %v allocations", allocs)
	}
}
