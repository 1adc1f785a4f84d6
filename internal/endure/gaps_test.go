//go:build linux

package endure

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// gaps follows the heartbeat of every open position, from outside.
type gaps struct {
	mu   sync.Mutex
	last map[string]time.Time // heartbeat last seen, or when the position opened
	ages []aged
}

// aged is the age of the oldest heartbeat at one look.
type aged struct {
	at  time.Time
	sec float64
	of  string
}

func newGaps() *gaps { return &gaps{last: map[string]time.Time{}} }

func (g *gaps) opened(symbol string, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last[symbol] = at
}

func (g *gaps) closed(symbol string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.last, symbol)
}

// run looks four times a second until ctx ends.
func (g *gaps) run(ctx context.Context, rdb *redis.Client) {
	g.mu.Lock()
	for s := range g.last {
		g.last[s] = time.Now() // what was before is the start, not a gap
	}
	g.mu.Unlock()
	every := time.NewTicker(250 * time.Millisecond)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			g.look(ctx, rdb)
		}
	}
}

func (g *gaps) look(ctx context.Context, rdb *redis.Client) {
	g.mu.Lock()
	symbols := make([]string, 0, len(g.last))
	for s := range g.last {
		symbols = append(symbols, s)
	}
	g.mu.Unlock()
	slices.Sort(symbols)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	pipe := rdb.Pipeline()
	beats := make([]*redis.StringCmd, len(symbols))
	for i, s := range symbols {
		beats[i] = pipe.HGet(ctx, "quantum:harvest:proposal:"+s, "last_update_epoch")
	}
	_, _ = pipe.Exec(ctx)
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	oldest := aged{at: now}
	for i, s := range symbols {
		last, still := g.last[s]
		if !still {
			continue
		}
		if epoch, err := strconv.ParseInt(beats[i].Val(), 10, 64); err == nil && time.Unix(epoch, 0).After(last) {
			last = time.Unix(epoch, 0)
			g.last[s] = last
		}
		if sec := now.Sub(last).Seconds(); sec > oldest.sec {
			oldest.sec, oldest.of = sec, s
		}
	}
	g.ages = append(g.ages, oldest)
}

func (g *gaps) list() []aged {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.ages)
}
