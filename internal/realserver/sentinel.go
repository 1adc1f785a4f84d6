//go:build unix

package realserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sentinels is how many watch, quorum how many of them must find the primary down.
const (
	sentinels = 3
	quorum    = 2
)

// SentinelOptions say what is watched and how.
type SentinelOptions struct {
	Replicas  int           // of the primary; 0: one
	DownAfter time.Duration // silence after which a server counts as down; 0: 1 s
	Servers   []RedisOption // of primary and replicas; TLS holds for the Sentinels, too
	// Username and Password are asked for by the Sentinels; blank: none are.
	Username, Password string
}

// RedisSentinel is a primary with its replicas under the watch of three Sentinels, all of them real and on loopback.
type RedisSentinel struct {
	t         testing.TB
	servers   []*RedisServer
	sentinels []*RedisServer
}

// Sentinel starts a primary, its replicas and three Sentinels, and waits until every replica follows and the Sentinels
// know each other. All are stopped when the test ends.
func Sentinel(t testing.TB, o SentinelOptions) *RedisSentinel {
	t.Helper()
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.DownAfter == 0 {
		o.DownAfter = time.Second
	}
	s := &RedisSentinel{t: t, servers: groupOf(t, 1+o.Replicas, o.Servers)}
	for i, r := range s.servers {
		// A Sentinel changes who follows whom, and servers write that down for their next start.
		r.conf = r.write("redis.conf", "")
		r.flags = append(r.flags, "--repl-diskless-sync-delay", "0")
		if i > 0 {
			r.conf = r.write("redis.conf", fmt.Sprintf("replicaof 127.0.0.1 %d\n", s.servers[0].port))
		}
		r.launch()
	}
	for range sentinels {
		s.sentinels = append(s.sentinels, s.watch(o))
	}
	t.Cleanup(func() {
		for _, r := range s.sentinels {
			if t.Failed() {
				t.Logf("the Sentinel on port %d said:\n%s", r.port, r.log.String())
			}
		}
	})
	s.WaitReady()
	return s
}

// watch starts one Sentinel.
func (s *RedisSentinel) watch(o SentinelOptions) *RedisServer {
	s.t.Helper()
	r := newRedis(s.t, nil)
	r.sentinel, r.tls = true, s.servers[0].tls
	name, down := s.Name(), o.DownAfter.Milliseconds()
	conf := fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d\n", name, s.servers[0].port, quorum) +
		fmt.Sprintf("sentinel down-after-milliseconds %s %d\n", name, down) +
		// A failover that does not succeed is tried again after twice this time.
		fmt.Sprintf("sentinel failover-timeout %s %d\n", name, 3*down)
	if s.servers[0].insider {
		conf += fmt.Sprintf("sentinel auth-user %s %s\nsentinel auth-pass %s %s\n", name, insiderName, name, insiderPassword)
	}
	if o.Username != "" {
		r.user, r.pass, r.acl, r.insider = o.Username, o.Password, "&* +@all", true
		conf += fmt.Sprintf("sentinel sentinel-user %s\nsentinel sentinel-pass %s\n", insiderName, insiderPassword)
	}
	r.conf = r.write("sentinel.conf", conf)
	r.launch()
	// A Sentinel looks around every ten seconds and announces itself every two; four announcements must have gone by
	// before it puts an old primary right. One that had no processor for two seconds does nothing for thirty (TILT). All that is
	// the same at a faster pace.
	r.must("SENTINEL", "DEBUG", "INFO-PERIOD", 1000, "PUBLISH-PERIOD", 250, "TILT-PERIOD", 3000)
	return r
}

// write puts a configuration into the directory of the server.
func (r *RedisServer) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatalf("write %s: %v", name, err)
	}
	return path
}

// Name is the name under which the Sentinels watch the primary.
func (*RedisSentinel) Name() string { return "harvest" }

// Servers are the primary and its replicas, first the one that began as primary.
func (s *RedisSentinel) Servers() []*RedisServer { return slices.Clone(s.servers) }

// Sentinels are the three that watch.
func (s *RedisSentinel) Sentinels() []*RedisServer { return slices.Clone(s.sentinels) }

// Addrs are host:port of the Sentinels.
func (s *RedisSentinel) Addrs() []string {
	addrs := make([]string, len(s.sentinels))
	for i, r := range s.sentinels {
		addrs[i] = r.Addr()
	}
	return addrs
}

// Primary is the server that all running Sentinels name as primary and that says so itself. It waits for that: while a
// failover is under way there is no answer.
func (s *RedisSentinel) Primary() *RedisServer {
	s.t.Helper()
	var primary *RedisServer
	await(s.t, "the Sentinels agree on a primary", func() (err error) {
		primary, err = s.named()
		if err != nil {
			return err
		}
		role, err := primary.infoLine("replication", "role")
		if err == nil && role != "master" {
			err = fmt.Errorf("port %d says that it is a %s", primary.port, role)
		}
		return err
	})
	return primary
}

