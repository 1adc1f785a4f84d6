// Package storetest is the contract that every Redis under the store must keep: one suite, run against a real
// redis-server and against the embedded one.
package storetest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// Server is one Redis under test: a server or a Cluster.
type Server struct {
	Client  store.ClientOptions // where it is; the times to wait are the suite's own
	Prefix  string              // of all keys; blank: the default
	Restart func()              // ends it and starts it again, empty, at the same address
}

// spread tells that the keys lie in several slots of a Cluster, where a script reaches one of them alone.
func (s Server) spread() bool { return len(s.Client.Cluster) > 0 && !strings.Contains(s.Prefix, "{") }

// Run checks the whole contract. newServer gives an empty server that lives as long as the test.
//
// Two cases are about several keys in one step and so have another content where the keys lie in several slots of a
// Cluster: there no write but the lease key's own sees the lease, so that the fence inside the hash is all that guards it.
func Run(t *testing.T, newServer func(t *testing.T) Server) {
	for _, c := range []struct {
		name string
		test func(*harness)
	}{
		{"publish", publish},
		{"beat", beat},
		{"close", closing},
		{"fence", fences},
		{"lease", leases},
		{"lease guards every write", leaseGuards},
		{"lease and clocks", leaseClocks},
		{"memory", memory},
		{"repair", repair},
		{"restart", restarts},
		{"streams", streams},
		{"produced", produced},
		{"expected", expected},
		{"read", reading},
		{"round trips", roundTrips},
		{"concurrency", concurrency},
		{"faults stay", faultsStay},
		{"other releases", otherReleases},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, newServer(t))
			h.flush()
			h.onAll("SCRIPT", "FLUSH")
			c.test(h)
		})
	}
}

// harness is one Store and one plain client on the same server.
type harness struct {
	*testing.T
	ctx    context.Context
	server Server
	store  *store.Store
	keys   store.Keys
	raw    redis.UniversalClient
	trips  *tripCounter

	// The names of the wire contract beside the keys of one symbol, spelled out as other programs know them.
	expectedKey, leaseKey, closedKey         string
	proposalStream, marketStream, riskStream string
	producer                                 string // of what is produced by test-a
}

func newHarness(t *testing.T, s Server) *harness {
	t.Helper()
	h := &harness{T: t, server: s, keys: store.NewKeys(store.KeysOptions{Prefix: s.Prefix}), producer: "quantum-harvest"}
	if s.Prefix != "" {
		h.producer += "@" + s.Prefix
	}
	prefix := cmp.Or(s.Prefix, "quantum:")
	h.expectedKey, h.leaseKey, h.closedKey = prefix+"harvest:expected", prefix+"harvest:lease", prefix+"harvest:closed"
	h.proposalStream, h.marketStream, h.riskStream = prefix+"stream:harvest.proposal", prefix+"stream:marketstate", prefix+"stream:risk.proposal"
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	h.ctx = ctx
	h.raw = s.client(t)
	h.store, h.trips = h.open()
	return h
}

// open makes another Store on the same server, as another process would.
func (h *harness) open(options ...store.Option) (*store.Store, *tripCounter) {
	h.Helper()
	rdb := h.server.client(h.T)
	trips := new(tripCounter)
	rdb.AddHook(trips)
	return store.New(rdb, h.keys, options...), trips
}

func (s Server) client(t *testing.T) redis.UniversalClient {
	o := s.Client
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = time.Minute, time.Minute, time.Minute
	rdb := store.Dial(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// tripCounter counts round trips from outside the store.
type tripCounter struct{ n atomic.Int64 }

func (c *tripCounter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *tripCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *tripCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmds)
	}
}

// noon is when everything in the suite happens.
var noon = time.Date(2026, 1, 23, 12, 0, 0, 0, time.UTC)

// Proposal is a whole proposal for sym, different for every n.
func Proposal(sym position.Symbol, n int) store.Proposal {
	f := float64(n)
	return store.Proposal{
		Symbol: sym, Action: kernel.ActionPartial50, NewStop: 100.2 + f, RNet: 4.5 + f/7, RiskUnit: 0.699, CostEst: 0.1,
		KillScore: 0.527, Reasons: []string{"harvest_partial_50", "profit_lock"},
		K:     kernel.KillComponents{RegimeFlip: 0, SigmaSpike: 0.01, TSDrop: 0.208, AgePenalty: 1e-7},
		Sigma: 0.00466, TS: 0.091, PTrend: 0.3, PMR: 0.3, PChop: 0.4,
		ComputedAt: noon.Add(123456 * time.Microsecond), Side: position.Long, AgeSec: 3600 + f, Current: 105, Entry: 100,
		UnrealizedPnL: 5, SchemaVersion: store.SchemaVersion, Episode: "episode-1", OpenedAt: noon.Add(-time.Hour), Stop: 99,
		ContentMarketAt: noon.Add(-time.Second), ContentPositionAt: noon.Add(-2 * time.Second), InputState: store.InputFresh,
		MarketSource: "redis", PositionSource: "redis_hash", Publisher: "test-a", PublisherVersion: "v1.2.3", Fence: 10,
		LastUpdate: noon, MarketAt: noon, PositionAt: noon, ValidUntil: noon.Add(5 * time.Second), Peak: 106, Trough: 98,
	}
}

