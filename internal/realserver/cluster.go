//go:build unix

package realserver

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// clusterMasters is the smallest number of masters that can lose one and still decide by majority.
	clusterMasters = 3
	clusterSlots   = 16384
)

// ClusterOptions say what a Redis Cluster is made of.
type ClusterOptions struct {
	Replicas    int           // of each of the three masters
	NodeTimeout time.Duration // after which a silent node counts as failed; 0: 1 s
	// Partial keeps slots in service while others are not (cluster-require-full-coverage no). Redis' own default is that
	// one slot without a master takes all of them out of service.
	Partial bool
	Servers []RedisOption // of every node
}

// RedisCluster is a Redis Cluster of real servers on loopback: three masters that share the slots evenly, each with as
// many replicas as were asked for.
type RedisCluster struct {
	t       testing.TB
	servers []*RedisServer
}

// Cluster starts a Redis Cluster and waits until every node serves and every replica follows. Its nodes are stopped when
// the test ends.
func Cluster(t testing.TB, o ClusterOptions) *RedisCluster {
	t.Helper()
	if o.NodeTimeout == 0 {
		o.NodeTimeout = time.Second
	}
	coverage := "yes"
	if o.Partial {
		coverage = "no"
	}
	c := &RedisCluster{t: t, servers: groupOf(t, clusterMasters*(1+o.Replicas), o.Servers)}
	for i, r := range c.servers {
		r.bus = 1 // launch finds a real one
		r.flags = append(r.flags,
			"--cluster-config-file", filepath.Join(r.dir, "nodes.conf"), "--cluster-require-full-coverage", coverage,
			"--cluster-node-timeout", strconv.FormatInt(o.NodeTimeout.Milliseconds(), 10),
			// A replica takes over however old its data is, and follows without waiting for others to join. It is told of
			// once its master has sent it something, if only a ping.
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
		r.launch()
		// An epoch for each master from the start: there is nothing to settle later on.
		r.must("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i < clusterMasters {
			r.must("CLUSTER", "ADDSLOTSRANGE", i*clusterSlots/clusterMasters, (i+1)*clusterSlots/clusterMasters-1)
		}
		if i > 0 {
			r.must("CLUSTER", "MEET", "127.0.0.1", c.servers[0].port, c.servers[0].bus)
		}
	}
	for i, r := range c.servers[clusterMasters:] {
		id := c.servers[i%clusterMasters].must("CLUSTER", "MYID")
		await(t, "a replica meets its master", func() error {
			_, err := r.order("CLUSTER", "REPLICATE", id)
			return err
		})
	}
	c.WaitReady()
	return c
}

// Servers are all nodes: first those that began as masters, in the order of their slots.
func (c *RedisCluster) Servers() []*RedisServer { return slices.Clone(c.servers) }

// Addrs are host:port of all nodes.
func (c *RedisCluster) Addrs() []string {
	addrs := make([]string, len(c.servers))
	for i, r := range c.servers {
		addrs[i] = r.Addr()
	}
	return addrs
}

// slotRange is a row of CLUSTER SLOTS: who serves which slots, the master first.
type slotRange struct {
	from, to int64
	ports    []int64
}

// slots is the view that one node has of the cluster, by slot.
func (c *RedisCluster) slots(r *RedisServer) ([]slotRange, error) {
	answer, err := r.order("CLUSTER", "SLOTS")
	if err != nil {
		return nil, err
	}
	rows, _ := answer.([]any)
	view := make([]slotRange, 0, len(rows))
	for _, row := range rows {
		cells, _ := row.([]any)
		if len(cells) < 3 {
			return nil, fmt.Errorf("CLUSTER SLOTS on port %d says %v", r.port, row)
		}
		var s slotRange
		s.from, _ = cells[0].(int64)
		s.to, _ = cells[1].(int64)
		for _, node := range cells[2:] {
			if about, _ := node.([]any); len(about) > 1 {
				port, _ := about[1].(int64)
				s.ports = append(s.ports, port)
			}
		}
		slices.Sort(s.ports[1:])
		view = append(view, s)
	}
	slices.SortFunc(view, func(a, b slotRange) int { return int(a.from - b.from) })
	return view, nil
}

// running are the nodes that can be asked.
func (c *RedisCluster) running() []*RedisServer {
	return slices.DeleteFunc(c.Servers(), func(r *RedisServer) bool { return !r.answering() })
}

// WaitReady waits until all running nodes say that the cluster is whole, agree on who serves what, and every replica
// among them has all of its master's data. It fails the test where that never comes, as after a master without a replica
// was killed.
func (c *RedisCluster) WaitReady() {
	c.t.Helper()
	await(c.t, "the cluster is ready", func() error { return c.check(len(c.running())) })
}

func (c *RedisCluster) check(nodes int) error {
	var agreed []slotRange
	for i, r := range c.running() {
		info, err := r.order("CLUSTER", "INFO")
		if err != nil {
			return err
		}
		text := fmt.Sprint(info)
		if state := lineOf(text, "cluster_state"); state != "ok" {
			return fmt.Errorf("the state on port %d is %s", r.port, state)
		}
		if n := lineOf(text, "cluster_slots_ok"); n != strconv.Itoa(clusterSlots) {
			return fmt.Errorf("%s slots are served on port %d", n, r.port)
		}
		view, err := c.slots(r)
		if err != nil {
			return err
		}
		if i == 0 {
			agreed = view
		}
		if fmt.Sprint(view) != fmt.Sprint(agreed) {
			return fmt.Errorf("ports %d and %d do not agree: %v, %v", c.running()[0].port, r.port, agreed, view)
		}
		if err := follows(r); err != nil {
			return err
		}
	}
	listed := map[int64]bool{}
	for _, s := range agreed {
		for _, port := range s.ports {
			listed[port] = true
		}
	}
	for _, r := range c.running() {
		if !listed[int64(r.port)] {
			return fmt.Errorf("port %d has no part in %v", r.port, agreed)
		}
	}
	if len(listed) < nodes {
		return fmt.Errorf("%d of %d nodes have a part", len(listed), nodes)
	}
	return nil
}

// follows tells what a replica still lacks of its master's data, and which replica a master sends nothing yet: after a full
// copy it waits for the first word of the replica, up to a second, and what is written until then is lost if it dies.
func follows(r *RedisServer) error {
	info, err := r.order("INFO", "replication")
	if err != nil {
		return err
	}
	text := fmt.Sprint(info)
	if lineOf(text, "role") == "slave" && lineOf(text, "master_link_status") != "up" {
		return fmt.Errorf("port %d does not follow its master", r.port)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "slave") && strings.Contains(line, ",state=") && (!strings.Contains(line, "state=online") || strings.Contains(line, ",offset=0,")) {
			return fmt.Errorf("port %d sends nothing yet to its replica: %s", r.port, strings.TrimSpace(line))
		}
	}
	return nil
}

