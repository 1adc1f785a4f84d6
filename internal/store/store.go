// Package store is the wire contract on Redis and nothing else: the names of the keys, the schema of the proposal hash,
// and the atomic steps by which it is published, beaten and closed. Publish, beat and close are one script each on the
// server, and whatever a step of the engine wants written goes there in one pipelined round trip.
//
// A Store promises: a reader never sees half a hash; a beat never creates one; a write under a lower fence than the one
// in the hash changes nothing; nothing counts as written that the server did not confirm.
//
// The Redis user needs the commands EVALSHA, SCRIPT LOAD, HGETALL, HMGET, HGET, HSET, HLEN, DEL, EXISTS, PEXPIRE, SADD,
// SREM, SMEMBERS, XADD, TIME, INFO and PING on the keys of the contract.
package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Options says how to reach Redis. URL wins over Host, Port and DB; Username and Password win over those in the URL.
type Options struct {
	URL      string // redis://, rediss:// (TLS) or unix://
	Host     string // default 127.0.0.1
	Port     int    // default 6379
	DB       int
	Username string // ACL user; blank is the default user
	Password string // never printed or logged

	TLS      bool   // with Host and Port; a rediss:// URL implies it
	CAFile   string // PEM with the authorities to trust; blank is the system's
	CertFile string // PEM client certificate, together with KeyFile
	KeyFile  string

	DialTimeout  time.Duration // default 2 s
	ReadTimeout  time.Duration // of one whole round trip, default 3 s
	WriteTimeout time.Duration // default 3 s
	PoolSize     int           // default: the client's own

	Keys Keys // the zero value is the contract's default names
}

// Option changes a Store from its default.
type Option func(*Store)

// WithStreams makes publishes and produced records go to their streams, too, when on.
func WithStreams(on bool) Option { return func(s *Store) { s.streams = on } }

// Store reads and writes the wire contract. It is safe for concurrent use. It writes for one writer at a time: beats
// and closes that name no fence go under the highest this Store has issued or written.
type Store struct {
	rdb     redis.UniversalClient
	keys    Keys
	streams bool
	addr    string // for messages
	secret  string // never to appear in one

	loaded atomic.Bool // the scripts were loaded once; a restart of the server shows as NOSCRIPT
	mu     sync.Mutex
	fence  int64
}

// Open makes a Store for the Redis that o names. It does not connect: a server that is not there yet shows in the first
// operation, and heals by itself.
func Open(o Options, options ...Option) (*Store, error) {
	ro, err := clientOptions(o)
	if err != nil {
		return nil, err
	}
	keys := o.Keys
	if keys == (Keys{}) {
		keys = NewKeys(KeysOptions{})
	}
	s := New(redis.NewClient(ro), keys, options...)
	s.addr, s.secret = ro.Addr, ro.Password
	return s, nil
}

// New makes a Store on a client of the caller's making (Sentinel, Cluster). The Store closes it.
func New(rdb redis.UniversalClient, keys Keys, options ...Option) *Store {
	s := &Store{rdb: rdb, keys: keys, addr: "redis"}
	if c, ok := rdb.(*redis.Client); ok {
		s.addr, s.secret = c.Options().Addr, c.Options().Password
	}
	for _, o := range options {
		o(s)
	}
	return s
}

// Keys are the names this Store works under.
func (s *Store) Keys() Keys { return s.keys }

// Addr is where the Store expects Redis, for messages; it carries no credentials.
func (s *Store) Addr() string { return s.addr }

// Close releases the connections. Operations under way fail.
func (s *Store) Close() error { return s.rdb.Close() }

