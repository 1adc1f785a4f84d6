package store

import (
	"cmp"
	"crypto/tls"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ClientOptions says how to reach Redis.
type ClientOptions struct {
	Network  string // "tcp" (default) or "unix"
	Addr     string // host:port, or the path of a socket
	DB       int
	Username string      // ACL user; blank is the default user
	Password string      // never printed or logged
	TLS      *tls.Config // nil: plain

	DialTimeout  time.Duration // of the connection with its handshake, default 2 s
	ReadTimeout  time.Duration // of the answer to one round trip, default 3 s
	WriteTimeout time.Duration // default 3 s
	PoolSize     int           // default: the client's own
}

// Dial makes the client that the store and the feeds share. No connection is made before the first operation, so that
// it never matters who starts first.
func Dial(o ClientOptions) *redis.Client {
	ro := &redis.Options{
		Network: cmp.Or(o.Network, "tcp"), Addr: o.Addr, DB: o.DB, Username: o.Username, Password: o.Password,
		DialTimeout:  cmp.Or(o.DialTimeout, 2*time.Second),
		ReadTimeout:  cmp.Or(o.ReadTimeout, 3*time.Second),
		WriteTimeout: cmp.Or(o.WriteTimeout, 3*time.Second),
		PoolSize:     o.PoolSize,
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
	if o.TLS != nil {
		ro.TLSConfig = o.TLS.Clone()
		ro.TLSConfig.MinVersion = max(ro.TLSConfig.MinVersion, tls.VersionTLS12)
	}
	return redis.NewClient(ro)
}
