package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/freeport"
	"quantumharvest/internal/scratch"
)

// ErrNoServer is returned where redis-server is not on PATH.
var ErrNoServer = errors.New("redis-server is not on PATH")

// StartServer starts a redis-server of one's own on a free port of this host. stop ends it and removes what it left.
func StartServer(ctx context.Context) (addr string, stop func(), err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", nil, ErrNoServer
	}
	port, err := freeport.Find()
	if err != nil {
		return "", nil, err
	}
	dir, err := scratch.New("bench-redis")
	if err != nil {
		return "", nil, err
	}
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--save", "", "--appendonly", "no", "--dir", dir.Path)
	if err := cmd.Start(); err != nil {
		_ = dir.Remove()
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = dir.Remove()
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if err = client.Ping(ctx).Err(); err == nil {
			return addr, stop, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			stop()
			return "", nil, fmt.Errorf("redis-server on %s does not answer: %w", addr, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