func clientOptions(o Options) (*redis.Options, error) {
	ro := &redis.Options{}
	if o.URL != "" {
		parsed, err := redis.ParseURL(o.URL)
		if err != nil {
			// The cause would quote parts of the URL, the password among them.
			return nil, fmt.Errorf("redis url cannot be read: write redis://[user:password@]host:port/db, rediss:// for TLS or " +
				"unix:///path/to/socket, with special characters in the password percent-encoded")
		}
		ro = parsed
	} else {
		host, port := o.Host, o.Port
		if host == "" {
			host = "127.0.0.1"
		}
		if port == 0 {
			port = 6379
		}
		ro.Addr, ro.DB = net.JoinHostPort(host, strconv.Itoa(port)), o.DB
		if o.TLS {
			ro.TLSConfig = &tls.Config{ServerName: host}
		}
	}
	if o.Username != "" {
		ro.Username = o.Username
	}
	if o.Password != "" {
		ro.Password = o.Password
	}
	if err := addTLS(ro, o); err != nil {
		return nil, err
	}
	ro.DialTimeout = orElse(o.DialTimeout, ro.DialTimeout, 2*time.Second)
	ro.ReadTimeout = orElse(o.ReadTimeout, ro.ReadTimeout, 3*time.Second)
	ro.WriteTimeout = orElse(o.WriteTimeout, ro.WriteTimeout, 3*time.Second)
	if o.PoolSize > 0 {
		ro.PoolSize = o.PoolSize
	}
	// The caller decides when to try again: a hidden retry would double its deadline and its round trips.
	ro.MaxRetries = -1
	ro.DialerRetries = 1
	ro.ContextTimeoutEnabled = true
	ro.PipelinePoolSize = -1
	// RESP2 and no extra handshakes: nothing of RESP3 is used, and a restricted user need not be allowed more.
	ro.Protocol = 2
	ro.DisableIdentity = true
	ro.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return ro, nil
}

func orElse(d ...time.Duration) time.Duration {
	for _, v := range d {
		if v > 0 {
			return v
		}
	}
	return 0
}

func addTLS(ro *redis.Options, o Options) error {
	files := o.CAFile != "" || o.CertFile != "" || o.KeyFile != ""
	if ro.TLSConfig == nil {
		if files {
			return fmt.Errorf("redis tls files are given, but the connection is not TLS: write a rediss:// url")
		}
		return nil
	}
	if ro.TLSConfig.InsecureSkipVerify {
		return fmt.Errorf("redis url says skip_verify: an unverified server could be anyone; give its authority as CA file instead")
	}
	ro.TLSConfig.MinVersion = tls.VersionTLS12
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return fmt.Errorf("redis CA file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return fmt.Errorf("redis CA file %s holds no PEM certificate", o.CAFile)
		}
		ro.TLSConfig.RootCAs = pool
	}
	if o.CertFile != "" || o.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return fmt.Errorf("redis client certificate (both CertFile and KeyFile are needed): %w", err)
		}
		ro.TLSConfig.Certificates = []tls.Certificate{cert}
	}
	return nil
}

// Ping asks Redis for its time: how long the round trip took and what the clock of the server said.
func (s *Store) Ping(ctx context.Context) (rtt time.Duration, serverTime time.Time, err error) {
	start := time.Now()
	serverTime, err = s.rdb.Time(ctx).Result()
	if err != nil {
		return 0, time.Time{}, s.fault("ask for the time", err)
	}
	return time.Since(start), serverTime, nil
}

// NewFence issues a fence: the clock of the server in microseconds, and never one at or below what this Store has issued
// or written before.
func (s *Store) NewFence(ctx context.Context) (int64, error) {
	t, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return 0, s.fault("take a fence", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fence = max(s.fence+1, t.UnixMicro())
	return s.fence, nil
}

// Instance identifies the running server: its run id, another one after every restart.
func (s *Store) Instance(ctx context.Context) (string, error) {
	info, err := s.rdb.Info(ctx, "server").Result()
	if err != nil {
		return "", s.fault("read the run id", err)
	}
	for line := range strings.Lines(info) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "run_id:"); ok && id != "" {
			return id, nil
		}
	}
	return "", fmt.Errorf("redis at %s: INFO carries no run_id", s.addr)
}

// seenFence remembers a fence that was written under, and gives the one for an operation that names f.
func (s *Store) seenFence(f int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fence = max(s.fence, f)
	return s.fence
}
