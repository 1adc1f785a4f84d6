package binance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adshao/go-binance/v2/futures"
	"pgregory.net/rapid"

	"quantumharvest/internal/feed"
)

// Whatever the order, the repetition and the loss of messages, and whenever REST is asked in between: closed candles go
// out once, in order, with the exchange's own content.
func TestClosedCandlesGoOutOnce(t *testing.T) {
	const minute = int64(60_000)
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(rt, "candles")
		truth := make([][4]float64, n)
		for i := range truth {
			p := float64(100 + i)
			truth[i] = [4]float64{p, p + 3, p - 2, p + 1}
		}
		var out []feed.Candle
		series := feed.NewSeries(300)
		f, tr := newBench(t, func(ev feed.Event) {
			switch ev := ev.(type) {
			case feed.History:
				series.Replace(ev.Candles)
				for _, c := range ev.Candles {
					if c.Closed {
						out = append(out, c)
					}
				}
			case feed.Candle:
				if _, r := series.Apply(ev); r != nil {
					rt.Fatalf("the consumer refuses %+v: %v", ev, r)
				}
				if ev.Closed {
					out = append(out, ev)
				}
			case feed.Refusal:
				rt.Fatalf("refusal %+v", ev)
			}
		})
		now := t0
		f.opts.Now = func() time.Time { return time.UnixMilli(now) }
		f.clock.now = f.opts.Now
		rest := func() {
			var klines []*futures.Kline
			for i := range n {
				open := t0 + int64(i)*minute
				if open > now {
					break
				}
				c, trades := truth[i], int64(10)
				if now < open+minute {
					c, trades = [4]float64{c[0], c[0], c[0], c[0]}, 1
				}
				klines = append(klines, &futures.Kline{
					OpenTime: open, Open: fmt.Sprint(c[0]), High: fmt.Sprint(c[1]), Low: fmt.Sprint(c[2]),
					Close: fmt.Sprint(c[3]), TradeNum: trades,
				})
			}
			tr.mu.Lock()
			defer tr.mu.Unlock()
			asked := time.UnixMilli(now)
			began := time.Now()
			if candles := tr.checked(restKlines{klines: klines, asked: asked}); tr.ready {
				tr.takeFill(candles, asked, began)
			} else if err := tr.takeHistory(candles, asked); err != nil {
				rt.Fatal(err)
			}
		}
		for step := range rapid.IntRange(0, 60).Draw(rt, "steps") {
			now += rapid.Int64Range(0, 25_000).Draw(rt, fmt.Sprintf("pass%d", step))
			newest := min(int((now-t0)/minute), n-1)
			if rapid.IntRange(0, 9).Draw(rt, "kind") == 0 {
				rest()
				continue
			}
			i := max(0, newest-rapid.IntRange(0, 4).Draw(rt, "back"))
			open := t0 + int64(i)*minute
			if now >= open+minute {
				tr.takeKline(klineText(open, truth[i], open+minute, 10, true))
			} else {
				p := truth[i][0]
				tr.takeKline(klineText(open, [4]float64{p, p, p, p}, now, 1, false))
			}
		}
		now = t0 + int64(n)*minute + 10_000
		rest()
		if len(out) != n {
			rt.Fatalf("%d closed candles, want %d", len(out), n)
		}
		for i, c := range out {
			if got := [4]float64{c.Open, c.High, c.Low, c.Close}; got != truth[i] || c.OpenTime.UnixMilli() != t0+int64(i)*minute {
				rt.Fatalf("candle %d is %+v, want %v", i, c, truth[i])
			}
			if c.At.UnixMilli() > now {
				rt.Fatalf("candle %d is dated %v", i, c.At)
			}
		}
	})
}

// A candle that the exchange itself does not have is said to be missing, once, and only after it was asked for twice.
func TestHoleInTheExchangesRecord(t *testing.T) {
	var closed []int64
	var refused []feed.Refusal
	f, tr := newBench(t, func(ev feed.Event) {
		switch ev := ev.(type) {
		case feed.Candle:
			if ev.Closed {
				closed = append(closed, (ev.OpenTime.UnixMilli()-t0)/60_000)
			}
		case feed.Refusal:
			refused = append(refused, ev)
		}
	})
	now := time.UnixMilli(t0).Add(10 * time.Minute)
	f.clock.now = func() time.Time { return now }
	tr.ready, tr.next = true, time.UnixMilli(t0).UTC()
	ask := func(minutes ...int64) {
		var klines []*futures.Kline
		for _, m := range minutes {
			klines = append(klines, &futures.Kline{OpenTime: t0 + m*60_000, Open: "1", High: "1", Low: "1", Close: "1"})
		}
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.takeFill(tr.checked(restKlines{klines: klines, asked: now}), now, time.Now())
	}
	ask(0, 1, 4, 5)
	if len(closed) != 2 || len(refused) != 0 {
		t.Errorf("after one answer: %v, %v", closed, refused)
	}
	ask(4, 5)
	if fmt.Sprint(closed) != "[0 1 4 5]" || len(refused) != 2 || refused[0].Reason != feed.ReasonGap {
		t.Errorf("after two answers: %v, %v", closed, refused)
	}
}

