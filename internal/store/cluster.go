package store

import (
	"context"
	"fmt"
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

// load makes the server know the scripts: with the next pipeline, or on every primary of a Cluster at once.
func (s *Store) load(ctx context.Context, pipe redis.Pipeliner) error {
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		for _, sc := range scripts {
			pipe.ScriptLoad(ctx, sc.source)
		}
		return nil
	}
	return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		p := node.Pipeline()
		for _, sc := range scripts {
			p.ScriptLoad(ctx, sc.source)
		}
		// A node that is away answers for its own keys, when they are written.
		if cmds, err := send(ctx, p); err == nil {
			return cmds[0].Err()
		}
		return nil
	})
}

// sendAll runs a pipeline. Where it goes to several nodes a node that does not answer is the fault of its own commands;
// the error is set where none has an answer.
func (s *Store) sendAll(ctx context.Context, pipe redis.Pipeliner) ([]redis.Cmder, error) {
	cmds, err := send(ctx, pipe)
	if err == nil || !s.perKey {
		return cmds, err
	}
	for _, cmd := range cmds {
		if e := cmd.Err(); e == nil || (replied(e) != "" && !stopsSession(e)) {
			return cmds, nil
		}
	}
	return cmds, err
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

// recordCloses writes the closing records that lie beside their hashes to the stream, once per episode as far as a crash
// between two steps allows: after one in between, the record is written again rather than lost.
func (s *Store) recordCloses(ctx context.Context, w *plan, r *Results) {
	type record struct {
		res    *Result
		ended  Ended
		values []any
		last   *redis.StringCmd
		added  *redis.StringCmd
	}
	var todo []*record
	pipe := s.rdb.Pipeline()
	for i := range w.calls {
		c := &w.calls[i]
		if c.script != endScript || (c.result.Outcome != Done && c.result.Outcome != OtherEpisode) {
			continue
		}
		reply, _ := c.cmd.Result()
		list, _ := reply.([]any)
		rec := &record{res: c.result, values: valuesOf(w, c)}
		rec.ended.Episode = stringAt(list, 4)
		rec.ended.Revision = c.result.Revision
		rec.last = pipe.HGet(ctx, s.keys.closed, string(rec.res.Symbol))
		todo = append(todo, rec)
	}
	if len(todo) == 0 {
		return
	}
	fail := func(rec *record, err error) {
		rec.res.Outcome, rec.res.Err = Failed, s.fault("record the close of "+string(rec.res.Symbol), err)
	}
	_, err := s.sendAll(ctx, pipe)
	r.RoundTrips++
	pipe = s.rdb.Pipeline()
	for _, rec := range todo {
		last, lastErr := rec.last.Result()
		if lastErr != nil && lastErr != redis.Nil {
			err = lastErr
		}
		if err != nil {
			fail(rec, err)
			continue
		}
		before := parseEnded(last)
		rec.ended.Revision = max(rec.ended.Revision, before.Revision)
		rec.res.Revision = rec.ended.Revision
		if rec.ended.Episode == "" || before.Episode != rec.ended.Episode {
			rec.added = pipe.XAdd(ctx, &redis.XAddArgs{Stream: s.keys.stream, MaxLen: streamLength, Approx: true, Values: rec.values})
		}
	}
	if pipe.Len() > 0 {
		_, err = s.sendAll(ctx, pipe)
		r.RoundTrips++
	}
	pipe = s.rdb.Pipeline()
	for _, rec := range todo {
		if rec.res.Outcome == Failed {
			continue
		}
		if rec.added != nil {
			if addErr := rec.added.Err(); addErr != nil || err != nil {
				fail(rec, firstError(addErr, err))
				continue
			}
		}
		if rec.ended.Episode != "" {
			pipe.HSet(ctx, s.keys.closed, string(rec.res.Symbol), rec.ended.text())
		}
		pipe.Del(ctx, beside(s.keys.Proposal(rec.res.Symbol)))
	}
	if pipe.Len() > 0 {
		// What is not cleared away here is found and recorded again by the next one that restores; nothing is lost.
		if _, err := s.sendAll(ctx, pipe); err != nil && r.StreamErr == nil {
			r.StreamErr = s.fault("note the closed episodes", err)
		}
		r.RoundTrips++
	}
}

// streamLength bounds every stream (wire contract).
const streamLength = 10000

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

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
