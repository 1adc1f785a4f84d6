package feed

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"quantumharvest/internal/position"
)

func TestRedisPositionsHashes(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		g := newPositionRig(t, r, nil)
		g.set("BTCUSDT", "quantity", "2", "unrealized_pnl", "10", "current_price", "105")
		g.set("ETHUSDT", "side", "SHORT")
		g.redis.HSet(positionsKey, "SOLUSDT", `{"side":"LONG","entry_price":20,"age_sec":"60"}`, "BTCUSDT", `{"side":"SHORT","entry_price":1}`)
		g.want(g.poll(), "BTCUSDT opened", "ETHUSDT opened", "SOLUSDT opened")
		p, _ := g.book.Get("BTCUSDT")
		if p.Side != position.Long || p.ReportedPnL != 5 || p.Source != "redis_hash" || !p.UpdatedAt.Equal(g.now) {
			t.Errorf("got %+v", p)
		}
		if g.trips != 2 { // the walk and the poll
			t.Errorf("%d round trips", g.trips)
		}

		// A new key is found within the interval, a key in the JSON hash at once.
		g.set("XRPUSDT")
		g.redis.HSet(positionsKey, "ADAUSDT", `{"side":"LONG","entry_price":1}`)
		g.want(g.poll(), "ADAUSDT opened")
		if g.trips != 1 {
			t.Errorf("%d round trips", g.trips)
		}
		for range 3 {
			g.want(g.poll())
		}
		g.want(g.poll(), "XRPUSDT opened")

		// Closed: gone twice. The next poll after it has gone walks through the keys.
		g.redis.Del(positionsKey + ":ETHUSDT")
		g.redis.HDel(positionsKey, "ADAUSDT")
		g.want(g.poll())
		g.set("LATEUSDT")
		g.want(g.poll(), "LATEUSDT opened", "ADAUSDT closed", "ETHUSDT closed")
		// And by its own word.
		g.redis.HSet(positionsKey+":XRPUSDT", "quantity", "0")
		g.want(g.poll(), "XRPUSDT closed")
		if text := g.log.String(); strings.Contains(text, "WARN") || strings.Count(text, "\n") > 1 {
			t.Errorf("logged %s", text)
		}
	})
}

func TestRedisPositionsKnownSymbols(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		g := newPositionRig(t, r, func(o *RedisPositionsOptions) {
			o.Mode, o.Prefix, o.Symbols = PositionsHash, "second:", []position.Symbol{"BTCUSDT"}
		})
		g.want(g.poll())
		g.redis.HSet("second:state:positions:BTCUSDT", "side", "LONG", "entry_price", "1")
		g.redis.HSet("second:state:positions:ETHUSDT", "side", "LONG", "entry_price", "1")
		g.want(g.poll(), "BTCUSDT opened")
		if g.source.Name() != "redis_hash" {
			t.Errorf("name is %s", g.source.Name())
		}
	})
}

func TestRedisPositionsHeartbeat(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		g := newPositionRig(t, r, nil)
		for _, tc := range []struct {
			value   string
			alive   bool
			refused string
		}{
			{"1769999990", true, ""},
			{"1769999900", false, ""},
			{"", false, ""},
			{"1770000900", false, "state:positions_heartbeat heartbeat from_the_future"},
			{"now", false, "state:positions_heartbeat heartbeat unreadable_value"},
		} {
			g.now = recordNow
			g.redis.Set(positionsKey+"_heartbeat", tc.value)
			g.poll()
			if g.snaps[0].Alive != tc.alive {
				t.Errorf("heartbeat %q: alive is %v", tc.value, g.snaps[0].Alive)
			}
			if tc.refused == "" {
				g.wantRefused()
			} else {
				g.wantRefused(tc.refused)
			}
		}
		g.redis.Del(positionsKey + "_heartbeat")
		g.redis.SetAdd(positionsKey+"_heartbeat", "x")
		g.poll()
		g.wantRefused("state:positions_heartbeat type wrong_redis_type")
	})
}

func TestRedisPositionsNoneIsLoud(t *testing.T) {
	g := newPositionRig(t, embeddedRedis(t), nil)
	for range 59 {
		g.want(g.poll())
	}
	text := g.log.String()
	if strings.Count(text, "no open position found") != 1 {
		t.Errorf("said in a minute:\n%s", text)
	}
	for _, part := range []string{"redis_hash redis_stream", "quantum:state:positions:<SYMBOL>", "quantum:stream:execution", "--positions demo", "POSITION_SOURCE=synthetic"} {
		if !strings.Contains(text, part) {
			t.Errorf("the status lacks %q:\n%s", part, text)
		}
	}
	g.poll()
	g.poll()
	if got := strings.Count(g.log.String(), "no open position found"); got != 2 {
		t.Errorf("said %d times after a minute", got)
	}
}

func TestRedisPositionsRun(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	srv := miniredis.NewMiniRedis()
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	client := redis.NewClient(&redis.Options{Addr: srv.Addr(), DisableIdentity: true, Protocol: 2, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	source, err := NewRedisPositions(RedisPositionsOptions{Client: client, Poll: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	srv.HSet(positionsKey+":BTCUSDT", "side", "LONG", "entry_price", "100")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, done := make(chan Event), make(chan error, 1)
	go func() {
		done <- source.Run(ctx, func(ev Event) {
			select {
			case events <- ev:
			case <-ctx.Done():
			}
		})
	}()
	await := func(what string, is func(Event) bool) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		for {
			select {
			case ev := <-events:
				if is(ev) {
					return
				}
			case <-deadline:
				t.Fatalf("no %s", what)
			}
		}
	}
	full := func(ev Event) bool { s, ok := ev.(Snapshot); return ok && len(s.Records) == 1 }
	await("snapshot", full)
	srv.Close()
	await("outage", func(ev Event) bool { _, ok := ev.(Outage); return ok })
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	await("snapshot after the outage", full)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestNewRedisPositionsRefuses(t *testing.T) {
	if _, err := NewRedisPositions(RedisPositionsOptions{}); err == nil {
		t.Error("no client: no error")
	}
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	if _, err := NewRedisPositions(RedisPositionsOptions{Client: client, Mode: "synthetic"}); err == nil {
		t.Error("unknown mode: no error")
	}
}

func TestGlobEscape(t *testing.T) {
	if got := globEscape(`a*b?[c]\{d}`); got != `a\*b\?\[c\]\\{d}` {
		t.Errorf("got %s", got)
	}
}

func BenchmarkRedisPositionsDecode10000(b *testing.B) {
	raw := recordOf("current_price", "101.5", "age_sec", "3600", "quantity", "2", "unrealized_pnl", "3")
	b.ReportAllocs()
	for b.Loop() {
		for range 10_000 {
			if _, _, ok := decodeRecord("BTCUSDT", raw, recordNow); !ok {
				b.Fatal("refused")
			}
		}
	}
}
