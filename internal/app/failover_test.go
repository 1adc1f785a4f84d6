package app_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
)

// blindMost is for how long a failover may leave positions without a heartbeat once Redis has made another server the
// primary. It is asserted where nothing else runs (HARVEST_LONG).
const blindMost = 10 * time.Second

// replicatedDesk is two publishers and an exporter on several Redis servers, and an onlooker.
type replicatedDesk struct {
	t        *testing.T
	rdb      redis.UniversalClient
	client   store.ClientOptions
	symbols  []position.Symbol
	exporter string // URL of its metrics

	mu     sync.Mutex
	store  *store.Store
	seen   map[position.Symbol]*sight
	loose  bool // a failover is under way: what was not replicated is lost
	faults []string
	backs  int // readings that went back meanwhile
}

// sight is what was last seen of one proposal, and the highest that was.
type sight struct {
	revision, fence int64
	beat            time.Time
	publisher       string
}

func openReplicatedDesk(t *testing.T, o store.ClientOptions, args []string, symbols ...position.Symbol) *replicatedDesk {
	t.Helper()
	o.ReadTimeout, o.WriteTimeout = 2*time.Second, 2*time.Second
	d := &replicatedDesk{t: t, rdb: store.Dial(o), client: o, symbols: symbols, seen: make(map[position.Symbol]*sight)}
	t.Cleanup(func() { _ = d.rdb.Close() })
	seed(t, d.rdb, symbols...)
	trade(t, d.rdb, symbols...)
	for _, id := range []string{"one", "two"} {
		start(t, config.Publish, app.Publish, append([]string{"--publisher-id=" + id}, args...)...)
	}
	port := realserver.FreePort(t)
	start(t, config.Export, app.Export, append([]string{fmt.Sprintf("--metrics-port=%d", port)}, args...)...)
	d.exporter = fmt.Sprintf("http://127.0.0.1:%d", port)

	d.reopen()
	for _, sym := range symbols {
		d.seen[sym] = &sight{}
	}
	ctx, stop := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	looking.Go(func() {
		for ctx.Err() == nil {
			d.look(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() { stop(); looking.Wait(); _ = d.store.Close() })
	return d
}

// reopen gives the onlooker a client that knows of no server from before.
func (d *replicatedDesk) reopen() {
	s := store.New(store.Dial(d.client), store.NewKeys(store.KeysOptions{}))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.store != nil {
		_ = d.store.Close()
	}
	d.store = s
}

// look reads everything once. In quiet times nothing may go back, ever.
func (d *replicatedDesk) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	d.mu.Lock()
	from := d.store
	d.mu.Unlock()
	entries, err := from.Read(ctx, d.symbols)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil || d.store != from {
		return
	}
	for i := range entries {
		e, s := &entries[i], d.seen[entries[i].Symbol]
		if !e.Found || len(e.Problems) > 0 {
			if e.Err == nil && s.revision > 0 && !d.loose {
				d.faults = append(d.faults, fmt.Sprintf("%s is not whole: found %v, %v", e.Symbol, e.Found, e.Problems))
			}
			continue
		}
		p := &e.Proposal
		if p.Revision < s.revision || p.Fence < s.fence {
			if d.loose {
				d.backs++
				continue
			}
			d.faults = append(d.faults, fmt.Sprintf("%s: revision %d after %d, fence %d after %d", p.Symbol, p.Revision, s.revision, p.Fence, s.fence))
		}
		*s = sight{revision: max(s.revision, p.Revision), fence: max(s.fence, p.Fence), beat: p.LastUpdate, publisher: p.Publisher}
	}
}

// beating waits until the proposals of some symbols are newer than a moment and at least as far as they ever were.
func (d *replicatedDesk) beating(since time.Time, symbols ...position.Symbol) {
	d.t.Helper()
	livetest.Eventually(d.t, 40*time.Second, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, sym := range symbols {
			if s := d.seen[sym]; !s.beat.After(since) {
				return fmt.Errorf("the heartbeat of %s stands at %s", sym, s.beat.Format(time.TimeOnly))
			}
		}
		return nil
	})
}

// calm is the check of quiet times.
func (d *replicatedDesk) calm() {
	d.t.Helper()
	d.beating(time.Now(), d.symbols...)
	livetest.Eventually(d.t, 20*time.Second, func() error {
		_, text := get(d.t, d.exporter+"/metrics")
		for _, sym := range d.symbols {
			if !regexp.MustCompile(`(?m)^quantum_harvest_last_update_epoch\{symbol="` + string(sym) + `"\} \d{10}$`).MatchString(text) {
				return fmt.Errorf("the exporter shows no heartbeat of %s", sym)
			}
		}
		if !strings.Contains(text, "quantum_harvest_open_positions{source=\"redis_hash\"} "+fmt.Sprint(len(d.symbols))+"\n") {
			return fmt.Errorf("the exporter does not count %d positions", len(d.symbols))
		}
		return nil
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.faults {
		d.t.Error(f)
	}
	d.faults = nil
}

// fail carries out a failover and measures how long nobody could say that the positions are watched: all in all, and from
// the moment at which Redis itself had another primary.
func (d *replicatedDesk) fail(how string, failover func(), concerned ...position.Symbol) {
	d.t.Helper()
	d.mu.Lock()
	d.loose, d.backs = true, 0
	d.mu.Unlock()
	begin := time.Now()
	failover()
	promoted := time.Now()
	d.reopen() // a primary that was replaced by order goes on answering whoever has not heard of it yet
	d.beating(promoted, concerned...)
	blind := time.Since(promoted)
	d.mu.Lock()
	d.loose = false
	backs := d.backs
	d.mu.Unlock()
	d.t.Logf("%s: Redis took %.1f s, then blind for %.1f s; %d readings went back", how, promoted.Sub(begin).Seconds(), blind.Seconds(), backs)
	if os.Getenv("HARVEST_LONG") != "" && blind > blindMost {
		d.t.Errorf("%s: blind for %s", how, blind)
	}
}

var replicated = []position.Symbol{"ADAUSDT", "BNBUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := realserver.Sentinel(t, realserver.SentinelOptions{})
	d := openReplicatedDesk(t, store.ClientOptions{Sentinels: s.Addrs(), Primary: s.Name()},
		[]string{"--redis-sentinels=" + strings.Join(s.Addrs(), ","), "--redis-sentinel-master=" + s.Name()}, replicated...)
	d.calm()

	killed := s.Primary()
	d.fail("primary killed", func() { killed.Kill(); s.WaitFailover(killed) }, d.symbols...)
	killed.Restart()
	s.WaitReady()
	d.calm()

	paused := s.Primary()
	d.fail("primary paused", func() { paused.Pause(); s.WaitFailover(paused) }, d.symbols...)
	paused.Continue() // it takes itself for the primary until it is told
	s.WaitReady()
	d.calm()

	d.fail("by order", func() { s.Failover() }, d.symbols...)
	s.WaitReady()
	d.calm()
}

func TestClusterFailover(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Replicas: 1, Partial: true})
	d := openReplicatedDesk(t, store.ClientOptions{Cluster: c.Addrs()}, []string{"--redis-cluster=" + strings.Join(c.Addrs(), ",")}, replicated...)
	d.calm()

	// The one by which everybody writes: for a while nobody may.
	killed := c.MasterOf(store.NewKeys(store.KeysOptions{}).Lease())
	d.fail("master with the lease killed", func() { killed.Kill(); c.WaitFailover(killed) }, d.symbols...)
	killed.Restart()
	c.WaitReady()
	d.calm()

	paused := c.MasterOf("quantum:harvest:expected")
	d.fail("master with the expected set paused", func() { paused.Pause(); c.WaitFailover(paused) }, d.symbols...)
	paused.Continue()
	c.WaitReady()
	d.calm()

	replica := c.ReplicasOf(c.MasterOf("quantum:harvest:proposal:BTCUSDT"))[0]
	d.fail("by order", func() { c.Promote(replica) }, d.symbols...)
	d.calm()
}

// A node without a replica takes its own symbols with it, and nobody else's.
func TestClusterLosesANode(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
	d := openReplicatedDesk(t, store.ClientOptions{Cluster: c.Addrs()}, []string{"--redis-cluster=" + strings.Join(c.Addrs(), ",")}, replicated...)
	d.calm()
	keys := store.NewKeys(store.KeysOptions{})
	var dead *realserver.RedisServer
	for _, r := range c.Servers() {
		if r != c.MasterOf(keys.Lease()) && r != c.MasterOf("quantum:harvest:expected") {
			dead = r
		}
	}
	var lost, kept, positions []position.Symbol
	for _, sym := range d.symbols {
		if c.MasterOf(keys.Proposal(sym)) == dead {
			lost = append(lost, sym)
		} else {
			kept = append(kept, sym)
		}
		if c.MasterOf("quantum:state:positions:"+string(sym)) == dead {
			positions = append(positions, sym)
		}
	}
	if len(lost) == 0 || len(kept) == 0 || len(positions) == 0 {
		t.Fatalf("%v, %v and %v: choose other symbols", lost, kept, positions)
	}
	d.mu.Lock()
	d.loose = true
	d.mu.Unlock()
	dead.Kill()
	for range 5 { // nobody else misses a beat for long
		d.beating(time.Now(), kept...)
	}
	livetest.Eventually(t, 20*time.Second, func() error {
		_, text := get(t, d.exporter+"/metrics")
		for _, want := range []string{
			"quantum_harvest_up 1\n", fmt.Sprintf("quantum_harvest_symbols{state=\"unreadable\"} %d\n", len(lost)),
			fmt.Sprintf("quantum_harvest_open_positions{source=\"redis_hash\"} %d\n", len(d.symbols)),
		} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("the exporter does not say %s", want)
			}
		}
		return nil
	})

	// It comes back empty: its proposals are written again, its positions stay open until they are, and nothing is closed.
	dead.Restart()
	c.WaitReady()
	d.beating(time.Now(), d.symbols...)
	records, err := d.rdb.XRange(t.Context(), "quantum:stream:harvest.proposal", "-", "+").Result()
	if err != nil || len(records) > 0 {
		t.Errorf("closed without evidence: %v, %v", records, err)
	}
	for _, sym := range positions {
		if e, err := d.store.Read(t.Context(), []position.Symbol{sym}); err != nil || !e[0].Found {
			t.Errorf("%s: %+v, %v", sym, e, err)
		}
	}
	seed(t, d.rdb, d.symbols...)
	d.mu.Lock()
	d.loose = false
	d.mu.Unlock()
	d.calm()
}

