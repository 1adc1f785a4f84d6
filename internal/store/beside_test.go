package store_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
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

// crash ends a writer before the first pipeline with a command of that name, or with a script on a key whose name ends so,
// as far as the server can tell.
type crash struct {
	before string
	over   bool
}

// about tells whether a pipeline has a command of that name, or a script on a key whose name ends so.
func about(cmds []redis.Cmder, what string) bool {
	return slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool {
		if cmd.Name() != "evalsha" {
			return cmd.Name() == what
		}
		key, _ := cmd.Args()[3].(*string)
		return key != nil && strings.HasSuffix(*key, what)
	})
}

func (*crash) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *crash) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (c *crash) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.over = c.over || about(cmds, c.before)
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
		{"before it is noted", ":closed", true, 2},
		{"before it is cleared away", ":closing", true, 1},
		{"before it leaves the expected set", ":expected", false, 1},
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
			crashing.before = x.before
			recorded := x.before == ":closing" || x.before == ":expected"
			if r, err := dying.Write(t.Context(), closeOf(p)); err != nil || (r.Closes[0].Outcome == store.Done) != recorded {
				t.Fatalf("%+v, %v", r, err)
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

// hold does something before the first pipeline about a command or a key, as if the writer had been stopped there.
type hold struct {
	crash
	meanwhile func()
}

func (h *hold) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !h.over && about(cmds, h.before) {
			h.over = true
			h.meanwhile()
		}
		return next(ctx, cmds)
	}
}

// heldWriters are two writers of one symbol on a Cluster without a tag: the one that was stopped, and its heir.
type heldWriters struct {
	t         *testing.T
	keys      store.Keys
	old, heir *store.Store
	raw       redis.UniversalClient
	hold      *hold
}

func newHeldWriters(t *testing.T) *heldWriters {
	c := realserver.Cluster(t, realserver.ClusterOptions{})
	w := &heldWriters{t: t, keys: store.NewKeys(store.KeysOptions{}), raw: store.Dial(asCluster(c)), hold: &hold{crash: crash{before: "none"}}}
	stopped := store.Dial(asCluster(c))
	stopped.AddHook(w.hold)
	w.old, w.heir = store.New(stopped, w.keys), store.New(store.Dial(asCluster(c)), w.keys)
	t.Cleanup(func() { _, _, _ = w.old.Close(), w.heir.Close(), w.raw.Close() })
	return w
}

func (w *heldWriters) publish(s *store.Store, p store.Proposal) store.Result {
	w.t.Helper()
	r, err := s.Write(w.t.Context(), store.Batch{Publishes: []store.Proposal{p}})
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Publishes[0]
}

func (w *heldWriters) close(s *store.Store, p store.Proposal) store.Result {
	w.t.Helper()
	r, err := s.Write(w.t.Context(), closeOf(p))
	if err != nil || r.StreamErr != nil || r.ExpectErr != nil {
		w.t.Fatal(err, r.StreamErr, r.ExpectErr)
	}
	return r.Closes[0]
}

// Where the hash is gone, what its close left keeps a writer off that comes too late, and the revision goes on from there.
func TestClosedKeyIsGuarded(t *testing.T) {
	t.Parallel()
	w := newHeldWriters(t)
	old := storetest.Proposal("BTCUSDT", 1)
	old.Fence, old.Episode = 100, "a"
	w.publish(w.old, old)
	now := old
	now.Fence, now.Publisher, now.Episode = 200, "heir", "b"
	for want := range int64(3) {
		if r := w.publish(w.heir, now); r.Revision != want+2 {
			t.Fatalf("%+v", r)
		}
	}
	if r := w.close(w.heir, now); r.Outcome != store.Done || r.Revision != 4 {
		t.Fatalf("%+v", r)
	}
	beside := "{" + w.keys.Proposal(old.Symbol) + "}:closing"
	if life := w.raw.PTTL(t.Context(), beside).Val(); life < 5*time.Minute || life > 10*time.Minute {
		t.Errorf("what guards the key stays for %v", life)
	}

	old.Revision = 1
	refused := store.FencedBy{Publisher: "heir", Fence: 200}
	if r := w.publish(w.old, old); r.Outcome != store.Fenced || r.FencedBy != refused {
		t.Errorf("publish: %+v", r)
	}
	if r, err := w.old.Write(t.Context(), closeOf(old)); err != nil || r.Closes[0].Outcome != store.Fenced || r.Closes[0].FencedBy != refused {
		t.Errorf("close: %+v, %v", r, err)
	}
	if n := w.raw.Exists(t.Context(), w.keys.Proposal(old.Symbol)).Val(); n != 0 {
		t.Error("what was closed is there again")
	}
	if m, err := w.heir.Remember(t.Context(), []position.Symbol{old.Symbol}); err != nil || len(m.Pending) != 0 || m.Closed[old.Symbol] != (store.Ended{Episode: "b", Revision: 4}) {
		t.Errorf("%+v, %v", m, err)
	}

	// The same writer and later ones go on, whatever they believe; what guards the key may also be of another type.
	if r := w.publish(w.heir, now); r.Outcome != store.Done || r.Revision != 5 {
		t.Errorf("%+v", r)
	}
	w.close(w.heir, now)
	w.raw.Del(t.Context(), beside)
	w.raw.Set(t.Context(), beside, "x", 0)
	now.Revision = 5
	if r := w.publish(w.heir, now); r.Outcome != store.Done || r.Revision != 6 {
		t.Errorf("%+v", r)
	}
}

