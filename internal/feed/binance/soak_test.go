package binance_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/feed/binance"
	"quantumharvest/internal/feed/binance/binancetest"
	"quantumharvest/internal/position"
)

// quick is the timing of a market with candles of a second: everything is shorter, in proportion where the machine lets
// it be.
var quick = binance.Timing{
	Tick: 50 * time.Millisecond, Universe: 200 * time.Millisecond, MarkLate: 600 * time.Millisecond,
	MarkSilence: 2 * time.Second, KlineSilence: 2 * time.Second, KlineOwed: 2 * time.Second, BookSilence: 10 * time.Second,
	ConnSilence: 2 * time.Second, GapWait: 200 * time.Millisecond, CloseGrace: time.Second, Settle: 400 * time.Millisecond,
	Dial: 5 * time.Second, Ping: 2 * time.Second, Rotate: 20 * time.Second, Drain: 500 * time.Millisecond,
	RetryFirst: 100 * time.Millisecond, RetryMost: time.Second, Stable: 5 * time.Second, Clock: 10 * time.Second,
	Repeat: 10 * time.Second,
}

// Streams of single symbols fall silent at random while all others go on: each time an outage names the stream before the
// newest price is older than a silence may last.
func TestNothingAgesUnseen(t *testing.T) {
	cfg := binancetest.Config{Symbols: symbols(6), KlineEvery: 2 * time.Second, BookEvery: 2 * time.Second}
	simulated(t, cfg, binance.Options{}, func(t *testing.T, r *run) {
		rng := rand.New(rand.NewPCG(3, 3))
		time.Sleep(20 * time.Second)
		aged := 0
		for second := range 15 * 60 {
			if second%25 == 0 {
				s := r.symbols[rng.IntN(len(r.symbols))]
				r.exchange.Silence(time.Duration(5+rng.IntN(40))*time.Second, binancetest.Of(s))
			}
			time.Sleep(time.Second)
			for _, s := range r.symbols {
				price := r.price(s)
				if time.Since(price.At) <= 12*time.Second {
					continue
				}
				aged++
				named := slices.ContainsFunc(r.said(), func(o feed.Outage) bool {
					return o.At.After(price.At) && strings.Contains(o.Err.Error(), strings.ToLower(string(s))+"@markPrice@1s")
				})
				if !named {
					t.Fatalf("%s: the price is %v old and no outage names it", s, time.Since(price.At))
				}
			}
		}
		if aged == 0 {
			t.Error("nothing aged: the silences were too short")
		}
		time.Sleep(90 * time.Second)
		r.compare(t, r.exchange, r.symbols, 1)
		r.offences(t)
	})
}

// stale looks for input that aged without a word: no newer price or candle of a symbol for longer than a silence may
// last, and no outage either. It returns how often it looked.
func (r *run) stale(ctx context.Context, t *testing.T, bound time.Duration, quiet map[position.Symbol]bool) (looks int) {
	looked := time.Now()
	for ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
		now := time.Now()
		starved := now.Sub(looked) > time.Second
		looked = now
		if starved {
			// The machine left the whole process waiting: what aged meanwhile says nothing about the feed.
			time.Sleep(time.Second)
			looked = time.Now()
			continue
		}
		r.watch.mu.Lock()
		var said time.Time
		if n := len(r.outages); n > 0 {
			said = r.outages[n-1].At
		}
		for _, s := range r.symbols {
			price, candle := r.prices[s].At, r.newest[s]
			if candle.IsZero() {
				continue
			}
			looks++
			if age := now.Sub(price); age > bound && now.Sub(said) > bound {
				t.Errorf("%s: the price is %v old and nothing was said for %v", s, age, now.Sub(said))
			}
			if age := now.Sub(candle); age > 2*bound && now.Sub(said) > 2*bound && !quiet[s] {
				t.Errorf("%s: the candle is %v old and nothing was said for %v", s, age, now.Sub(said))
			}
		}
		r.watch.mu.Unlock()
	}
	return looks
}

