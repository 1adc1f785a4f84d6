package store_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
	"quantumharvest/internal/store/storetest"
)

// asCluster are the options of a client that looks for its nodes as an operator would.
func asCluster(c *realserver.RedisCluster) store.ClientOptions {
	return store.ClientOptions{Cluster: c.Addrs(), ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second}
}

// perNode finds three symbols for each master whose proposals it keeps, and publishes them all.
func perNode(t *testing.T, c *realserver.RedisCluster, s *store.Store) map[*realserver.RedisServer][]position.Symbol {
	t.Helper()
	keys := store.NewKeys(store.KeysOptions{})
	nodes := make(map[*realserver.RedisServer][]position.Symbol)
	for i, found := 0, 0; found < 9; i++ {
		sym := position.Symbol(fmt.Sprintf("S%dUSDT", i))
		node := c.MasterOf(keys.Proposal(sym))
		if len(nodes[node]) == 3 {
			continue
		}
		nodes[node] = append(nodes[node], sym)
		found++
		if err := publish(t, s, storetest.Proposal(sym, i)); err != nil {
			t.Fatal(err)
		}
	}
	return nodes
}

func all(nodes map[*realserver.RedisServer][]position.Symbol) (syms []position.Symbol) {
	for _, some := range nodes {
		syms = append(syms, some...)
	}
	return syms
}

// aside is a master that keeps proposals and nothing else that a reader of them needs.
func aside(t *testing.T, c *realserver.RedisCluster) *realserver.RedisServer {
	t.Helper()
	for _, r := range c.Servers()[:3] {
		if r != c.MasterOf("quantum:harvest:expected") && r != c.MasterOf("quantum:harvest:lease") {
			return r
		}
	}
	t.Fatal("no master to spare")
	return nil
}

// mustRead reads everything and checks that exactly the proposals of lost are Lost and all others are there.
func mustRead(t *testing.T, s *store.Store, nodes map[*realserver.RedisServer][]position.Symbol, lost *realserver.RedisServer, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	c, err := s.Collect(ctx, all(nodes))
	if err != nil {
		return err
	}
	if len(c.Entries) != 9 || c.ServerTime.IsZero() {
		return fmt.Errorf("%d entries at %s", len(c.Entries), c.ServerTime)
	}
	for i := range c.Entries {
		e := &c.Entries[i]
		want := false
		for _, sym := range nodes[lost] {
			want = want || sym == e.Symbol
		}
		if e.Lost != want || e.Found == want || (e.Err != nil) != want || len(e.Problems) > 0 {
			return fmt.Errorf("%s: found %v, lost %v: %w", e.Symbol, e.Found, e.Lost, e.Err)
		}
		if want {
			mustHint(t, e.Err, "read the proposal of "+string(e.Symbol)+": redis node "+lost.Addr()+" of cluster 127.0.0.1:")
		}
	}
	return nil
}

func TestClusterNodeIsLost(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"killed", "paused"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
			s := open(t, asCluster(c))
			nodes := perNode(t, c, s)
			if err := mustRead(t, s, nodes, nil, 5*time.Second); err != nil {
				t.Fatal(err)
			}
			hasty := make([]*store.Store, 5)
			for i := range hasty {
				hasty[i] = open(t, asCluster(c))
				if err := mustRead(t, hasty[i], nodes, nil, 5*time.Second); err != nil {
					t.Fatal(err)
				}
			}
			lost := aside(t, c)
			if how == "killed" {
				lost.Kill()
			} else {
				lost.Pause()
			}
			// Also where the time is shorter than a single answer may take: a scrape, for example.
			for _, h := range hasty {
				if err := mustRead(t, h, nodes, lost, 1500*time.Millisecond); err != nil {
					t.Fatalf("before a single answer is given up: %v", err)
				}
			}
			if err := mustRead(t, s, nodes, lost, 5*time.Second); err != nil {
				t.Error(err)
			}
			// Others are written, too, and a failure stays with its symbol.
			for node, syms := range nodes {
				if err := publish(t, s, storetest.Proposal(syms[0], 7)); (err != nil) != (node == lost) {
					t.Errorf("publish %s: %v", syms[0], err)
				}
			}
			if how == "killed" {
				lost.Restart()
				c.WaitReady()
				until(t, "the node is back, empty", func() error {
					e, err := s.Read(t.Context(), nodes[lost])
					if err != nil {
						return err
					}
					if e[0].Lost || e[0].Found {
						return fmt.Errorf("%+v", e[0])
					}
					return nil
				})
				return
			}
			lost.Continue()
			until(t, "the node is back", func() error { return mustRead(t, s, nodes, nil, 5*time.Second) })
		})
	}
}

