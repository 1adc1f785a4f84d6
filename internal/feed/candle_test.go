package feed

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var candleStart = time.Date(2025, time.May, 4, 15, 33, 0, 0, time.UTC)

func TestDecodeCandle(t *testing.T) {
	type want struct {
		open, high, low, close float64
		timed, marked, closed  bool
	}
	for name, tc := range map[string]struct {
		raw  string
		want want
	}{
		"bare number":        {"101.5", want{open: 101.5, high: 101.5, low: 101.5, close: 101.5}},
		"bare JSON string":   {`"101.5"`, want{open: 101.5, high: 101.5, low: 101.5, close: 101.5}},
		"close alone":        {`{"close": 101.5}`, want{open: 101.5, high: 101.5, low: 101.5, close: 101.5}},
		"close as text":      {`{"c": "101.5"}`, want{open: 101.5, high: 101.5, low: 101.5, close: 101.5}},
		"with seconds":       {`{"close":1,"t":1746372780}`, want{1, 1, 1, 1, true, false, false}},
		"with ISO time":      {`{"close":1,"timestamp":"2025-05-04T15:33:00"}`, want{1, 1, 1, 1, true, false, false}},
		"full, long names":   {`{"open":2,"high":4,"low":1,"close":3,"open_time":1746372780000,"volume":"x"}`, want{2, 4, 1, 3, true, false, false}},
		"exchange stream":    {`{"e":"kline","s":"BTCUSDT","k":{"t":1746372780000,"T":1746372839999,"s":"BTCUSDT","o":"2","c":"3","h":"4","l":"1","x":true}}`, want{2, 4, 1, 3, true, true, true}},
		"exchange REST":      {`[1746372780000,"2","4","1","3","10",1746372839999]`, want{2, 4, 1, 3, true, false, false}},
		"still open":         {`{"c":3,"o":2,"x":false}`, want{2, 3, 2, 3, false, true, false}},
		"high alone":         {`{"c":3,"h":5}`, want{3, 5, 3, 3, false, false, false}},
		"close time derives": {`{"c":3,"T":1746372839999}`, want{3, 3, 3, 3, true, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			c, bad, ok := decodeCandle("BTCUSDT", tc.raw)
			if !ok {
				t.Fatalf("refused: %+v", bad)
			}
			c.settle(time.Minute)
			got := want{c.Open, c.High, c.Low, c.Close, c.timed, c.marked, c.Closed}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Error(diff)
			}
			if c.timed && !c.OpenTime.Equal(candleStart) {
				t.Errorf("open time %v, want %v", c.OpenTime, candleStart)
			}
		})
	}
}

func TestDecodeCandleRefuses(t *testing.T) {
	for raw, want := range map[string]struct {
		field  string
		reason Reason
	}{
		``:                             {"close", ReasonMissing},
		`NaN`:                          {"close", ReasonNotFinite},
		`-inf`:                         {"close", ReasonNotFinite},
		`0`:                            {"close", ReasonDomain},
		`-5`:                           {"close", ReasonDomain},
		`garbage`:                      {"element", ReasonUnreadable},
		`{"close":1`:                   {"element", ReasonUnreadable},
		`{"close":1}}`:                 {"element", ReasonUnreadable},
		`{"close": NaN}`:               {"element", ReasonUnreadable},
		`null`:                         {"element", ReasonUnreadable},
		`true`:                         {"element", ReasonUnreadable},
		`{}`:                           {"close", ReasonMissing},
		`{"close":null}`:               {"close", ReasonMissing},
		`{"c":""}`:                     {"c", ReasonMissing},
		`{"c":"NaN"}`:                  {"c", ReasonNotFinite},
		`{"c":1e999}`:                  {"c", ReasonNotFinite},
		`{"c":{}}`:                     {"c", ReasonUnreadable},
		`{"c":0}`:                      {"close", ReasonDomain},
		`{"c":2,"h":1}`:                {"high", ReasonDomain},
		`{"c":2,"l":3}`:                {"low", ReasonDomain},
		`{"c":2,"l":0}`:                {"l", ReasonDomain},
		`{"c":2,"o":"x"}`:              {"o", ReasonUnreadable},
		`{"c":2,"t":"soon"}`:           {"t", ReasonUnreadable},
		`{"c":2,"t":-1}`:               {"t", ReasonDomain},
		`{"c":2,"x":"yes"}`:            {"x", ReasonUnreadable},
		`{"c":2,"s":"ETHUSDT"}`:        {"s", ReasonSymbol},
		`[1746372780000,"2"]`:          {"element", ReasonMissing},
		`[true,1,1,1,1,1]`:             {"time", ReasonUnreadable},
		`[1746372780000,1,1,1,"x",1]`:  {"close", ReasonUnreadable},
		`[1746372780000,2,1,1,1,1]`:    {"high", ReasonDomain},
		`[1746372780000,1,2,3,1,1]`:    {"low", ReasonDomain},
		`[1746372780000,-1,2,-3,1,1]`:  {"open", ReasonDomain},
		strings.Repeat("1", 1+1<<12):   {"element", ReasonTooLarge},
		`[` + strings.Repeat(`[`, 500): {"element", ReasonUnreadable},
	} {
		_, bad, ok := decodeCandle("BTCUSDT", raw)
		if ok || bad.field != want.field || bad.reason != want.reason {
			t.Errorf("decodeCandle(%.60q) = %+v, %v; want %+v", raw, bad, ok, want)
		}
	}
}

