package store_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"go.uber.org/goleak"

	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
	"quantumharvest/internal/store/storetest"
)

// patience is how long something that heals by itself may take at most: less than the minute after which the Cluster's
// client looks for its nodes of its own accord.
const patience = 40 * time.Second

// until polls until what is asked for succeeds, and says how long it took.
func until(t *testing.T, what string, try func() error) {
	t.Helper()
	begin := time.Now()
	for {
		err := try()
		if err == nil {
			t.Logf("%s after %s", what, time.Since(begin).Round(time.Millisecond))
			return
		}
		if time.Since(begin) > patience {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// bySentinel are the options of a client that looks for its primary as an operator would.
func bySentinel(s *realserver.RedisSentinel) store.ClientOptions {
	return store.ClientOptions{Sentinels: s.Addrs(), Primary: s.Name(), ReadTimeout: 4 * time.Second, WriteTimeout: 4 * time.Second}
}

// publish writes one proposal within the time that a publisher gives the store.
func publish(t *testing.T, s *store.Store, p store.Proposal) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	res, err := s.Write(ctx, store.Batch{Publishes: []store.Proposal{p}, Expect: []position.Symbol{p.Symbol}})
	if err != nil {
		return err
	}
	return res.Publishes[0].Err
}

// read gives the one proposal of a symbol that there is.
func read(t *testing.T, s *store.Store, sym position.Symbol) (store.Proposal, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := s.Collect(ctx, []position.Symbol{sym})
	if err != nil {
		return store.Proposal{}, err
	}
	for _, e := range c.Entries {
		if e.Symbol == sym {
			if e.Err == nil && !e.Found {
				e.Err = errors.New("there is none")
			}
			return e.Proposal, e.Err
		}
	}
	return store.Proposal{}, errors.New("it was not looked for")
}

// mustHold checks on a server itself, past every client, that it holds the proposal of sym.
func mustHold(t *testing.T, r *realserver.RedisServer, sym position.Symbol, want bool) {
	t.Helper()
	direct := open(t, store.ClientOptions{Network: "unix", Addr: r.Socket()})
	if _, err := read(t, direct, sym); (err == nil) != want {
		t.Errorf("port %d holds %s: %v, want %v", r.Port(), sym, err, want)
	}
}

// Primaries change by order, by death and by silence: the same client goes on with the new one, and what is confirmed is
// there. What an asynchronous replica has not received yet when it is promoted is not tested: nobody can promise it.
func TestPrimaryIsReplaced(t *testing.T) {
	t.Parallel()
	s := realserver.Sentinel(t, realserver.SentinelOptions{})
	client := open(t, bySentinel(s))
	p := storetest.Proposal("BTCUSDT", 1)
	if err := publish(t, client, p); err != nil {
		t.Fatal(err)
	}
	first := s.Primary()

	// By order the old primary goes on answering for a while, as if nothing had happened. It is left all the same; what is
	// written to it until then is lost.
	second := s.Failover()
	direct := open(t, store.ClientOptions{Network: "unix", Addr: second.Socket()})
	until(t, "the new primary after an order", func() error {
		if err := publish(t, client, storetest.Proposal("ETHUSDT", 1)); err != nil {
			return err
		}
		_, err := read(t, direct, "ETHUSDT")
		return err
	})
	if _, err := read(t, client, "BTCUSDT"); err != nil {
		t.Errorf("what was confirmed long before: %v", err)
	}
	s.WaitReady()

	// A machine dies with the primary and a Sentinel on it: nothing answers and no connection ends.
	lost := s.Sentinels()[1]
	second.Pause()
	lost.Pause()
	if got := s.WaitFailover(second); got != first {
		t.Fatalf("port %d is primary", got.Port())
	}
	until(t, "the new primary after a silence", func() error { return publish(t, client, storetest.Proposal("SOLUSDT", 1)) })
	mustHold(t, first, "SOLUSDT", true)

	// It comes back and knows nothing: an old primary that takes writes and a Sentinel that points to it.
	second.Continue()
	lost.Continue()
	for i := range 50 {
		if err := publish(t, client, storetest.Proposal(position.Symbol(fmt.Sprintf("S%dUSDT", i)), 1)); err != nil {
			t.Fatalf("a machine that comes back disturbs: %v", err)
		}
	}
	for i := range 50 {
		mustHold(t, first, position.Symbol(fmt.Sprintf("S%dUSDT", i)), true)
	}
	s.WaitReady()

	first.Kill()
	s.WaitFailover(first)
	until(t, "the new primary after a death", func() error { return publish(t, client, storetest.Proposal("XRPUSDT", 1)) })
	mustHold(t, second, "XRPUSDT", true)
	if got, err := read(t, client, "S49USDT"); err != nil || got.Symbol != "S49USDT" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSentinelWithUsersOverTLS(t *testing.T) {
	t.Parallel()
	s := realserver.Sentinel(t, realserver.SentinelOptions{
		Username: "watcher", Password: password + "-of-the-sentinels",
		Servers: []realserver.RedisOption{realserver.WithTLS(), realserver.WithUser("harvest", password, leastRules)},
	})
	good := bySentinel(s)
	good.Username, good.Password, good.TLS = "harvest", password, tlsOf(t, s.Servers()[0])
	good.SentinelUsername, good.SentinelPassword = "watcher", password+"-of-the-sentinels"
	useAll(t, open(t, good))

	for _, c := range []struct {
		name  string
		spoil func(*store.ClientOptions)
		hints []string
	}{
		{"another name", func(o *store.ClientOptions) { o.Primary = "mymaster" }, []string{`primary "mymaster" of the Sentinels ` + s.Addrs()[0], "watch none of that name", "REDIS_SENTINEL_MASTER"}},
		{"wrong Sentinel password", func(o *store.ClientOptions) { o.SentinelPassword = password }, []string{"WRONGPASS", "REDIS_SENTINEL_PASSWORD"}},
		{"no Sentinel password", func(o *store.ClientOptions) { o.SentinelUsername, o.SentinelPassword = "", "" }, []string{"NOAUTH", "REDIS_SENTINEL_PASSWORD"}},
		{"no TLS", func(o *store.ClientOptions) { o.TLS = nil }, []string{"no Sentinel names it"}},
		{"wrong password", func(o *store.ClientOptions) { o.Password += "x" }, []string{`of the Sentinels`, "check the user and the password"}},
		{"a server for a Sentinel", func(o *store.ClientOptions) { o.Sentinels = []string{s.Servers()[0].Addr()} }, []string{"no Sentinel names it", "REDIS_SENTINEL"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			c.spoil(&o)
			client := open(t, o)
			errs := []error{publish(t, client, storetest.Proposal("BTCUSDT", 1))}
			_, err := client.Read(t.Context(), []position.Symbol{"BTCUSDT"})
			errs = append(errs, err)
			_, err = client.Collect(t.Context(), nil)
			for _, err := range append(errs, err) {
				for _, hint := range c.hints {
					mustHint(t, err, hint)
				}
			}
		})
	}
}

func TestSentinelsThatAreNotThere(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", realserver.FreePort(t))
	client := open(t, store.ClientOptions{Sentinels: []string{addr}, Primary: "harvest"})
	_, err := client.Collect(t.Context(), nil)
	mustHint(t, err, `redis at primary "harvest" of the Sentinels `+addr+" cannot be found: no Sentinel names it")
	mustHint(t, err, "check REDIS_SENTINELS")
}

// standIn is a Sentinel that says whatever a test wants it to.
type standIn struct {
	addr string
	mu   sync.Mutex
	says string // host:port; blank: no such primary
}

func newStandIn(t *testing.T, says string) *standIn {
	t.Helper()
	srv, err := server.NewServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	s := &standIn{addr: srv.Addr().String(), says: says}
	err = srv.Register("SENTINEL", func(c *server.Peer, _ string, args []string) {
		if len(args) != 2 || !strings.EqualFold(args[0], "get-master-addr-by-name") {
			c.WriteError("ERR unexpected")
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		host, port, err := net.SplitHostPort(s.says)
		if err != nil {
			c.WriteLen(-1)
			return
		}
		c.WriteStrings([]string{host, port})
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *standIn) say(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.says = addr
}

func TestMostSentinelsAreBelieved(t *testing.T) {
	t.Parallel()
	a, b := realserver.Redis(t), realserver.Redis(t)
	s := []*standIn{newStandIn(t, a.Addr()), newStandIn(t, b.Addr()), newStandIn(t, b.Addr())}
	o := store.ClientOptions{Primary: "harvest"}
	for _, one := range s {
		o.Sentinels = append(o.Sentinels, one.addr)
	}
	client := open(t, o)
	if err := publish(t, client, storetest.Proposal("AUSDT", 1)); err != nil {
		t.Fatal(err)
	}
	mustHold(t, b, "AUSDT", true)
	mustHold(t, a, "AUSDT", false)

	// One each, and one that does not know: as it was.
	s[2].say("")
	for range 20 {
		if err := publish(t, client, storetest.Proposal("BUSDT", 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	mustHold(t, a, "BUSDT", false)

	// The connection to the old primary ends although that one still answers.
	s[2].say(a.Addr())
	until(t, "the other server", func() error {
		if err := publish(t, client, storetest.Proposal("CUSDT", 1)); err != nil {
			return err
		}
		_, err := read(t, open(t, store.ClientOptions{Addr: a.Addr()}), "CUSDT")
		return err
	})
}

// A Sentinel that has not heard of a failover names a server that is a replica by now. It would answer every question with
// what it had received last.
func TestReplicaIsNoPrimary(t *testing.T) {
	t.Parallel()
	s := realserver.Sentinel(t, realserver.SentinelOptions{})
	i := slices.IndexFunc(s.Servers(), func(r *realserver.RedisServer) bool { return r != s.Primary() })
	stale := newStandIn(t, s.Servers()[i].Addr())
	client := open(t, store.ClientOptions{Sentinels: []string{stale.addr}, Primary: s.Name()})
	_, err := client.Collect(t.Context(), nil)
	mustHint(t, err, "is not known yet: the Sentinels name a server that is a replica: a failover is under way and heals by itself")
	stale.say(s.Primary().Addr())
	until(t, "the primary", func() error { return publish(t, client, storetest.Proposal("BTCUSDT", 1)) })
}

func TestNothingStaysOfAClosedClient(t *testing.T) {
	r := realserver.Redis(t)
	srv := newStandIn(t, r.Addr())
	before := goleak.IgnoreCurrent()
	s := store.New(store.Dial(store.ClientOptions{Sentinels: []string{srv.addr}, Primary: "harvest"}), store.NewKeys(store.KeysOptions{}))
	if err := publish(t, s, storetest.Proposal("BTCUSDT", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := publish(t, s, storetest.Proposal("BTCUSDT", 1)); err == nil {
		t.Error("a closed client writes")
	}
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/alicebob/miniredis/v2/server.(*Server).servePeer"))
}
