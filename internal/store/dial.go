package store

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ClientOptions says how to reach Redis: one server at Addr, the primary that Sentinels name, or a Cluster.
type ClientOptions struct {
	Network  string      // "tcp" (default) or "unix"
	Addr     string      // host:port, or the path of a socket
	DB       int         // 0 with a Cluster, which has no other
	Username string      // ACL user; blank is the default user
	Password string      // never printed or logged
	TLS      *tls.Config // nil: plain. Of several servers each is checked against its own name

	Sentinels        []string // host:port of each; then Addr is not used
	Primary          string   // the name under which the Sentinels watch it
	SentinelUsername string   // ACL user at the Sentinels
	SentinelPassword string   // never printed or logged

	Cluster []string // host:port of some nodes, which know the others; then Addr is not used

	DialTimeout  time.Duration // of the connection with its handshake, default 2 s
	ReadTimeout  time.Duration // of the answer to one round trip, default 3 s
	WriteTimeout time.Duration // default 3 s
	PoolSize     int           // default: the client's own; of a Cluster: of each node
}

// Dial makes the client that the store and the feeds share. No connection is made before the first operation, so that
// it never matters who starts first.
func Dial(o ClientOptions) redis.UniversalClient {
	o.DialTimeout = cmp.Or(o.DialTimeout, 2*time.Second)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 3*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 3*time.Second)
	if o.TLS != nil {
		o.TLS = o.TLS.Clone()
		o.TLS.MinVersion = max(o.TLS.MinVersion, tls.VersionTLS12)
	}
	switch {
	case len(o.Sentinels) > 0:
		return dialSentinels(o)
	case len(o.Cluster) > 0:
		return dialCluster(o)
	}
	ro := o.server()
	ro.Network, ro.Addr = cmp.Or(o.Network, "tcp"), o.Addr
	return redis.NewClient(ro)
}

// server are the options of a client that speaks to one server.
func (o ClientOptions) server() *redis.Options {
	return &redis.Options{
		DB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: o.TLS,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, PoolSize: o.PoolSize,
		// The caller decides when to try again, with its own pauses and the newest content: a hidden retry would double
		// its deadline and its round trips, and repeat an old write.
		MaxRetries:    -1,
		DialerRetries: 1,
		// The deadline of the caller holds, also where it is shorter than the timeouts.
		ContextTimeoutEnabled: true,
		// Nearly everything sent is a pipeline: a second pool for pipelines would only be a second handshake.
		PipelinePoolSize: -1,
		// RESP2 and no extra handshakes: nothing of RESP3 is used, and a restricted user need not be allowed more.
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// whereabouts says in words where a client looks for its server, and gives what must never appear in a message.
func whereabouts(rdb redis.UniversalClient) (addr string, secrets []string) {
	switch c := rdb.(type) {
	case *redis.Client:
		return c.Options().Addr, []string{c.Options().Password}
	case *failover:
		return c.sentinels.String(), []string{c.Options().Password, c.sentinels.password}
	case *redis.ClusterClient:
		return "cluster " + strings.Join(c.Options().Addrs, ", "), []string{c.Options().Password}
	}
	return "redis", nil
}

// nodeError is what went wrong at one of several servers.
type nodeError struct {
	addr string
	err  error
}

// Error names the server.
func (e *nodeError) Error() string { return fmt.Sprintf("node %s: %v", e.addr, e.err) }

// Unwrap gives what went wrong.
func (e *nodeError) Unwrap() error { return e.err }
