package binance

import (
	"strings"
	"sync"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

const (
	// keepClosed is how many closed candles are remembered, to compare with what comes once more.
	keepClosed = 4
	// keepAhead bounds the candles that wait for one before them; beyond it REST has them all.
	keepAhead = 16
)

// track is one symbol: the single place where its candles are put in order. Everything is merged by open time, so it
// does not matter over which connection, how often or in which order a message comes. Events go out under the lock, in
// order.
//
// Candles that are handed out as closed form an unbroken row; next is where it goes on.
type track struct {
	f      *Feed
	symbol position.Symbol
	lower  string // as streams spell it
	market *line
	public *line

	mu    sync.Mutex
	gone  bool // no longer in the universe: nothing goes out any more
	ready bool // the history went out

	next      time.Time       // open time of the candle to be closed next
	recent    []feed.Candle   // the newest that went out as closed
	openEvent int64           // exchange time of the newest revision of the open candle
	openAt    time.Time       // input time of the open candle last handed out
	ahead     map[int64]kline // closed by the stream, while one before them is missing; by open time
	aheadOpen kline           // the newest open one beyond next
	gapSince  time.Time       // since when candles wait in ahead
	hole      time.Time       // an answer had no candle here, but later ones; zero: none

	// What is known of the newest candle, by whatever way, to tell a quiet market from a dead stream.
	seenOpen   time.Time
	seenTrades int64
	seenAt     time.Time
	klineAt    time.Time // the newest message of the candle stream
	klineAcked time.Time // since when the stream should speak; zero: not subscribed
	owedSince  time.Time // REST showed trades that did not follow on the stream
	lookedAt   time.Time // REST was last asked
	lookWait   time.Duration

	markEvent int64
	markAt    time.Time
	saidMark  bool // its silence was reported
	saidKline bool

	book      []byte // newest quotes, not looked at yet; empty: none
	bookEvent int64

	busy    bool // queued for REST, or being served
	retryAt time.Time
	tries   int
}

func newTrack(f *Feed, symbol position.Symbol) *track {
	return &track{
		f: f, symbol: symbol, lower: strings.ToLower(string(symbol)), ahead: make(map[int64]kline),
		lookedAt: time.Now(), lookWait: f.opts.Timing.KlineSilence,
	}
}

func (t *track) klineStream() string { return t.lower + "@kline_" + intervalNames[t.f.opts.Interval] }
func (t *track) markStream() string  { return t.lower + "@markPrice@1s" }
func (t *track) bookStream() string  { return t.lower + "@bookTicker" }

func (t *track) interval() time.Duration { return t.f.opts.Interval }

// takeKline takes one message of the candle stream.
func (t *track) takeKline(data []byte) {
	k, bad, ok := decodeKline(data, t.symbol, t.interval())
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return
	}
	if ok {
		if k.At, ok = t.f.clock.local(k.event); !ok {
			bad = flaw{"E", feed.ReasonFuture, time.UnixMilli(k.event).UTC().Format(time.RFC3339Nano)}
		}
	}
	if !ok {
		t.f.refuse(t.symbol, t.klineStream(), bad)
		return
	}
	if k.OpenTime.Before(t.next) && !k.Closed {
		// An open candle after its end is a message that lost its way, not a sign of life.
		t.f.counts.late.Add(1)
		return
	}
	now := time.Now()
	t.klineAt, t.owedSince, t.lookWait, t.saidKline = now, time.Time{}, t.f.opts.Timing.KlineSilence, false
	t.saw(k, now)
	switch {
	case !t.ready:
		t.keepAhead(k)
	case k.OpenTime.Before(t.next):
		t.repeated(k)
	case k.OpenTime.After(t.next):
		t.keepAhead(k)
		if t.gapSince.IsZero() {
			t.gapSince = now
		}
	case k.Closed:
		t.close(k, false)
		t.drain()
	case k.event <= t.openEvent:
		t.f.counts.late.Add(1)
	default:
		t.openEvent = k.event
		t.revise(k.Candle)
	}
}

// revise hands out the candle that is still open. Its time never goes back, although a new measurement of the exchange's
// clock may move what its stamps mean on ours.
func (t *track) revise(c feed.Candle) {
	if c.At.Before(t.openAt) {
		c.At = t.openAt
	}
	t.openAt = c.At
	t.f.sink(c)
}

// saw notes the newest state of the newest candle.
func (t *track) saw(k kline, now time.Time) {
	if k.OpenTime.After(t.seenOpen) || k.OpenTime.Equal(t.seenOpen) && k.trades >= t.seenTrades {
		t.seenOpen, t.seenTrades, t.seenAt = k.OpenTime, k.trades, now
	}
}

func (t *track) keepAhead(k kline) {
	if !k.Closed {
		if k.OpenTime.After(t.aheadOpen.OpenTime) || k.OpenTime.Equal(t.aheadOpen.OpenTime) && k.event > t.aheadOpen.event {
			t.aheadOpen = k
		}
		return
	}
	if len(t.ahead) < keepAhead {
		t.ahead[k.OpenTime.UnixMilli()] = k
	}
}

