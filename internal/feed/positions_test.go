package feed

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"quantumharvest/internal/position"
)

// positionRig is a source on an embedded Redis, polled by hand under a clock of its own.
type positionRig struct {
	t      *testing.T
	redis  *miniredis.Miniredis
	source *RedisPositions
	book   *position.Book
	now    time.Time
	log    bytes.Buffer

	mu    sync.Mutex
	runID string // blank: INFO is refused

	snaps    []Snapshot
	refusals []Refusal
	outages  []Outage
	trips    int
}

const positionsKey = "quantum:state:positions"

func newPositionRig(t *testing.T, change func(*RedisPositionsOptions)) *positionRig {
	t.Helper()
	g := &positionRig{t: t, redis: miniredis.RunT(t), book: position.NewBook(), now: recordNow, runID: "run-1"}
	g.tellRunID()
	client := redis.NewClient(&redis.Options{
		Addr: g.redis.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true, DisableIdentity: true, Protocol: 2,
		DialTimeout: time.Second, ReadTimeout: 5 * time.Second, DialerRetries: 1,
	})
	client.AddHook(positionTrips{g})
	t.Cleanup(func() { client.Close() })
	opts := RedisPositionsOptions{
		Client: client, Now: func() time.Time { return g.now }, Log: slog.New(slog.NewTextHandler(&g.log, nil)),
	}
	if change != nil {
		change(&opts)
	}
	var err error
	if g.source, err = NewRedisPositions(opts); err != nil {
		t.Fatal(err)
	}
	return g
}

// tellRunID answers INFO as a server of the given incarnation would.
func (g *positionRig) tellRunID() {
	g.redis.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if !strings.EqualFold(cmd, "INFO") {
			return false
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.runID == "" {
			c.WriteError("NOPERM this user has no permissions to run the 'info' command")
		} else {
			c.WriteBulk("# Server\r\nredis_version:7.0.15\r\nrun_id:" + g.runID + "\r\n")
		}
		return true
	})
}

// positionTrips counts round trips.
type positionTrips struct{ rig *positionRig }

func (h positionTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h positionTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "hello" { // the client's own
			h.rig.trips++
		}
		return next(ctx, cmd)
	}
}

func (h positionTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) > 0 && cmds[0].Name() == "info" {
			h.rig.trips++
		}
		return next(ctx, cmds)
	}
}

func (g *positionRig) restart(runID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.runID = runID
}

// set writes one symbol's hash.
func (g *positionRig) set(sym string, pairs ...string) {
	g.redis.HSet(positionsKey+":"+sym, append([]string{"symbol", sym, "side", "LONG", "entry_price", "100"}, pairs...)...)
}

// poll reads once, a second later, and returns what the book makes of it.
func (g *positionRig) poll() []string {
	g.t.Helper()
	g.now = g.now.Add(time.Second)
	g.redis.SetTime(g.now)
	g.snaps, g.refusals, g.outages, g.trips = nil, nil, nil, 0
	var changes []string
	_ = g.source.poll(g.t.Context(), func(ev Event) {
		switch ev := ev.(type) {
		case Snapshot:
			g.snaps = append(g.snaps, ev)
			for _, c := range g.book.Observe(ev.Snapshot, ev.At) {
				changes = append(changes, string(c.Symbol)+" "+string(c.Kind))
			}
		case Refusal:
			g.refusals = append(g.refusals, ev)
		case Outage:
			g.outages = append(g.outages, ev)
		}
	})
	return changes
}

func (g *positionRig) want(got []string, want ...string) {
	g.t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		g.t.Fatalf("changes (-want +got):\n%s", diff)
	}
}

func (g *positionRig) wantRefused(want ...string) {
	g.t.Helper()
	var got []string
	for _, r := range g.refusals {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Symbol, strings.TrimPrefix(r.Key, "quantum:"), r.Field, r.Reason)))
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		g.t.Fatalf("refusals (-want +got):\n%s", diff)
	}
}

func TestRedisPositionsHashes(t *testing.T) {
	g := newPositionRig(t, nil)
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
	if g.log.Len() != 0 {
		t.Errorf("logged %s", g.log.String())
	}
}

