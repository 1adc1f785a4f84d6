package feed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/position"
)

func TestParseReplayFiles(t *testing.T) {
	for arg, want := range map[string][]ReplayFile{
		"binance_um_BTCUSDT_1m_20250504_20250603.csv":      {{"BTCUSDT", "binance_um_BTCUSDT_1m_20250504_20250603.csv"}},
		"a/BTCUSDT.csv, b/eth-usdt_ETHUSDT.csv,":           {{"BTCUSDT", "a/BTCUSDT.csv"}, {"ETHUSDT", "b/eth-usdt_ETHUSDT.csv"}},
		"MYCOIN=/tmp/data=1/x.csv":                         {{"MYCOIN", "/tmp/data=1/x.csv"}},
		"/tmp/data=1/1000SHIBUSDT_1m.csv":                  {{"1000SHIBUSDT", "/tmp/data=1/1000SHIBUSDT_1m.csv"}},
		"data/run=2/btcusdt-1m.csv":                        {{"BTCUSDT", "data/run=2/btcusdt-1m.csv"}},
		"ETHBTC_1m.csv":                                    {{"ETHBTC", "ETHBTC_1m.csv"}},
		"BTCUSDT=x.csv,ETHUSDT=x.csv":                      {{"BTCUSDT", "x.csv"}, {"ETHUSDT", "x.csv"}},
		"binance_BTC_USDT_BTCUSDT_and_BTCUSDT_repeats.csv": {{"BTCUSDT", "binance_BTC_USDT_BTCUSDT_and_BTCUSDT_repeats.csv"}},
	} {
		got, err := ParseReplayFiles(arg)
		if err != nil {
			t.Errorf("%q: %v", arg, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", arg, diff)
		}
	}
	for arg, want := range map[string]string{
		"":                              "no recording named",
		" , ":                           "no recording named",
		"prices.csv":                    "write SYM=prices.csv",
		"USDT.csv":                      "write SYM=USDT.csv",
		"BTCUSDT_ETHUSDT.csv":           "holds both BTCUSDT and ETHUSDT",
		"btcusdt=x.csv":                 `write "BTCUSDT"`,
		"BTCUSDT=":                      "names no file",
		`"BTCUSDT"=x.csv`:               "has the character",
		"a/BTCUSDT.csv,b/BTCUSDT_1.csv": "both for BTCUSDT",
	} {
		if _, err := ParseReplayFiles(arg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", arg, err, want)
		}
	}
}

// replayRows writes rows of one symbol, one a minute from the given one on.
func replayRows(from, n int) []string {
	rows := make([]string, n)
	for i := range rows {
		price := 100 + i%7
		rows[i] = fmt.Sprintf("%d,%d,%d,%d,%d,1", candleStart.Add(time.Duration(from+i)*time.Minute).UnixMilli(),
			price, price+1, price-1, price)
	}
	return rows
}

const replayHeader = "time,open,high,low,close,volume"

func replayFile(t *testing.T, symbol position.Symbol, lines ...string) ReplayFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), string(symbol)+".csv")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReplayFile{Symbol: symbol, Path: path}
}

func withHeader(rows ...[]string) []string {
	lines := []string{replayHeader}
	for _, r := range rows {
		lines = append(lines, r...)
	}
	return lines
}

