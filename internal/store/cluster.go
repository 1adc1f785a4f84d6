package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

// In a Cluster every key has a slot, and a script reaches the keys of one slot. Where a prefix carries a {tag} all keys of
// an instance share a slot and nothing here is needed. Otherwise the hash is guarded by its own fence alone; what belongs
// beside it (the closing record, the streams) is written after it, from a copy that lies in its slot until then.

// tagOf is the part of a key that decides its slot, blank where that is the whole key.
func tagOf(key string) string {
	_, rest, open := strings.Cut(key, "{")
	tag, _, closed := strings.Cut(rest, "}")
	if !open || !closed {
		return ""
	}
	return tag
}

// beside is a key in the slot of key.
func beside(key string) string {
	if tagOf(key) != "" {
		return key + ":closing"
	}
	return "{" + key + "}:closing"
}

// oneSlot tells whether every key of the instance lies in one slot.
func (k Keys) oneSlot() bool {
	tag := tagOf(k.harvest)
	for _, key := range [...]string{k.marketState, k.risk, k.stream, k.marketStream, k.riskStream, k.expected, k.closed, k.lease} {
		if tagOf(key) != tag {
			return false
		}
	}
	return tag != ""
}

// load makes the server know the scripts: with the next pipeline, or on every primary of a Cluster at once, which is a
// round trip of its own.
func (s *Store) load(ctx context.Context, pipe redis.Pipeliner) (trips int, err error) {
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		for _, sc := range scripts {
			pipe.ScriptLoad(ctx, sc.source)
		}
		return 0, nil
	}
	return 1, cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		p := node.Pipeline()
		for _, sc := range scripts {
			p.ScriptLoad(ctx, sc.source)
		}
		cmds, err := send(ctx, p)
		if err == nil {
			err = cmds[0].Err()
		}
		if s.lost(err) {
			return nil // it answers for its own keys, when they are written
		}
		return err
	})
}

// sendAll runs a pipeline. Of a Cluster each node answers for its own commands: the error is set where none did.
func (s *Store) sendAll(ctx context.Context, pipe redis.Pipeliner) ([]redis.Cmder, error) {
	if _, cluster := s.rdb.(*redis.ClusterClient); !cluster {
		return send(ctx, pipe)
	}
	cmds, err := pipe.Exec(ctx)
	for _, cmd := range cmds {
		if e := cmd.Err(); e == nil || (replied(e) != "" && !stopsSession(e)) {
			return cmds, nil
		}
	}
	return cmds, err
}

