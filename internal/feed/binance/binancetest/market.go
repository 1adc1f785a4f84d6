package binancetest

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

const statusTrading = "TRADING"

// bar is one candle.
type bar struct {
	open       time.Time
	o, h, l, c float64
	trades     int64
	volume     float64
}

func (b bar) candle(m *market) feed.Candle {
	return feed.Candle{
		Symbol: m.symbol, OpenTime: b.open.UTC(), Interval: m.s.cfg.Interval,
		Open: b.o, High: b.h, Low: b.l, Close: b.c, Closed: true,
	}
}

// market is one symbol. It is guarded by the server's lock.
type market struct {
	s      *Server
	symbol position.Symbol
	lower  string
	status string
	rng    *rand.Rand
	closed []bar
	now    bar
	told   int64 // trades of the open candle that the stream told
	made   time.Time
	update int64

	recorded []Trade // still to be played
	shift    time.Duration
}

func newMarket(s *Server, symbol position.Symbol, now time.Time) *market {
	h := fnv.New64a()
	_, _ = h.Write([]byte(symbol))
	m := &market{
		s: s, symbol: symbol, lower: strings.ToLower(string(symbol)), status: statusTrading,
		rng: rand.New(rand.NewPCG(s.cfg.Seed, h.Sum64())), recorded: s.cfg.Trades[symbol], made: now,
	}
	price := cents(10 + 1000*m.rng.Float64())
	if len(m.recorded) > 0 {
		first := m.recorded[0]
		price = first.Price
		m.shift = now.Truncate(time.Second).Add(time.Second).Sub(first.At.Truncate(time.Second))
	}
	open := now.Truncate(s.cfg.Interval)
	for i := s.cfg.History; i > 0; i-- {
		b := flat(open.Add(-time.Duration(i)*s.cfg.Interval), price)
		for range 5 {
			price = m.step(price)
			b.trade(price, 1)
		}
		m.closed = append(m.closed, b)
	}
	m.now = flat(open, price)
	return m
}

func flat(open time.Time, price float64) bar {
	return bar{open: open, o: price, h: price, l: price, c: price}
}

func (b *bar) trade(price, quantity float64) {
	if b.trades == 0 {
		b.o, b.h, b.l = price, price, price
	}
	b.h, b.l, b.c = max(b.h, price), min(b.l, price), price
	b.trades++
	b.volume += quantity
}

// cents are prices that survive being written with two decimals.
func cents(p float64) float64 { return max(math.Round(p*100)/100, 0.01) }

func (m *market) step(price float64) float64 {
	return cents(price * (1 + 0.0008*m.rng.NormFloat64()))
}

// advance closes what has ended and trades up to ex.
func (m *market) advance(ex time.Time) {
	if m.status != statusTrading || ex.Before(m.made) {
		return
	}
	for {
		end := m.now.open.Add(m.s.cfg.Interval)
		if ex.Before(end) {
			break
		}
		m.playUntil(end)
		if m.now.trades > 0 || !m.s.cfg.Quiet[m.symbol] {
			m.s.publish(m, streamKline, m.klineMessage(m.now, true, end))
		}
		m.closed = append(m.closed, m.now)
		m.now, m.told = flat(end, m.now.c), 0
	}
	m.playUntil(ex)
	if len(m.s.cfg.Trades[m.symbol]) == 0 && ex.Sub(m.made) >= m.s.cfg.KlineEvery {
		m.made = ex
		if !m.s.cfg.Quiet[m.symbol] || m.rng.IntN(100) == 0 {
			for range 1 + m.rng.IntN(3) {
				m.now.trade(m.step(m.now.c), 1)
			}
		}
	}
	if m.now.trades > m.told {
		m.told = m.now.trades
		m.s.publish(m, streamKline, m.klineMessage(m.now, false, ex))
	}
}

// playUntil plays the recorded trades before end.
func (m *market) playUntil(end time.Time) {
	for len(m.recorded) > 0 {
		t := m.recorded[0]
		if at := t.At.Add(m.shift); !at.Before(end) {
			return
		}
		m.recorded = m.recorded[1:]
		m.now.trade(t.Price, t.Quantity)
	}
}

// Kinds of streams.
const (
	streamKline = "kline"
	streamMark  = "markPrice"
	streamBook  = "bookTicker"
)

func (m *market) stream(kind string) string {
	switch kind {
	case streamKline:
		return m.lower + "@kline_" + intervalName(m.s.cfg.Interval)
	case streamMark:
		return m.lower + "@markPrice@1s"
	}
	return m.lower + "@bookTicker"
}

func intervalName(d time.Duration) string {
	if d < time.Minute {
		return strconv.Itoa(int(d/time.Second)) + "s"
	}
	if d < time.Hour {
		return strconv.Itoa(int(d/time.Minute)) + "m"
	}
	return strconv.Itoa(int(d/time.Hour)) + "h"
}

func text(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) }

func (m *market) klineMessage(b bar, final bool, at time.Time) string {
	return fmt.Sprintf(`{"stream":%q,"data":{"e":"kline","E":%d,"s":%q,"k":{"t":%d,"T":%d,"s":%q,"i":%q,"f":1,"L":%d,`+
		`"o":"%s","c":"%s","h":"%s","l":"%s","v":"%s","n":%d,"x":%t,"q":"1.0","V":"0.5","Q":"0.5","B":"0"}}}`,
		m.stream(streamKline), at.UnixMilli(), m.symbol, b.open.UnixMilli(), b.open.Add(m.s.cfg.Interval).UnixMilli()-1,
		m.symbol, intervalName(m.s.cfg.Interval), b.trades, text(b.o), text(b.c), text(b.h), text(b.l), text(b.volume),
		b.trades, final)
}

// Mark is the mark price while the last trade was at price.
func Mark(price float64) float64 { return cents(price * 1.0005) }

func (m *market) markMessage(at time.Time) string {
	return fmt.Sprintf(`{"stream":%q,"data":{"e":"markPriceUpdate","E":%d,"s":%q,"p":"%s","ap":"%s","P":"%s","i":"%s",`+
		`"r":"0.00010000","T":%d}}`, m.stream(streamMark), at.UnixMilli(), m.symbol, text(Mark(m.now.c)), text(m.now.c),
		text(m.now.c), text(m.now.c), at.Truncate(8*time.Hour).Add(8*time.Hour).UnixMilli())
}

func (m *market) bookMessage(at time.Time) string {
	m.update++
	return fmt.Sprintf(`{"stream":%q,"data":{"e":"bookTicker","u":%d,"s":%q,"b":"%s","B":"2.507","a":"%s","A":"2.510",`+
		`"T":%d,"E":%d}}`, m.stream(streamBook), m.update, m.symbol, text(m.now.c), text(m.now.c+0.01), at.UnixMilli(),
		at.UnixMilli())
}
