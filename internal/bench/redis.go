package bench

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ownPrefix is one that nobody else has. All keys below it are of one slot of a Cluster.
func ownPrefix() string { return "{harvest-bench-" + strings.ToLower(rand.Text()[:8]) + "}:" }

// reach tells at once, and not after the first minute, that Redis is away.
func (r *run) reach(ctx context.Context) error {
	client := r.Dial()
	defer client.Close()
	return client.Ping(ctx).Err()
}

// within gives a stage a client and a prefix of its own, and removes its keys.
func (r *run) within(ctx context.Context, name string, do func(client redis.UniversalClient, prefix string) error) error {
	client := r.Dial()
	defer client.Close()
	if err := do(client, r.prefix+name+":"); err != nil {
		return err
	}
	return r.clean()
}

// clean removes every key of ours; it does so too when the run was called off.
func (r *run) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := r.Dial()
	defer client.Close()
	remove := func(ctx context.Context, node redis.Cmdable) error {
		var cursor uint64
		for {
			// The prefix has no character that a pattern would take for more than itself, but for its braces, which stand
			// for themselves.
			keys, next, err := node.Scan(ctx, cursor, r.prefix+"*", 1000).Result()
			if err != nil {
				return err
			}
			if len(keys) > 0 {
				if err := node.Unlink(ctx, keys...).Err(); err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return remove(ctx, node) })
	}
	return remove(ctx, client)
}