func TestClusterWithoutTheExpectedSet(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
	s := open(t, asCluster(c))
	nodes := perNode(t, c, s)
	gone := c.MasterOf("quantum:harvest:expected")
	gone.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := s.Collect(ctx, all(nodes))
	mustHint(t, err, "read the expected set: redis node "+gone.Addr()+" of cluster "+strings.Join(c.Addrs(), ", ")+" refused the connection")
	// What is asked for by name can be read all the same.
	entries, err := s.Read(ctx, all(nodes))
	found := 0
	for _, e := range entries {
		if e.Found {
			found++
		}
	}
	if err != nil || found != 6 {
		t.Errorf("%d found, %v", found, err)
	}
	// The rest of them as well: then there is nothing left to read.
	for _, r := range c.Servers() {
		r.Kill()
	}
	_, err = s.Read(ctx, all(nodes))
	mustHint(t, err, "refused the connection: is it running?")
}

// A batch that is for one node alone says nothing of the others when that node does not answer: its failures stay with its
// symbols. Where nobody answers at all, that is about the store.
func TestClusterBatchForALostNode(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
	s := open(t, asCluster(c))
	nodes := perNode(t, c, s)
	lost := aside(t, c)
	write := func(syms []position.Symbol) (store.Results, error) {
		var b store.Batch
		for _, sym := range syms {
			b.Publishes = append(b.Publishes, storetest.Proposal(sym, 7))
		}
		return s.Write(t.Context(), b)
	}
	lost.Pause()
	for range 2 { // by the fault, and by the gate
		r, err := write(nodes[lost])
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Publishes {
			if p.Outcome != store.Failed {
				t.Errorf("%+v", p)
			}
			mustHint(t, p.Err, "redis node "+lost.Addr())
		}
	}
	for _, r := range c.Servers() {
		r.Kill()
	}
	for range 3 {
		for _, syms := range [][]position.Symbol{all(nodes), nodes[lost]} {
			if r, err := write(syms); err == nil {
				t.Errorf("nobody is there: %+v", r.Publishes)
			}
		}
	}
}

// Where everything that is known of lies on the node that is away, the others are not concerned: what there should be is
// known, and what appears on them is served.
func TestClusterEverythingLiesOnTheLostNode(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
	lost := aside(t, c)
	prefix := "-:"
	for i := 0; c.MasterOf(prefix+"harvest:closed") == lost || c.MasterOf(prefix+"harvest:expected") == lost || c.MasterOf(prefix+"harvest:lease") == lost; i++ {
		prefix = string(rune('a'+i)) + ":"
	}
	keys := store.NewKeys(store.KeysOptions{Prefix: prefix})
	s := store.New(store.Dial(asCluster(c)), keys)
	defer s.Close()
	var syms []position.Symbol
	var other position.Symbol
	for i := 0; len(syms) < 2 || other == ""; i++ {
		sym := position.Symbol(fmt.Sprintf("S%dUSDT", i))
		if c.MasterOf(keys.Proposal(sym)) != lost {
			other = sym
		} else if len(syms) < 2 {
			syms = append(syms, sym)
			if r, err := s.Write(t.Context(), store.Batch{Publishes: []store.Proposal{storetest.Proposal(sym, i)}, Expect: []position.Symbol{sym}}); err != nil || r.ExpectErr != nil {
				t.Fatalf("%+v, %v", r, err)
			}
		}
	}
	lost.Kill()
	for range 2 { // by the fault, and by the gate
		m, err := s.Remember(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Entries) != 2 || !m.Entries[0].Lost || !m.Entries[1].Lost || len(m.Expected) != 2 {
			t.Fatalf("%+v", m.Collection)
		}
		mustHint(t, m.Entries[0].Err, "redis node "+lost.Addr())
	}
	if err := publish(t, s, storetest.Proposal(other, 1)); err != nil {
		t.Errorf("on a node that is well: %v", err)
	}
	// Whoever is out of time knows nothing of any node.
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if c, err := s.Collect(ctx, nil); err == nil {
		t.Errorf("without any time: %+v", c)
	}
}