// Many symbols on a real network, with everything going wrong at random. HARVEST_LONG=1: 200 symbols for a minute;
// HARVEST_SOAK=10m: for that long (make soak).
func TestSoak(t *testing.T) {
	t.Parallel()
	n, lasts := 16, 6*time.Second
	if os.Getenv("HARVEST_LONG") != "" {
		n, lasts = 200, time.Minute
	}
	if d, err := time.ParseDuration(os.Getenv("HARVEST_SOAK")); err == nil {
		n, lasts = 200, d
	}
	all := symbols(n)
	quiet := map[position.Symbol]bool{all[0]: true, all[1]: true}
	cfg := binancetest.Config{
		Symbols: all, Interval: time.Second, Quiet: quiet, KlineEvery: 200 * time.Millisecond,
		MarkEvery: 300 * time.Millisecond, BookEvery: 300 * time.Millisecond, MaxAge: 25 * time.Second,
		PingEvery: 2 * time.Second, Weight: 60_000, ClockOffset: 17 * time.Second,
	}
	live(t, cfg, binance.Options{Timing: quick, HistoryBars: 60}, func(t *testing.T, r *run) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		watched := make(chan int, 1)
		go func() { watched <- r.stale(ctx, t, 6*time.Second, quiet) }()
		r.exchange.SetNoise(binancetest.Noise{Duplicate: 0.05, Drop: 0.05, Reorder: 0.05, Garbage: 0.02})
		faults := 0
		for ctx.Err() == nil {
			faults++
			some := time.Duration(rng.IntN(3000)) * time.Millisecond
			switch rng.IntN(9) {
			case 0:
				r.exchange.Disconnect(1)
			case 1:
				r.exchange.Disconnect(0.4)
			case 2:
				r.exchange.Silence(some, binancetest.Of(all[rng.IntN(n)]))
			case 3:
				r.exchange.Silence(some, binancetest.Kind("kline"))
			case 4:
				r.exchange.Silence(some, binancetest.Kind("markPrice"))
			case 5:
				r.exchange.Silence(some, func(string) bool { return true })
			case 6:
				r.exchange.RefuseStreams(some)
				r.exchange.Disconnect(0.5)
			case 7:
				r.exchange.RefuseREST(some)
			case 8:
				r.exchange.Slow(some/4, some)
			}
			time.Sleep(time.Duration(200+rng.IntN(1200)) * time.Millisecond)
		}
		looks := <-watched
		r.exchange.SetNoise(binancetest.Noise{})
		// Everything heals: wait until nobody is behind by more than the candle under way.
		deadline := time.Now().Add(30 * time.Second)
		for behind := true; behind && time.Now().Before(deadline); {
			time.Sleep(200 * time.Millisecond)
			behind = false
			for _, s := range all {
				record := r.exchange.Closed(s)
				got := r.rows(s)
				behind = behind || len(got) == 0 || record[len(record)-1].OpenTime.Sub(got[len(got)-1].OpenTime) > 2*time.Second
			}
		}
		compared := r.compare(t, r.exchange, all, 5)
		r.offences(t)
		st := r.feed.Stats()
		t.Logf("%d faults, %d looks, %d candles compared: %+v", faults, looks, compared, st)
		if compared < n*60 || looks == 0 {
			t.Errorf("only %d candles compared, %d looks", compared, looks)
		}
	})
}

func dataFile(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("HARVEST_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "data")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no recorded data: %v (set HARVEST_TEST_DATA)", err)
	}
	return path
}

