package store_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
	"quantumharvest/internal/store/storetest"
)

// errCrash is what a writer never gets to hear of: it is gone.
var errCrash = errors.New("crashed")

// crash ends a writer before the first pipeline with a command of that name, as far as the server can tell.
type crash struct {
	before string
	over   bool
}

func (*crash) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *crash) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (c *crash) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.over = c.over || slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == c.before })
		if !c.over {
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(errCrash)
		}
		return errCrash
	}
}

// closeOf ends an episode as an engine does: the record is to be left before anything else of that symbol happens.
func closeOf(p store.Proposal) store.Batch {
	return store.Batch{
		Closes:   []store.Close{{Symbol: p.Symbol, Episode: p.Episode, Fence: p.Fence, Reason: "flat", At: p.LastUpdate, Last: p}},
		Unexpect: []position.Symbol{p.Symbol},
	}
}

// A closing record lies beside its hash until it is in the stream. Whoever reads the memory of a writer that died on the
// way repeats what is missing: at least once, and the revision of the key goes on.
func TestClosingRecordSurvivesItsWriter(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{})
	for i, x := range []struct {
		name, before string
		pending      bool
		records      int // in the end
	}{
		{"before it is known what was recorded last", "hget", true, 1},
		{"before the stream", "xadd", true, 1},
		{"before it is noted", "hset", true, 2},
		{"before it is cleared away", "del", true, 1},
		{"before it leaves the expected set", "evalsha", false, 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			prefix := []string{"a", "b", "c", "d", "e"}[i] + ":"
			keys := store.NewKeys(store.KeysOptions{Prefix: prefix})
			dialed := func(hooks ...redis.Hook) *store.Store {
				rdb := store.Dial(asCluster(c))
				for _, hook := range hooks {
					rdb.AddHook(hook)
				}
				s := store.New(rdb, keys)
				t.Cleanup(func() { _ = s.Close() })
				return s
			}
			p := storetest.Proposal("BTCUSDT", 1)
			crashing := &crash{before: "none"}
			dying := dialed(crashing)
			for range 3 {
				if err := publish(t, dying, p); err != nil {
					t.Fatal(err)
				}
			}
			if x.before == "evalsha" {
				// The close itself is one, too.
				b := closeOf(p)
				b.Unexpect = nil
				if r, err := dying.Write(t.Context(), b); err != nil || r.Closes[0].Outcome != store.Done {
					t.Fatalf("%+v, %v", r, err)
				}
				crashing.before = x.before
				_, _ = dying.Write(t.Context(), store.Batch{Unexpect: []position.Symbol{p.Symbol}})
			} else {
				crashing.before = x.before
				if r, err := dying.Write(t.Context(), closeOf(p)); err != nil || (r.Closes[0].Outcome == store.Done) != (x.before == "del") {
					t.Fatalf("%+v, %v", r, err)
				}
			}
			if !crashing.over {
				t.Fatalf("no %s was sent", x.before)
			}

			heir := dialed()
			m, err := heir.Remember(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Entries) != 0 && (len(m.Entries) != 1 || m.Entries[0].Found) {
				t.Fatalf("the hash is still there: %+v", m.Entries)
			}
			if want := 0; x.pending {
				want = 1
				if len(m.Pending) != want {
					t.Fatalf("pending: %+v", m.Pending)
				}
				got := m.Pending[0]
				if got.Symbol != p.Symbol || got.Episode != p.Episode || got.Reason != "flat" || !got.At.Equal(p.LastUpdate) {
					t.Fatalf("pending: %+v", got)
				}
				if d := cmp.Diff(store.Encode(p), store.Encode(got.Last)); d != "" {
					t.Errorf("its last content:\n%s", d)
				}
				got.Fence = p.Fence + 1 // of the lease under which it is repeated
				r, err := heir.Write(t.Context(), store.Batch{Closes: []store.Close{got}, Unexpect: []position.Symbol{p.Symbol}})
				if err != nil || r.Closes[0].Outcome != store.Done || r.Closes[0].Revision != 3 {
					t.Fatalf("%+v, %v", r, err)
				}
			} else if len(m.Pending) != want {
				t.Fatalf("pending: %+v", m.Pending)
			}

			if m, err = heir.Remember(t.Context(), []position.Symbol{p.Symbol}); err != nil || len(m.Pending) != 0 {
				t.Fatalf("still pending: %+v, %v", m.Pending, err)
			}
			if d := cmp.Diff(map[position.Symbol]store.Ended{p.Symbol: {Episode: p.Episode, Revision: 3}}, m.Closed); d != "" {
				t.Errorf("what is remembered of it:\n%s", d)
			}
			raw := store.Dial(asCluster(c))
			defer raw.Close()
			records, err := raw.XRange(t.Context(), prefix+"stream:harvest.proposal", "-", "+").Result()
			if err != nil || len(records) != x.records {
				t.Fatalf("%d records, %v", len(records), err)
			}
			for _, rec := range records {
				if rec.Values["event"] != "closed" || rec.Values["episode"] != p.Episode || rec.Values["last_action"] != string(p.Action) {
					t.Errorf("record %v", rec.Values)
				}
			}
		})
	}
}

// What cannot be reached now is written when it can be: the hash is gone, and the symbol stays expected until its record is
// safe.
func TestClosingRecordWaitsForItsStream(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
	// A prefix with which the stream lies on a node of its own, as far as this close is concerned.
	var prefix string
	var stream *realserver.RedisServer
	p := storetest.Proposal("BTCUSDT", 1)
	for _, prefix = range []string{"a:", "b:", "c:", "d:", "e:", "f:", "g:", "h:", "i:", "j:", "k:", "l:"} {
		stream = c.MasterOf(prefix + "stream:harvest.proposal")
		if !slices.ContainsFunc([]string{"harvest:proposal:BTCUSDT", "harvest:expected", "harvest:closed"}, func(key string) bool {
			return c.MasterOf(prefix+key) == stream
		}) {
			break
		}
	}
	s := store.New(store.Dial(asCluster(c)), store.NewKeys(store.KeysOptions{Prefix: prefix}))
	defer s.Close()
	if err := publish(t, s, p); err != nil {
		t.Fatal(err)
	}
	stream.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := s.Write(ctx, closeOf(p))
	if err != nil || r.Closes[0].Outcome != store.Failed {
		t.Fatalf("%+v, %v", r.Closes, err)
	}
	mustHint(t, r.Closes[0].Err, "record the close of "+string(p.Symbol)+": redis node "+stream.Addr())
	if col, err := s.Collect(t.Context(), nil); err != nil || !slices.Contains(col.Expected, p.Symbol) {
		t.Errorf("it is not expected any more: %v, %v", col.Expected, err)
	}
	stream.Continue()
	until(t, "the record", func() error {
		r, err := s.Write(t.Context(), closeOf(p))
		if err != nil {
			return err
		}
		if r.Closes[0].Outcome != store.Done || r.Closes[0].Revision != 1 {
			return r.Closes[0].Err
		}
		return nil
	})
	if col, err := s.Collect(t.Context(), nil); err != nil || slices.Contains(col.Expected, p.Symbol) {
		t.Errorf("it is still expected: %v", err)
	}
	raw := store.Dial(asCluster(c))
	defer raw.Close()
	records, err := raw.XRange(t.Context(), prefix+"stream:harvest.proposal", "-", "+").Result()
	// The one that was not waited for may have arrived all the same.
	if n := len(records); err != nil || n < 1 || n > 2 {
		t.Errorf("%d records, %v", n, err)
	}
}
