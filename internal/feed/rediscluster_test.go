package feed

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
)

// dialAll is the client that store and feeds share.
func dialAll(t *testing.T, o store.ClientOptions) redis.UniversalClient {
	t.Helper()
	o.ReadTimeout, o.WriteTimeout = 4*time.Second, 4*time.Second
	client := store.Dial(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clusterRig is positions on a Cluster: two on each node, and an observer.
type clusterRig struct {
	*positionRig
	cluster *realserver.RedisCluster
	raw     redis.UniversalClient
	by      map[*realserver.RedisServer][]string
	aside   *realserver.RedisServer // holds positions and nothing else that is read
}

func newClusterRig(t *testing.T, o realserver.ClusterOptions) *clusterRig {
	t.Helper()
	c := realserver.Cluster(t, o)
	g := &clusterRig{cluster: c, raw: dialAll(t, store.ClientOptions{Cluster: c.Addrs()}), by: make(map[*realserver.RedisServer][]string)}
	g.positionRig = newPositionRigOn(t, dialAll(t, store.ClientOptions{Cluster: c.Addrs()}), nil)
	for _, r := range c.Servers()[:3] {
		if r != c.MasterOf(positionsKey) && r != c.MasterOf(positionsKey+"_heartbeat") {
			g.aside = r
		}
	}
	for i, found := 0, 0; found < 6; i++ {
		sym := fmt.Sprintf("S%dUSDT", i)
		node := c.MasterOf(positionsKey + ":" + sym)
		if len(g.by[node]) == 2 {
			continue
		}
		g.by[node] = append(g.by[node], sym)
		g.hold(sym)
		found++
	}
	if got := g.poll(); len(got) != 6 {
		t.Fatalf("opened: %v", got)
	}
	return g
}

// hold writes a position.
func (g *clusterRig) hold(sym string) {
	g.t.Helper()
	livetest.Eventually(g.t, soon, func() error {
		return g.raw.HSet(g.t.Context(), positionsKey+":"+sym, "symbol", sym, "side", "LONG", "entry_price", "100").Err()
	})
}

func (g *clusterRig) drop(sym string) {
	g.t.Helper()
	livetest.Eventually(g.t, soon, func() error { return g.raw.Del(g.t.Context(), positionsKey+":"+sym).Err() })
}

// soon is enough for everybody to hear of a failover.
const soon = 30 * time.Second

// others are the positions that are not on a node.
func (g *clusterRig) others(node *realserver.RedisServer) (syms []string) {
	for r, some := range g.by {
		if r != node {
			syms = append(syms, some...)
		}
	}
	slices.Sort(syms)
	return syms
}

// wantLost checks which positions of the last poll are out of sight, that this is said with its node, and that nobody else
// is concerned.
func (g *clusterRig) wantLost(node *realserver.RedisServer) {
	g.t.Helper()
	var lost []string
	for _, sym := range g.snaps[0].Lost {
		lost = append(lost, string(sym))
	}
	if diff := cmp.Diff(g.by[node], lost); diff != "" || !g.snaps[0].Complete {
		g.t.Fatalf("lost, complete %v (-want +got):\n%s", g.snaps[0].Complete, diff)
	}
	for _, sym := range g.others(node) {
		if p, ok := g.book.Get(position.Symbol(sym)); !ok || !p.UpdatedAt.Equal(g.now) {
			g.t.Errorf("%s is blind: %+v", sym, p)
		}
	}
	for _, sym := range g.by[node] {
		if p, ok := g.book.Get(position.Symbol(sym)); !ok || p.UpdatedAt.Equal(g.now) {
			g.t.Errorf("%s is seen although nobody answers: %v %+v", sym, ok, p)
		}
	}
	g.wantRefused()
}

// wantSeen polls until every node answers, and checks that all that is held is seen.
func (g *clusterRig) wantSeen() {
	g.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		g.want(g.poll())
		if len(g.snaps) > 0 && len(g.snaps[0].Lost) == 0 {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("still lost: %+v, %+v", g.snaps, g.outages)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// One node that is out of reach blinds nobody else, and its positions are never flat. When it comes back as it was it is
// believed at once.
func TestClusterPositionsOfANodeThatIsSilent(t *testing.T) {
	t.Parallel()
	g := newClusterRig(t, realserver.ClusterOptions{Partial: true})
	node := g.aside
	node.Pause()
	g.want(g.poll())
	g.wantLost(node)
	if len(g.outages) != 1 || !strings.Contains(g.outages[0].Err.Error(), node.Addr()) {
		t.Errorf("outages %+v", g.outages)
	}

	// Others are judged as ever.
	closed := g.others(node)[0]
	g.drop(closed)
	g.want(g.poll())
	g.want(g.poll(), closed+" closed")
	for range 40 {
		g.want(g.poll())
	}

	// A process that starts now knows of its positions from durable memory alone.
	fresh := newPositionRigOn(t, dialAll(t, store.ClientOptions{Cluster: g.cluster.Addrs()}), func(o *RedisPositionsOptions) {
		o.Universe = func() []position.Symbol { return []position.Symbol{position.Symbol(g.by[node][0])} }
	})
	p, _ := g.book.Get(position.Symbol(g.by[node][0]))
	fresh.book.Restore(p)
	for range 5 {
		for _, change := range fresh.poll() {
			if strings.HasPrefix(change, g.by[node][0]) {
				t.Fatal(change)
			}
		}
	}

	node.Continue()
	g.wantSeen()
	if again, _ := g.book.Get(position.Symbol(g.by[node][0])); again.Episode != p.Episode || !again.UpdatedAt.Equal(g.now) {
		t.Errorf("after its return: %+v", again)
	}
	g.drop(g.by[node][0])
	g.want(g.poll())
	g.want(g.poll(), g.by[node][0]+" closed")
}

// Who starts while a node is away has never heard of it, and sees the others as ever: what closes there is seen to close,
// in hashes and in the stream, and the stream is not read from its begin every time.
func TestClusterPositionsAtAStartWithoutANode(t *testing.T) {
	t.Parallel()
	g := newClusterRig(t, realserver.ClusterOptions{Partial: true})
	node := g.aside
	// The stream is to lie on a node that answers, too.
	name := "stream"
	for g.cluster.MasterOf(name) == node {
		name += "+"
	}
	must(t, g.raw.XAdd(t.Context(), &redis.XAddArgs{Stream: name, Values: []string{"symbol", "XUSDT", "side", "LONG", "entry_price", "100"}}).Err())
	node.Pause()
	fresh := newPositionRigOn(t, dialAll(t, store.ClientOptions{Cluster: g.cluster.Addrs()}), nil)
	streamed := newPositionRigOn(t, dialAll(t, store.ClientOptions{Cluster: g.cluster.Addrs()}), func(o *RedisPositionsOptions) {
		o.Mode, o.StreamKey = PositionsStream, name
	})
	fresh.poll()
	streamed.poll()
	if len(fresh.snaps) != 1 || len(streamed.snaps) != 1 || len(streamed.snaps[0].Records) != 1 {
		t.Fatalf("at the start: %+v, %+v, %+v", fresh.snaps, streamed.snaps, streamed.outages)
	}
	before, trips := fresh.snaps[0].Instance, 0
	for i := range 20 {
		fresh.want(fresh.poll())
		if got := fresh.snaps[0].Instance; got != before {
			t.Fatalf("poll %d: the instance changed from %q to %q without a cause", i, before, got)
		}
		streamed.poll()
		trips += streamed.trips
	}
	if trips > 0 { // beside the pipeline that is sent anyway
		t.Errorf("the stream was read again in %d questions of its own", trips)
	}
	closed := g.others(node)[0]
	g.drop(closed)
	fresh.want(fresh.poll())
	fresh.want(fresh.poll(), closed+" closed")
}

// A node that comes back empty has lost its positions: the others live, but that says nothing about these.
func TestClusterPositionsOfANodeThatDied(t *testing.T) {
	t.Parallel()
	g := newClusterRig(t, realserver.ClusterOptions{Partial: true})
	node := g.aside
	node.Kill()
	for range 3 {
		g.want(g.poll())
		g.wantLost(node)
	}
	node.Restart()
	g.cluster.WaitReady()
	for range 60 {
		g.want(g.poll())
	}
	g.wantLost(node)

	// The first of them that is written again shows that whoever writes them lives: after a while the other is believed to
	// be gone.
	g.hold(g.by[node][0])
	for range 10 {
		g.want(g.poll())
	}
	closed := ""
	for range 20 {
		for _, change := range g.poll() {
			closed += change
		}
	}
	if closed != g.by[node][1]+" closed" {
		t.Errorf("%q", closed)
	}
}

// A replica that took over is another incarnation: what it lacks counts as gone only after a while, in which its writer may
// write it again.
func TestClusterPositionsAfterAFailover(t *testing.T) {
	t.Parallel()
	g := newClusterRig(t, realserver.ClusterOptions{Replicas: 1, Partial: true})
	before := g.snaps[0].Instance
	g.wantSeen()
	if g.snaps[0].Instance != before {
		t.Fatalf("the instance changed from %q to %q without a cause", before, g.snaps[0].Instance)
	}
	dead := g.aside
	missing := g.by[dead][0]
	dead.Kill()
	g.cluster.WaitFailover(dead)
	g.drop(missing) // as if the replica had not received it any more
	g.wantSeen()
	if g.snaps[0].Instance == before {
		t.Error("the failover cannot be told from the instance")
	}
	for range 12 {
		g.want(g.poll())
	}
	g.hold(missing)
	for range 10 {
		g.want(g.poll())
	}
	g.drop(missing)
	g.want(g.poll())
	g.want(g.poll(), missing+" closed")
}

// The same through Sentinel, where all keys lie on the server that was replaced.
func TestSentinelPositionsAfterAFailover(t *testing.T) {
	t.Parallel()
	s := realserver.Sentinel(t, realserver.SentinelOptions{})
	o := store.ClientOptions{Sentinels: s.Addrs(), Primary: s.Name()}
	raw := dialAll(t, o)
	g := newPositionRigOn(t, dialAll(t, o), nil)
	hold := func(sym string) {
		t.Helper()
		pipe := raw.Pipeline()
		pipe.HSet(t.Context(), positionsKey+":"+sym, "symbol", sym, "side", "LONG", "entry_price", "100")
		pipe.Do(t.Context(), "WAIT", 1, 2000) // for the replica, as long as there is one
		_, err := pipe.Exec(t.Context())
		must(t, err)
	}
	hold("BTCUSDT")
	hold("ETHUSDT")
	g.want(g.poll(), "BTCUSDT opened", "ETHUSDT opened")
	before := g.snaps[0].Instance
	old := s.Primary()
	old.Kill()
	g.want(g.poll()) // an outage
	s.WaitFailover(old)
	livetest.Eventually(t, soon, func() error { return raw.Del(t.Context(), positionsKey+":ETHUSDT").Err() })
	deadline := time.Now().Add(30 * time.Second)
	for g.want(g.poll()); len(g.snaps) == 0; g.want(g.poll()) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", g.outages)
		}
	}
	if g.snaps[0].Instance == before {
		t.Error("the failover cannot be told from the instance")
	}
	for range 12 {
		g.want(g.poll())
	}
	hold("ETHUSDT")
	g.want(g.poll())
	if p, _ := g.book.Get("ETHUSDT"); !p.UpdatedAt.Equal(g.now) {
		t.Errorf("%+v", p)
	}
}

// A server that does not tell its run id, behind Sentinels: the address of the primary shows that it was replaced.
func TestSentinelPositionsWithoutRunID(t *testing.T) {
	t.Parallel()
	s := realserver.Sentinel(t, realserver.SentinelOptions{Servers: []realserver.RedisOption{realserver.WithUser("reader", "secret", "~* &* +@all -info")}})
	client := dialAll(t, store.ClientOptions{Sentinels: s.Addrs(), Primary: s.Name(), Username: "reader", Password: "secret"})
	must(t, client.HSet(t.Context(), positionsKey+":BTCUSDT", "symbol", "BTCUSDT", "side", "LONG", "entry_price", "100").Err())
	g := newPositionRigOn(t, client, nil)
	g.want(g.poll(), "BTCUSDT opened")
	before := g.snaps[0].Instance
	g.want(g.poll())
	if g.snaps[0].Instance != before {
		t.Fatalf("the instance changed from %q to %q without a cause", before, g.snaps[0].Instance)
	}
	s.Failover()
	deadline := time.Now().Add(30 * time.Second)
	for g.want(g.poll()); len(g.snaps) == 0 || g.snaps[0].Instance == before; g.want(g.poll()) {
		if time.Now().After(deadline) {
			t.Fatalf("instance %+v, outages %+v", g.snaps, g.outages)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
