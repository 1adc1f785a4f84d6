package store_test

import (
	"testing"

	"quantumharvest/internal/embedded"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store/storetest"
)

func TestContractOnRedisServer(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Server {
		r := realserver.Redis(t)
		return storetest.Server{Addr: r.Addr(), Restart: r.Restart}
	})
}

func TestContractOnEmbedded(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Server {
		start := func(addr string) *embedded.Server {
			s, err := embedded.Start(embedded.Options{Addr: addr})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		running := start("127.0.0.1:0")
		addr := running.Addr()
		t.Cleanup(func() { _ = running.Close() })
		return storetest.Server{
			Addr: addr,
			Restart: func() {
				_ = running.Close()
				running = start(addr)
				if running.Moved() {
					t.Fatalf("the port %s was taken meanwhile", addr)
				}
			},
		}
	})
}
