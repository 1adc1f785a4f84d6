package binance

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/adshao/go-binance/v2/futures"
	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

const (
	btc  = position.Symbol("BTCUSDT")
	t0   = int64(1_723_161_240_000) // a full minute
	good = `{"e":"kline","E":1723161250000,"s":"BTCUSDT","k":{"t":1723161240000,"T":1723161299999,"s":"BTCUSDT",` +
		`"i":"1m","f":100,"L":200,"o":"61800.1","c":"61801","h":"61802","l":"61799.5","v":"1","n":7,"x":false,"q":"1",` +
		`"V":"1","Q":"1","B":"0"}}`
	goodMark = `{"e":"markPriceUpdate","E":1723161250000,"s":"BTCUSDT","p":"61800.5","ap":"61800.5","P":"1","i":"2",` +
		`"r":"0.0001","T":1723161600000}`
	goodBook = `{"e":"bookTicker","u":1,"s":"BTCUSDT","b":"61800.20","B":"2.5","a":"61800.30","A":"2.6",` +
		`"T":1723161250000,"E":1723161250000}`
)

func TestDecodeKline(t *testing.T) {
	k, bad, ok := decodeKline([]byte(good), btc, time.Minute)
	want := feed.Candle{
		Symbol: btc, OpenTime: time.UnixMilli(t0).UTC(), Interval: time.Minute, Open: 61800.1, High: 61802, Low: 61799.5,
		Close: 61801,
	}
	if diff := cmp.Diff(want, k.Candle); !ok || diff != "" || k.event != 1723161250000 || k.trades != 7 {
		t.Errorf("%v %v: %s", bad, k, diff)
	}
	for name, tc := range map[string]struct {
		old, replacement string
		want             flaw
	}{
		"other event":        {`"e":"kline"`, `"e":"trade"`, flaw{"e", feed.ReasonUnreadable, "trade"}},
		"other symbol":       {`"s":"BTCUSDT","k"`, `"s":"ETHUSDT","k"`, flaw{"s", feed.ReasonSymbol, "ETHUSDT"}},
		"other inner symbol": {`"s":"BTCUSDT","i"`, `"s":"ETHUSDT","i"`, flaw{"k.s", feed.ReasonSymbol, "ETHUSDT"}},
		"other interval":     {`"1m"`, `"5m"`, flaw{"k.i", feed.ReasonDomain, "5m"}},
		"no event time":      {`"E":1723161250000,`, ``, flaw{"E", feed.ReasonMissing, "0"}},
		"event time":         {`"E":1723161250000`, `"E":17`, flaw{"E", feed.ReasonDomain, "17"}},
		"before its start":   {`"E":1723161250000`, `"E":1723161230000`, flaw{"E", feed.ReasonDomain, "1723161230000"}},
		"closed too early":   {`"x":false`, `"x":true`, flaw{"E", feed.ReasonDomain, "1723161250000"}},
		"no close mark":      {`"x":false,`, ``, flaw{"k.x", feed.ReasonMissing, ""}},
		"off the grid":       {`"t":1723161240000`, `"t":1723161240001`, flaw{"k.t", feed.ReasonDomain, "1723161240001"}},
		"NaN":                {`"c":"61801"`, `"c":"NaN"`, flaw{"k.c", feed.ReasonNotFinite, "NaN"}},
		"infinite":           {`"h":"61802"`, `"h":"1e999"`, flaw{"k.h", feed.ReasonNotFinite, "1e999"}},
		"zero":               {`"o":"61800.1"`, `"o":"0"`, flaw{"k.o", feed.ReasonDomain, "0"}},
		"negative":           {`"l":"61799.5"`, `"l":"-1"`, flaw{"k.l", feed.ReasonDomain, "-1"}},
		"missing":            {`"o":"61800.1",`, ``, flaw{"k.o", feed.ReasonMissing, ""}},
		"hexadecimal":        {`"c":"61801"`, `"c":"0x10"`, flaw{"k.c", feed.ReasonUnreadable, "0x10"}},
		"a number, no text":  {`"c":"61801"`, `"c":61801`, flaw{"k.c", feed.ReasonUnreadable, "number"}},
		"high below close":   {`"h":"61802"`, `"h":"61800.5"`, flaw{"k.h", feed.ReasonDomain, "61800.5"}},
		"low above open":     {`"l":"61799.5"`, `"l":"61800.5"`, flaw{"k.l", feed.ReasonDomain, "61800.5"}},
		"cut off":            {`}}`, `}`, flaw{"data", feed.ReasonUnreadable, good[:valueBytes]}},
	} {
		text := strings.Replace(good, tc.old, tc.replacement, 1)
		if text == good {
			t.Fatalf("%s: nothing replaced", name)
		}
		if _, bad, ok := decodeKline([]byte(text), btc, time.Minute); ok || bad != tc.want {
			t.Errorf("%s: %+v %v, want %+v", name, bad, ok, tc.want)
		}
	}
	closed := strings.NewReplacer(`"x":false`, `"x":true`, `"E":1723161250000`, `"E":1723161299999`).Replace(good)
	if k, bad, ok := decodeKline([]byte(closed), btc, time.Minute); !ok || !k.Closed {
		t.Errorf("closed: %+v %v", bad, ok)
	}
}

