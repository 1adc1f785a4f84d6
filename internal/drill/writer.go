package drill

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// The symbols of the copy. Faults of one symbol hit the first; the others must not notice.
const (
	faulted = "BTCUSDT"
	control = "ETHUSDT"
	third   = "SOLUSDT"
)

var drillSymbols = []string{faulted, control, third}

// writer is the bot and the market of the copy: it keeps positions and candles in Redis as others would.
type writer struct {
	rdb *redis.Client

	mu         sync.Mutex
	closed     map[string]bool              // positions that are not there
	records    map[string]map[string]string // fields of a position record that are written in place of the good ones
	frozen     map[string]bool              // candles that do not move any more
	states     map[string]map[string]string // market states that are written ready; nil: none
	suspended  map[string]bool              // position keys that the writer keeps its hands off
	everything bool                         // nothing is written at all
	n          int
}

func newWriter(addr string) *writer {
	return &writer{
		rdb:    redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialTimeout: time.Second, Protocol: 2, DisableIdentity: true}),
		closed: map[string]bool{}, records: map[string]map[string]string{}, frozen: map[string]bool{}, states: map[string]map[string]string{},
		suspended: map[string]bool{},
	}
}

func (w *writer) change(f func(*writer)) {
	w.mu.Lock()
	f(w)
	w.mu.Unlock()
	w.write(context.Background())
}

// run writes twice a second until ctx ends. A Redis that is away is part of the drill.
func (w *writer) run(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		w.write(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

const positionKey = "quantum:state:positions:"

func (w *writer) write(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.everything {
		return
	}
	w.n++
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	now := time.Now()
	pipe := w.rdb.Pipeline()
	for i, sym := range drillSymbols {
		price := 100*float64(i+1) + 0.5*math.Sin(float64(w.n)/9+float64(i))
		if state := w.states[sym]; state != nil {
			fields := map[string]any{"ts_timestamp": now.Unix()}
			for k, v := range state {
				fields[k] = v
			}
			pipe.HSet(ctx, "quantum:marketstate:"+sym, fields)
		}
		if !w.frozen[sym] {
			key := "candles:" + sym + ":1m"
			pipe.Del(ctx, key)
			pipe.RPush(ctx, key, closes(price, i)...)
		}
		if w.suspended[sym] || w.closed[sym] {
			continue
		}
		fields := map[string]any{
			"symbol": sym, "side": "LONG", "entry_price": 99 * (i + 1), "quantity": 2, "current_price": strconv.FormatFloat(price, 'f', 4, 64),
			"opened_at_epoch": 1769129938, "updated_at_epoch": strconv.FormatFloat(float64(now.UnixMilli())/1000, 'f', 3, 64),
		}
		for k, v := range w.records[sym] {
			fields[k] = v
		}
		pipe.HSet(ctx, positionKey+sym, fields)
	}
	_, _ = pipe.Exec(ctx)
}

// closes are 300 candles that end at price.
func closes(price float64, seed int) []any {
	list := make([]any, 300)
	for j := range list {
		back := float64(len(list) - 1 - j)
		list[j] = strconv.FormatFloat(price*(1+0.002*math.Sin(back/11+float64(seed))-0.002*math.Sin(float64(seed))), 'f', 6, 64)
	}
	return list
}

// goodState is a market state as another service writes it.
func goodState() map[string]string {
	return map[string]string{
		"sigma": "0.004", "mu": "0.00001", "ts": "0.4", "p_trend": "0.4", "p_mr": "0.3", "p_chop": "0.3", "dp": "0.5", "vr": "1", "spike_proxy": "1",
		"buffer_size": "300",
	}
}

// stateOf is goodState with every value replaced; blank values where value is.
func stateOf(value string) map[string]string {
	s := goodState()
	for k := range s {
		s[k] = value
	}
	return s
}

func (w *writer) do(ctx context.Context, args ...any) error {
	if err := w.rdb.Do(ctx, args...).Err(); err != nil && err != redis.Nil {
		return fmt.Errorf("%v: %w", args[0], err)
	}
	return nil
}
