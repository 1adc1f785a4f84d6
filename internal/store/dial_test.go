package store_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
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

const password = "s3cr3t-Pa55/wörd"

func open(t *testing.T, o store.ClientOptions) *store.Store {
	t.Helper()
	return openKeys(t, o, store.KeysOptions{})
}

func openKeys(t *testing.T, o store.ClientOptions, k store.KeysOptions) *store.Store {
	t.Helper()
	s := store.New(store.Dial(o), store.NewKeys(k))
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// useAll runs every operation once.
func useAll(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	p := storetest.Proposal("BTCUSDT", 1)
	r, err := s.Write(ctx, store.Batch{
		Expect: []position.Symbol{"BTCUSDT"}, Publishes: []store.Proposal{p}, Unexpect: []position.Symbol{"ETHUSDT"},
		Closes: []store.Close{{Symbol: "ETHUSDT", Episode: "e", At: time.Unix(1, 0), Last: p}},
		States: []store.MarketStateRecord{{Symbol: "BTCUSDT", TTL: time.Minute}},
		Stops:  []store.StopsRecord{{Symbol: "BTCUSDT", TTL: time.Minute}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range [][]store.Result{r.Publishes, r.Closes, r.States, r.Stops} {
		if group[0].Outcome != store.Done {
			t.Errorf("%+v", group[0])
		}
	}
	if r.ExpectErr != nil || r.StreamErr != nil {
		t.Error(r.ExpectErr, r.StreamErr)
	}
	r, err = s.Write(ctx, store.Batch{Beats: []store.Beat{storetest.Beat(p, 1, time.Unix(2, 0))}})
	if err != nil || r.Beats[0].Outcome != store.Done {
		t.Error(r, err)
	}
	if c, err := s.Collect(ctx, nil); err != nil || len(c.Entries) != 1 || !c.Entries[0].Found {
		t.Error(c, err)
	}
	if a, err := s.AskLease(ctx, store.LeaseAsk{Holder: "a#1", Layout: "1 all", TTL: time.Minute, Take: []int{0}}); err != nil || len(a.Held) != 1 {
		t.Error(a, err)
	}
	if _, err := s.AskLease(ctx, store.LeaseAsk{Holder: "a#1", Layout: "1 all", TTL: time.Minute, Leave: true}); err != nil {
		t.Error(err)
	}
	if _, err := s.Remember(ctx, nil); err != nil {
		t.Error(err)
	}
}

// leastRules are the permissions that the package documentation asks for, and no more.
const leastRules = "~quantum:* +evalsha +script|load +hgetall +hmget +hget +hset +hdel +del +exists +pexpire " +
	"+sadd +srem +smembers +xadd +time"

// tlsOf is what a client of r needs to trust it and to be trusted.
func tlsOf(t *testing.T, r *realserver.RedisServer) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(r.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(r.CertFile(), r.KeyFile())
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	c.RootCAs.AppendCertsFromPEM(pem)
	return c
}

func TestRestrictedUserOverTLS(t *testing.T) {
	r := realserver.Redis(t, realserver.WithTLS(), realserver.WithUser("harvest", password, leastRules))
	good := store.ClientOptions{Addr: r.Addr(), Username: "harvest", Password: password, TLS: tlsOf(t, r)}
	useAll(t, open(t, good))

	t.Run("a key outside the user's pattern is a fault of its own", func(t *testing.T) {
		res, err := openKeys(t, good, store.KeysOptions{MarketState: "elsewhere:"}).Write(t.Context(), store.Batch{
			Publishes: []store.Proposal{storetest.Proposal("BTCUSDT", 1)},
			States:    []store.MarketStateRecord{{Symbol: "BTCUSDT", TTL: time.Minute}},
		})
		if err != nil || res.Publishes[0].Outcome != store.Done || res.States[0].Outcome != store.Failed {
			t.Fatalf("%+v, %v", res, err)
		}
	})

	for _, c := range []struct {
		name  string
		spoil func(*store.ClientOptions)
		hint  string
	}{
		{"unknown authority", func(o *store.ClientOptions) { o.TLS = &tls.Config{ServerName: "127.0.0.1"} }, "CA file"},
		{"another name", func(o *store.ClientOptions) { o.TLS.ServerName = "example.com" }, "the name that is in the certificate"},
		{"wrong password", func(o *store.ClientOptions) { o.Password = password + "x" }, "check the user and the password"},
		{"no password", func(o *store.ClientOptions) { o.Username, o.Password = "", "" }, "set it in REDIS_URL"},
		{"no TLS", func(o *store.ClientOptions) { o.TLS = nil }, "TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			o.TLS = tlsOf(t, r)
			c.spoil(&o)
			_, err := open(t, o).Write(t.Context(), store.Batch{Publishes: []store.Proposal{storetest.Proposal("BTCUSDT", 1)}})
			mustHint(t, err, c.hint)
			_, err = open(t, o).Read(t.Context(), []position.Symbol{"BTCUSDT"})
			mustHint(t, err, c.hint)
			_, err = open(t, o).Collect(t.Context(), []position.Symbol{"BTCUSDT"})
			mustHint(t, err, c.hint)
		})
	}
}

func TestDialAsksForModernTLSAndLeavesTheCallersAlone(t *testing.T) {
	mine := &tls.Config{ServerName: "h"}
	rdb := store.Dial(store.ClientOptions{Addr: "h:1", TLS: mine}).(*redis.Client)
	defer rdb.Close()
	if got := rdb.Options().TLSConfig; got.MinVersion != tls.VersionTLS12 || got.ServerName != "h" {
		t.Errorf("TLS from version %x for %s", got.MinVersion, got.ServerName)
	}
	if mine.MinVersion != 0 {
		t.Error("the caller's configuration was changed")
	}
}

// mustHint checks that err helps an operator and gives no secret away.
func mustHint(t *testing.T, err error, hint string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if !strings.Contains(err.Error(), hint) {
		t.Errorf("error %q does not say %q", err, hint)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), password) || strings.Contains(e.Error(), "s3cr3t") {
			t.Errorf("error %q shows the password", e)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	r := realserver.Redis(t)
	useAll(t, open(t, store.ClientOptions{Network: "unix", Addr: r.Socket(), DB: 1}))
}

func TestErrorsOfAnUnreachableServerHelp(t *testing.T) {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(realserver.FreePort(t)))
	s := open(t, store.ClientOptions{Addr: addr, Username: "u", Password: password})
	_, err := s.Write(t.Context(), store.Batch{Publishes: []store.Proposal{storetest.Proposal("BTCUSDT", 1)}})
	mustHint(t, err, "write: redis at "+addr+" refused the connection: is it running? set REDIS_URL")
	_, err = s.Read(t.Context(), []position.Symbol{"BTCUSDT"})
	mustHint(t, err, "is it running?")
	_, err = s.Collect(t.Context(), nil)
	mustHint(t, err, "is it running?")
	_, err = s.AskLease(t.Context(), store.LeaseAsk{Holder: "a#1"})
	mustHint(t, err, "is it running?")
	_, err = s.Remember(t.Context(), nil)
	mustHint(t, err, "is it running?")

	s = open(t, store.ClientOptions{Network: "unix", Addr: filepath.Join(t.TempDir(), "none.sock")})
	_, err = s.Collect(t.Context(), nil)
	mustHint(t, err, "no such socket")
}

func TestStoppedServerIsNotWaitedForLong(t *testing.T) {
	r := realserver.Redis(t)
	s := open(t, store.ClientOptions{Addr: r.Addr(), ReadTimeout: 50 * time.Millisecond, WriteTimeout: 50 * time.Millisecond})
	b := store.Batch{Publishes: []store.Proposal{storetest.Proposal("BTCUSDT", 1)}}
	if _, err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	r.Pause()
	_, err := s.Write(t.Context(), b)
	mustHint(t, err, "did not answer in time")
	slow := open(t, store.ClientOptions{Addr: r.Addr()})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = slow.Write(ctx, b)
	mustHint(t, err, "did not answer in time")
	r.Continue()
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err = s.Write(t.Context(), b); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not come back: %v", err)
		}
	}
}

func TestServerThatRefusesEverythingIsAnError(t *testing.T) {
	r := realserver.Redis(t, realserver.WithUser("reader", password, "~* +hgetall +smembers +time"))
	s := open(t, store.ClientOptions{Addr: r.Addr(), Username: "reader", Password: password})
	_, err := s.Write(t.Context(), store.Batch{Publishes: []store.Proposal{storetest.Proposal("BTCUSDT", 1)}})
	mustHint(t, err, "lacks a permission")
	if _, err := s.Collect(t.Context(), []position.Symbol{"BTCUSDT"}); err != nil {
		t.Errorf("an exporter with a user that may only read: %v", err)
	}
}
