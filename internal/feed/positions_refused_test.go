package feed

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/position"
)

func TestRedisPositionsRefusals(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		g := newPositionRig(t, r, nil)
		syms := []string{"AUSDT", "BUSDT", "CUSDT", "DUSDT"}
		for _, sym := range syms {
			g.set(sym)
		}
		g.redis.HSet(positionsKey, "JUSDT", `{"side":"LONG","entry_price":20}`)
		g.want(g.poll(), "AUSDT opened", "BUSDT opened", "CUSDT opened", "DUSDT opened", "JUSDT opened")

		g.redis.HSet(positionsKey+":AUSDT", "entry_price", "0")
		g.redis.Del(positionsKey + ":BUSDT")
		g.redis.Set(positionsKey+":BUSDT", "gone")
		g.redis.Del(positionsKey + ":CUSDT")
		g.redis.HSet(positionsKey+":CUSDT", "unknown", "field")
		g.redis.HSet(positionsKey+":DUSDT", "symbol", strings.Repeat("D", recordBytes+1))
		g.redis.HSet(positionsKey, "JUSDT", `{"side":"LONG","entry_price":`, "j", "{}", " KUSDT", "{}")
		g.redis.HSet(positionsKey+":bad", "side", "LONG")
		g.redis.HSet(positionsKey+":", "side", "LONG")
		for range 6 {
			g.want(g.poll())
			for _, sym := range append(syms, "JUSDT") {
				if p, _ := g.book.Get(position.Symbol(sym)); p.Entry == 0 || p.UpdatedAt.Equal(g.now) {
					t.Fatalf("%s: %+v", sym, p)
				}
			}
			if diff := cmp.Diff([]position.Symbol{"AUSDT", "BUSDT", "CUSDT", "DUSDT", "JUSDT"}, g.snaps[0].Refused); diff != "" {
				t.Fatal(diff)
			}
		}
		// Each was said once; what stands is said again after a while.
		g.wantRefused()
		g.now = g.now.Add(defectRepeat)
		g.poll()
		slices.SortFunc(g.refusals, func(a, b Refusal) int { return strings.Compare(a.Key+a.Field, b.Key+b.Field) })
		g.wantRefused(
			"state:positions  KUSDT key bad_symbol", "JUSDT state:positions JUSDT  unreadable_value", "state:positions j key bad_symbol",
			"AUSDT state:positions:AUSDT entry_price out_of_domain",
			"BUSDT state:positions:BUSDT type wrong_redis_type", "CUSDT state:positions:CUSDT entry_price missing_field",
			"CUSDT state:positions:CUSDT side missing_field", "DUSDT state:positions:DUSDT  too_large", "state:positions:bad key bad_symbol", "state:positions: key bad_symbol",
		)

		// Repaired, they are said no more.
		g.redis.FlushAll()
		for _, sym := range syms {
			g.set(sym)
		}
		g.redis.HSet(positionsKey, "JUSDT", `{"side":"LONG","entry_price":20}`)
		g.now = g.now.Add(time.Hour)
		g.want(g.poll())
		g.wantRefused()

		// A stamp from the future is reported; the record counts.
		g.set("AUSDT", "entry_price", "101", "updated_at_epoch", fmt.Sprint(g.now.Add(time.Hour).Unix()))
		g.want(g.poll(), "AUSDT updated")
		g.wantRefused("AUSDT state:positions:AUSDT updated_at_epoch from_the_future")
		if p, _ := g.book.Get("AUSDT"); !p.UpdatedAt.Equal(g.now) {
			t.Errorf("evidence is %v", p.UpdatedAt)
		}
	})
}

func TestRedisPositionsWrongJSONKey(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		g := newPositionRig(t, r, nil)
		g.set("BTCUSDT")
		g.set("ETHUSDT")
		g.redis.HSet(positionsKey, "SOLUSDT", `{"side":"LONG","entry_price":20}`)
		g.poll()
		g.redis.Del(positionsKey)
		g.redis.Set(positionsKey, "[]")
		g.want(g.poll())
		g.wantRefused("state:positions type wrong_redis_type")
		g.redis.Del(positionsKey + ":ETHUSDT")
		for range 10 {
			g.want(g.poll())
			if g.snaps[0].Complete || len(g.snaps[0].Records) != 1 {
				t.Fatalf("got %+v", g.snaps[0])
			}
		}
		g.redis.Del(positionsKey)
		g.want(g.poll())
		g.want(g.poll(), "ETHUSDT closed", "SOLUSDT closed")
	})
}

func TestRedisPositionsServerRefuses(t *testing.T) {
	g := newPositionRig(t, embeddedRedis(t), nil)
	g.set("BTCUSDT")
	g.redis.mini.SetError("LOADING Redis is loading the dataset in memory")
	g.want(g.poll())
	if len(g.outages) != 1 || len(g.snaps) != 0 {
		t.Fatalf("%d outages, %d snapshots", len(g.outages), len(g.snaps))
	}
	g.redis.mini.SetError("")
	g.want(g.poll(), "BTCUSDT opened")
}