// A writer that is stopped on the way of its closing record sets nothing back: neither the memory of what has ended, nor the
// record of a later close, nor what guards the key.
func TestCloseThatComesLate(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"xadd", ":closed", ":closing"} {
		t.Run(strings.TrimPrefix(before, ":"), func(t *testing.T) {
			t.Parallel()
			w := newHeldWriters(t)
			old := storetest.Proposal("BTCUSDT", 1)
			old.Fence, old.Episode = 100, "a"
			w.publish(w.old, old)
			w.hold.before = before
			w.hold.meanwhile = func() {
				m, err := w.heir.Remember(t.Context(), []position.Symbol{old.Symbol})
				if err != nil || len(m.Pending) != 1 {
					t.Fatalf("%+v, %v", m.Pending, err)
				}
				again := m.Pending[0]
				again.Fence = 200
				if r, err := w.heir.Write(t.Context(), store.Batch{Closes: []store.Close{again}}); err != nil || r.Closes[0].Outcome != store.Done {
					t.Fatalf("%+v, %v", r, err)
				}
				now := old
				now.Fence, now.Episode = 200, "b"
				w.publish(w.heir, now)
				w.publish(w.heir, now)
				w.close(w.heir, now)
			}
			w.close(w.old, old)
			if !w.hold.over {
				t.Fatal("it was not stopped")
			}
			m, err := w.heir.Remember(t.Context(), []position.Symbol{old.Symbol})
			if err != nil || m.Closed[old.Symbol] != (store.Ended{Episode: "b", Revision: 3}) || len(m.Pending) != 0 {
				t.Errorf("%+v, %+v, %v", m.Closed, m.Pending, err)
			}
			kept := w.raw.HGetAll(t.Context(), "{"+w.keys.Proposal(old.Symbol)+"}:closing").Val()
			if kept["key_fence"] != "200" || kept["key_revision"] != "3" {
				t.Errorf("the key is guarded by %v", kept)
			}
		})
	}
}

// No script can look at the lease here: what its writer knows of it must do.
func TestWriterKeepsToItsLease(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{})
	keys := store.NewKeys(store.KeysOptions{})
	offset := time.Duration(0)
	client, stopped := store.Dial(asCluster(c)), &hold{crash: crash{before: "none"}}
	client.AddHook(stopped)
	s := store.New(client, keys, store.WithClock(func() time.Time { return time.Now().Add(offset) }))
	defer s.Close()
	p := storetest.Proposal("BTCUSDT", 1)
	under := func(left time.Duration) store.Batch {
		return store.Batch{
			Lease:     store.Lease{Holder: "a#1", Fences: []int64{p.Fence}, Until: time.Now().Add(offset + left)},
			Publishes: []store.Proposal{p}, Expect: []position.Symbol{p.Symbol}, Beats: []store.Beat{storetest.Beat(p, 1, p.LastUpdate)},
		}
	}
	for _, offset = range []time.Duration{0, time.Hour, -time.Hour} {
		if r, err := s.Write(t.Context(), under(time.Minute)); err != nil || r.Publishes[0].Outcome != store.Done || r.ExpectErr != nil {
			t.Fatalf("under the lease: %+v, %v", r, err)
		}
	}
	r, err := s.Write(t.Context(), under(-time.Millisecond))
	if err != nil || r.Publishes[0].Outcome != store.Unleased || r.Beats[0].Outcome != store.Unleased {
		t.Errorf("after it: %+v, %v", r, err)
	}
	mustHint(t, r.ExpectErr, "was not told: the lease ran out before")

	// Stopped behind the last look at the clock: what was not handed to the network by then is not sent.
	stopped.before, stopped.meanwhile = string(p.Symbol), func() { time.Sleep(300 * time.Millisecond) }
	if _, err := s.Write(t.Context(), under(200*time.Millisecond)); err == nil || !stopped.over {
		t.Errorf("stopped on the way: %v", err)
	}

	// The wall clock alone shows that the machine slept.
	slept := under(time.Minute)
	slept.Lease.Until = slept.Lease.Until.Round(0).Add(-time.Hour)
	if r, err := s.Write(t.Context(), slept); err != nil || r.Publishes[0].Outcome != store.Unleased {
		t.Errorf("after a sleep: %+v, %v", r, err)
	}
	if e, err := s.Read(t.Context(), []position.Symbol{p.Symbol}); err != nil || e[0].Proposal.Revision != 3 {
		t.Errorf("%+v, %v", e, err)
	}

	// What is on its way is not waited for any longer.
	c.MasterOf(keys.Proposal(p.Symbol)).Pause()
	begin := time.Now()
	r, err = s.Write(t.Context(), under(300*time.Millisecond))
	if err == nil && r.Publishes[0].Outcome != store.Failed || time.Since(begin) > 1500*time.Millisecond {
		t.Errorf("%+v, %v after %v", r, err, time.Since(begin))
	}
	c.MasterOf(keys.Proposal(p.Symbol)).Continue()
}
