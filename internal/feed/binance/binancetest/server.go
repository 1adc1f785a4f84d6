// Package binancetest is a stand-in for the public half of Binance USDT-M futures: REST with request weights, streams on
// routed paths, and every fault that the documentation and incident threads tell of. It keeps its own record of the
// candles it made, so that tests can compare candle for candle.
//
// Like the real exchange it accepts a subscription on the wrong path, or to a symbol that does not exist, and says
// nothing on it.
package binancetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

// Config says what is traded. Zero values are replaced by the defaults named.
type Config struct {
	Symbols  []position.Symbol
	Interval time.Duration // of a candle; one minute
	History  int           // candles from before the start; 310
	Seed     uint64

	KlineEvery time.Duration // a moved candle is told this often; 250 ms
	MarkEvery  time.Duration // 1 s
	BookEvery  time.Duration // 500 ms

	// Quiet symbols trade once in about a hundred looks, and the end of a candle without trades is not told.
	Quiet map[position.Symbol]bool
	// Trades are played instead of made up, the first one at the next full second after the start.
	Trades map[position.Symbol][]Trade

	MaxAge    time.Duration // a connection is ended after this; 24 h
	PingEvery time.Duration // 3 min
	PongIn    time.Duration // 10 min
	Weight    int           // of requests in a minute; 2400
	// ClockOffset is how far the exchange's clock is ahead of the real one.
	ClockOffset time.Duration
	// Memory connects through pipes in this process instead of loopback, so that time can be simulated.
	Memory bool
}

func (c *Config) fill() {
	usual := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	usual(&c.Interval, time.Minute)
	usual(&c.KlineEvery, 250*time.Millisecond)
	usual(&c.MarkEvery, time.Second)
	usual(&c.BookEvery, 500*time.Millisecond)
	usual(&c.MaxAge, 24*time.Hour)
	usual(&c.PingEvery, 3*time.Minute)
	usual(&c.PongIn, 10*time.Minute)
	if c.History == 0 {
		c.History = 310
	}
	if c.Weight == 0 {
		c.Weight = 2400
	}
}

// Server is a running stand-in.
type Server struct {
	cfg      Config
	listener net.Listener
	memory   *memory
	client   *http.Client
	http     *http.Server
	ctx      context.Context
	cancel   context.CancelFunc
	wait     sync.WaitGroup

	mu      sync.Mutex
	offset  time.Duration
	rng     *rand.Rand
	markets map[position.Symbol]*market
	lower   map[string]*market
	order   []*market
	conns   map[*conn]bool
	faults  faults
	weight  weights
	nextMar time.Time
	nextBoo time.Time
	stats   Stats
}

// Stats is what a Server saw.
type Stats struct {
	Connections int // accepted so far
	Open        int
	Messages    int // sent on streams
	Requests    int // of REST
	Weight      int // most used in one minute
	Aged        int // connections ended for their age
	// Violations are the client's offences against the exchange's limits.
	Violations []string
}

// Start runs a stand-in until Close.
func Start(cfg Config) (*Server, error) {
	cfg.fill()
	s := &Server{
		cfg: cfg, offset: cfg.ClockOffset, rng: rand.New(rand.NewPCG(cfg.Seed, 7)),
		markets: make(map[position.Symbol]*market), lower: make(map[string]*market), conns: make(map[*conn]bool),
	}
	now := s.exchange()
	for _, symbol := range cfg.Symbols {
		m := newMarket(s, symbol, now)
		s.markets[symbol], s.lower[strings.ToLower(string(symbol))] = m, m
		s.order = append(s.order, m)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	if cfg.Memory {
		s.memory = newMemory()
		s.listener, transport.DialContext = s.memory, s.memory.dial
	} else {
		var err error
		if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("stand-in exchange: %w", err)
		}
	}
	s.client = &http.Client{Transport: transport}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: time.Minute}
	s.wait.Go(func() { _ = s.http.Serve(s.listener) })
	s.wait.Go(s.run)
	return s, nil
}

// Close ends everything and waits for it.
func (s *Server) Close() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	_ = s.http.Close()
	s.client.CloseIdleConnections()
	s.wait.Wait()
}

// URL is the base address of REST.
func (s *Server) URL() string {
	if s.memory != nil {
		return "http://exchange.test"
	}
	return "http://" + s.listener.Addr().String()
}

// StreamURL is the base address of streams, without the routed path.
func (s *Server) StreamURL() string { return "ws" + strings.TrimPrefix(s.URL(), "http") }

// Client reaches the server, wherever it listens.
func (s *Server) Client() *http.Client { return s.client }

// exchange is what the exchange's clock shows.
func (s *Server) exchange() time.Time { return time.Now().Add(s.offset) }

// Closed is the record of the candles of a symbol that have ended, oldest first, those from before the start included.
func (s *Server) Closed(symbol position.Symbol) []feed.Candle {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(s.exchange())
	m := s.markets[symbol]
	closed := make([]feed.Candle, len(m.closed))
	for i, b := range m.closed {
		closed[i] = b.candle(m)
	}
	return closed
}

// Stats may be called at any time.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Open, st.Weight = len(s.conns), s.weight.peak
	st.Violations = append([]string(nil), st.Violations...)
	return st
}

func (s *Server) violation(format string, args ...any) {
	if len(s.stats.Violations) < 20 {
		s.stats.Violations = append(s.stats.Violations, fmt.Sprintf(format, args...))
	}
}

// run lets the market go on.
func (s *Server) run() {
	tick := time.NewTicker(min(s.cfg.KlineEvery, s.cfg.MarkEvery, s.cfg.BookEvery))
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		now := time.Now()
		ex := now.Add(s.offset)
		s.advance(ex)
		marks, books := !now.Before(s.nextMar), !now.Before(s.nextBoo)
		if marks {
			s.nextMar = now.Add(s.cfg.MarkEvery)
		}
		if books {
			s.nextBoo = now.Add(s.cfg.BookEvery)
		}
		for _, m := range s.order {
			if m.status != statusTrading {
				continue
			}
			if marks {
				s.publish(m, streamMark, m.markMessage(ex))
			}
			if books {
				s.publish(m, streamBook, m.bookMessage(ex))
			}
		}
		for c := range s.conns {
			if now.Sub(c.born) > s.cfg.MaxAge {
				s.stats.Aged++
				c.cancel()
			}
		}
		s.mu.Unlock()
	}
}

// advance brings every market up to the exchange's time.
func (s *Server) advance(ex time.Time) {
	for _, m := range s.order {
		m.advance(ex)
	}
}
