//go:build unix

package realserver

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// The user that servers of one group have for each other, and that the harness gives its orders as.
const (
	insiderName     = "insider"
	insiderPassword = "only-for-tests"
)

// groupOf makes the servers of a group: with TLS they share one authority, with a user they have the insider as well.
func groupOf(t testing.TB, n int, opts []RedisOption) []*RedisServer {
	t.Helper()
	servers := make([]*RedisServer, n)
	for i := range servers {
		r := newRedis(t, opts)
		if r.tls != nil {
			if i == 0 {
				r.tls = newCertificates(t, r.dir)
			} else {
				r.tls = servers[0].tls
			}
		}
		if r.user != "" {
			r.insider = true
			r.flags = append(r.flags, "--masteruser", insiderName, "--masterauth", insiderPassword)
		}
		servers[i] = r
	}
	return servers
}

// order sends one command over the unix socket, where neither TLS nor a port that moved is in the way.
func (r *RedisServer) order(args ...any) (any, error) {
	if !r.answering() {
		return nil, fmt.Errorf("port %d: the server does not run or is paused", r.port)
	}
	o := &redis.Options{
		Network: "unix", Addr: r.Socket(), Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
		PoolSize: 1, PipelinePoolSize: -1, ReadTimeout: 5 * time.Second,
	}
	if r.insider {
		o.Username, o.Password = insiderName, insiderPassword
	}
	c := redis.NewClient(o)
	defer c.Close()
	answer, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		return nil, fmt.Errorf("%s on port %d: %w", args[0], r.port, err)
	}
	return answer, nil
}

// must is order for what cannot fail while the server runs.
func (r *RedisServer) must(args ...any) any {
	r.t.Helper()
	answer, err := r.order(args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer
}

// infoLine is one line of INFO, blank where there is none.
func (r *RedisServer) infoLine(section, name string) (string, error) {
	answer, err := r.order("INFO", section)
	if err != nil {
		return "", err
	}
	return lineOf(fmt.Sprint(answer), name), nil
}

// lineOf is the value of a line NAME:VALUE.
func lineOf(text, name string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// await polls until check says that all is well, and fails the test with what it said last where that takes too long.
func await(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * readyWithin)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, 2*readyWithin, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
