package binance

import (
	"context"
	"fmt"
	"sync"
	"time"

	"quantumharvest/internal/feed"
)

const (
	lookMost     = time.Minute      // longest pause between looks at a quiet symbol
	outageRepeat = 10 * time.Second // an outage that lasts is said again
)

// workQueue holds the symbols that wait for REST, each once.
type workQueue struct {
	ready chan struct{}
	mu    sync.Mutex
	list  []*track
}

func (q *workQueue) push(t *track) {
	q.mu.Lock()
	q.list = append(q.list, t)
	q.mu.Unlock()
	q.signal()
}

func (q *workQueue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *workQueue) pop(ctx context.Context) *track {
	for ctx.Err() == nil {
		q.mu.Lock()
		if len(q.list) > 0 {
			t := q.list[0]
			q.list = q.list[1:]
			more := len(q.list) > 0
			q.mu.Unlock()
			if more {
				q.signal()
			}
			return t
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-q.ready:
		}
	}
	return nil
}

// due looks at every symbol: quotes that wait, and candles that REST has to be asked for.
func (f *Feed) due(now time.Time) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	exchange := f.clock.exchange()
	for _, t := range f.tracks {
		t.mu.Lock()
		t.lookAtBook(now)
		if !t.busy && !now.Before(t.retryAt) && t.wantsREST(now, exchange) {
			t.busy = true
			f.work.push(t)
		}
		t.mu.Unlock()
	}
}

// wantsREST tells whether the stream alone does not do: there is no history yet, a candle is missing, was not closed in
// time, or the stream is so quiet that only REST can tell why.
func (t *track) wantsREST(now, exchange time.Time) bool {
	timing := &t.f.opts.Timing
	return !t.ready ||
		!t.gapSince.IsZero() && now.Sub(t.gapSince) >= timing.GapWait ||
		exchange.Sub(t.next) > t.interval()+timing.CloseGrace ||
		now.Sub(t.klineAt) > timing.KlineSilence && now.Sub(t.lookedAt) > t.lookWait
}

func (f *Feed) serveWork(ctx context.Context) {
	for {
		t := f.work.pop(ctx)
		if t == nil {
			return
		}
		err := f.serveTrack(ctx, t)
		if ctx.Err() != nil {
			return
		}
		if err != nil && unknownSymbol(err) {
			// The list of symbols is behind; refusing the symbol is its business.
			f.listing.drop(t.symbol)
		} else if err != nil && f.said.may("rest", outageRepeat) {
			f.outage(err)
		}
		t.served(err)
	}
}

// served sets when REST may be asked again for the symbol.
func (t *track) served(err error) {
	timing := &t.f.opts.Timing
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.busy, t.lookedAt = false, now
	pause := timing.Settle / 2
	if err == nil && t.ready && !t.wantsREST(now, t.f.clock.exchange()) {
		t.tries = 0
	} else {
		// What REST does not have yet either is not had by asking faster.
		t.tries = min(t.tries+1, 10)
		pause = min(pause<<(t.tries-1), timing.RetryMost)
	}
	t.retryAt = now.Add(pause)
}

// serveTrack asks for what a symbol lacks: its history, or the candles from next on.
func (f *Feed) serveTrack(ctx context.Context, t *track) error {
	began := time.Now()
	t.mu.Lock()
	from, gone := t.next, t.gone
	missing := int64(f.clock.exchange().Sub(from)/f.opts.Interval) + 1
	if !t.ready || missing > int64(f.opts.HistoryBars) {
		from = time.Time{}
	}
	t.mu.Unlock()
	if gone {
		return nil
	}
	limit := f.opts.HistoryBars + 1
	if !from.IsZero() {
		limit = int(max(missing, 1)) + 1
	}
	answer, err := f.rest.klines(ctx, t.symbol, from, limit)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return nil
	}
	candles := t.checked(answer)
	if from.IsZero() {
		return t.takeHistory(candles, answer.asked)
	}
	t.takeFill(candles, answer.asked, began)
	return nil
}

// checked are the candles of an answer that are right, oldest first, dated and with Closed set where they are final.
func (t *track) checked(answer restKlines) []kline {
	f := t.f
	offset, _ := f.clock.reading()
	final := answer.asked.Add(offset)
	if !answer.date.IsZero() {
		final = answer.date
	}
	final = final.Add(-f.opts.Timing.Settle)
	candles := make([]kline, 0, len(answer.klines))
	for _, raw := range answer.klines {
		k, bad, ok := decodeRESTKline(raw, t.symbol, f.opts.Interval)
		if ok && len(candles) > 0 && !k.OpenTime.After(candles[len(candles)-1].OpenTime) {
			bad, ok = flaw{"t", feed.ReasonOutOfOrder, k.OpenTime.Format(time.RFC3339)}, false
		}
		if !ok {
			f.refuse(t.symbol, "klines", bad)
			continue
		}
		end := k.OpenTime.Add(f.opts.Interval)
		k.Closed = !end.After(final)
		// What it says was so when it ended, or, of one that goes on, when it was asked for.
		k.At = end.Add(-offset)
		if k.At.After(answer.asked) {
			k.At = answer.asked
		}
		candles = append(candles, k)
	}
	return candles
}

