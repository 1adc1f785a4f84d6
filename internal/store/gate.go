package store

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxRedirects is how often a command follows a slot that moves. A node that is on its way to learn of a failover may
// send a command on to one that knows it; more steps than that are a circle.
const maxRedirects = 3

func dialCluster(o ClientOptions) *redis.ClusterClient {
	node := o.server()
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:    slices.Clone(o.Cluster),
		Username: node.Username, Password: node.Password, TLSConfig: node.TLSConfig,
		DialTimeout: node.DialTimeout, ReadTimeout: node.ReadTimeout, WriteTimeout: node.WriteTimeout, PoolSize: node.PoolSize,
		// MOVED and ASK are followed, and at once: without that, keys of a slot that is on its way from one node to another
		// cannot be reached at all. The client would repeat in the same way what failed for any other reason, timeouts
		// included; the gates prevent it.
		MaxRedirects: maxRedirects, MinRetryBackoff: -1,
		MaxRetries: node.MaxRetries, DialerRetries: node.DialerRetries, ContextTimeoutEnabled: node.ContextTimeoutEnabled,
		PipelinePoolSize: node.PipelinePoolSize, Protocol: node.Protocol, DisableIdentity: node.DisableIdentity,
		MaintNotificationsConfig: node.MaintNotificationsConfig,
		// Every command of ours is about keys of one slot, so the client need not ask the server what commands are.
		DisableRoutingPolicies: true,
	})
	c.OnNewNode(func(node *redis.Client) { node.AddHook(&gate{cluster: c, node: node}) })
	return c
}

// gate keeps the faults of one node of a Cluster with that node. While the node does not answer, its commands fail at
// once, so that a round trip over all nodes is as fast as the others are; in the background it is asked whether it is
// back. And because the client does not look by itself whether another node serves the slots of a dead one, every failure
// makes it look.
type gate struct {
	cluster *redis.ClusterClient
	node    *redis.Client

	mu      sync.Mutex
	fault   error // why the gate is closed; nil: it is open
	probing bool
}

// throughGate marks what a gate itself sends, and the handshake that goes before a command it let through.
type throughGate struct{}

// DialHook leaves dialing alone: a failure shows in the command.
func (*gate) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook passes one command.
func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return g.pass(ctx, []redis.Cmder{cmd}, func(ctx context.Context) error { return next(ctx, cmd) })
	}
}

// ProcessPipelineHook passes the commands of a pipeline that are for this node.
func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return g.pass(ctx, cmds, func(ctx context.Context) error { return next(ctx, cmds) })
	}
}

func (g *gate) pass(ctx context.Context, cmds []redis.Cmder, next func(context.Context) error) error {
	if ctx.Value(throughGate{}) != nil {
		return next(ctx)
	}
	looking := cmds[0].Name() == "cluster" // the client asks this node who serves what
	if err := g.closed(); err != nil {
		if !looking {
			g.cluster.ReloadState(ctx)
		}
		return err
	}
	hasty := brief(ctx)
	inner, cancel := withRest(context.WithValue(ctx, throughGate{}, true))
	defer cancel()
	err := next(inner)
	if err == nil || answered(err) || errors.Is(err, redis.ErrClosed) || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if hasty && timedOut(err) {
		err = g.doubt(err)
	} else {
		err = g.close(err)
	}
	for _, cmd := range cmds {
		if failed := cmd.Err(); failed != nil && !answered(failed) {
			cmd.SetErr(err)
		}
	}
	if !looking {
		g.cluster.ReloadState(ctx)
	}
	return err
}

// shortest is the least time within which an answer can be expected of a node that is well.
const shortest = 100 * time.Millisecond

// brief tells whether a caller gives a node less time than an answer may take: that there is none then says something about
// the caller.
func brief(ctx context.Context) bool {
	deadline, bounded := ctx.Deadline()
	return bounded && time.Until(deadline) < shortest
}

// timedOut tells whether an answer was not waited for any longer.
func timedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// withRest leaves the caller a fifth of its time. Without that a node that does not answer would use up the deadline, and
// the client then calls off the whole pipeline, the answers of the other nodes included.
func withRest(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/5))
}

// answered tells whether an error is a reply of the server.
func answered(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// closed gives the reason why the gate is closed, and sees to it that somebody finds out whether it still must be.
func (g *gate) closed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fault != nil {
		g.look()
	}
	return g.fault
}

// close says why from now on. Whether it must stay so is looked at right away: a connection may have ended without
// anything being wrong with the node.
func (g *gate) close(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	fault := &nodeError{g.node.Options().Addr, err}
	g.fault = fault
	g.look()
	return fault
}

// doubt leaves the gate as it is and finds out what there is to the fault: the client is shared, and one who has no time
// must not stand in the way of those who have.
func (g *gate) doubt(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.look()
	return &nodeError{g.node.Options().Addr, err}
}

// look asks the node for anything at all, once at a time; a refusal is an answer, too. It ends with the client, whose
// connections it uses.
func (g *gate) look() {
	if g.probing {
		return
	}
	g.probing = true
	go func() {
		o := g.node.Options()
		ctx := context.WithValue(context.Background(), throughGate{}, true)
		ctx, cancel := context.WithTimeout(ctx, max(o.DialTimeout, o.ReadTimeout))
		defer cancel()
		err := g.node.Ping(ctx).Err()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.probing = false
		if err == nil || answered(err) {
			g.fault = nil
		} else {
			g.fault = &nodeError{o.Addr, err}
		}
	}()
}
