package binance_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/feed/binance"
	"quantumharvest/internal/feed/binance/binancetest"
	"quantumharvest/internal/position"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// era brings simulated time, which starts in the year 2000, to where the market exists. It stands as the clock offset
// of the exchange, so that every such test also checks that offset. It starts within a candle.
const era = 25*365*24*time.Hour + 20*time.Second

// watch is a consumer that checks what a feed promises.
type watch struct {
	interval time.Duration

	mu       sync.Mutex
	series   map[position.Symbol]*feed.Series
	closed   map[position.Symbol][]feed.Candle
	prices   map[position.Symbol]feed.Price
	newest   map[position.Symbol]time.Time // input time of the newest candle event
	outages  []feed.Outage
	refusals []feed.Refusal
	open     map[position.Symbol]feed.Candle // newest open one
	ahead    int                             // events dated after they came
	lateness time.Duration                   // longest from the end of a candle to its arrival, where it was live
	wrong    []string
	events   int
}

func newWatch(interval time.Duration) *watch {
	return &watch{
		interval: interval, series: make(map[position.Symbol]*feed.Series),
		closed: make(map[position.Symbol][]feed.Candle), prices: make(map[position.Symbol]feed.Price),
		newest: make(map[position.Symbol]time.Time), open: make(map[position.Symbol]feed.Candle),
	}
}

func (w *watch) fail(format string, args ...any) {
	if len(w.wrong) < 20 {
		w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	}
}

func (w *watch) sink(ev feed.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events++
	now := time.Now()
	dated := func(at time.Time) {
		if at.After(now) {
			w.ahead++
		}
	}
	switch ev := ev.(type) {
	case feed.History:
		dated(ev.At)
		delete(w.open, ev.Symbol)
		s := feed.NewSeries(300)
		for _, r := range s.Replace(ev.Candles) {
			w.fail("history of %s: %v", ev.Symbol, r)
		}
		w.series[ev.Symbol], w.closed[ev.Symbol] = s, nil
		for _, c := range ev.Candles {
			if c.Closed {
				w.takeClosed(c)
			}
		}
		w.newest[ev.Symbol] = ev.At
	case feed.Candle:
		dated(ev.At)
		s := w.series[ev.Symbol]
		if s == nil {
			w.fail("%s: a candle before the history", ev.Symbol)
			return
		}
		if _, r := s.Apply(ev); r != nil {
			w.fail("candle %+v: %v", ev, r)
		}
		if ev.Closed {
			w.takeClosed(ev)
			w.lateness = max(w.lateness, now.Sub(ev.At))
		} else {
			if last := w.open[ev.Symbol]; last.OpenTime.Equal(ev.OpenTime) && ev.At.Before(last.At) {
				w.fail("%s: the open candle goes back from %v to %v", ev.Symbol, last.At, ev.At)
			}
			w.open[ev.Symbol] = ev
		}
		if ev.At.After(w.newest[ev.Symbol]) {
			w.newest[ev.Symbol] = ev.At
		}
	case feed.Price:
		dated(ev.At)
		if !(ev.Price > 0) {
			w.fail("price %+v", ev)
		}
		w.prices[ev.Symbol] = ev
	case feed.Outage:
		w.outages = append(w.outages, ev)
	case feed.Refusal:
		w.refusals = append(w.refusals, ev)
	default:
		w.fail("unexpected event %T", ev)
	}
}

func (w *watch) takeClosed(c feed.Candle) {
	row := w.closed[c.Symbol]
	if n := len(row); n > 0 && !c.OpenTime.Equal(row[n-1].OpenTime.Add(w.interval)) {
		w.fail("%s: candle %v follows %v", c.Symbol, c.OpenTime, row[n-1].OpenTime)
	}
	w.closed[c.Symbol] = append(row, c)
}

