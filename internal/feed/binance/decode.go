package binance

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/adshao/go-binance/v2/futures"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

// flaw is what is wrong with one field of a message.
type flaw struct {
	field  string
	reason feed.Reason
	value  string
}

// envelope is what every message has around it: a stream's name and its data, or an answer to a request of ours.
type envelope struct {
	Stream string          `json:"stream"`
	Data   json.RawMessage `json:"data"`
	ID     *int64          `json:"id"`
	Error  json.RawMessage `json:"error"`
	Code   *int64          `json:"code"`
	Msg    string          `json:"msg"`
}

// The names of a message differ by case alone, and decoding falls back to the other case where a name has no field of
// its own. So every such pair is declared in full, wanted or not.
type klineMessage struct {
	Event  string `json:"e"`
	Time   int64  `json:"E"`
	Symbol string `json:"s"`
	Kline  struct {
		Start    int64           `json:"t"`
		End      int64           `json:"T"`
		Symbol   string          `json:"s"`
		Interval string          `json:"i"`
		Open     string          `json:"o"`
		High     string          `json:"h"`
		Low      string          `json:"l"`
		Last     json.RawMessage `json:"L"`
		Trades   int64           `json:"n"`
		Close    string          `json:"c"`
		Final    *bool           `json:"x"`
	} `json:"k"`
}

type markMessage struct {
	Event  string          `json:"e"`
	Time   int64           `json:"E"`
	Symbol string          `json:"s"`
	Price  string          `json:"p"`
	Settle json.RawMessage `json:"P"`
}

type bookMessage struct {
	Event  string          `json:"e"`
	Time   int64           `json:"E"`
	Symbol string          `json:"s"`
	Bid    string          `json:"b"`
	BidQty json.RawMessage `json:"B"`
	Ask    string          `json:"a"`
	AskQty json.RawMessage `json:"A"`
}

// kline is one checked candle. Its At is not set.
type kline struct {
	feed.Candle
	event  int64 // the exchange's event time in milliseconds; 0 by REST, which gives none
	trades int64 // in it so far
}

// decodeKline reads one candle of the stream of the given symbol and interval.
func decodeKline(data []byte, symbol position.Symbol, interval time.Duration) (kline, flaw, bool) {
	var m klineMessage
	if bad, ok := decodeInto(data, &m); !ok {
		return kline{}, bad, false
	}
	k := m.Kline
	switch {
	case m.Event != "kline":
		return kline{}, flaw{"e", feed.ReasonUnreadable, m.Event}, false
	case m.Symbol != string(symbol):
		return kline{}, flaw{"s", feed.ReasonSymbol, m.Symbol}, false
	case k.Symbol != "" && k.Symbol != string(symbol):
		return kline{}, flaw{"k.s", feed.ReasonSymbol, k.Symbol}, false
	case k.Interval != intervalNames[interval]:
		return kline{}, flaw{"k.i", feed.ReasonDomain, k.Interval}, false
	case !plausible(m.Time):
		return kline{}, flaw{"E", timeReason(m.Time), strconv.FormatInt(m.Time, 10)}, false
	case k.Final == nil:
		return kline{}, flaw{"k.x", feed.ReasonMissing, ""}, false
	}
	c, bad, ok := newCandle(symbol, interval, k.Start, [4]string{k.Open, k.High, k.Low, k.Close})
	if !ok {
		bad.field = "k." + bad.field
		return kline{}, bad, false
	}
	c.Closed = *k.Final
	// An open candle cannot be reported before it starts, nor a closed one before it ends.
	if m.Time < k.Start || c.Closed && m.Time < k.Start+interval.Milliseconds()-1 {
		return kline{}, flaw{"E", feed.ReasonDomain, strconv.FormatInt(m.Time, 10)}, false
	}
	return kline{Candle: c, event: m.Time, trades: k.Trades}, flaw{}, true
}

// decodeRESTKline reads one candle of an answer. Its Closed is not set: an answer does not say.
func decodeRESTKline(k *futures.Kline, symbol position.Symbol, interval time.Duration) (kline, flaw, bool) {
	if k == nil {
		return kline{}, flaw{"element", feed.ReasonMissing, ""}, false
	}
	c, bad, ok := newCandle(symbol, interval, k.OpenTime, [4]string{k.Open, k.High, k.Low, k.Close})
	return kline{Candle: c, trades: k.TradeNum}, bad, ok
}

// newCandle checks open time and the prices open, high, low, close, under the names that the stream gives them.
func newCandle(symbol position.Symbol, interval time.Duration, start int64, prices [4]string) (feed.Candle, flaw, bool) {
	c := feed.Candle{Symbol: symbol, Interval: interval}
	if !plausible(start) || start%interval.Milliseconds() != 0 {
		return c, flaw{"t", timeReason(start), strconv.FormatInt(start, 10)}, false
	}
	c.OpenTime = time.UnixMilli(start).UTC()
	for i, into := range [...]*float64{&c.Open, &c.High, &c.Low, &c.Close} {
		price, bad, ok := parsePrice("ohlc"[i:i+1], prices[i])
		if !ok {
			return c, bad, false
		}
		*into = price
	}
	switch {
	case c.Low > min(c.Open, c.Close):
		return c, flaw{"l", feed.ReasonDomain, prices[2]}, false
	case c.High < max(c.Open, c.Close):
		return c, flaw{"h", feed.ReasonDomain, prices[1]}, false
	}
	return c, flaw{}, true
}