// Names that differ by case alone must not stand in for each other when one of them is missing.
func TestCaseOfNames(t *testing.T) {
	for name, decode := range map[string]func() (flaw, bool){
		"mark p by P": func() (flaw, bool) {
			_, bad, ok := decodeMark([]byte(strings.Replace(goodMark, `"p":"61800.5",`, "", 1)), btc)
			return bad, ok
		},
		"book b by B": func() (flaw, bool) {
			_, bad, ok := decodeBook([]byte(strings.Replace(goodBook, `"b":"61800.20",`, "", 1)), btc)
			return bad, ok
		},
		"book a by A": func() (flaw, bool) {
			_, bad, ok := decodeBook([]byte(strings.Replace(goodBook, `"a":"61800.30",`, "", 1)), btc)
			return bad, ok
		},
		"kline l by L": func() (flaw, bool) {
			text := strings.NewReplacer(`"L":200`, `"L":"61799"`, `"l":"61799.5",`, "").Replace(good)
			_, bad, ok := decodeKline([]byte(text), btc, time.Minute)
			return bad, ok
		},
		"kline t by T": func() (flaw, bool) {
			text := strings.NewReplacer(`"T":1723161299999`, `"T":1723161240000`, `"t":1723161240000,`, "").Replace(good)
			_, bad, ok := decodeKline([]byte(text), btc, time.Minute)
			return bad, ok
		},
	} {
		if bad, ok := decode(); ok || bad.reason != feed.ReasonMissing {
			t.Errorf("%s: %+v %v", name, bad, ok)
		}
	}
}

func TestDecodeQuotes(t *testing.T) {
	if q, bad, ok := decodeMark([]byte(goodMark), btc); !ok || q != (quote{61800.5, 1723161250000}) {
		t.Errorf("mark: %+v %+v", q, bad)
	}
	if q, bad, ok := decodeBook([]byte(goodBook), btc); !ok || q != (quote{61800.25, 1723161250000}) {
		t.Errorf("book: %+v %+v", q, bad)
	}
	crossed := strings.Replace(goodBook, "61800.30", "61800.10", 1)
	if _, bad, ok := decodeBook([]byte(crossed), btc); ok || bad.reason != feed.ReasonDomain {
		t.Errorf("crossed: %+v", bad)
	}
	if _, bad, ok := decodeMark([]byte(goodBook), btc); ok || bad.field != "e" {
		t.Errorf("a book for a mark: %+v", bad)
	}
}

func TestUnwrap(t *testing.T) {
	for message, want := range map[string][2]string{
		`{"stream":"btcusdt@bookTicker","data":{"a":1}}`:         {"btcusdt@bookTicker", `{"a":1}`},
		`{"stream":"btcusdt@bookTicker","data":{"a":1}}` + " \n": {"btcusdt@bookTicker", `{"a":1}`},
		`{"stream":"btc\u0075","data":{}}`:                       {},
		`{"stream":"","data":{}}`:                                {},
		`{"stream":"x`:                                           {},
		`{"data":{},"stream":"x"}`:                               {},
		`{"stream":"x","other":{}}`:                              {"x", ""},
		`{"stream":"x","data":{}`:                                {"x", "{"},
		`{"stream":"x","data":`:                                  {"x", ""},
	} {
		name := streamName([]byte(message))
		var data []byte
		if name != nil {
			data = wrappedData([]byte(message), name)
		}
		if string(name) != want[0] || string(data) != want[1] {
			t.Errorf("%s: %q %q", message, name, data)
		}
	}
}

func checkCandle(t *testing.T, c feed.Candle, interval time.Duration) {
	t.Helper()
	for _, p := range []float64{c.Open, c.High, c.Low, c.Close} {
		if math.IsNaN(p) || math.IsInf(p, 0) || p <= 0 || c.Low > p || c.High < p {
			t.Fatalf("accepted %+v", c)
		}
	}
	if ms := c.OpenTime.UnixMilli(); !plausible(ms) || ms%interval.Milliseconds() != 0 {
		t.Fatalf("accepted %+v", c)
	}
}

func checkFlaw(t *testing.T, bad flaw) {
	t.Helper()
	if bad.field == "" || bad.reason == "" {
		t.Fatalf("refused without saying why: %+v", bad)
	}
	if text := printable(bad.value); len(text) > valueBytes || !utf8.ValidString(text) {
		t.Fatalf("value %q", text)
	}
}

func FuzzKline(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"e":"kline"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, bad, ok := decodeKline(data, btc, time.Minute)
		if !ok {
			checkFlaw(t, bad)
			return
		}
		checkCandle(t, k.Candle, time.Minute)
		if k.event < k.OpenTime.UnixMilli() {
			t.Fatalf("accepted %+v", k)
		}
	})
}