// pipe makes a named pipe that nobody writes to.
func pipe(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNewReplayRefuses(t *testing.T) {
	good := replayFile(t, "BTCUSDT", withHeader(replayRows(0, 10))...)
	late := replayFile(t, "ETHUSDT", withHeader(replayRows(500, 10))...)
	one := func(lines ...string) []ReplayFile { return []ReplayFile{replayFile(t, "BTCUSDT", lines...)} }
	for name, tc := range map[string]struct {
		files   []ReplayFile
		speed   float64
		history int
		want    []string
	}{
		"nothing":           {nil, 1, 3, []string{"no recordings"}},
		"negative speed":    {[]ReplayFile{good}, -1, 3, []string{"speed is -1"}},
		"too fast":          {[]ReplayFile{good}, 1e7, 3, []string{"at most 1000000"}},
		"negative history":  {[]ReplayFile{good}, 1, -3, []string{"history is -3"}},
		"one symbol twice":  {[]ReplayFile{good, good}, 1, 3, []string{"both for BTCUSDT"}},
		"missing files":     {[]ReplayFile{{"AUSDT", "a.csv"}, {"BUSDT", "b.csv"}}, 1, 3, []string{"a.csv", "b.csv", "check the path"}},
		"a folder":          {[]ReplayFile{{"BTCUSDT", t.TempDir()}}, 1, 3, []string{"is a folder"}},
		"a pipe":            {[]ReplayFile{{"BTCUSDT", pipe(t)}}, 1, 3, []string{"no regular file"}},
		"gzip":              {one("\x1f\x8b\x08\x00\x02\x03"), 1, 3, []string{"compressed", "unpack"}},
		"UTF-16":            {one("\xff\xfet\x00i\x00m\x00e\x00,\x00"), 1, 3, []string{"UTF-8"}},
		"semicolons":        {one("time;open;high;low;close;volume"), 1, 3, []string{"separated by commas"}},
		"shuffled":          {one(withHeader(replayRows(3, 2), replayRows(0, 3))...), 1, 3, []string{"has 2 valid candles (3 refused, first:", "out_of_order"}},
		"empty":             {one(), 1, 3, []string{"is empty"}},
		"header alone":      {one(replayHeader), 1, 3, []string{"header and no rows"}},
		"no header":         {one("this,is,no,candle,file"), 1, 3, []string{":1: first line is neither", "no time"}},
		"funding file":      {one("time,funding_rate", "1741276800000,0.1"), 1, 3, []string{"no open"}},
		"doubled header":    {one("time,open,high,low,close,Close"), 1, 3, []string{"close twice"}},
		"all garbage":       {one(withHeader([]string{"x,1,1,1,1", "y,,,,"})...), 1, 3, []string{"no valid row (2 refused", ":2 field \"time\""}},
		"falling":           {one(withHeader(replayRows(1, 1), replayRows(0, 1))...), 1, 3, []string{"oldest first"}},
		"too few":           {[]ReplayFile{good}, 1, 10, []string{"has 10 valid candles", "more than the 10"}},
		"different periods": {[]ReplayFile{good, late}, 1, 3, []string{"ends before", "same period"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewReplay(ReplayOptions{Files: tc.files, Speed: tc.speed, HistoryBars: tc.history})
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

// replayRun plays recordings to their end and returns what came out.
func replayRun(t *testing.T, opts ReplayOptions) []Event {
	t.Helper()
	r, err := NewReplay(opts)
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	if err := r.Run(t.Context(), func(e Event) { events = append(events, e) }); err != nil {
		t.Fatal(err)
	}
	return events
}

func TestReplayTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const speed = 60 // a bar a second
		btc := replayFile(t, "BTCUSDT", withHeader(replayRows(0, 10))...)
		eth := replayFile(t, "ETHUSDT", replayRows(2, 6)...) // no header; its history is complete two minutes later
		r, err := NewReplay(ReplayOptions{Files: []ReplayFile{btc, eth}, Speed: speed, HistoryBars: 3})
		if err != nil {
			t.Fatal(err)
		}
		began := candleStart.Add(5 * time.Minute)
		if got := r.Strategy(time.Now()); !got.Equal(began) {
			t.Errorf("before Run the clock shows %v, want %v", got, began)
		}
		time.Sleep(time.Minute)
		start := time.Now()
		type seen struct {
			Kind   string
			Symbol position.Symbol
			Bar    int // minute of the newest candle
			Bars   int
			After  time.Duration
		}
		var got []seen
		err = r.Run(t.Context(), func(e Event) {
			at := time.Since(start)
			minute := func(c Candle) int { return int(c.OpenTime.Sub(candleStart) / time.Minute) }
			switch e := e.(type) {
			case History:
				last := e.Candles[len(e.Candles)-1]
				got = append(got, seen{"history", e.Symbol, minute(last), len(e.Candles), at})
				if !e.At.Equal(start) || !last.At.Equal(start) || last.Interval != time.Minute {
					t.Errorf("history at %v, candle %+v", e.At, last)
				}
			case Candle:
				got = append(got, seen{"candle", e.Symbol, minute(e), 1, at})
				if !e.Closed || !e.At.Equal(time.Now()) {
					t.Errorf("candle %+v", e)
				}
				// An integer nanosecond of wall time is 60 of virtual time.
				if d := r.Strategy(time.Now()).Sub(closeTime(e)); d < 0 || d > time.Microsecond {
					t.Errorf("candle of %v came at %v", e.OpenTime, r.Strategy(time.Now()))
				}
			case End:
				got = append(got, seen{Kind: "end", After: at})
			default:
				t.Errorf("unexpected %#v", e)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []seen{
			{"history", "BTCUSDT", 4, 3, 0}, // newer than its first three: it ends where the clock starts
			{"history", "ETHUSDT", 4, 3, 0},
			{"candle", "BTCUSDT", 5, 1, 1 * time.Second},
			{"candle", "ETHUSDT", 5, 1, 1 * time.Second},
			{"candle", "BTCUSDT", 6, 1, 2 * time.Second},
			{"candle", "ETHUSDT", 6, 1, 2 * time.Second},
			{"candle", "BTCUSDT", 7, 1, 3 * time.Second},
			{"candle", "ETHUSDT", 7, 1, 3 * time.Second},
			{"candle", "BTCUSDT", 8, 1, 4 * time.Second},
			{"candle", "BTCUSDT", 9, 1, 5 * time.Second},
			{"end", "", 0, 0, 5 * time.Second},
		}
		for i := range got {
			got[i].After = got[i].After.Round(time.Millisecond)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		ended := r.Strategy(time.Now())
		if time.Sleep(time.Hour); !r.Strategy(time.Now()).Equal(ended) {
			t.Error("the clock runs on after the end")
		}
		if err := r.Run(t.Context(), func(Event) {}); err == nil || !strings.Contains(err.Error(), "already run") {
			t.Errorf("second Run: %v", err)
		}
	})
}

// At high speed many bars fall due per wake-up: all of them come, in order.
func TestReplaySkipsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bars = 5000
		btc := replayFile(t, "BTCUSDT", withHeader(replayRows(0, bars))...)
		eth := replayFile(t, "ETHUSDT", withHeader(replayRows(0, bars))...)
		next := map[position.Symbol]int{"BTCUSDT": 3, "ETHUSDT": 3}
		start := time.Now()
		for _, e := range replayRun(t, ReplayOptions{Files: []ReplayFile{btc, eth}, Speed: maxSpeed, HistoryBars: 3}) {
			c, ok := e.(Candle)
			if !ok {
				continue
			}
			if want := candleStart.Add(time.Duration(next[c.Symbol]) * time.Minute); !c.OpenTime.Equal(want) {
				t.Fatalf("%s: candle of %v, want %v", c.Symbol, c.OpenTime, want)
			}
			next[c.Symbol]++
		}
		if next["BTCUSDT"] != bars || next["ETHUSDT"] != bars {
			t.Errorf("came as far as %v of %d", next, bars)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v of wall time, want about 0.3 s", took)
		}
	})
}

func TestReplayStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := NewReplay(ReplayOptions{
			Files: []ReplayFile{replayFile(t, "BTCUSDT", withHeader(replayRows(0, 10))...)}, HistoryBars: 3,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
		defer cancel()
		candles := 0
		if err := r.Run(ctx, func(e Event) {
			switch e.(type) {
			case Candle:
				candles++
			case End:
				t.Error("End, though it was cut short")
			}
		}); err != nil {
			t.Error(err)
		}
		if candles != 2 {
			t.Errorf("%d candles in 150 s at real time, want 2", candles)
		}
	})
}

func TestReplayRefusesRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		row := func(minute int, rest string) string {
			return fmt.Sprintf("%d,%s", candleStart.Add(time.Duration(minute)*time.Minute).UnixMilli(), rest)
		}
		const ok = "100,101,99,100,1"
		lines := withHeader(replayRows(0, 4), []string{
			row(4, "NaN,1,1,1,1"),              // 6: not finite
			row(4, "100,inf,99,100,1"),         // 7: not finite
			row(4, "100,101,0,100,1"),          // 8: zero
			row(4, "-1,101,-99,100,1"),         // 9: negative
			row(4, "100,98,99,100,1"),          // 10: high < low
			row(4, "100,x,99,100,1"),           // 11: garbage
			row(4, "100"),                      // 12: columns missing
			"soon," + ok,                       // 13: no time
			"-5," + ok,                         // 14: not a plausible time
			row(4, strings.Repeat("1", 1<<13)), // 15: no line of any candle
			row(4, ok),                         // 16
			row(4, ok),                         // 17: the same again: nothing
			row(4, "100,101,99,99.5,1"),        // 18: the same time, other content
			row(2, ok),                         // 19: out of order
			row(9000, ok),                      // 20: a stray time, seen by what follows it
			row(5, ok),                         // 21
			"",                                 // 22: blank
			row(5, ok)[:10] + "900," + ok,      // 23: within its neighbour
			row(8, ok),                         // 24: behind a gap
			row(9, ok),                         // 25
		})
		lines[0] = "\uFEFFVolume,Close,LOW,high,open,Time\r"
		for i, l := range lines[1:] {
			if f := strings.Split(l, ","); len(f) == 6 {
				lines[i+1] = strings.Join([]string{f[5], `"` + f[4] + `"`, f[3], f[2], " " + f[1], f[0]}, ",") + "\r"
			}
		}
		file := replayFile(t, "BTCUSDT", lines...)
		type seen struct {
			Line   string
			Field  string
			Reason Reason
		}
		var refused []seen
		var minutes []int
		for _, e := range replayRun(t, ReplayOptions{Files: []ReplayFile{file}, Speed: 600, HistoryBars: 2}) {
			switch e := e.(type) {
			case Refusal:
				refused = append(refused, seen{strings.TrimPrefix(e.Key, file.Path+":"), e.Field, e.Reason})
				if e.Symbol != "BTCUSDT" || e.Source != "replay" || e.At.IsZero() {
					t.Errorf("refusal %+v", e)
				}
			case Candle:
				minutes = append(minutes, int(e.OpenTime.Sub(candleStart)/time.Minute))
			}
		}
		want := []seen{
			{"6", "open", ReasonNotFinite},
			{"7", "high", ReasonNotFinite},
			{"8", "low", ReasonDomain},
			{"9", "open", ReasonDomain},
			{"10", "high", ReasonDomain},
			{"11", "high", ReasonUnreadable},
			{"12", "time", ReasonMissing},
			{"13", "time", ReasonUnreadable},
			{"14", "time", ReasonDomain},
			{"15", "row", ReasonTooLarge},
			{"18", "time", ReasonDuplicate},
			{"19", "time", ReasonOutOfOrder},
			{"20", "time", ReasonOutOfOrder},
			{"23", "time", ReasonDomain},
			{"24", "time", ReasonGap},
		}
		if diff := cmp.Diff(want, refused); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]int{2, 3, 4, 5, 8, 9}, minutes); diff != "" {
			t.Error(diff)
		}
	})
}

