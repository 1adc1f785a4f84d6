package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// redisNodes are the primaries of a Cluster, each of which answers for its own keys: one that is out of reach must not
// blind anybody to what the others hold. Nil stands for a single server, which is there or is not.
type redisNodes struct {
	client *redis.ClusterClient
	runs   map[string]redisRun // by address
}

// redisRun is the incarnation of one primary, as last told.
type redisRun struct {
	id      string // run id; blank: the server does not tell
	away    int    // how often it was out of reach
	replica bool   // it is a primary no more
	silent  bool   // it did not say so now: the rest is from before
}

func (r redisRun) String() string {
	text := cmp.Or(r.id, "outage-"+strconv.Itoa(r.away))
	if r.replica {
		text += " replica"
	}
	return text
}

// nodesOf is nil unless the client is that of a Cluster.
func nodesOf(client redis.UniversalClient) *redisNodes {
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return nil
	}
	return &redisNodes{client: cluster, runs: make(map[string]redisRun)}
}

// unserved are error replies of a node that does not serve the key it was asked for: not now, or not any more.
var unserved = [...]string{"CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "LOADING", "MASTERDOWN", "READONLY", "NOAUTH", "WRONGPASS"}

// lost tells whether an error is about a node and not about what was asked of it.
func (n *redisNodes) lost(err error) bool {
	if n == nil || err == nil || errors.Is(err, redis.Nil) {
		return false
	}
	var reply redis.Error
	return !errors.As(err, &reply) ||
		slices.ContainsFunc(unserved[:], func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

// each runs ask on every primary at a time. What a node that is out of reach says is given back as away; err is any
// other failure, or that no node is known.
func (n *redisNodes) each(ctx context.Context, ask func(context.Context, *redis.Client) error) (away, err error) {
	var mu sync.Mutex
	err = n.client.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		err := ask(ctx, node)
		if !n.lost(err) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		away = err
		return nil
	})
	return away, err
}

// instance identifies the incarnation of the Cluster: of all its primaries by their addresses. One that is out of reach
// is taken to be the same until it answers or another one serves its keys: that one is another incarnation. So is a
// primary that has become a replica. told is false where a primary does not tell its run id; then every time it is out of
// reach counts.
func (n *redisNodes) instance(ctx context.Context) (id string, told bool, away, err error) {
	var mu sync.Mutex
	told = true
	seen := make(map[string]redisRun)
	away, err = n.each(ctx, func(ctx context.Context, node *redis.Client) error {
		addr := node.Options().Addr
		pipe := node.Pipeline()
		server, replication := pipe.Info(ctx, "server"), pipe.Info(ctx, "replication")
		_, err := pipe.Exec(ctx)
		mu.Lock()
		defer mu.Unlock()
		run := n.runs[addr]
		defer func() { seen[addr] = run }()
		was := run.silent
		if run.silent = n.lost(err); run.silent {
			if !was { // one outage, however often it is asked while it lasts
				run.away++
			}
			return err
		}
		run.id, run.replica = infoLine(server.Val(), "run_id"), infoLine(replication.Val(), "role") == "slave"
		told = told && run.id != ""
		return nil
	})
	n.runs = seen
	var b strings.Builder
	for _, addr := range slices.Sorted(maps.Keys(seen)) {
		fmt.Fprintf(&b, "%s=%s ", addr, seen[addr])
	}
	return b.String(), told, away, err
}

// runOf is the incarnation of the primary that serves a key, with its address; blank while that is not known. An answer
// of a server of which it is not known whether it is the same as before says nothing.
func (n *redisNodes) runOf(ctx context.Context, key string) string {
	node, err := n.client.MasterForKey(ctx, key)
	if err != nil {
		return ""
	}
	addr := node.Options().Addr
	run, known := n.runs[addr]
	if !known || run.silent {
		return ""
	}
	return addr + "=" + run.String()
}

// infoLine is the value of one line of INFO, blank where there is none.
func infoLine(text, name string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// execute sends a pipeline. Answers that concern one key stay with their command, and so does what a node of a Cluster
// failed to answer while others did; an error is returned only where nobody was reached or can serve.
func (n *redisNodes) execute(ctx context.Context, pipe redis.Pipeliner) error {
	commands, err := pipe.Exec(ctx)
	if err == nil || len(commands) == 0 {
		return err
	}
	refused, lost := 0, 0
	var last, away error
	for _, c := range commands {
		err := c.Err()
		if err == nil || errors.Is(err, redis.Nil) {
			continue
		}
		var reply redis.Error
		switch is := errors.As(err, &reply); {
		case n.lost(err):
			lost, away = lost+1, err
		case !is, slices.ContainsFunc(unready[:], func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) }):
			return err
		case !redis.HasErrorPrefix(err, "WRONGTYPE"):
			refused, last = refused+1, err
		}
	}
	switch {
	case lost == len(commands):
		return away
	case refused > 0 && refused == len(commands):
		return last
	case n != nil:
		return nil
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return err
	}
	return nil
}

// unready are error replies of a server that cannot serve anybody now.
var unready = [...]string{"LOADING", "CLUSTERDOWN", "MASTERDOWN", "NOAUTH", "TRYAGAIN"}