// unserved are error replies of a node of a Cluster that does not serve the key it was asked for: not now, or not any more.
var unserved = [...]string{"CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "LOADING", "MASTERDOWN", "READONLY"}

// lost tells whether an error is about the node of a Cluster and not about the key.
func (s *Store) lost(err error) bool {
	if _, cluster := s.rdb.(*redis.ClusterClient); !cluster || err == nil || errors.Is(err, redis.Nil) {
		return false
	}
	msg := replied(err)
	return msg == "" || stopsSession(err) ||
		slices.ContainsFunc(unserved[:], func(prefix string) bool { return strings.HasPrefix(msg, prefix) })
}

// writeBeside does what a script on one key could not: closing records, streams, and symbols out of the expected set
// where their record is safe.
func (s *Store) writeBeside(ctx context.Context, b *Batch, w *plan, r *Results) {
	s.recordCloses(ctx, w, r)
	s.appendStreams(ctx, w, r)
	gone := b.Unexpect
	for i := range r.Closes {
		if r.Closes[i].Outcome == Failed {
			gone = withoutSymbol(gone, r.Closes[i].Symbol)
		}
	}
	if len(gone) == 0 {
		return
	}
	after := &plan{s: s, lease: b.Lease}
	after.expect("SREM", gone)
	after.finish()
	trips, err := s.run(ctx, after)
	r.RoundTrips += trips
	for i := 0; i < len(after.calls) && err == nil; i++ {
		err = after.calls[i].cmd.Err()
	}
	if err != nil && r.ExpectErr == nil {
		r.ExpectErr = s.fault("change the expected set", err)
	}
}

func withoutSymbol(all []position.Symbol, sym position.Symbol) []position.Symbol {
	var kept []position.Symbol
	for _, s := range all {
		if s != sym {
			kept = append(kept, s)
		}
	}
	return kept
}

// ending is a close whose record lies beside its hash and is still to be written where it belongs.
type ending struct {
	res    *Result
	ended  Ended
	values []any
	last   *redis.StringCmd // what was recorded for the symbol before
	added  *redis.StringCmd
	noted  *redis.IntCmd
}

// recordCloses writes the closing records that lie beside their hashes to the stream, notes the episodes as closed, and
// only then clears the records away: after a crash between two steps a record is written again rather than lost. A
// stream or memory that cannot take them although it was reached is reported and holds nothing back.
func (s *Store) recordCloses(ctx context.Context, w *plan, r *Results) {
	var todo []*ending
	pipe := s.rdb.Pipeline()
	for i := range w.calls {
		c := &w.calls[i]
		if c.script != endScript || (c.result.Outcome != Done && c.result.Outcome != OtherEpisode) {
			continue
		}
		reply, _ := c.cmd.Result()
		list, _ := reply.([]any)
		e := &ending{res: c.result, values: valuesOf(w, c), ended: Ended{Episode: stringAt(list, 4), Revision: c.result.Revision}}
		e.last = pipe.HGet(ctx, s.keys.closed, string(e.res.Symbol))
		todo = append(todo, e)
	}
	if len(todo) == 0 {
		return
	}
	step := func(pipe redis.Pipeliner) redis.Pipeliner {
		if pipe.Len() > 0 {
			_, _ = s.sendAll(ctx, pipe) // every command has its own error
			r.RoundTrips++
		}
		return s.rdb.Pipeline()
	}
	// settled takes the outcome of one step in, and tells whether the next one may follow.
	settled := func(e *ending, err error) bool {
		switch {
		case err == nil, errors.Is(err, redis.Nil):
			return true
		case s.lost(err) || stopsAll(err):
			e.res.Outcome, e.res.Err = Failed, s.fault("record the close of "+string(e.res.Symbol), err)
			return false
		}
		if r.StreamErr == nil {
			r.StreamErr = s.fault("record the close of "+string(e.res.Symbol), err)
		}
		return true
	}
	next := step(pipe)
	for _, e := range todo {
		last, err := e.last.Result()
		if strings.HasPrefix(replied(err), "WRONGTYPE") {
			next.Del(ctx, s.keys.closed) // it becomes a memory again
			err = nil
		}
		if !settled(e, err) {
			continue
		}
		before := parseEnded(last)
		e.ended.Revision = max(e.ended.Revision, before.Revision)
		e.res.Revision = e.ended.Revision
		if e.ended.Episode == "" || before.Episode != e.ended.Episode {
			e.added = next.XAdd(ctx, &redis.XAddArgs{Stream: s.keys.stream, MaxLen: streamLength, Approx: true, Values: e.values})
		}
	}
	next = step(next)
	for _, e := range todo {
		if e.res.Outcome == Failed || e.added != nil && !settled(e, e.added.Err()) || e.ended.Episode == "" {
			continue
		}
		e.noted = next.HSet(ctx, s.keys.closed, string(e.res.Symbol), e.ended.text())
	}
	next = step(next)
	for _, e := range todo {
		if e.res.Outcome == Failed || e.noted != nil && !settled(e, e.noted.Err()) {
			continue
		}
		next.Del(ctx, beside(s.keys.Proposal(e.res.Symbol))) // where that fails it is found, and found recorded, later on
	}
	step(next)
}

// streamLength bounds every stream (wire contract).
const streamLength = 10000

// appendStreams appends what was written to the streams.
func (s *Store) appendStreams(ctx context.Context, w *plan, r *Results) {
	if !s.streams {
		return
	}
	pipe := s.rdb.Pipeline()
	for i := range w.calls {
		c := &w.calls[i]
		if c.result == nil || c.result.Outcome != Done {
			continue
		}
		var stream string
		switch {
		case c.script == publishScript:
			stream = s.keys.stream
		case c.script == produceScript && strings.HasPrefix(textOf(w.args[c.from+3]), s.keys.marketState):
			stream = s.keys.marketStream
		case c.script == produceScript:
			stream = s.keys.riskStream
		default:
			continue
		}
		values := append([]any{"symbol", string(c.result.Symbol)}, valuesOf(w, c)...)
		if c.script == publishScript {
			values[3] = c.result.Revision // the first field, assigned by the server
		}
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, MaxLen: streamLength, Approx: true, Values: values})
	}
	if pipe.Len() == 0 {
		return
	}
	cmds, err := s.sendAll(ctx, pipe)
	r.RoundTrips++
	for i := 0; i < len(cmds) && err == nil; i++ {
		err = cmds[i].Err()
	}
	if err != nil && r.StreamErr == nil {
		r.StreamErr = fmt.Errorf("append to the streams: %w", s.fault("append", err))
	}
}

// valuesOf gives the name-value pairs of a call: behind its keys, the six arguments that every script has, and for those
// on one key nothing else.
func valuesOf(w *plan, c *call) []any {
	args := w.argsOf(c)
	keys := 1
	if c.script == endScript {
		keys = 2
	}
	pairs := args[3+keys+6:]
	out := make([]any, len(pairs))
	for i, a := range pairs {
		out[i] = textOf(a)
	}
	return out
}

func textOf(a any) string {
	switch v := a.(type) {
	case string:
		return v
	case *string:
		return *v
	}
	return ""
}