// A recording that cannot be read on takes the others along to their end.
func TestReplayReadError(t *testing.T) {
	broken := errors.New("disk gone")
	r, err := newReplayReader(&failingReader{text: strings.Join(withHeader(replayRows(0, 3)), "\n") + "\n", err: broken},
		ReplayFile{"BTCUSDT", "x.csv"}, time.Minute, func(Refusal) {})
	if err != nil {
		t.Fatal(err)
	}
	track := replayTrack{reader: r}
	for range 3 {
		if track.advance(); track.ended {
			t.Fatal("ended early")
		}
	}
	if track.advance(); !track.ended || !errors.Is(track.err, broken) || !strings.Contains(track.err.Error(), "after line 4") {
		t.Errorf("ended %v, error %v", track.ended, track.err)
	}
}

type failingReader struct {
	text string
	err  error
}

func (r *failingReader) Read(p []byte) (int, error) {
	if r.text == "" {
		return 0, r.err
	}
	n := copy(p, r.text)
	r.text = r.text[n:]
	return n, nil
}

// Whatever a file holds: no panic, no endless loop, and only sound candles in rising order come out.
func FuzzReplayFile(f *testing.F) {
	f.Add(strings.Join(withHeader(replayRows(0, 3)), "\n"))
	f.Add(strings.Join(replayRows(0, 3), "\r\n"))
	f.Add("time,open,high,low,close\n,,,,\n1746372780,1,1,1,1\n1746372780000,1,1,1,2\nNaN\n1e12,5,5,5,5")
	f.Add("\"Close\",time,open,high,low\n\"1\",2025-05-04T15:33:00,1,1,1\n\x00\xff\n")
	f.Fuzz(func(t *testing.T, text string) {
		refuse := func(r Refusal) {
			if r.Field == "" || r.Reason == "" || r.Symbol != "BTCUSDT" || len(r.Value) > shortenBytes {
				t.Fatalf("refusal %+v", r)
			}
		}
		r, err := newReplayReader(strings.NewReader(text), ReplayFile{"BTCUSDT", "x.csv"}, time.Minute, refuse)
		if err != nil {
			return
		}
		var last Candle
		for {
			c, err := r.next()
			if err != nil {
				return
			}
			if bad, is := candleFlaw(c); is || c.OpenTime.Sub(last.OpenTime) < time.Minute {
				t.Fatalf("after %+v came %+v (%+v)", last, c, bad)
			}
			last = c
		}
	})
}
