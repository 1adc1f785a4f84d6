//go:build unix

package realserver_test

import (
	"testing"

	"quantumharvest/internal/realserver"
)

func TestSentinelChangesThePrimary(t *testing.T) {
	s := realserver.Sentinel(t, realserver.SentinelOptions{})
	if len(s.Addrs()) != 3 || len(s.Servers()) != 2 {
		t.Fatalf("%d Sentinels, %d servers", len(s.Addrs()), len(s.Servers()))
	}
	first := s.Primary()
	if first != s.Servers()[0] {
		t.Fatal("the primary is not the first server")
	}
	if got, err := ask(t, first.Addr(), "SET a 1"); err != nil || got != "+OK" {
		t.Fatalf("SET = %q, %v", got, err)
	}

	// By order: the old primary follows the new one.
	second := s.Failover()
	s.WaitReady()
	if got, err := ask(t, second.Addr(), "EXISTS a"); err != nil || got != ":1" {
		t.Fatalf("EXISTS = %q, %v", got, err)
	}

	// By death, and back: what the killed one held does not matter any more.
	second.Kill()
	if third := s.WaitFailover(second); third != first {
		t.Fatalf("port %d is primary", third.Port())
	}
	second.Restart()
	s.WaitReady()
	if got, err := ask(t, second.Addr(), "EXISTS a"); err != nil || got != ":1" {
		t.Fatalf("on the replica EXISTS = %q, %v", got, err)
	}

	// By silence: continued, it is a replica.
	first.Pause()
	if fourth := s.WaitFailover(first); fourth != second {
		t.Fatalf("port %d is primary", fourth.Port())
	}
	first.Continue()
	s.WaitReady()
	if got, err := ask(t, first.Addr(), "SET a 2"); err != nil || got != "-READONLY You can't write against a read only replica." {
		t.Fatalf("SET on the old primary = %q, %v", got, err)
	}
}