func TestContradictionIsRefused(t *testing.T) {
	var refused []feed.Refusal
	f, tr := newBench(t, func(ev feed.Event) {
		if r, ok := ev.(feed.Refusal); ok {
			refused = append(refused, r)
		}
	})
	now := time.UnixMilli(t0).Add(2 * time.Minute)
	f.clock.now = func() time.Time { return now }
	tr.ready, tr.next = true, time.UnixMilli(t0).UTC()
	tr.takeKline(klineText(t0, [4]float64{1, 2, 1, 2}, t0+60_000, 3, true))
	tr.takeKline(klineText(t0, [4]float64{1, 2, 1, 2}, t0+60_000, 3, true))
	if len(refused) != 0 || f.counts.duplicates.Load() != 1 {
		t.Errorf("the same again: %v", refused)
	}
	tr.takeKline(klineText(t0, [4]float64{1, 3, 1, 2}, t0+60_000, 3, true))
	if len(refused) != 1 || refused[0].Reason != feed.ReasonDuplicate {
		t.Errorf("a contradiction: %v", refused)
	}
	tr.takeMark([]byte(goodMark))
	tr.takeMark([]byte(goodMark))
	if f.counts.late.Load() != 1 {
		t.Error("a mark price that is not newer was taken")
	}
	future := fmt.Appendf(nil, `{"e":"markPriceUpdate","E":%d,"s":"BTCUSDT","p":"1"}`, now.Add(2*time.Minute).UnixMilli())
	if _, fresh := tr.takeMark(future); fresh || len(refused) != 2 || refused[1].Reason != feed.ReasonFuture {
		t.Errorf("from the future: %v", refused)
	}
}

// A connection that is to take over brings the same mark prices as the one before, perhaps always a little later. It counts as
// alive when its own event times move, and not where it repeats itself.
func TestASuccessorMayBeSlower(t *testing.T) {
	f, tr := newBench(t, func(feed.Event) {})
	old, successor := &conn{line: tr.market, marks: map[*track]*markSeen{}}, &conn{line: tr.market, marks: map[*track]*markSeen{}}
	mark := func(c *conn, second int64) {
		c.route([]byte(tr.markStream()), fmt.Appendf(nil, `{"e":"markPriceUpdate","E":%d,"s":"BTCUSDT","p":"1"}`, t0+1000*second))
	}
	mark(old, 1)
	mark(successor, 1)
	mark(old, 2)
	mark(successor, 1)
	if n := successor.markCount(); n != 0 || old.markCount() != 1 {
		t.Errorf("repeating the same: %d alive", n)
	}
	mark(successor, 2)
	if n := successor.markCount(); n != 1 || f.counts.late.Load() != 3 {
		t.Errorf("always a little later: %d alive, %d late", n, f.counts.late.Load())
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * time.Second) // into the minute
		clock := &exchangeClock{now: time.Now}
		b := newBudget(clock, 0.5)
		b.allow(100)
		began := time.Now()
		passed := func() time.Duration { return time.Since(began).Round(time.Second) }
		acquire := func(weight int) error { return b.acquire(t.Context(), weight, time.Minute) }
		for range 25 {
			if err := acquire(2); err != nil || passed() != 0 {
				t.Fatalf("%v after %v", err, passed())
			}
		}
		if err := acquire(1); err != nil || passed() != 50*time.Second {
			t.Errorf("%v after %v, want the next minute", err, passed())
		}
		// Somebody else spends from the same address.
		_ = b.observe(http.StatusOK, http.Header{"X-Mbx-Used-Weight-1m": {"50"}})
		if err := acquire(1); err != nil || passed() != 110*time.Second {
			t.Errorf("%v after %v", err, passed())
		}
		err := b.observe(http.StatusTooManyRequests, http.Header{"Retry-After": {"30"}})
		var limited *limitError
		if !errors.As(err, &limited) {
			t.Errorf("error %v", err)
		}
		if err := acquire(1); err != nil || passed() != 140*time.Second {
			t.Errorf("%v after %v", err, passed())
		}
		_ = b.observe(http.StatusTeapot, nil)
		if err := acquire(1); !errors.As(err, &limited) || passed() != 140*time.Second {
			t.Errorf("%v after %v: a ban is not waited for", err, passed())
		}
		if _, _, blocked := b.reading(); time.Until(blocked) != blockBanned {
			t.Errorf("blocked until %v", blocked)
		}
		time.Sleep(blockBanned)
		_ = b.observe(http.StatusTeapot, http.Header{"Retry-After": {"99999999999"}})
		if _, _, blocked := b.reading(); time.Until(blocked) > blockMost {
			t.Errorf("blocked until %v", blocked)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.acquire(ctx, 1, 1000*time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestMedian(t *testing.T) {
	for want, in := range map[time.Duration][]time.Duration{3: {9, 1, 3}, 5: {4, 6, -100, 900}, 7: {7}} {
		if got := median(in); got != want {
			t.Errorf("median of %v is %v", in, got)
		}
	}
}

func TestRetryAfterBanSays(t *testing.T) {
	err := (&limitError{status: http.StatusTeapot, until: time.Unix(0, 0)}).Error()
	if err != "address banned for ignoring the request limit, no request before 1970-01-01T00:00:00Z (share one address among fewer programs, or lower the weight share)" {
		t.Error(err)
	}
}
