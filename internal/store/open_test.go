package store_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
	"quantumharvest/internal/store/storetest"
)

const password = "s3cr3t-Pa55/wörd"

func open(t *testing.T, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(o)
	if err != nil {
		t.Fatal(err)
	}
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
	if _, err := s.Instance(ctx); err != nil {
		t.Error(err)
	}
	if _, err := s.NewFence(ctx); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Expected(ctx); err != nil {
		t.Error(err)
	}
}

// leastRules are the permissions that the package documentation asks for, and no more.
const leastRules = "~quantum:* +evalsha +script|load +hgetall +hmget +hget +hset +hlen +del +exists +pexpire " +
	"+sadd +srem +smembers +xadd +time +info +ping"

func TestRestrictedUserOverTLS(t *testing.T) {
	r := realserver.Redis(t, realserver.WithTLS(), realserver.WithUser("harvest", password, leastRules))
	host, _, _ := net.SplitHostPort(r.Addr())
	byURL := store.Options{URL: r.URL(), CAFile: r.CAFile(), CertFile: r.CertFile(), KeyFile: r.KeyFile()}
	byHost := store.Options{
		Host: host, Port: r.Port(), TLS: true, Username: "harvest", Password: password,
		CAFile: r.CAFile(), CertFile: r.CertFile(), KeyFile: r.KeyFile(),
	}
	for name, o := range map[string]store.Options{"url": byURL, "host": byHost} {
		t.Run(name, func(t *testing.T) {
			o.Keys = store.NewKeys(store.KeysOptions{Prefix: "quantum:" + name})
			useAll(t, open(t, o))
		})
	}

	t.Run("a key outside the user's pattern is a fault of its own", func(t *testing.T) {
		o := byURL
		o.Keys = store.NewKeys(store.KeysOptions{MarketState: "elsewhere:"})
		res, err := open(t, o).Write(t.Context(), store.Batch{
			Publishes: []store.Proposal{storetest.Proposal("BTCUSDT", 1)},
			States:    []store.MarketStateRecord{{Symbol: "BTCUSDT", TTL: time.Minute}},
		})
		if err != nil || res.Publishes[0].Outcome != store.Done || res.States[0].Outcome != store.Failed {
			t.Fatalf("%+v, %v", res, err)
		}
	})

	for _, c := range []struct {
		name  string
		spoil func(*store.Options)
		hint  string
	}{
		{"unknown authority", func(o *store.Options) { o.CAFile = "" }, "CA file"},
		{"wrong password", func(o *store.Options) { o.Username, o.Password = "harvest", password+"x" }, "check the user and the password"},
		{"no password", func(o *store.Options) { o.URL = "rediss://" + r.Addr() }, "set it in REDIS_URL"},
		{"no TLS", func(o *store.Options) {
			*o = store.Options{URL: strings.Replace(r.URL(), "rediss", "redis", 1)}
		}, "TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := byURL
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
	useAll(t, open(t, store.Options{URL: "unix://" + r.Socket() + "?db=1"}))
}

func TestOpenDoesNotDialAndErrorsHelp(t *testing.T) {
	port := realserver.FreePort(t)
	s := open(t, store.Options{Port: port, Username: "u", Password: password})
	_, _, err := s.Ping(t.Context())
	mustHint(t, err, "refused the connection: is it running? set REDIS_URL")
	_, err = s.Write(t.Context(), store.Batch{Publishes: []store.Proposal{storetest.Proposal("BTCUSDT", 1)}})
	mustHint(t, err, "write: redis at 127.0.0.1:")
	_, err = s.Read(t.Context(), []position.Symbol{"BTCUSDT"})
	mustHint(t, err, "is it running?")
	_, err = s.Collect(t.Context(), nil)
	mustHint(t, err, "is it running?")
	_, err = s.NewFence(t.Context())
	mustHint(t, err, "is it running?")
	_, _, err = s.Expected(t.Context())
	mustHint(t, err, "is it running?")
	_, err = s.Instance(t.Context())
	mustHint(t, err, "is it running?")

	s = open(t, store.Options{URL: "unix://" + filepath.Join(t.TempDir(), "none.sock")})
	_, _, err = s.Ping(t.Context())
	mustHint(t, err, "no such socket")
}

func TestStoppedServerIsNotWaitedForLong(t *testing.T) {
	r := realserver.Redis(t)
	s := open(t, store.Options{URL: r.URL(), ReadTimeout: 50 * time.Millisecond, WriteTimeout: 50 * time.Millisecond})
	b := store.Batch{Publishes: []store.Proposal{storetest.Proposal("BTCUSDT", 1)}}
	if _, err := s.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	r.Pause()
	_, err := s.Write(t.Context(), b)
	mustHint(t, err, "did not answer in time")
	slow := open(t, store.Options{URL: r.URL()})
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
	s := open(t, store.Options{URL: r.URL()})
	_, err := s.Write(t.Context(), store.Batch{Publishes: []store.Proposal{storetest.Proposal("BTCUSDT", 1)}})
	mustHint(t, err, "lacks a permission")
	if _, err := s.Collect(t.Context(), []position.Symbol{"BTCUSDT"}); err != nil {
		t.Errorf("an exporter with a user that may only read: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, hint string
		o          store.Options
	}{
		{"a url that is none", "percent-encoded", store.Options{URL: "redis://u:" + password + "@host:port"}},
		{"another scheme", "redis://", store.Options{URL: "http://u:" + "s3cr3t" + "@host"}},
		{"no verification", "skip_verify", store.Options{URL: "rediss://u:s3cr3t@host/0?skip_verify=true"}},
		{"a CA without TLS", "rediss://", store.Options{CAFile: notPEM}},
		{"a CA that is not there", "CA file", store.Options{TLS: true, CAFile: notPEM + "x"}},
		{"a CA that is none", "no PEM", store.Options{TLS: true, CAFile: notPEM}},
		{"half a client certificate", "both", store.Options{TLS: true, CertFile: notPEM}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := store.Open(c.o)
			mustHint(t, err, c.hint)
		})
	}
}