func FuzzCandle(f *testing.F) {
	for _, s := range []string{
		`101.5`, `{"close":1,"t":1746372780}`, `[1746372780000,"2","4","1","3","10",1]`, `{"k":{"c":"3","T":1746372839999}}`,
		`{"c":1e999}`, `null`, `{"c":1,"o":2,"h":3,"l":0.5,"x":true}`, "\xff", `{"c":1,"close":2,"s":""}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c, bad, ok := decodeCandle("BTCUSDT", raw)
		if !ok {
			if bad.field == "" || bad.reason == "" {
				t.Fatalf("refused without a word: %+v", bad)
			}
			return
		}
		for _, p := range []float64{c.Open, c.High, c.Low, c.Close} {
			if !(p > 0) || math.IsInf(p, 0) || p > c.High || p < c.Low {
				t.Fatalf("accepted %+v", c)
			}
		}
		if c.Symbol != "BTCUSDT" || c.timed == c.OpenTime.IsZero() {
			t.Fatalf("accepted %+v", c)
		}
	})
}

func storedAt(minute int, price float64) storedCandle {
	return storedCandle{timed: true, Candle: Candle{
		OpenTime: candleStart.Add(time.Duration(minute) * time.Minute), Open: price, High: price, Low: price, Close: price,
	}}
}

// revision is a candle of the second minute as it stands in a sorted set.
func revision(score, stamp, traded, high float64) storedCandle {
	c := storedAt(1, 10)
	c.ranked, c.score, c.traded, c.High = true, score, traded, high
	if stamp != 0 {
		c.stamp = time.Unix(int64(stamp), 0)
	}
	return c
}

func TestArrange(t *testing.T) {
	shut, open := storedAt(1, 10), storedAt(1, 12)
	shut.marked, shut.Closed, open.marked = true, true, true
	corrected := shut
	corrected.High = 13
	for name, tc := range map[string]struct {
		in      []storedCandle
		want    []storedCandle
		reasons []Reason
	}{
		"clean":        {[]storedCandle{storedAt(0, 1), storedAt(1, 2)}, []storedCandle{storedAt(0, 1), storedAt(1, 2)}, nil},
		"none":         {nil, nil, nil},
		"out of order": {[]storedCandle{storedAt(1, 2), storedAt(0, 1)}, []storedCandle{storedAt(0, 1), storedAt(1, 2)}, []Reason{ReasonOutOfOrder}},
		"same twice":   {[]storedCandle{storedAt(0, 1), storedAt(0, 1)}, []storedCandle{storedAt(0, 1)}, nil},
		"gap":          {[]storedCandle{storedAt(0, 1), storedAt(3, 2)}, []storedCandle{storedAt(0, 1), storedAt(3, 2)}, []Reason{ReasonGap}},

		"revised":                {[]storedCandle{storedAt(0, 1), storedAt(0, 3), storedAt(0, 2)}, []storedCandle{storedAt(0, 2)}, nil},
		"closed is last":         {[]storedCandle{shut, open}, []storedCandle{shut}, nil},
		"closed twice":           {[]storedCandle{shut, corrected, open}, []storedCandle{corrected}, []Reason{ReasonDuplicate}},
		"score decides":          {[]storedCandle{revision(2, 1, 1, 11), revision(1, 2, 2, 12)}, []storedCandle{revision(2, 1, 1, 11)}, nil},
		"then the stamp":         {[]storedCandle{revision(1, 2, 1, 11), revision(1, 1, 2, 12)}, []storedCandle{revision(1, 2, 1, 11)}, nil},
		"a stamp is better":      {[]storedCandle{revision(1, 2, 1, 11), revision(1, 0, 2, 12)}, []storedCandle{revision(1, 2, 1, 11)}, nil},
		"then the volume":        {[]storedCandle{revision(1, 1, 2, 11), revision(1, 1, 1, 12)}, []storedCandle{revision(1, 1, 2, 11)}, nil},
		"then the wider":         {[]storedCandle{revision(1, 1, 1, 12), revision(1, 1, 1, 11)}, []storedCandle{revision(1, 1, 1, 12)}, nil},
		"in a list the place":    {[]storedCandle{corrected, shut}, []storedCandle{shut}, []Reason{ReasonDuplicate}},
		"and without any, it is": {[]storedCandle{revision(1, 1, 1, 11), revision(1, 1, 1, 11)}, []storedCandle{revision(1, 1, 1, 11)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, flaws := arrange(tc.in, time.Minute)
			var reasons []Reason
			for _, f := range flaws {
				reasons = append(reasons, f.reason)
			}
			if diff := cmp.Diff(tc.reasons, reasons); diff != "" {
				t.Error(diff)
			}
			if len(got) != len(tc.want) {
				t.Fatalf("%d candles, want %d", len(got), len(tc.want))
			}
			for i := range got {
				if got[i] != tc.want[i] {
					t.Errorf("candle %d is %+v, want %+v", i, got[i], tc.want[i])
				}
			}
		})
	}
	overlap := storedAt(0, 2)
	overlap.OpenTime = overlap.OpenTime.Add(30 * time.Second)
	if got, flaws := arrange([]storedCandle{storedAt(0, 1), overlap}, time.Minute); len(got) != 1 || len(flaws) != 1 || flaws[0].reason != ReasonDomain {
		t.Errorf("overlapping candles: %v, %v", got, flaws)
	}
}

func TestCommonInterval(t *testing.T) {
	at := func(minutes ...int) (times []time.Time) {
		for _, m := range minutes {
			times = append(times, candleStart.Add(time.Duration(m)*time.Minute))
		}
		return times
	}
	for _, tc := range []struct {
		times []time.Time
		want  time.Duration
	}{
		{nil, 0},
		{at(0), 0},
		{at(3, 2, 1), 0},
		{at(0, 1, 2, 10, 11, 11, 12), time.Minute},
		{at(0, 5, 6), time.Minute},
		{at(0, 15, 30, 31), 15 * time.Minute},
	} {
		if got := commonInterval(tc.times); got != tc.want {
			t.Errorf("commonInterval(%v) = %v, want %v", tc.times, got, tc.want)
		}
	}
}

func TestCandleRevision(t *testing.T) {
	at := func(sec int64) time.Time { return time.Unix(sec, 0).UTC() }
	for raw, want := range map[string]struct {
		stamp  time.Time
		traded float64
	}{
		`1`:                                 {},
		`{"c":1}`:                           {},
		`{"c":1,"v":"12.5"}`:                {time.Time{}, 12.5},
		`{"c":1,"volume":3,"T":1746372839}`: {at(1746372839), 3},
		`{"c":1,"T":1746372839,"updated_at":"2025-05-04T15:33:10Z"}`:      {at(1746372790), 0},
		`{"e":"kline","E":1746372791,"k":{"c":1,"T":1746372839,"v":"7"}}`: {at(1746372791), 7},
		`{"c":1,"v":"NaN","E":"yesterday","T":1746372839}`:                {at(1746372839), 0},
		`[1746372780,"1","1","1","1","9",1746372839]`:                     {time.Time{}, 9},
	} {
		c, bad, ok := decodeCandle("BTCUSDT", raw)
		if !ok || !c.stamp.Equal(want.stamp) || c.traded != want.traded {
			t.Errorf("%s: stamp %v, volume %v, %+v", raw, c.stamp, c.traded, bad)
		}
	}
}
