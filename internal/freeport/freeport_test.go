package freeport

import (
	"net"
	"strconv"
	"sync"
	"testing"
)

// Many who look at the same time never get the same port, and everybody can listen on his.
func TestFindGivesEveryPortOnce(t *testing.T) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[int]bool{}
	)
	for range 50 {
		wg.Go(func() {
			port, err := Find()
			if err != nil {
				t.Error(err)
				return
			}
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			mu.Lock()
			defer mu.Unlock()
			if seen[port] || port < lowest || port >= highest {
				t.Errorf("port %d", port)
			}
			seen[port] = true
		})
	}
	wg.Wait()
}
