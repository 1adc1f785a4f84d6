//go:build unix

package realserver

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports of servers lie below the range from which the kernel takes those of outgoing connections: otherwise a client that
// keeps dialing a server that was killed connects to itself now and then, and the server cannot come back.
const (
	lowestPort  = 15000
	highestPort = 32700
)

// FreePort is a loopback port that nobody listens on at the moment.
func FreePort(t testing.TB) int {
	t.Helper()
	var err error
	for range 100 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatalf("no free port: %v", err)
	return 0
}
