package binance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/adshao/go-binance/v2/common"
	"github.com/adshao/go-binance/v2/futures"

	"quantumharvest/internal/position"
)

const (
	// restWorkers is how many requests are under way at once.
	restWorkers = 4
	// answerBytes bounds one answer; the list of symbols has about two million.
	answerBytes = 32 << 20
	// codeInvalidSymbol is the exchange's answer to a symbol it does not know.
	codeInvalidSymbol = -1121
)

// rest asks the exchange. It is safe for several goroutines.
type rest struct {
	client   *futures.Client
	http     *http.Client
	own      *http.Transport // of ours, to be closed; nil: somebody else's
	budget   *budget
	clock    *exchangeClock
	interval string
	patience time.Duration
	deadline time.Duration

	requests, failed atomic.Uint64
}

func newRest(o *Options, clock *exchangeClock) *rest {
	r := &rest{
		client: futures.NewClient("", ""), budget: newBudget(clock, o.WeightShare), clock: clock,
		interval: intervalNames[o.Interval], deadline: o.Timing.Dial, patience: time.Minute + o.Timing.Dial,
	}
	r.http = o.HTTPClient
	if r.http == nil {
		r.own = &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: restWorkers, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: o.Timing.Dial, ForceAttemptHTTP2: true,
		}
		r.http = &http.Client{Transport: r.own}
	}
	inner := r.http.Transport
	if inner == nil {
		inner = http.DefaultTransport
	}
	r.client.BaseURL = o.BaseURL
	r.client.HTTPClient = &http.Client{Transport: &watchedTransport{inner: inner, budget: r.budget}}
	return r
}

func (r *rest) close() {
	if r.own != nil {
		r.own.CloseIdleConnections()
	}
}

// watchedTransport sees what the client library drops: status, headers and the size of an answer.
type watchedTransport struct {
	inner  http.RoundTripper
	budget *budget
}

// RoundTrip turns answers that carry no usable body into errors.
func (t *watchedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.inner.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if date, ok := req.Context().Value(dateKey{}).(*time.Time); ok {
		*date, _ = http.ParseTime(res.Header.Get("Date"))
	}
	err = t.budget.observe(res.StatusCode, res.Header)
	if err == nil && (res.StatusCode == http.StatusForbidden || res.StatusCode >= http.StatusInternalServerError) {
		err = fmt.Errorf("the exchange answers %s", res.Status)
	}
	if err != nil {
		_, _ = io.CopyN(io.Discard, res.Body, 4096)
		_ = res.Body.Close()
		return nil, err
	}
	res.Body = &boundedBody{res.Body, answerBytes}
	return res, nil
}

// dateKey finds, in the context of a request, where the date of the answer is to be written.
type dateKey struct{}

// boundedBody fails where an answer is longer than any real one.
type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the answer is too large")
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// call runs one request of the given weight when it fits, bounded in time.
func (r *rest) call(ctx context.Context, weight int, ask func(context.Context) error) error {
	if err := r.budget.acquire(ctx, weight, r.patience); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.deadline)
	defer cancel()
	r.requests.Add(1)
	err := ask(ctx)
	if err != nil {
		r.failed.Add(1)
	}
	return err
}

// clockSample is the exchange's clock minus ours, by one question.
func (r *rest) clockSample(ctx context.Context) (offset time.Duration, err error) {
	err = r.call(ctx, 1, func(ctx context.Context) error {
		start := r.clock.now()
		ms, err := r.client.NewServerTimeService().Do(ctx)
		if err != nil {
			return fmt.Errorf("ask for the time: %w", err)
		}
		end := r.clock.now()
		if !plausible(ms) {
			return fmt.Errorf("ask for the time: the answer %d is no time in milliseconds", ms)
		}
		offset = time.UnixMilli(ms).Sub(start.Add(end.Sub(start) / 2))
		return nil
	})
	return offset, err
}

// symbols reads which symbols the exchange has, with their status, and takes over its request limit.
func (r *rest) symbols(ctx context.Context) (map[position.Symbol]string, error) {
	var known map[position.Symbol]string
	err := r.call(ctx, 1, func(ctx context.Context) error {
		info, err := r.client.NewExchangeInfoService().Do(ctx)
		if err != nil {
			return fmt.Errorf("ask for the list of symbols: %w", err)
		}
		if len(info.Symbols) == 0 {
			return errors.New("ask for the list of symbols: it is empty")
		}
		known = make(map[position.Symbol]string, len(info.Symbols))
		for _, s := range info.Symbols {
			known[position.Symbol(s.Symbol)] = s.Status
		}
		for _, l := range info.RateLimits {
			if l.RateLimitType == "REQUEST_WEIGHT" && l.Interval == "MINUTE" && l.IntervalNum == 1 && l.Limit > 0 {
				r.budget.allow(int(min(l.Limit, 1e6)))
			}
		}
		return nil
	})
	return known, err
}

// klineWeight is the price of a request for so many candles.
func klineWeight(limit int) int {
	switch {
	case limit < 100:
		return 1
	case limit < 500:
		return 2
	case limit <= 1000:
		return 5
	}
	return 10
}

// restKlines is an answer of candles.
type restKlines struct {
	klines []*futures.Kline
	// asked is when the request left, by our clock: what the candles say is at least as new.
	asked time.Time
	// date is the exchange's own word for when it answered, in whole seconds: a clock of ours that steps must not make an
	// open candle a closed one. Zero where it does not say.
	date time.Time
}

// klines asks for the newest limit candles, or, with from, for those from then on.
func (r *rest) klines(ctx context.Context, symbol position.Symbol, from time.Time, limit int) (answer restKlines, err error) {
	err = r.call(ctx, klineWeight(limit), func(ctx context.Context) error {
		ask := r.client.NewKlinesService().Symbol(string(symbol)).Interval(r.interval).Limit(limit)
		if !from.IsZero() {
			ask.StartTime(from.UnixMilli())
		}
		answer.asked = r.clock.now()
		answer.klines, err = ask.Do(context.WithValue(ctx, dateKey{}, &answer.date))
		if err != nil {
			return fmt.Errorf("ask for candles of %s: %w", symbol, err)
		}
		return nil
	})
	return answer, err
}

func unknownSymbol(err error) bool {
	var api *common.APIError
	return errors.As(err, &api) && api.Code == codeInvalidSymbol
}