// named is the server that all running Sentinels name.
func (s *RedisSentinel) named() (*RedisServer, error) {
	var agreed string
	for _, r := range s.sentinels {
		if !r.answering() {
			continue
		}
		answer, err := r.order("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name())
		if err != nil {
			return nil, err
		}
		addr, _ := answer.([]any)
		if len(addr) != 2 {
			return nil, fmt.Errorf("the Sentinel on port %d names %v", r.port, answer)
		}
		port := fmt.Sprint(addr[1])
		if agreed != "" && port != agreed {
			return nil, fmt.Errorf("ports %s and %s are named", agreed, port)
		}
		agreed = port
	}
	for _, r := range s.servers {
		if strconv.Itoa(r.port) == agreed {
			return r, nil
		}
	}
	return nil, errors.New("no Sentinel runs")
}

// WaitFailover waits until another server than old is primary, and gives it.
func (s *RedisSentinel) WaitFailover(old *RedisServer) *RedisServer {
	s.t.Helper()
	var primary *RedisServer
	await(s.t, "another server becomes primary", func() error {
		if primary = s.Primary(); primary == old {
			return fmt.Errorf("port %d still is", old.port)
		}
		return nil
	})
	return primary
}

// Failover makes a replica the primary by order (SENTINEL FAILOVER), and gives it. The old primary becomes its replica.
func (s *RedisSentinel) Failover() *RedisServer {
	s.t.Helper()
	old := s.Primary()
	var primary *RedisServer
	var ordered time.Time
	await(s.t, "another server becomes primary by order", func() error {
		if primary = s.Primary(); primary != old {
			return nil
		}
		// A Sentinel gives up one that was ordered if the replica does not take part in time, and does not begin again.
		if time.Since(ordered) > 5*time.Second {
			if err := s.failOver(); err != nil {
				return err
			}
			ordered = time.Now()
		}
		return fmt.Errorf("port %d still is", old.port)
	})
	return primary
}

// failOver has the first Sentinel that runs begin. That it has begun already is as good.
func (s *RedisSentinel) failOver() error {
	for _, r := range s.sentinels {
		if !r.answering() {
			continue
		}
		if _, err := r.order("SENTINEL", "FAILOVER", s.Name()); err != nil && !strings.Contains(err.Error(), "INPROG") {
			return err
		}
		return nil
	}
	return errors.New("no Sentinel runs")
}

// WaitReady waits until the running Sentinels know each other and agree on the primary, and every other running server
// follows it.
func (s *RedisSentinel) WaitReady() {
	s.t.Helper()
	await(s.t, "the Sentinels are ready", func() error {
		// Each time anew: on a busy machine a server that is late counts as down, and another one takes over.
		primary, err := s.named()
		if err != nil {
			return err
		}
		if role, err := primary.infoLine("replication", "role"); err != nil || role != "master" {
			return errors.Join(err, fmt.Errorf("the Sentinels name port %d, which is a %s", primary.port, role))
		}
		for _, r := range s.sentinels {
			if !r.answering() {
				continue
			}
			answer, err := r.order("SENTINEL", "MASTER", s.Name())
			if err != nil {
				return err
			}
			about := pairs(answer)
			if n := about["num-other-sentinels"]; n != strconv.Itoa(sentinels-1) {
				return fmt.Errorf("the Sentinel on port %d knows %s others", r.port, n)
			}
			if n := about["num-slaves"]; n != strconv.Itoa(len(s.servers)-1) {
				return fmt.Errorf("the Sentinel on port %d knows %s replicas", r.port, n)
			}
			if flags := about["flags"]; flags != "master" {
				return fmt.Errorf("the Sentinel on port %d finds the primary %s", r.port, flags)
			}
			replicas, err := r.order("SENTINEL", "REPLICAS", s.Name())
			if err != nil {
				return err
			}
			list, _ := replicas.([]any)
			for _, one := range list {
				about := pairs(one)
				server := s.onPort(about["port"])
				if server == nil || !server.answering() {
					continue
				}
				if about["flags"] != "slave" {
					return fmt.Errorf("the Sentinel on port %d finds the replica on port %s %s", r.port, about["port"], about["flags"])
				}
			}
		}
		for _, r := range s.servers {
			if !r.answering() {
				continue
			}
			if err := follows(r); err != nil {
				return err
			}
			if r == primary {
				continue
			}
			role, err := r.infoLine("replication", "role")
			if err != nil {
				return err
			}
			if role != "slave" {
				return fmt.Errorf("port %d is a %s", r.port, role)
			}
		}
		return nil
	})
}

func (s *RedisSentinel) onPort(port string) *RedisServer {
	for _, r := range s.servers {
		if strconv.Itoa(r.port) == port {
			return r
		}
	}
	return nil
}

// pairs makes a map of an answer that names and values take turns in.
func pairs(answer any) map[string]string {
	list, _ := answer.([]any)
	m := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		m[fmt.Sprint(list[i])] = fmt.Sprint(list[i+1])
	}
	return m
}