// One who has no time finds no fault with the nodes: the client is shared with others.
func TestClusterGateAndACallerInAHurry(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{})
	s := open(t, asCluster(c))
	nodes := perNode(t, c, s)
	stop, done := make(chan struct{}), make(chan struct{})
	hurried := 0
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+i%10)*50*time.Microsecond)
			if entries, err := s.Read(ctx, all(nodes)); err != nil || slices.ContainsFunc(entries, func(e store.Entry) bool { return e.Lost }) {
				hurried++
			}
			cancel()
		}
	}()
	for i := range 300 {
		for _, syms := range nodes {
			if err := publish(t, s, storetest.Proposal(syms[i%3], i)); err != nil {
				t.Errorf("publish %d: %v", i, err)
			}
		}
	}
	close(stop)
	<-done
	if hurried == 0 {
		t.Error("nobody was in a hurry")
	}
}

func TestClusterLeaseIsLost(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
	if c.MasterOf("quantum:harvest:expected") == c.MasterOf("quantum:harvest:lease") {
		t.Fatal("both keys lie on one node: choose others")
	}
	s := open(t, asCluster(c))
	perNode(t, c, s)
	if _, err := s.AskLease(t.Context(), store.LeaseAsk{Holder: "a#1", Layout: "1 all", TTL: time.Minute, Take: []int{0}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Collect(t.Context(), nil)
	if err != nil || got.LeaseErr != nil || got.Lease.Layout != "1 all" || got.ServerTime.IsZero() {
		t.Fatalf("%+v, %v, %v", got.Lease, got.LeaseErr, err)
	}
	c.MasterOf("quantum:harvest:lease").Kill()
	got, err = s.Collect(t.Context(), nil)
	if err != nil || got.LeaseErr == nil || got.Lease.Layout != "" || !got.ServerTime.IsZero() {
		t.Fatalf("%+v, %v, %v", got.Lease, got.LeaseErr, err)
	}
}

// A replica takes over by order, by death and by silence.
func TestClusterMasterIsReplaced(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Replicas: 1, Partial: true})
	s := open(t, asCluster(c))
	nodes := perNode(t, c, s)
	first := aside(t, c)
	second := c.ReplicasOf(first)[0]

	c.Promote(second)
	if err := mustRead(t, s, nodes, nil, 5*time.Second); err != nil {
		t.Fatalf("redirected: %v", err)
	}
	if err := publish(t, s, storetest.Proposal(nodes[first][0], 2)); err != nil {
		t.Fatalf("redirected: %v", err)
	}

	second.Kill()
	c.WaitFailover(second)
	until(t, "the new master after a death", func() error { return mustRead(t, s, nodes, nil, 5*time.Second) })
	second.Restart()
	c.WaitReady()

	first.Pause()
	c.WaitFailover(first)
	until(t, "the new master after a silence", func() error { return mustRead(t, s, nodes, nil, 5*time.Second) })
	first.Continue()
	c.WaitReady()
	if err := mustRead(t, s, nodes, nil, 5*time.Second); err != nil {
		t.Fatalf("with the old master as a replica: %v", err)
	}
}