// MasterOf is the node that serves a key, in the view of the running nodes; nil while none of them does.
func (c *RedisCluster) MasterOf(key string) *RedisServer {
	c.t.Helper()
	for _, r := range c.running() {
		slot, _ := r.must("CLUSTER", "KEYSLOT", key).(int64)
		view, err := c.slots(r)
		if err != nil {
			continue
		}
		for _, s := range view {
			if slot < s.from || slot > s.to {
				continue
			}
			for _, node := range c.servers {
				if int64(node.port) == s.ports[0] {
					return node
				}
			}
		}
	}
	return nil
}

// WaitFailover waits until a replica has taken over all slots of a master that was killed or paused, and every running
// node knows.
func (c *RedisCluster) WaitFailover(old *RedisServer) {
	c.t.Helper()
	await(c.t, "a replica takes over", func() error {
		for _, r := range c.running() {
			view, err := c.slots(r)
			if err != nil {
				return err
			}
			for _, s := range view {
				if s.ports[0] == int64(old.port) {
					return fmt.Errorf("port %d still has slots in the view of port %d", old.port, r.port)
				}
			}
		}
		return nil
	})
	c.WaitReady()
}

// ReplicasOf are the nodes that follow a master, in the view of the running nodes.
func (c *RedisCluster) ReplicasOf(master *RedisServer) []*RedisServer {
	c.t.Helper()
	var replicas []*RedisServer
	for _, r := range c.running() {
		port, err := r.infoLine("replication", "master_port")
		if err == nil && port == strconv.Itoa(master.port) {
			replicas = append(replicas, r)
		}
	}
	return replicas
}

// Promote makes a replica the master of its slots (CLUSTER FAILOVER): the old master hands over all of its data first.
// It waits until every running node knows.
func (c *RedisCluster) Promote(replica *RedisServer) {
	c.t.Helper()
	await(c.t, "a replica takes over by order", func() error {
		role, err := replica.infoLine("replication", "role")
		if err != nil || role == "master" {
			return err
		}
		if _, err := replica.order("CLUSTER", "FAILOVER"); err != nil && !strings.Contains(err.Error(), "in progress") {
			return err
		}
		return fmt.Errorf("port %d is still a replica", replica.port)
	})
	c.WaitReady()
}