// standing waits until no heartbeat has moved for a while.
func (d *replicatedDesk) standing() {
	d.t.Helper()
	last := map[position.Symbol]time.Time{}
	since := time.Now()
	livetest.Eventually(d.t, 30*time.Second, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, sym := range d.symbols {
			if at := d.seen[sym].beat; !at.Equal(last[sym]) {
				last[sym], since = at, time.Now()
			}
		}
		if time.Since(since) < 3*time.Second {
			return fmt.Errorf("somebody still writes")
		}
		return nil
	})
}

// Two keys are everybody's. Without the expected set readers see nothing and writers go on; without the lease it is the
// other way round.
func TestClusterLosesWhatAllNeed(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
	d := openReplicatedDesk(t, store.ClientOptions{Cluster: c.Addrs()}, []string{"--redis-cluster=" + strings.Join(c.Addrs(), ",")}, replicated...)
	d.calm()
	keys := store.NewKeys(store.KeysOptions{})
	expecting, leasing := c.MasterOf("quantum:harvest:expected"), c.MasterOf(keys.Lease())
	if expecting == leasing {
		t.Fatal("both lie on one node")
	}
	besides := func(node *realserver.RedisServer) (syms []position.Symbol) {
		for _, sym := range d.symbols {
			if c.MasterOf(keys.Proposal(sym)) != node {
				syms = append(syms, sym)
			}
		}
		return syms
	}
	up := func(want string) {
		t.Helper()
		livetest.Eventually(t, 20*time.Second, func() error {
			if _, text := get(t, d.exporter+"/metrics"); !strings.Contains(text, "quantum_harvest_up "+want+"\n") {
				return fmt.Errorf("up is not %s", want)
			}
			return nil
		})
	}
	d.mu.Lock()
	d.loose = true
	d.mu.Unlock()

	expecting.Pause()
	for range 4 {
		d.beating(time.Now(), besides(expecting)...)
	}
	up("0")
	expecting.Continue()
	d.beating(time.Now(), d.symbols...)
	up("1")

	leasing.Pause()
	d.standing()
	up("1")
	leasing.Continue()
	d.beating(time.Now(), d.symbols...)
	d.mu.Lock()
	d.loose = false
	d.mu.Unlock()
	d.calm()
}