// Slots move between nodes while they are read: a key may be here or there already.
func TestClusterSlotOnItsWay(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{})
	s := open(t, asCluster(c))
	nodes := perNode(t, c, s)
	from := aside(t, c)
	to := c.MasterOf("quantum:harvest:expected")
	key := store.NewKeys(store.KeysOptions{}).Proposal(nodes[from][0])
	a, b := redis.NewClient(&redis.Options{Addr: from.Addr()}), redis.NewClient(&redis.Options{Addr: to.Addr()})
	defer a.Close()
	defer b.Close()
	do := func(node *redis.Client, args ...any) any {
		t.Helper()
		got, err := node.Do(t.Context(), args...).Result()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return got
	}
	slot := do(a, "CLUSTER", "KEYSLOT", key)
	idA, idB := do(a, "CLUSTER", "MYID"), do(b, "CLUSTER", "MYID")
	do(b, "CLUSTER", "SETSLOT", slot, "IMPORTING", idA)
	do(a, "CLUSTER", "SETSLOT", slot, "MIGRATING", idB)
	host, port, _ := net.SplitHostPort(to.Addr())
	n, _ := strconv.Atoi(port)
	do(a, "MIGRATE", host, n, key, 0, 5000)
	// The old master still has the slot and sends whoever asks for the key on (ASK).
	if err := mustRead(t, s, nodes, nil, 5*time.Second); err != nil {
		t.Fatalf("on its way: %v", err)
	}
	do(b, "CLUSTER", "SETSLOT", slot, "NODE", idB)
	do(a, "CLUSTER", "SETSLOT", slot, "NODE", idB)
	if err := mustRead(t, s, nodes, nil, 5*time.Second); err != nil {
		t.Fatalf("arrived: %v", err)
	}
}

// clusterRules are what a user needs besides in a Cluster: to find the nodes, and the records that lie beside a hash.
const clusterRules = " +cluster|slots ~{quantum:*"

func TestClusterWithUsersOverTLS(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{
		Servers: []realserver.RedisOption{realserver.WithTLS(), realserver.WithUser("harvest", password, leastRules+clusterRules)},
	})
	good := asCluster(c)
	good.Username, good.Password, good.TLS = "harvest", password, tlsOf(t, c.Servers()[0])
	useAll(t, open(t, good))
	for _, x := range []struct {
		name  string
		spoil func(*store.ClientOptions)
		hints []string
	}{
		{"wrong password", func(o *store.ClientOptions) { o.Password += "x" }, []string{"redis at cluster " + c.Addrs()[0], "check the user and the password"}},
		{"no password", func(o *store.ClientOptions) { o.Username, o.Password = "", "" }, []string{"set it in REDIS_URL"}},
		{"no TLS", func(o *store.ClientOptions) { o.TLS = nil }, []string{"TLS"}},
		{"another name", func(o *store.ClientOptions) { o.TLS.ServerName = "example.com" }, []string{"the name that is in the certificate"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			o := good
			o.TLS = tlsOf(t, c.Servers()[0])
			x.spoil(&o)
			_, err := open(t, o).Collect(t.Context(), nil)
			for _, hint := range x.hints {
				mustHint(t, err, hint)
			}
		})
	}
}

func TestClusterThatIsNone(t *testing.T) {
	t.Parallel()
	r := realserver.Redis(t)
	_, err := open(t, store.ClientOptions{Cluster: []string{r.Addr()}}).Collect(t.Context(), nil)
	mustHint(t, err, "it is no Cluster: name it in REDIS_URL instead of REDIS_CLUSTER")
	c := realserver.Cluster(t, realserver.ClusterOptions{})
	keys := store.NewKeys(store.KeysOptions{})
	for _, sym := range []position.Symbol{"AUSDT", "BUSDT", "CUSDT", "DUSDT", "EUSDT", "FUSDT"} {
		if c.MasterOf(keys.Proposal(sym)) != c.Servers()[0] {
			_, err = open(t, store.ClientOptions{Addr: c.Addrs()[0]}).Read(t.Context(), []position.Symbol{sym})
			mustHint(t, err, "it is one node of a Cluster: name some of its nodes in REDIS_CLUSTER")
		}
	}
}
