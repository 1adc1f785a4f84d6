//go:build unix

package realserver_test

import (
	"strings"
	"testing"

	"quantumharvest/internal/realserver"
)

// keysByMaster finds one key for each master.
func keysByMaster(t *testing.T, c *realserver.RedisCluster) map[*realserver.RedisServer]string {
	t.Helper()
	keys := map[*realserver.RedisServer]string{}
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"} {
		if m := c.MasterOf(key); m != nil && keys[m] == "" {
			keys[m] = key
		}
	}
	return keys
}

func TestClusterServesEverySlotOnce(t *testing.T) {
	c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
	keys := keysByMaster(t, c)
	if len(keys) != 3 || len(c.Addrs()) != 3 {
		t.Fatalf("%d masters serve keys, at %v", len(keys), c.Addrs())
	}
	for master, key := range keys {
		for _, r := range c.Servers() {
			got, err := ask(t, r.Addr(), "SET "+key+" 1")
			if want := "+OK"; err != nil || (r == master) != (got == want) {
				t.Errorf("SET %s on port %d: %q, %v", key, r.Port(), got, err)
			} else if r != master && (!strings.HasPrefix(got, "-MOVED ") || !strings.HasSuffix(got, " "+master.Addr())) {
				t.Errorf("SET %s on port %d: %q", key, r.Port(), got)
			}
		}
	}

	// Without its replica a dead master's slots are gone, and only those.
	dead := c.Servers()[1]
	dead.Kill()
	for master, key := range keys {
		if master == dead {
			continue
		}
		if got, err := ask(t, master.Addr(), "EXISTS "+key); err != nil || got != ":1" {
			t.Errorf("EXISTS %s while another master is dead: %q, %v", key, got, err)
		}
	}
	dead.Restart()
	c.WaitReady()
	if got, err := ask(t, dead.Addr(), "EXISTS "+keys[dead]); err != nil || got != ":0" {
		t.Errorf("after a restart EXISTS = %q, %v", got, err)
	}
}

func TestClusterReplicaTakesOver(t *testing.T) {
	c := realserver.Cluster(t, realserver.ClusterOptions{Replicas: 1})
	first := c.MasterOf("a")
	replicas := c.ReplicasOf(first)
	if len(replicas) != 1 {
		t.Fatalf("%d replicas", len(replicas))
	}
	if got, err := ask(t, first.Addr(), "SET a 1"); err != nil || got != "+OK" {
		t.Fatalf("SET = %q, %v", got, err)
	}

	// By order: nothing is lost.
	c.Promote(replicas[0])
	second := c.MasterOf("a")
	if second != replicas[0] {
		t.Fatal("the replica that was promoted does not serve")
	}
	if got, err := ask(t, second.Addr(), "EXISTS a"); err != nil || got != ":1" {
		t.Fatalf("EXISTS = %q, %v", got, err)
	}

	// By death: the one that was master before is master again.
	second.Kill()
	c.WaitFailover(second)
	if third := c.MasterOf("a"); third != first {
		t.Fatalf("port %d serves", third.Port())
	}
	second.Restart()
	c.WaitReady()
	if got := c.ReplicasOf(first); len(got) != 1 || got[0] != second {
		t.Fatalf("%d replicas", len(got))
	}

	// By silence.
	first.Pause()
	c.WaitFailover(first)
	if c.MasterOf("a") != second {
		t.Fatal("the replica of a paused master does not serve")
	}
	first.Continue()
	c.WaitReady()
	if got := c.ReplicasOf(second); len(got) != 1 || got[0] != first {
		t.Fatalf("%d replicas", len(got))
	}
}