func FuzzMark(f *testing.F) {
	f.Add([]byte(goodMark))
	f.Fuzz(func(t *testing.T, data []byte) {
		if q, bad, ok := decodeMark(data, btc); !ok {
			checkFlaw(t, bad)
		} else if !(q.price > 0) || math.IsInf(q.price, 0) || !plausible(q.event) {
			t.Fatalf("accepted %+v", q)
		}
	})
}

func FuzzBook(f *testing.F) {
	f.Add([]byte(goodBook))
	f.Fuzz(func(t *testing.T, data []byte) {
		if q, bad, ok := decodeBook(data, btc); !ok {
			checkFlaw(t, bad)
		} else if !(q.price > 0) || math.IsInf(q.price, 0) || !plausible(q.event) {
			t.Fatalf("accepted %+v", q)
		}
	})
}

// Whatever comes over a connection, nothing but valid events goes out.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"stream":"btcusdt@kline_1m","data":` + good + `}`))
	f.Add([]byte(`{"stream":"btcusdt@markPrice@1s","data":` + goodMark + `}`))
	f.Add([]byte(`{"data":` + goodBook + `,"stream":"btcusdt@bookTicker"}`))
	f.Add([]byte(`{"result":null,"id":1}`))
	f.Add([]byte(`{"error":{"code":2,"msg":"no"},"id":7}`))
	f.Add([]byte("\x00\xff"))
	f.Fuzz(func(t *testing.T, message []byte) {
		fd, tr := newBench(t, func(ev feed.Event) {
			switch ev := ev.(type) {
			case feed.Candle:
				checkCandle(t, ev, time.Minute)
			case feed.Price:
				if !(ev.Price > 0) || math.IsInf(ev.Price, 0) {
					t.Fatalf("price %+v", ev)
				}
			case feed.Refusal:
				checkFlaw(t, flaw{ev.Field, ev.Reason, ev.Value})
			default:
				t.Fatalf("event %T", ev)
			}
		})
		tr.ready, tr.next = true, time.UnixMilli(t0).UTC()
		c := &conn{line: tr.market, pending: map[int64]request{}, subs: map[string]time.Time{}, marks: map[*track]*markSeen{}}
		c.take(message)
		tr.mu.Lock()
		tr.lookAtBook(fd.opts.Now())
		tr.mu.Unlock()
	})
}

// Whatever REST answers, nothing but valid candles in order come out.
func FuzzAnswer(f *testing.F) {
	row := `[1723161240000,"61800","61802","61799","61801","1",1723161299999,"1",7,"1","1","0"]`
	f.Add([]byte("[" + row + "]"))
	f.Add([]byte("[" + row + "," + row + "]"))
	f.Add([]byte(`[[1723161240000,"1"]]`))
	f.Add([]byte(`{"code":-1121,"msg":"Invalid symbol."}`))
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	f.Cleanup(func() {
		server.Close()
		server.Client().CloseIdleConnections()
	})
	client := futures.NewClient("", "")
	client.BaseURL, client.HTTPClient = server.URL, server.Client()
	f.Fuzz(func(t *testing.T, data []byte) {
		body = data
		klines, err := client.NewKlinesService().Symbol("BTCUSDT").Interval("1m").Do(t.Context())
		if err != nil {
			return
		}
		_, tr := newBench(t, func(ev feed.Event) {
			if r, ok := ev.(feed.Refusal); ok {
				checkFlaw(t, flaw{r.Field, r.Reason, r.Value})
			}
		})
		tr.mu.Lock()
		defer tr.mu.Unlock()
		var last time.Time
		for _, k := range tr.checked(restKlines{klines: klines, asked: time.UnixMilli(t0).Add(time.Hour)}) {
			checkCandle(t, k.Candle, time.Minute)
			if !k.OpenTime.After(last) {
				t.Fatalf("%v follows %v", k.OpenTime, last)
			}
			last = k.OpenTime
		}
	})
}

// newBench makes a feed with one symbol and no network, at an instant within the first candle.
func newBench(t testing.TB, sink feed.Sink) (*Feed, *track) {
	t.Helper()
	now := time.UnixMilli(t0).Add(15 * time.Second)
	f, err := New(Options{
		Universe: func() []position.Symbol { return nil }, Now: func() time.Time { return now },
		BaseURL: "http://127.0.0.1:1", StreamURL: "ws://127.0.0.1:1", HTTPClient: http.DefaultClient,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.sink = sink
	tr := newTrack(f, btc)
	tr.market = newLine(f, routeMarket)
	f.tracks[btc], f.byStream[tr.lower] = tr, tr
	return f, tr
}

func klineText(open int64, c [4]float64, event, trades int64, closed bool) []byte {
	return fmt.Appendf(nil, `{"e":"kline","E":%d,"s":"BTCUSDT","k":{"t":%d,"i":"1m","o":"%v","h":"%v","l":"%v","c":"%v",`+
		`"n":%d,"x":%t}}`, event, open, c[0], c[1], c[2], c[3], trades, closed)
}