// quote is one checked price with the exchange's event time in milliseconds.
type quote struct {
	price float64
	event int64
}

func decodeMark(data []byte, symbol position.Symbol) (quote, flaw, bool) {
	var m markMessage
	if bad, ok := decodeInto(data, &m); !ok {
		return quote{}, bad, false
	}
	if bad, ok := checkHead("markPriceUpdate", m.Event, m.Symbol, symbol, m.Time); !ok {
		return quote{}, bad, false
	}
	price, bad, ok := parsePrice("p", m.Price)
	return quote{price, m.Time}, bad, ok
}

// decodeBook reads the best quotes and gives their middle.
func decodeBook(data []byte, symbol position.Symbol) (quote, flaw, bool) {
	var m bookMessage
	if bad, ok := decodeInto(data, &m); !ok {
		return quote{}, bad, false
	}
	if bad, ok := checkHead("bookTicker", m.Event, m.Symbol, symbol, m.Time); !ok {
		return quote{}, bad, false
	}
	bid, bad, ok := parsePrice("b", m.Bid)
	if !ok {
		return quote{}, bad, false
	}
	ask, bad, ok := parsePrice("a", m.Ask)
	if !ok {
		return quote{}, bad, false
	}
	if bid > ask {
		return quote{}, flaw{"b", feed.ReasonDomain, m.Bid + " above " + m.Ask}, false
	}
	return quote{bid + (ask-bid)/2, m.Time}, flaw{}, true
}

func checkHead(want, event, name string, symbol position.Symbol, ms int64) (flaw, bool) {
	switch {
	case event != want:
		return flaw{"e", feed.ReasonUnreadable, event}, false
	case name != string(symbol):
		return flaw{"s", feed.ReasonSymbol, name}, false
	case !plausible(ms):
		return flaw{"E", timeReason(ms), strconv.FormatInt(ms, 10)}, false
	}
	return flaw{}, true
}

// decodeInto reads JSON; where one field has the wrong type, the flaw names it.
func decodeInto(data []byte, into any) (flaw, bool) {
	err := json.Unmarshal(data, into)
	if err == nil {
		return flaw{}, true
	}
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) && typed.Field != "" {
		return flaw{typed.Field, feed.ReasonUnreadable, typed.Value}, false
	}
	return flaw{"data", feed.ReasonUnreadable, string(data[:min(len(data), valueBytes)])}, false
}

// parsePrice reads a decimal above zero. The exchange writes plain digits, so hexadecimal, underscores and words are
// garbage, except that NaN and infinity deserve the better reason.
func parsePrice(field, text string) (float64, flaw, bool) {
	if text == "" {
		return 0, flaw{field, feed.ReasonMissing, ""}, false
	}
	if strings.ContainsAny(text, "xXpP_") {
		return 0, flaw{field, feed.ReasonUnreadable, text}, false
	}
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && (math.IsNaN(v) || math.IsInf(v, 0)):
		return 0, flaw{field, feed.ReasonNotFinite, text}, false
	case err != nil:
		return 0, flaw{field, feed.ReasonUnreadable, text}, false
	case v <= 0:
		return 0, flaw{field, feed.ReasonDomain, text}, false
	}
	return v, flaw{}, true
}

// Instants outside these bounds are garbage: the market opened in 2019, and no clock is that wrong.
const (
	earliestMs = 1_500_000_000_000
	latestMs   = 7_258_118_400_000
)

func plausible(ms int64) bool { return ms >= earliestMs && ms <= latestMs }

func timeReason(ms int64) feed.Reason {
	if ms == 0 {
		return feed.ReasonMissing
	}
	return feed.ReasonDomain
}

// streamName finds the name of a wrapped message without decoding it: quotes come far more often than they are looked at.
// It is nil where the message does not start with a plain name.
func streamName(message []byte) []byte {
	rest, ok := bytes.CutPrefix(message, []byte(`{"stream":"`))
	if !ok {
		return nil
	}
	end := bytes.IndexByte(rest, '"')
	if end <= 0 || bytes.IndexByte(rest[:end], '\\') >= 0 {
		return nil
	}
	return rest[:end]
}

// wrappedData is the value of "data" of a message that streamName accepted, where it is the last one; nil otherwise.
func wrappedData(message, name []byte) []byte {
	rest := message[len(`{"stream":"`)+len(name):]
	rest, ok := bytes.CutPrefix(rest, []byte(`","data":`))
	if !ok {
		return nil
	}
	rest = bytes.TrimRight(rest, " \r\n\t")
	rest, ok = bytes.CutSuffix(rest, []byte("}"))
	if !ok {
		return nil
	}
	return rest
}

// valueBytes bounds the offending value that is carried in a Refusal.
const valueBytes = 64

// printable makes text from outside safe to log and to show: printable UTF-8, at most valueBytes bytes.
func printable(value string) string {
	var b strings.Builder
	for _, r := range value {
		if !unicode.IsPrint(r) {
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r) > valueBytes {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