// Recorded trades, played by the stand-in, come out as the candles that were made of them by somebody else.
func TestRecording(t *testing.T) {
	recording, err := binancetest.ReadRecording(dataFile(t, "binance_um_BTCUSDT_rawstream_20240808.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(dataFile(t, "binance_um_BTCUSDT_1s_20240808.csv"))
	if err != nil {
		t.Fatal(err)
	}
	var want [][5]float64 // seconds since the first, open, high, low, close
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
		var row [5]float64
		for j, field := range strings.Split(line, ",")[:5] {
			if row[j], err = strconv.ParseFloat(field, 64); err != nil {
				t.Fatal(err)
			}
		}
		row[0] /= 1000
		if i > 0 {
			row[0] -= want[0][0]
		}
		want = append(want, row)
	}
	first := want[0][0]
	want[0][0] = 0

	const btc = position.Symbol("BTCUSDT")
	trades := recording.Trades
	begin := time.UnixMilli(int64(first * 1000)).UTC()
	for len(trades) > 0 && trades[0].At.Before(begin) {
		trades = trades[1:]
	}
	cfg := binancetest.Config{
		Symbols: []position.Symbol{btc}, Interval: time.Second, KlineEvery: 500 * time.Millisecond,
		Trades: map[position.Symbol][]binancetest.Trade{btc: trades},
	}
	timing := quick
	timing.Rotate, timing.Tick = time.Minute, 200*time.Millisecond
	simulated(t, cfg, binance.Options{Timing: timing}, func(t *testing.T, r *run) {
		began := time.Now().Add(era).Truncate(time.Second).Add(time.Second)
		messages := recording.Messages
		for i := range 70 {
			time.Sleep(5 * time.Second)
			// The rest of what was recorded comes as well: depth, trades and quotes under the names of that time.
			for _, m := range messages[:min(300, len(messages))] {
				r.exchange.Inject("/public/stream", m)
			}
			messages = messages[min(300, len(messages)):]
			if i == 30 {
				r.exchange.Disconnect(1)
			}
		}
		r.compare(t, r.exchange, r.symbols, 2)
		byOpen := make(map[int]feed.Candle)
		for _, c := range r.rows(btc) {
			byOpen[int(c.OpenTime.Sub(began)/time.Second)] = c
		}
		compared := 0
		for _, row := range want[:len(want)-1] {
			c, ok := byOpen[int(row[0])]
			if got := [5]float64{row[0], c.Open, c.High, c.Low, c.Close}; !ok || got != row {
				t.Fatalf("second %v: candle %v, want %v", row[0], got, row)
			}
			compared++
		}
		if compared < 300 || r.feed.Stats().Unknown == 0 || r.feed.Stats().Rotations == 0 {
			t.Errorf("%d candles compared, stats %+v", compared, r.feed.Stats())
		}
	})
}

func TestReachable(t *testing.T) {
	for name, tc := range map[string]struct {
		fault func(*binancetest.Server)
		want  string // in the error; blank: reachable
	}{
		"well":            {func(*binancetest.Server) {}, ""},
		"slow but there":  {func(s *binancetest.Server) { s.Slow(100*time.Millisecond, time.Minute) }, ""},
		"no REST":         {func(s *binancetest.Server) { s.RefuseREST(time.Minute) }, "503"},
		"no streams":      {func(s *binancetest.Server) { s.RefuseStreams(time.Minute) }, "/market/stream"},
		"too slow":        {func(s *binancetest.Server) { s.Slow(time.Hour, time.Hour) }, "deadline exceeded"},
		"silent":          {func(s *binancetest.Server) { s.Silence(time.Hour, binancetest.Kind("markPrice")) }, "no mark price"},
		"limited":         {func(s *binancetest.Server) { s.Limit(http.StatusTooManyRequests, time.Minute) }, "request limit"},
		"nothing listens": {func(s *binancetest.Server) { s.Close() }, "/market/stream"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := binancetest.Start(binancetest.Config{
				Symbols: []position.Symbol{"BTCUSDT"}, MarkEvery: 100 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			tc.fault(s)
			limit := 20 * time.Second
			if tc.want != "" {
				limit = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err = binance.Reachable(ctx, binance.Options{BaseURL: s.URL(), StreamURL: s.StreamURL(), HTTPClient: s.Client()})
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	universe := func() []position.Symbol { return nil }
	for name, tc := range map[string]struct {
		opts binance.Options
		want string
	}{
		"defaults":     {binance.Options{Universe: universe}, ""},
		"no universe":  {binance.Options{}, "no universe"},
		"base":         {binance.Options{Universe: universe, BaseURL: "fapi.binance.com"}, "write https://"},
		"credentials":  {binance.Options{Universe: universe, BaseURL: "https://u:secret@h"}, "base URL"},
		"stream":       {binance.Options{Universe: universe, StreamURL: "https://fstream.binance.com"}, "write wss://"},
		"history":      {binance.Options{Universe: universe, HistoryBars: 1401}, "history"},
		"interval":     {binance.Options{Universe: universe, Interval: 7 * time.Second}, "none of the exchange's"},
		"weight share": {binance.Options{Universe: universe, WeightShare: 2}, "weight share"},
		"timing":       {binance.Options{Universe: universe, Timing: binance.Timing{Tick: -1}}, "tick"},
	} {
		f, err := binance.New(tc.opts)
		switch {
		case tc.want == "" && (err != nil || f.Name() != "binance"):
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the error tells a secret: %v", name, err)
		}
	}
	if err := binance.Reachable(t.Context(), binance.Options{BaseURL: "x"}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
