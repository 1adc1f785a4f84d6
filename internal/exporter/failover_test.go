package exporter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
	"quantumharvest/internal/store/storetest"
)

func openSeveral(t *testing.T, o store.ClientOptions) *store.Store {
	t.Helper()
	o.ReadTimeout, o.WriteTimeout = 4*time.Second, 4*time.Second
	s := store.New(store.Dial(o), store.NewKeys(store.KeysOptions{}))
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// put publishes proposals, and tells whether all of them are there.
func put(ctx context.Context, s *store.Store, syms ...position.Symbol) error {
	b := store.Batch{Expect: syms}
	for i, sym := range syms {
		b.Publishes = append(b.Publishes, storetest.Proposal(sym, i))
	}
	r, err := s.Write(ctx, b)
	if err != nil {
		return err
	}
	for _, res := range r.Publishes {
		if res.Outcome != store.Done {
			return res.Err
		}
	}
	return r.ExpectErr
}

// shows polls the metrics until they say what is wanted.
func shows(t *testing.T, url, what string, want, not []string) {
	t.Helper()
	begin := time.Now()
	for {
		_, text, _ := get(t, url+"/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "2")
		var missing []string
		for _, w := range want {
			if !strings.Contains(text, w) {
				missing = append(missing, "no "+w)
			}
		}
		for _, n := range not {
			if strings.Contains(text, n) {
				missing = append(missing, n)
			}
		}
		if len(missing) == 0 {
			t.Logf("%s after %s", what, time.Since(begin).Round(time.Millisecond))
			return
		}
		if time.Since(begin) > 40*time.Second {
			t.Fatalf("%s: %s", what, strings.Join(missing, ", "))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A node of a Cluster that is away costs its own symbols and says so; without the one that knows what is expected there is no
// view of the store.
func TestClusterNodeAway(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
	keys := store.NewKeys(store.KeysOptions{})
	expecting := c.MasterOf("quantum:harvest:expected")
	var aside *realserver.RedisServer
	for _, r := range c.Servers() {
		if r != expecting && r != c.MasterOf(keys.Lease()) {
			aside = r
		}
	}
	var syms, away []position.Symbol
	for i := 0; len(syms) < 9; i++ {
		sym := position.Symbol(fmt.Sprintf("S%dUSDT", i))
		if syms = append(syms, sym); c.MasterOf(keys.Proposal(sym)) == aside {
			away = append(away, sym)
		}
	}
	if len(away) == 0 || len(away) == len(syms) {
		t.Fatalf("%d of %d symbols lie on one node: choose others", len(away), len(syms))
	}
	writer := openSeveral(t, store.ClientOptions{Cluster: c.Addrs()})
	if err := put(t.Context(), writer, syms...); err != nil {
		t.Fatal(err)
	}
	url := serve(t, newExporter(t, Options{Reader: openSeveral(t, store.ClientOptions{Cluster: c.Addrs()})}))
	beat := func(sym position.Symbol) string {
		return fmt.Sprintf("quantum_harvest_last_update_epoch{symbol=%q} 1769169600\n", sym)
	}
	all := []string{"quantum_harvest_up 1\n", "quantum_harvest_symbols{state=\"found\"} 9\n", "quantum_harvest_redis_clock_offset_seconds"}
	for _, sym := range syms {
		all = append(all, beat(sym))
	}
	shows(t, url, "everything", all, nil)

	aside.Pause()
	want := []string{
		"quantum_harvest_up 1\n", fmt.Sprintf("quantum_harvest_symbols{state=\"unreadable\"} %d\n", len(away)),
		"quantum_harvest_symbols{state=\"missing\"} 0\n", "quantum_harvest_symbols{state=\"expected\"} 9\n",
		`quantum_harvest_symbol_errors_total{reason="node_away"} `,
	}
	var not []string
	for _, sym := range syms {
		if slices.Contains(away, sym) {
			not = append(not, beat(sym))
		} else {
			want = append(want, beat(sym))
		}
	}
	shows(t, url, "without one node", want, not)

	// Where nothing else is expected the store is there all the same, and says of nothing how it is.
	others := slices.DeleteFunc(slices.Clone(syms), func(sym position.Symbol) bool { return slices.Contains(away, sym) })
	if r, err := writer.Write(t.Context(), store.Batch{Unexpect: others}); err != nil || r.ExpectErr != nil {
		t.Fatal(err, r.ExpectErr)
	}
	shows(t, url, "nothing but that node", []string{
		"quantum_harvest_up 1\n", fmt.Sprintf("quantum_harvest_symbols{state=\"unreadable\"} %d\n", len(away)),
		fmt.Sprintf("quantum_harvest_symbols{state=\"expected\"} %d\n", len(away)), "quantum_harvest_symbols{state=\"missing\"} 0\n",
	}, []string{"quantum_harvest_last_update_epoch{"})
	if r, err := writer.Write(t.Context(), store.Batch{Expect: others}); err != nil || r.ExpectErr != nil {
		t.Fatal(err, r.ExpectErr)
	}
	aside.Continue()
	shows(t, url, "everything again", all, nil)

	expecting.Kill()
	shows(t, url, "without the expected set", []string{"quantum_harvest_up 0\n"}, []string{"symbol="})
	expecting.Restart()
	c.WaitReady()
	shows(t, url, "an empty node", []string{"quantum_harvest_up 1\n", "quantum_harvest_symbols{state=\"expected\"} 0\n"}, nil)
}

// Through a failover there is never a value of before: the store is away, or what the new primary holds is shown.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := realserver.Sentinel(t, realserver.SentinelOptions{})
	o := store.ClientOptions{Sentinels: s.Addrs(), Primary: s.Name()}
	writer := openSeveral(t, o)
	if err := put(t.Context(), writer, "BTCUSDT"); err != nil {
		t.Fatal(err)
	}
	url := serve(t, newExporter(t, Options{Reader: openSeveral(t, o)}))
	first, second := s.Servers()[0], s.Servers()[1]
	there := []string{"quantum_harvest_up 1\n", `quantum_harvest_revision{symbol="BTCUSDT"} 1` + "\n"}
	shows(t, url, "before", there, nil)
	awaitReplica(t, second)

	for _, how := range []struct {
		name string
		lose func(*realserver.RedisServer)
		back func(*realserver.RedisServer)
	}{
		{"killed", (*realserver.RedisServer).Kill, (*realserver.RedisServer).Restart},
		{"paused", (*realserver.RedisServer).Pause, (*realserver.RedisServer).Continue},
	} {
		primary := s.Primary()
		how.lose(primary)
		shows(t, url, how.name+": away", []string{"quantum_harvest_up 0\n"}, []string{"symbol="})
		shows(t, url, how.name+": the new primary", there, nil)
		how.back(primary)
		s.WaitReady()
		shows(t, url, how.name+": the old one is a replica", there, nil)
	}
	if s.Primary() != first {
		t.Errorf("after two failovers port %d is primary", s.Primary().Port())
	}
	s.Failover()
	shows(t, url, "by order", there, nil)
}

// awaitReplica waits until a replica has what was written.
func awaitReplica(t *testing.T, r *realserver.RedisServer) {
	t.Helper()
	direct := openSeveral(t, store.ClientOptions{Network: "unix", Addr: r.Socket()})
	deadline := time.Now().Add(30 * time.Second)
	for {
		e, err := direct.Read(t.Context(), []position.Symbol{"BTCUSDT"})
		if err == nil && e[0].Found {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v", e, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
