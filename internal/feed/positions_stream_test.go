package feed

import (
	"fmt"
	"testing"
	"time"

	"quantumharvest/internal/position"
)

func (g *positionRig) add(sec int, pairs ...string) string {
	g.t.Helper()
	return g.redis.XAdd("quantum:stream:execution", fmt.Sprintf("%d-*", recordNow.Add(time.Duration(sec)*time.Second).UnixMilli()), pairs)
}

func TestRedisPositionsStream(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		g := newPositionRig(t, r, func(o *RedisPositionsOptions) { o.Mode = PositionsStream })
		g.want(g.poll())
		if len(g.snaps) != 1 || g.snaps[0].Complete || !g.snaps[0].Standing || g.snaps[0].Source != "redis_stream" {
			t.Fatalf("got %+v", g.snaps)
		}
		btc := []string{"symbol", "BTCUSDT", "side", "LONG", "entry_price", "90"}
		g.add(-3000, "symbol", "ETHUSDT", "event", "closed")
		g.add(-2000, btc...)
		g.add(-1000, "symbol", "BTCUSDT", "side", "LONG", "entry_price", "100", "current_price", "104")
		g.add(-900, "side", "LONG", "entry_price", "100")
		g.want(g.poll(), "BTCUSDT opened")
		g.wantRefused(fmt.Sprintf("stream:execution %d-0 symbol missing_field", recordNow.Add(-900*time.Second).UnixMilli()))
		p, _ := g.book.Get("BTCUSDT")
		if p.Entry != 100 || !p.UpdatedAt.Equal(g.now) || !p.CurrentAt.Equal(recordNow.Add(-1000*time.Second)) || p.Episode != "BTCUSDT-L-1769999000" {
			t.Fatalf("got %+v", p)
		}
		// It stands until the next entry, and only what is new is read.
		for range 5 {
			g.want(g.poll())
			g.wantRefused()
			if g.trips != 1 {
				t.Fatalf("%d round trips", g.trips)
			}
		}
		if p, _ := g.book.Get("BTCUSDT"); !p.UpdatedAt.Equal(g.now) {
			t.Errorf("evidence is %v", p.UpdatedAt)
		}
		g.add(10, "symbol", "ETHUSDT", "side", "SHORT", "entry_price", "50")
		g.want(g.poll(), "ETHUSDT opened")

		// A bad entry: the position stays on the last good one, and its evidence stops.
		g.add(11, "symbol", "ETHUSDT", "side", "short", "entry_price", "50")
		g.want(g.poll())
		g.wantRefused(fmt.Sprintf("ETHUSDT stream:execution %d-0 side unknown_side", recordNow.Add(11*time.Second).UnixMilli()))
		if p, _ := g.book.Get("ETHUSDT"); p.Side != position.Short || !p.UpdatedAt.Before(g.now) {
			t.Errorf("got %+v", p)
		}
		g.add(12, "symbol", "ETHUSDT", "status", "closed")
		g.want(g.poll(), "ETHUSDT closed")

		// Gone: neither evidence nor absence. Begun anew: read from scratch.
		g.redis.Del("quantum:stream:execution")
		for range 5 {
			g.want(g.poll())
			if len(g.snaps[0].Records)+len(g.snaps[0].Refused) != 0 {
				t.Fatalf("a stream that is gone holds %+v", g.snaps[0])
			}
		}
		g.redis.XAdd("quantum:stream:execution", "5-1", btc)
		g.want(g.poll(), "BTCUSDT updated")
		g.redis.Del("quantum:stream:execution")
		g.redis.XAdd("quantum:stream:execution", "4-1", []string{"symbol", "BTCUSDT", "side", "LONG", "entry_price", "91"})
		g.want(g.poll(), "BTCUSDT updated")
		g.redis.XAdd("quantum:stream:execution", "4-2", []string{"symbol", "BTCUSDT", "quantity", "0"})
		g.want(g.poll(), "BTCUSDT closed")

		g.redis.Del("quantum:stream:execution")
		g.redis.Set("quantum:stream:execution", "x")
		g.want(g.poll())
		g.wantRefused("stream:execution type wrong_redis_type")
	})
}

func TestRedisPositionsStreamBacklog(t *testing.T) {
	g := newPositionRig(t, embeddedRedis(t), func(o *RedisPositionsOptions) { o.Mode = PositionsStream })
	add := func(i int) {
		g.redis.XAdd("quantum:stream:execution", fmt.Sprintf("%d-1", i+1), []string{
			"symbol", fmt.Sprintf("S%dUSDT", i%3), "side", "LONG", "entry_price", fmt.Sprint(i + 1),
		})
	}
	add(0)
	g.want(g.poll(), "S0USDT opened")
	for i := range 2*streamPage + 10 {
		add(i + 1)
	}
	g.poll()
	for i := range 3 {
		p, _ := g.book.Get(position.Symbol(fmt.Sprintf("S%dUSDT", i)))
		if p.Entry < 2*streamPage {
			t.Errorf("got %+v", p)
		}
	}
}

func TestRedisPositionsAuto(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		g := newPositionRig(t, r, nil)
		g.add(-100, "symbol", "BTCUSDT", "side", "LONG", "entry_price", "100")
		g.add(-100, "symbol", "SOLUSDT", "side", "LONG", "entry_price", "20")
		g.want(g.poll(), "BTCUSDT opened", "SOLUSDT opened")
		if p, _ := g.book.Get("BTCUSDT"); p.Source != "redis_stream" {
			t.Errorf("got %+v", p)
		}
		// The hashes have come up: from now on they alone count.
		g.redis.HSet(positionsKey, "BTCUSDT", `{"side":"LONG","entry_price":101}`)
		g.want(g.poll(), "BTCUSDT updated")
		if p, _ := g.book.Get("BTCUSDT"); p.Source != "redis_hash" || len(g.snaps) != 1 {
			t.Errorf("got %+v of %d snapshots", p, len(g.snaps))
		}
		g.redis.FlushAll()
		g.add(100, "symbol", "BTCUSDT", "side", "SHORT", "entry_price", "100")
		for range 5 {
			g.want(g.poll())
		}
		// What only the stream had has nobody left who speaks for it, until the hashes have been without it for a while.
		g.set("BTCUSDT", "entry_price", "101")
		var closed []string
		for range 40 {
			closed = append(closed, g.poll()...)
		}
		g.want(closed, "SOLUSDT closed")
	})
}
