// Package freeport finds loopback ports for servers that are started for a while: by tests, and by drills.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports of servers lie below the range from which the kernel takes those of outgoing connections: otherwise another
// connection takes the port before its server does, and a client that keeps dialing a server that was killed connects to
// itself now and then, and the server cannot come back.
const (
	lowest  = 15000
	highest = 32700
)

var (
	mu    sync.Mutex
	given = map[int]bool{}
)

// Find gives a port of 127.0.0.1 that nobody listens on at the moment. A process gets every port once only.
func Find() (int, error) {
	mu.Lock()
	defer mu.Unlock()
	err := errors.New("all were given away")
	for range 1000 {
		port := lowest + rand.IntN(highest-lowest)
		if given[port] {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			given[port] = true
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port from %d to %d: %w", lowest, highest, err)
}
