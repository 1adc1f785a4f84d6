package bench

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// bounded counts the commands that are sent with a deadline.
type bounded struct{ hgets, withDeadline atomic.Int64 }

func (*bounded) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (*bounded) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (b *bounded) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hget" {
			b.hgets.Add(1)
			if _, is := ctx.Deadline(); is {
				b.withDeadline.Add(1)
			}
		}
		return next(ctx, cmd)
	}
}

// A request that is under way when the time is over does not fail with it: its connection may reach the deadline before its
// context does, and what was measured would be lost with an i/o timeout.
func TestTheEndOfTheTicksFailsNoRequest(t *testing.T) {
	r := on(t, Effort{Ticks: 200 * time.Millisecond, TickRate: 100})
	client := r.Dial()
	defer client.Close()
	seen := new(bounded)
	client.AddHook(seen)
	const prefix = "ticks:"
	market := newTape(3)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for _, name := range market.names {
		if err := client.SAdd(ctx, prefix+"harvest:expected", string(name)).Err(); err != nil {
			t.Fatal(err)
		}
		if err := client.HSet(ctx, prefix+"harvest:proposal:"+string(name), "revision", 1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	go func() { // a publisher that always has something new
		for ctx.Err() == nil {
			for _, name := range market.names {
				client.HIncrBy(ctx, prefix+"harvest:proposal:"+string(name), "revision", 1)
			}
		}
	}()
	took, err := r.followTicks(ctx, market, client, prefix)
	if err != nil || len(took) == 0 {
		t.Fatalf("%d ticks, %v", len(took), err)
	}
	if n := seen.withDeadline.Load(); n > 0 || seen.hgets.Load() == 0 {
		t.Errorf("%d of %d requests had a deadline", n, seen.hgets.Load())
	}
}
