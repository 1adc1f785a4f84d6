package feed

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
)

const benchSymbols = 1000

func benchClient(b *testing.B) (*redis.Client, []position.Symbol) {
	b.Helper()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: realserver.Redis(b).Socket(), ContextTimeoutEnabled: true})
	b.Cleanup(func() { _ = client.Close() })
	symbols := make([]position.Symbol, benchSymbols)
	for i := range symbols {
		symbols[i] = position.Symbol(fmt.Sprintf("S%dUSDT", i))
	}
	return client, symbols
}

// fill sends one pipeline that nobody measures.
func fill(b *testing.B, client *redis.Client, write func(context.Context, redis.Pipeliner)) {
	b.Helper()
	b.StopTimer()
	pipe := client.Pipeline()
	write(b.Context(), pipe)
	if _, err := pipe.Exec(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

// One poll of the market of 1000 symbols on a real server: with nothing new, with every open candle revised, in place
// or by one more member, and of ready market states.
func BenchmarkRedisMarketPoll(b *testing.B) {
	type writer func(ctx context.Context, pipe redis.Pipeliner, s position.Symbol, round int)
	candle := func(minute int, round int) string { return kline(minute, 100+float64(round%50), round, false) }
	list := func(ctx context.Context, pipe redis.Pipeliner, s position.Symbol, _ int) {
		for m := range defaultHistory {
			pipe.RPush(ctx, "candles:"+string(s)+":1m", candle(m, 0))
		}
	}
	set := func(ctx context.Context, pipe redis.Pipeliner, s position.Symbol, _ int) {
		for m := range defaultHistory {
			pipe.ZAdd(ctx, "candles:"+string(s)+":1m", redis.Z{Score: candleScore(m, 0), Member: candle(m, 0)})
		}
	}
	state := func(ctx context.Context, pipe redis.Pipeliner, s position.Symbol, round int) {
		pipe.HSet(ctx, "quantum:marketstate:"+string(s), "sigma", 0.01+float64(round)*1e-6, "mu", 0.1, "ts", 0.35, "p_trend", 0.5,
			"p_mr", 0.25, "p_chop", 0.25, "dp", 0.5, "vr", 1, "spike_proxy", 1, "ts_timestamp", candleStart.Unix()+int64(round))
	}
	for _, bench := range []struct {
		name          string
		fill, refresh writer
	}{
		{"nothing new", list, nil},
		{"list, revised", list, func(ctx context.Context, pipe redis.Pipeliner, s position.Symbol, round int) {
			pipe.LSet(ctx, "candles:"+string(s)+":1m", -1, candle(defaultHistory-1, round))
		}},
		{"sorted set, one member a revision", set, func(ctx context.Context, pipe redis.Pipeliner, s position.Symbol, round int) {
			minute := defaultHistory - 1 + round/60
			pipe.ZAdd(ctx, "candles:"+string(s)+":1m", redis.Z{Score: candleScore(minute, 0), Member: candle(minute, round)})
		}},
		{"ready states", state, state},
	} {
		b.Run(bench.name, func(b *testing.B) {
			client, symbols := benchClient(b)
			now := candleStart.Add((defaultHistory - 1) * time.Minute)
			m, err := NewRedisMarket(RedisMarketOptions{
				Client: client, Universe: func() []position.Symbol { return symbols }, Now: func() time.Time { return now },
			})
			if err != nil {
				b.Fatal(err)
			}
			events := 0
			poll := func() {
				events = 0
				if err := m.poll(b.Context(), func(Event) { events++ }); err != nil {
					b.Fatal(err)
				}
			}
			round := 0
			write := func(w writer) {
				fill(b, client, func(ctx context.Context, pipe redis.Pipeliner) {
					for _, s := range symbols {
						w(ctx, pipe, s, round)
					}
				})
			}
			write(bench.fill)
			start := time.Now()
			for all := 0; all < benchSymbols; all += events {
				if poll(); events == 0 {
					b.Fatalf("%d symbols have a history", all)
				}
			}
			first := time.Since(start)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				want := 0
				if round++; bench.refresh != nil {
					now = now.Add(time.Second)
					write(bench.refresh)
					want = benchSymbols
				}
				if poll(); events < want {
					b.Fatalf("%d events, want %d", events, want)
				}
			}
			b.ReportMetric(first.Seconds()*1e3, "ms-first")
		})
	}
}

// One poll of 1000 positions on a real server, in each of the places where they may lie.
func BenchmarkRedisPositionsPoll(b *testing.B) {
	record := func(round int) []string {
		return []string{
			"side", "LONG", "entry_price", "100", "current_price", fmt.Sprint(101 + round%10), "peak_price", "120", "trough_price", "90",
			"age_sec", "3600", "unrealized_pnl", "3", "quantity", "2", "opened_at_epoch", "1769990000", "updated_at_epoch", "1769999999",
		}
	}
	for name, write := range map[string]func(ctx context.Context, pipe redis.Pipeliner, s position.Symbol, round int){
		"hashes": func(ctx context.Context, pipe redis.Pipeliner, s position.Symbol, round int) {
			pipe.HSet(ctx, positionsKey+":"+string(s), record(round))
		},
		"json": func(ctx context.Context, pipe redis.Pipeliner, s position.Symbol, round int) {
			text := "{"
			for i, f := range record(round) {
				text += fmt.Sprintf("%q%c", f, ":,"[i%2])
			}
			pipe.HSet(ctx, positionsKey, string(s), text[:len(text)-1]+"}")
		},
		"stream": func(ctx context.Context, pipe redis.Pipeliner, s position.Symbol, round int) {
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: "quantum:stream:execution", Values: append(record(round), "symbol", string(s))})
		},
	} {
		for _, refresh := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/refreshed=%v", name, refresh), func(b *testing.B) {
				client, symbols := benchClient(b)
				now := recordNow
				p, err := NewRedisPositions(RedisPositionsOptions{Client: client, Now: func() time.Time { return now }})
				if err != nil {
					b.Fatal(err)
				}
				round := 0
				writeAll := func() {
					fill(b, client, func(ctx context.Context, pipe redis.Pipeliner) {
						for _, s := range symbols {
							write(ctx, pipe, s, round)
						}
					})
				}
				poll := func() {
					records := 0
					if err := p.poll(b.Context(), func(ev Event) {
						if s, ok := ev.(Snapshot); ok {
							records += len(s.Records)
						}
					}); err != nil {
						b.Fatal(err)
					}
					if records != benchSymbols {
						b.Fatalf("%d records", records)
					}
				}
				writeAll()
				poll()
				b.ReportAllocs()
				b.ResetTimer()
				for b.Loop() {
					if round++; refresh {
						writeAll()
					}
					now = now.Add(time.Second)
					poll()
				}
			})
		}
	}
}