// takeHistory starts the row of candles afresh.
func (t *track) takeHistory(candles []kline, asked time.Time) error {
	f := t.f
	// Behind the first candle that is not final nothing is handed out: the row goes on there.
	n := 0
	for n < len(candles) && candles[n].Closed {
		n++
	}
	if len(candles) == 0 {
		if f.said.may("empty "+string(t.symbol), f.opts.Timing.Repeat) {
			f.refuse(t.symbol, "klines", flaw{"candles", feed.ReasonMissing, ""})
		}
		return fmt.Errorf("the exchange has no candles of %s", t.symbol)
	}
	shown := candles[:min(n+1, len(candles))]
	shown = shown[max(0, n-f.opts.HistoryBars):]
	h := feed.History{Symbol: t.symbol, Candles: make([]feed.Candle, len(shown))}
	t.recent = t.recent[:0]
	for i, k := range shown {
		h.Candles[i] = k.Candle
		if i > 0 && k.OpenTime.Sub(shown[i-1].OpenTime) > f.opts.Interval {
			f.refuse(t.symbol, "klines", flaw{"t", feed.ReasonGap, k.OpenTime.Format(time.RFC3339)})
		}
		if k.Closed {
			t.remember(k.Candle)
		}
	}
	newest := shown[len(shown)-1]
	h.At, t.next = newest.At, newest.OpenTime
	if newest.Closed {
		t.next = newest.OpenTime.Add(f.opts.Interval)
	}
	t.openEvent, t.hole = 0, time.Time{}
	t.saw(newest, time.Now())
	t.dropOlder(asked)
	t.ready = true
	f.counts.histories.Add(1)
	f.sink(h)
	t.drain()
	return nil
}

// dropOlder forgets a waiting revision of an open candle that an answer has overtaken.
func (t *track) dropOlder(asked time.Time) {
	offset, _ := t.f.clock.reading()
	if t.aheadOpen.event <= asked.Add(offset).UnixMilli() {
		t.aheadOpen = kline{}
	}
}

// takeFill goes on with the row of candles from an answer. What the stream itself closed is preferred: it is final by
// its word.
func (t *track) takeFill(candles []kline, asked, began time.Time) {
	now := time.Now()
	offset, _ := t.f.clock.reading()
	// What the stream said meanwhile is newer than the answer.
	overtaken := t.klineAt.After(began)
	if now.Sub(t.klineAt) > t.f.opts.Timing.KlineSilence {
		t.lookWait = min(2*t.lookWait, max(lookMost, t.f.opts.Timing.KlineSilence))
	}
	for _, k := range candles {
		if k.OpenTime.Before(t.next) {
			continue
		}
		// An answer can lag behind the stream that came before it.
		behind := k.OpenTime.Before(t.seenOpen) || k.OpenTime.Equal(t.seenOpen) && k.trades < t.seenTrades
		if !overtaken {
			t.compare(k, now)
		}
		if k.Closed && k.OpenTime.After(t.next) && !t.skipHole(k) {
			break
		}
		switch said, ok := t.ahead[t.next.UnixMilli()]; {
		case k.OpenTime.After(t.next):
		case ok:
			t.close(said, false)
		case k.Closed:
			t.close(k, true)
		case !overtaken && !behind:
			t.dropOlder(asked)
			t.openEvent = max(t.openEvent, asked.Add(offset).UnixMilli())
			t.revise(k.Candle)
		}
	}
	t.drain()
}

// compare finds trades that the stream should have told and did not.
func (t *track) compare(k kline, now time.Time) {
	newer := k.OpenTime.After(t.seenOpen) && k.trades > 0 || k.OpenTime.Equal(t.seenOpen) && k.trades > t.seenTrades
	if newer && t.owedSince.IsZero() && !t.klineAcked.IsZero() && !t.klineAcked.After(t.seenAt) {
		t.owedSince = now
	}
	t.saw(k, now)
}

// skipHole moves next up to k where the candles before it exist nowhere: neither on the stream nor, asked twice, in the
// exchange's own record. That is said, and the row goes on behind the hole.
func (t *track) skipHole(k kline) bool {
	for t.next.Before(k.OpenTime) {
		if said, ok := t.ahead[t.next.UnixMilli()]; ok {
			t.close(said, false)
			continue
		}
		if !t.hole.Equal(t.next) {
			t.hole = t.next
			return false
		}
		t.f.refuse(t.symbol, "klines", flaw{"t", feed.ReasonGap, t.next.Format(time.RFC3339)})
		t.next, t.openEvent = t.next.Add(t.interval()), 0
		t.hole = t.next // the next one was missing in both answers as well
	}
	return true
}