func TestRedisPositionsKnownSymbols(t *testing.T) {
	g := newPositionRig(t, func(o *RedisPositionsOptions) {
		o.Mode, o.Prefix, o.Symbols = PositionsHash, "second:", []position.Symbol{"BTCUSDT"}
	})
	g.want(g.poll())
	g.redis.HSet("second:state:positions:BTCUSDT", "side", "LONG", "entry_price", "1")
	g.redis.HSet("second:state:positions:ETHUSDT", "side", "LONG", "entry_price", "1")
	g.want(g.poll(), "BTCUSDT opened")
	if g.source.Name() != "redis_hash" {
		t.Errorf("name is %s", g.source.Name())
	}
}

func TestRedisPositionsVanish(t *testing.T) {
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
			g := newPositionRig(t, nil)
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
			g := newPositionRig(t, nil)
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
			g := newPositionRig(t, nil)
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
}

func TestRedisPositionsHeartbeat(t *testing.T) {
	g := newPositionRig(t, nil)
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
}

func TestRedisPositionsRestart(t *testing.T) {
	for _, tells := range []bool{true, false} {
		t.Run(fmt.Sprint("tells its run id: ", tells), func(t *testing.T) {
			g := newPositionRig(t, nil)
			if !tells {
				g.restart("")
			}
			g.set("BTCUSDT")
			g.set("ETHUSDT")
			g.want(g.poll(), "BTCUSDT opened", "ETHUSDT opened")
			first := g.snaps[0].Instance
			g.want(g.poll())
			if g.snaps[0].Instance != first || first == "" {
				t.Errorf("instance %q, then %q", first, g.snaps[0].Instance)
			}

			g.redis.Close()
			for i := range 12 {
				g.want(g.poll())
				if len(g.snaps) != 0 || len(g.outages) != map[int]int{0: 1, 10: 1}[i] {
					t.Fatalf("away for %d s: %d snapshots, %d outages", i, len(g.snaps), len(g.outages))
				}
			}
			if err := g.redis.Restart(); err != nil {
				t.Fatal(err)
			}
			g.tellRunID()
			g.redis.FlushAll()
			if tells {
				g.restart("run-2")
			}
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
			if got := strings.Count(g.log.String(), "does not tell its run id"); (got == 1) == tells {
				t.Errorf("run id missed %d times in the log", got)
			}
		})
	}
}

func TestRedisPositionsRefusals(t *testing.T) {
	g := newPositionRig(t, nil)
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
	// Each was said once; what stands is said again every minute.
	g.wantRefused()
	g.now = g.now.Add(time.Minute)
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
}

func TestRedisPositionsWrongJSONKey(t *testing.T) {
	g := newPositionRig(t, nil)
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
}

func (g *positionRig) add(sec int, pairs ...string) string {
	g.t.Helper()
	id, err := g.redis.XAdd("quantum:stream:execution", fmt.Sprintf("%d-*", recordNow.Add(time.Duration(sec)*time.Second).UnixMilli()), pairs)
	if err != nil {
		g.t.Fatal(err)
	}
	return id
}

func TestRedisPositionsStream(t *testing.T) {
	g := newPositionRig(t, func(o *RedisPositionsOptions) { o.Mode = PositionsStream })
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
}

func TestRedisPositionsStreamBacklog(t *testing.T) {
	g := newPositionRig(t, func(o *RedisPositionsOptions) { o.Mode = PositionsStream })
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
	g := newPositionRig(t, nil)
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
}

func TestRedisPositionsNoneIsLoud(t *testing.T) {
	g := newPositionRig(t, nil)
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

func TestRedisPositionsServerRefuses(t *testing.T) {
	g := newPositionRig(t, nil)
	g.set("BTCUSDT")
	g.redis.SetError("LOADING Redis is loading the dataset in memory")
	g.want(g.poll())
	if len(g.outages) != 1 || len(g.snaps) != 0 {
		t.Fatalf("%d outages, %d snapshots", len(g.outages), len(g.snaps))
	}
	g.redis.SetError("")
	g.want(g.poll(), "BTCUSDT opened")
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
