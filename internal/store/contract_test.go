package store_test

import (
	"testing"

	"quantumharvest/internal/embedded"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
	"quantumharvest/internal/store/storetest"
)

func TestContractOnRedisServer(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Server {
		r := realserver.Redis(t)
		return storetest.Server{Client: store.ClientOptions{Addr: r.Addr()}, Restart: r.Restart}
	})
}

func TestContractOnEmbedded(t *testing.T) {
	t.Parallel()
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
			Client: store.ClientOptions{Addr: addr},
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

// With the default prefix the keys lie on all nodes and no two of them can be changed in one step; with a tag they are as
// on a single server.
func TestContractOnCluster(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{})
	for name, prefix := range map[string]string{"default prefix": "", "tag": "{harvest}:"} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(*testing.T) storetest.Server {
				return storetest.Server{Client: store.ClientOptions{Cluster: c.Addrs()}, Prefix: prefix, Restart: func() {
					for _, r := range c.Servers() {
						r.Restart()
					}
					c.WaitReady()
				}}
			})
		})
	}
}