// repeated takes a candle that was already closed. Two that contradict each other are a fault of the exchange or of the
// way; the first one stands, because it was acted upon.
func (t *track) repeated(k kline) {
	t.f.counts.duplicates.Add(1)
	for _, c := range t.recent {
		if c.OpenTime.Equal(k.OpenTime) && !samePrices(c, k.Candle) {
			t.f.refuse(t.symbol, t.klineStream(), flaw{"k.t", feed.ReasonDuplicate, k.OpenTime.Format(time.RFC3339)})
		}
	}
}

func samePrices(a, b feed.Candle) bool {
	return a.Open == b.Open && a.High == b.High && a.Low == b.Low && a.Close == b.Close
}

// close hands out the candle at next as closed.
func (t *track) close(k kline, filled bool) {
	k.Closed = true
	t.remember(k.Candle)
	t.next, t.openEvent, t.hole = k.OpenTime.Add(t.interval()), 0, time.Time{}
	t.f.counts.candles.Add(1)
	if filled {
		t.f.counts.gapsFilled.Add(1)
	}
	t.f.sink(k.Candle)
}

func (t *track) remember(c feed.Candle) {
	if len(t.recent) == keepClosed {
		t.recent = append(t.recent[:0], t.recent[1:]...)
	}
	t.recent = append(t.recent, c)
}

// drain hands out what waited for the candles before it.
func (t *track) drain() {
	for {
		k, ok := t.ahead[t.next.UnixMilli()]
		if !ok {
			break
		}
		t.close(k, false)
	}
	for at := range t.ahead {
		if at < t.next.UnixMilli() {
			delete(t.ahead, at)
		}
	}
	switch open := t.aheadOpen.OpenTime; {
	case open.Before(t.next):
		t.aheadOpen = kline{}
	case open.Equal(t.next):
		if t.aheadOpen.event > t.openEvent {
			t.openEvent = t.aheadOpen.event
			t.revise(t.aheadOpen.Candle)
		}
		t.aheadOpen = kline{}
	}
	switch {
	case len(t.ahead) == 0 && t.aheadOpen.OpenTime.IsZero():
		t.gapSince = time.Time{}
	case t.gapSince.IsZero():
		t.gapSince = time.Now()
	}
}

// takeMark takes one message of the mark price stream. A message that is not newer than the last is no sign of life of the
// symbol. The event time is 0 where the message cannot be used.
func (t *track) takeMark(data []byte) (event int64, fresh bool) {
	q, bad, ok := decodeMark(data, t.symbol)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return 0, false
	}
	if ok && q.event <= t.markEvent {
		t.f.counts.late.Add(1)
		return q.event, false
	}
	at, bad, ok := t.dated(q, bad, ok)
	if !ok {
		t.f.refuse(t.symbol, t.markStream(), bad)
		return 0, false
	}
	t.markEvent, t.markAt, t.saidMark = q.event, time.Now(), false
	t.f.sink(feed.Price{Symbol: t.symbol, Price: q.price, At: at})
	return q.event, true
}

func (t *track) dated(q quote, bad flaw, ok bool) (time.Time, flaw, bool) {
	if !ok {
		return time.Time{}, bad, false
	}
	at, ok := t.f.clock.local(q.event)
	if !ok {
		return at, flaw{"E", feed.ReasonFuture, time.UnixMilli(q.event).UTC().Format(time.RFC3339Nano)}, false
	}
	return at, flaw{}, true
}

// holdBook keeps the newest quotes until the next tick.
func (t *track) holdBook(data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.book) > 0 {
		t.f.counts.merged.Add(1)
	}
	t.book = append(t.book[:0], data...)
}

// lookAtBook checks the quotes that came since the last tick, and lets their middle stand in for a mark price that is
// late.
func (t *track) lookAtBook(now time.Time) {
	if len(t.book) == 0 {
		return
	}
	q, bad, ok := decodeBook(t.book, t.symbol)
	t.book = t.book[:0]
	if ok && q.event <= t.bookEvent {
		t.f.counts.late.Add(1)
		return
	}
	at, bad, ok := t.dated(q, bad, ok)
	if !ok {
		t.f.refuse(t.symbol, t.bookStream(), bad)
		return
	}
	t.bookEvent = q.event
	if now.Sub(t.markAt) >= t.f.opts.Timing.MarkLate && q.event > t.markEvent {
		t.f.sink(feed.Price{Symbol: t.symbol, Price: q.price, At: at})
	}
}

// silent names the streams of the symbol that should have spoken by now, and whether that is news. since is when they
// were subscribed, zero where they are not.
func (t *track) silent(now, klineSince, markSince time.Time) (streams []string, news bool) {
	timing := &t.f.opts.Timing
	t.mu.Lock()
	defer t.mu.Unlock()
	if !markSince.IsZero() && now.Sub(latest(markSince, t.markAt)) > timing.MarkSilence {
		streams = append(streams, t.markStream())
		news = news || !t.saidMark
		t.saidMark = true
	}
	if !klineSince.IsZero() && !t.owedSince.IsZero() && now.Sub(latest(klineSince, t.owedSince)) > timing.KlineOwed {
		streams = append(streams, t.klineStream())
		news = news || !t.saidKline
		t.saidKline = true
	}
	return streams, news
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