// A failover that takes long is seen, and clears: at five times the speed, Redis' own detection of 20 s stands for 100.
func TestAnAlertSeesAFailover(t *testing.T) {
	if os.Getenv("HARVEST_LONG") == "" {
		return
	}
	t.Parallel()
	s := realserver.Sentinel(t, realserver.SentinelOptions{DownAfter: 20 * time.Second})
	rdb := store.Dial(store.ClientOptions{Sentinels: s.Addrs(), Primary: s.Name()})
	t.Cleanup(func() { _ = rdb.Close() })
	d := openWatchedDeskOn(t, rdb,
		[]string{"--redis-sentinels=" + strings.Join(s.Addrs(), ","), "--redis-sentinel-master=" + s.Name()}, 1, "BTCUSDT", "ETHUSDT")
	d.steady(2)
	livetest.Eventually(t, time.Minute, d.quiet)
	old := s.Primary()
	begin := time.Now()
	old.Kill()
	d.fires("QuantumHarvestStoreDown", 13*time.Second, begin)
	s.WaitFailover(old)
	promoted := time.Now()
	livetest.Eventually(t, 30*time.Second, d.quiet)
	t.Logf("Redis took %.1f s; quiet %.1f s later", promoted.Sub(begin).Seconds(), time.Since(promoted).Seconds())
}
