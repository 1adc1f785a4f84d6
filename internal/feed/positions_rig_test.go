package feed

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

// positionRig is a source on a server, polled by hand under a clock of its own.
type positionRig struct {
	t      *testing.T
	redis  *testRedis
	source *RedisPositions
	book   *position.Book
	now    time.Time
	log    bytes.Buffer

	snaps    []Snapshot
	refusals []Refusal
	outages  []Outage
	trips    int
}

const positionsKey = "quantum:state:positions"

func newPositionRig(t *testing.T, r *testRedis, change func(*RedisPositionsOptions)) *positionRig {
	t.Helper()
	g := newPositionRigOn(t, r.client(), change)
	g.redis = r
	return g
}

// newPositionRigOn is a rig on any kind of server; whoever asks for it fills that one.
func newPositionRigOn(t *testing.T, client redis.UniversalClient, change func(*RedisPositionsOptions)) *positionRig {
	t.Helper()
	g := &positionRig{t: t, book: position.NewBook(), now: recordNow}
	client.AddHook(positionTrips{g})
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

// set writes one symbol's hash.
func (g *positionRig) set(sym string, pairs ...string) {
	g.redis.HSet(positionsKey+":"+sym, append([]string{"symbol", sym, "side", "LONG", "entry_price", "100"}, pairs...)...)
}

// poll reads once, a second later, and returns what the book makes of it.
func (g *positionRig) poll() []string {
	g.t.Helper()
	g.now = g.now.Add(time.Second)
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
