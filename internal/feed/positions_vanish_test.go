package feed

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"quantumharvest/internal/realserver"
)

func TestRedisPositionsVanish(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		kinds := map[string]func(g *positionRig){
			"hashes": func(g *positionRig) { g.set("BTCUSDT"); g.set("ETHUSDT") },
			"json": func(g *positionRig) {
				for _, sym := range []string{"BTCUSDT", "ETHUSDT"} {
					g.redis.HSet(positionsKey, sym, `{"side":"LONG","entry_price":100}`)
				}
			},
		}
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			fill := kinds[kind]
			t.Run(kind, func(t *testing.T) {
				r.FlushAll()
				g := newPositionRig(t, r, nil)
				fill(g)
				g.want(g.poll(), "BTCUSDT opened", "ETHUSDT opened")
				before, _ := g.book.Get("BTCUSDT")
				g.redis.FlushAll()
				for range 30 {
					g.want(g.poll())
				}
				if p, _ := g.book.Get("BTCUSDT"); !p.UpdatedAt.Equal(before.UpdatedAt) {
					t.Error("evidence moved")
				}
				fill(g)
				for range 5 {
					g.want(g.poll())
				}
				if p, _ := g.book.Get("BTCUSDT"); !p.UpdatedAt.Equal(g.now) || p.Episode != before.Episode {
					t.Errorf("after the return: %+v", p)
				}
			})
			t.Run(kind+" beside the other kind", func(t *testing.T) {
				r.FlushAll()
				g := newPositionRig(t, r, nil)
				fill(g)
				if kind == "json" {
					g.set("SOLUSDT")
				} else {
					g.redis.HSet(positionsKey, "SOLUSDT", `{"side":"LONG","entry_price":100}`)
				}
				g.poll()
				g.redis.Del(positionsKey)
				if kind == "hashes" {
					g.redis.HSet(positionsKey, "SOLUSDT", `{"side":"LONG","entry_price":100}`)
					g.redis.Del(positionsKey + ":BTCUSDT")
					g.redis.Del(positionsKey + ":ETHUSDT")
				}
				for range 30 {
					g.want(g.poll())
				}
				fill(g)
				for range 5 {
					g.want(g.poll())
				}
				// One by one they do close.
				g.redis.HDel(positionsKey, "ETHUSDT")
				g.redis.Del(positionsKey + ":ETHUSDT")
				g.want(g.poll())
				g.want(g.poll(), "ETHUSDT closed")
			})
			t.Run(kind+" with a heartbeat", func(t *testing.T) {
				r.FlushAll()
				g := newPositionRig(t, r, nil)
				beat := func() { g.redis.Set(positionsKey+"_heartbeat", fmt.Sprint(g.now.Unix())) }
				fill(g)
				beat()
				g.poll()
				g.redis.FlushAll()
				beat()
				g.want(g.poll())
				g.want(g.poll(), "BTCUSDT closed", "ETHUSDT closed")
			})
		}
	})
}

func TestRedisPositionsRestart(t *testing.T) {
	secretive := embeddedRedis(t)
	secretive.runID = ""
	for name, tc := range map[string]struct {
		server *testRedis
		tells  bool // its run id
	}{
		"embedded":                   {embeddedRedis(t), true},
		"embedded, INFO refused":     {secretive, false},
		"redis-server":               {realRedis(t), true},
		"redis-server, INFO refused": {realRedis(t, realserver.WithUser("desk", "secret", "~* +@all -info")), false},
	} {
		t.Run(name, func(t *testing.T) {
			tc.server.t = t
			g := newPositionRig(t, tc.server, nil)
			g.set("BTCUSDT")
			g.set("ETHUSDT")
			g.want(g.poll(), "BTCUSDT opened", "ETHUSDT opened")
			first := g.snaps[0].Instance
			g.want(g.poll())
			if g.snaps[0].Instance != first || first == "" {
				t.Errorf("instance %q, then %q", first, g.snaps[0].Instance)
			}

			g.redis.stop()
			for i := range 12 {
				g.want(g.poll())
				if len(g.snaps) != 0 || len(g.outages) != map[int]int{0: 1, 10: 1}[i] {
					t.Fatalf("away for %d s: %d snapshots, %d outages", i, len(g.snaps), len(g.outages))
				}
			}
			g.redis.start()
			g.set("BTCUSDT") // whoever writes them has only come to the first
			for range 10 {
				g.want(g.poll())
			}
			if g.snaps[0].Instance == first {
				t.Error("the same instance after a restart")
			}
			g.set("ETHUSDT")
			for range 6 {
				g.want(g.poll())
			}
			if !strings.Contains(g.log.String(), "can be read again") {
				t.Error("the return was not logged")
			}
			if got := strings.Count(g.log.String(), "does not tell its run id"); (got == 1) == tc.tells {
				t.Errorf("run id missed %d times in the log", got)
			}
		})
	}
}