// Beat is the heartbeat that belongs to p once it was published under revision.
func Beat(p store.Proposal, revision int64, at time.Time) store.Beat {
	return store.Beat{
		Symbol: p.Symbol, Revision: revision, Fence: p.Fence, LastUpdate: at, MarketAt: at, PositionAt: at,
		InputState: p.InputState, ValidUntil: at.Add(5 * time.Second), Peak: 107, Trough: 97,
	}
}

func (h *harness) write(b store.Batch) store.Results {
	h.Helper()
	return h.writeTo(h.store, b)
}

func (h *harness) writeTo(s *store.Store, b store.Batch) store.Results {
	h.Helper()
	r, err := s.Write(h.ctx, b)
	if err != nil {
		h.Fatalf("Write: %v", err)
	}
	return r
}

// published writes p in full and gives the revision.
func (h *harness) published(p store.Proposal) int64 {
	h.Helper()
	r := h.write(store.Batch{Publishes: []store.Proposal{p}}).Publishes[0]
	h.outcome(r, store.Done)
	return r.Revision
}

func (h *harness) outcome(r store.Result, want store.Outcome) {
	h.Helper()
	if r.Outcome != want {
		h.Fatalf("%s: outcome %q (%v), want %q", r.Symbol, r.Outcome, r.Err, want)
	}
}

// hash is what the server holds, read past the store.
func (h *harness) hash(key string) map[string]string {
	h.Helper()
	m, err := h.raw.HGetAll(h.ctx, key).Result()
	if err != nil {
		h.Fatalf("HGETALL %s: %v", key, err)
	}
	return m
}

func (h *harness) stream(key string) []redis.XMessage {
	h.Helper()
	m, err := h.raw.XRange(h.ctx, key, "-", "+").Result()
	if err != nil {
		h.Fatalf("XRANGE %s: %v", key, err)
	}
	return m
}

// expect checks what the expected set holds, read through the store.
func (h *harness) expect(want []position.Symbol, invalid int) {
	h.Helper()
	c, err := h.store.Collect(h.ctx, nil)
	if err != nil || c.ExpectedErr != nil || c.Invalid != invalid || !slices.Equal(c.Expected, want) {
		h.Fatalf("expected: %d symbols and %d invalid ones, want %d and %d; %v, %v",
			len(c.Expected), c.Invalid, len(want), invalid, err, c.ExpectedErr)
	}
}

// onAll runs a command without a key on every server there is.
func (h *harness) onAll(args ...any) []string {
	h.Helper()
	var mu sync.Mutex
	var answers []string
	run := func(ctx context.Context, node *redis.Client) error {
		answer, err := node.Do(ctx, args...).Result()
		mu.Lock()
		defer mu.Unlock()
		answers = append(answers, fmt.Sprint(answer))
		return err
	}
	var err error
	switch rdb := h.raw.(type) {
	case *redis.ClusterClient:
		err = rdb.ForEachMaster(h.ctx, run)
	case *redis.Client:
		err = run(h.ctx, rdb)
	}
	if err != nil {
		h.Fatalf("%v: %v", args, err)
	}
	return answers
}

// runID identifies the running server, or all of them.
func (h *harness) runID() string {
	h.Helper()
	var ids []string
	for _, info := range h.onAll("INFO", "server") {
		_, after, found := strings.Cut(info, "run_id:")
		id, _, _ := strings.Cut(after, "\r\n")
		if !found || len(id) != 40 {
			h.Fatalf("INFO says no run id:\n%s", info)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// flush takes everything away that the server holds.
func (h *harness) flush() {
	h.Helper()
	h.onAll("FLUSHALL")
}

func (h *harness) do(args ...any) {
	h.Helper()
	if err := h.raw.Do(h.ctx, args...).Err(); err != nil {
		h.Fatalf("%v: %v", args, err)
	}
}

func (h *harness) equal(what string, got, want any) {
	h.Helper()
	if d := gocmp.Diff(want, got); d != "" {
		h.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

// wire is p as the hash it makes.
func wire(p store.Proposal) map[string]string {
	m := map[string]string{}
	pairs := store.Encode(p)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func symbols(n int) []position.Symbol {
	out := make([]position.Symbol, n)
	for i := range out {
		out[i] = position.Symbol(fmt.Sprintf("SYM%04dUSDT", i))
	}
	return out
}
