//go:build linux

package endure

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// market is everything around the desk: a market that moves every second, and a bot that opens positions, follows a full
// close that it is advised, and changes its mind.
type market struct {
	rdb     *redis.Client
	rng     *rand.Rand
	symbols []*instrument
	life    time.Duration // mean, of a position
	gaps    *gaps
	n       int
}

type instrument struct {
	name     string
	price    float64
	closes   []float64
	open     bool
	side     string
	entry    float64
	openedAt time.Time
	endsAt   time.Time // close, or open again
}

func newMarket(addr string, symbols []string, life time.Duration) *market {
	m := &market{
		rdb:  redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialTimeout: time.Second, Protocol: 2, DisableIdentity: true}),
		rng:  rand.New(rand.NewPCG(6, 4)),
		life: life, gaps: newGaps(),
	}
	for i, name := range symbols {
		s := &instrument{name: name, price: 20 * float64(i+1)}
		for range 300 {
			s.move(m.rng, 0.0008)
			s.closes = append(s.closes, s.price)
		}
		m.symbols = append(m.symbols, s)
		if i%5 != 0 {
			m.enter(s, time.Now())
			m.gaps.opened(name, time.Now())
		} else {
			s.endsAt = time.Now().Add(m.between(m.life / 4))
		}
	}
	return m
}

func (s *instrument) move(rng *rand.Rand, by float64) { s.price *= math.Exp(by * rng.NormFloat64()) }

// between is a random time around mean.
func (m *market) between(mean time.Duration) time.Duration {
	return mean/2 + time.Duration(m.rng.Float64()*float64(mean))
}

func (m *market) enter(s *instrument, now time.Time) {
	s.open, s.entry, s.openedAt, s.endsAt = true, s.price, now, now.Add(m.between(m.life))
	s.side = "LONG"
	if m.rng.IntN(2) == 0 {
		s.side = "SHORT"
	}
}

// run moves the market every second until ctx ends. That Redis is away now and then belongs to it.
func (m *market) run(ctx context.Context) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		m.second(ctx)
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

func (m *market) second(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	m.n++
	now := time.Now()
	whole := m.rdb.Exists(ctx, "candles:"+m.symbols[0].name+":1m").Val() == 0 // a Redis that came back empty
	pipe := m.rdb.Pipeline()
	advised := make([]*redis.StringCmd, len(m.symbols))
	for i, s := range m.symbols {
		s.move(m.rng, 0.0001)
		last := len(s.closes) - 1
		key := "candles:" + s.name + ":1m"
		s.closes[last] = s.price
		bar := m.n%60 == i%60
		if bar {
			s.closes = append(s.closes[1:], s.price)
		}
		switch {
		case whole:
			pipe.Del(ctx, key)
			all := make([]any, len(s.closes))
			for j, c := range s.closes {
				all[j] = figure(c)
			}
			pipe.RPush(ctx, key, all...)
		case bar:
			pipe.RPush(ctx, key, figure(s.price))
			pipe.LTrim(ctx, key, -300, -1)
		default:
			pipe.LSet(ctx, key, -1, figure(s.price))
		}
		m.decide(s, now)
		if !s.open {
			pipe.Del(ctx, "quantum:state:positions:"+s.name)
			continue
		}
		pipe.HSet(ctx, "quantum:state:positions:"+s.name, map[string]any{
			"symbol": s.name, "side": s.side, "entry_price": figure(s.entry), "quantity": 2, "current_price": figure(s.price),
			"opened_at_epoch": s.openedAt.Unix(), "updated_at_epoch": strconv.FormatFloat(float64(now.UnixMilli())/1000, 'f', 3, 64),
		})
		advised[i] = pipe.HGet(ctx, "quantum:harvest:proposal:"+s.name, "harvest_action")
	}
	_, _ = pipe.Exec(ctx)
	for i, s := range m.symbols {
		if c := advised[i]; c != nil && c.Val() == "FULL_CLOSE_PROPOSED" && s.endsAt.Sub(now) > 10*time.Second {
			s.endsAt = now.Add(m.between(5 * time.Second)) // the bot takes the advice
		}
	}
}

func (m *market) decide(s *instrument, now time.Time) {
	if now.Before(s.endsAt) {
		return
	}
	if s.open {
		s.open, s.endsAt = false, now.Add(m.between(m.life/4))
		m.gaps.closed(s.name)
		return
	}
	m.enter(s, now)
	m.gaps.opened(s.name, now)
}

func figure(v float64) string { return strconv.FormatFloat(v, 'f', 6, 64) }

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("S%03dUSDT", i)
	}
	return list
}
