package feed

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/realserver"
)

// testRedis is a server to write into and to read from: the embedded one or a real one.
type testRedis struct {
	t    *testing.T
	mini *miniredis.Miniredis // nil: a real one
	real *realserver.RedisServer
	raw  *redis.Client

	mu    sync.Mutex
	runID string // what the embedded one answers to INFO; blank: it refuses
}

// onBoth runs a test on both servers, each of them empty.
func onBoth(t *testing.T, test func(*testing.T, *testRedis)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { test(t, embeddedRedis(t)) })
	t.Run("redis-server", func(t *testing.T) { test(t, realRedis(t)) })
}

func embeddedRedis(t *testing.T) *testRedis {
	t.Helper()
	r := &testRedis{t: t, mini: miniredis.RunT(t), runID: "run-1"}
	r.answerInfo()
	return r.connect()
}

func realRedis(t *testing.T, opts ...realserver.RedisOption) *testRedis {
	t.Helper()
	return (&testRedis{t: t, real: realserver.Redis(t, opts...)}).connect()
}

func (r *testRedis) connect() *testRedis {
	r.raw = r.client()
	return r
}

// client is a new client that neither waits nor tries again.
func (r *testRedis) client() *redis.Client {
	r.t.Helper()
	opts := &redis.Options{}
	if r.mini != nil {
		opts.Addr = r.mini.Addr()
	} else {
		var err error
		if opts, err = redis.ParseURL(r.real.URL()); err != nil {
			r.t.Fatal(err)
		}
	}
	opts.MaxRetries, opts.DialerRetries, opts.ContextTimeoutEnabled = -1, 1, true
	opts.DisableIdentity, opts.Protocol = true, 2
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout = 10*time.Second, 10*time.Second, 10*time.Second
	client := redis.NewClient(opts)
	r.t.Cleanup(func() { _ = client.Close() })
	return client
}

// answerInfo lets the embedded server answer INFO as one of a certain incarnation would.
func (r *testRedis) answerInfo() {
	r.mini.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
		if !strings.EqualFold(cmd, "INFO") {
			return false
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.runID == "" {
			c.WriteError("NOPERM this user has no permissions to run the 'info' command")
		} else {
			c.WriteBulk("# Server\r\nredis_version:7.0.15\r\nrun_id:" + r.runID + "\r\n")
		}
		return true
	})
}

// stop takes the server away; start brings it back, empty and as another incarnation.
func (r *testRedis) stop() {
	if r.mini != nil {
		r.mini.Close()
	} else {
		r.real.Kill()
	}
}

func (r *testRedis) start() {
	r.t.Helper()
	if r.mini == nil {
		r.real.Restart()
	} else {
		if err := r.mini.Restart(); err != nil {
			r.t.Fatal(err)
		}
		r.answerInfo()
		r.mini.FlushAll()
		r.mu.Lock()
		if r.runID != "" {
			r.runID += "+"
		}
		r.mu.Unlock()
	}
	// Connections from before are of no use.
	_ = r.raw.Close()
	r.connect()
}

// do sends one command, which must succeed.
func (r *testRedis) do(args ...any) any {
	r.t.Helper()
	answer, err := r.raw.Do(r.t.Context(), args...).Result()
	if err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
	return answer
}

func (r *testRedis) doAll(command, key string, rest []string) {
	r.t.Helper()
	args := []any{command, key}
	for _, a := range rest {
		args = append(args, a)
	}
	r.do(args...)
}

func (r *testRedis) HSet(key string, pairs ...string) { r.t.Helper(); r.doAll("HSET", key, pairs) }
func (r *testRedis) HDel(key, field string)           { r.t.Helper(); r.do("HDEL", key, field) }
func (r *testRedis) Del(key string)                   { r.t.Helper(); r.do("DEL", key) }
func (r *testRedis) Set(key, value string)            { r.t.Helper(); r.do("SET", key, value) }
func (r *testRedis) SetAdd(key, member string)        { r.t.Helper(); r.do("SADD", key, member) }
func (r *testRedis) RPush(key string, e ...string)    { r.t.Helper(); r.doAll("RPUSH", key, e) }
func (r *testRedis) RPop(key string)                  { r.t.Helper(); r.do("RPOP", key) }
func (r *testRedis) FlushAll()                        { r.t.Helper(); r.do("FLUSHALL") }

func (r *testRedis) ZAdd(key string, score float64, member string) {
	r.t.Helper()
	r.do("ZADD", key, score, member)
}

func (r *testRedis) XAdd(key, id string, pairs []string) string {
	r.t.Helper()
	args := []any{"XADD", key, id}
	for _, p := range pairs {
		args = append(args, p)
	}
	given, _ := r.do(args...).(string)
	return given
}