// compare checks every closed candle against the exchange's own record. The newest may still be on the way.
func (w *watch) compare(t *testing.T, s *binancetest.Server, symbols []position.Symbol, behind int) (compared int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, symbol := range symbols {
		got := w.closed[symbol]
		if len(got) == 0 {
			t.Errorf("%s: no candles", symbol)
			continue
		}
		var want []feed.Candle
		for _, c := range s.Closed(symbol) {
			if !c.OpenTime.Before(got[0].OpenTime) {
				want = append(want, c)
			}
		}
		if missing := len(want) - len(got); missing < 0 || missing > behind {
			t.Errorf("%s: %d candles, the exchange has %d", symbol, len(got), len(want))
			continue
		}
		want = want[:len(got)]
		for i := range got {
			g := got[i]
			g.At = time.Time{}
			if diff := cmp.Diff(want[i], g); diff != "" {
				t.Errorf("%s: %s", symbol, diff)
				break
			}
		}
		compared += len(got)
	}
	for _, text := range w.wrong {
		t.Error(text)
	}
	if w.ahead > 0 {
		t.Errorf("%d events were dated after they came", w.ahead)
	}
	return compared
}

// rows, said, longest and refusalsSoFar are copies of what came so far.
func (w *watch) rows(s position.Symbol) []feed.Candle {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.closed[s])
}

func (w *watch) said() []feed.Outage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.outages)
}

func (w *watch) longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lateness
}

func (w *watch) refusalsSoFar() []feed.Refusal {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.refusals)
}

// outagesWith counts the outages whose error has the text.
func (w *watch) outagesWith(text string) int {
	n := 0
	for _, o := range w.said() {
		if strings.Contains(o.Err.Error(), text) {
			n++
		}
	}
	return n
}

func (w *watch) price(s position.Symbol) feed.Price {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.prices[s]
}

func (w *watch) refused(s position.Symbol) []feed.Refusal {
	return slices.DeleteFunc(w.refusalsSoFar(), func(r feed.Refusal) bool { return r.Symbol != s })
}

// run is a feed on a stand-in exchange.
type run struct {
	*watch
	exchange *binancetest.Server
	feed     *binance.Feed
	symbols  []position.Symbol

	mu       sync.Mutex
	universe []position.Symbol
}

func (r *run) setUniverse(symbols ...position.Symbol) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.universe = symbols
}

func (r *run) askUniverse() []position.Symbol {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.universe
}

// offences fails the test on anything the real exchange would punish.
func (r *run) offences(t *testing.T) {
	t.Helper()
	for _, v := range r.exchange.Stats().Violations {
		t.Errorf("offence against the exchange: %s", v)
	}
}

func symbols(n int) []position.Symbol {
	list := make([]position.Symbol, n)
	for i := range list {
		list[i] = position.Symbol(fmt.Sprintf("S%03dUSDT", i))
	}
	return list
}

// simulated runs a feed on a stand-in in simulated time, and body beside it.
func simulated(t *testing.T, cfg binancetest.Config, opts binance.Options, body func(t *testing.T, r *run)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg.Memory = true
		cfg.ClockOffset += era
		live(t, cfg, opts, body)
	})
}

// live runs a feed on a stand-in, and body beside it.
func live(t *testing.T, cfg binancetest.Config, opts binance.Options, body func(t *testing.T, r *run)) {
	t.Helper()
	s, err := binancetest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := &run{watch: newWatch(cfg.Interval), exchange: s, symbols: cfg.Symbols, universe: cfg.Symbols}
	if cfg.Interval == 0 {
		r.interval = time.Minute
	}
	opts.BaseURL, opts.StreamURL, opts.HTTPClient = s.URL(), s.StreamURL(), s.Client()
	opts.Universe, opts.Interval = r.askUniverse, cfg.Interval
	if r.feed, err = binance.New(opts); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.feed.Run(ctx, r.sink) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := r.feed.Stats().Connections; n != 0 {
			t.Errorf("%d connections are left open", n)
		}
	}()
	body(t, r)
}
