package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

// In a Cluster every key has a slot, and a script reaches the keys of one slot. Where a prefix carries a {tag} all keys of
// an instance share a slot and nothing here is needed. Otherwise the hash is guarded by its own fence, by what the last
// close left beside it once it is gone, and by the clock of the writer; what belongs beside it (the closing record, the
// streams) is written after it, from a copy that lies in its slot until then.

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

// quickly is within what time a node must answer to count as there, when another one is lost.
const quickly = time.Second

// oneNodeLost tells whether an error of a whole batch says nothing of the other nodes of a Cluster: its commands, all of scripts,
// are for keys of the same node, that node is lost, and another one is there.
func (s *Store) oneNodeLost(ctx context.Context, cmds []redis.Cmder, err error) bool {
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok || !s.perKey || ctx.Err() != nil || !s.lost(err) {
		return false
	}
	first := ""
	for _, c := range cmds {
		key, ok := c.Args()[firstKey].(*string)
		if !ok {
			return false
		}
		node, err := cluster.MasterForKey(ctx, *key)
		if err != nil {
			return false
		}
		if first = cmp.Or(first, node.Options().Addr); first != node.Options().Addr {
			return false
		}
	}
	ask, cancel := context.WithTimeout(ctx, quickly)
	defer cancel()
	var there atomic.Bool
	_ = cluster.ForEachMaster(ask, func(ctx context.Context, node *redis.Client) error {
		if node.Options().Addr != first && node.Ping(ctx).Err() == nil {
			there.Store(true)
		}
		return nil
	})
	return there.Load() && ctx.Err() == nil
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
	for _, err := range s.runEach(ctx, after, r) {
		if err != nil && r.ExpectErr == nil {
			r.ExpectErr = s.fault("change the expected set", err)
		}
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
	fence  string
	ended  Ended // the revision is 0 where the key knew none
	values []any
	last   *redis.StringCmd
	before string // what was recorded for the symbol before
	added  *redis.StringCmd
}

// endedLife is for how long the fence and the revision of a key whose hash is gone stay beside it: longer than any write
// can be on its way.
const endedLife = 10 * time.Minute

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
		e.fence = textOf(ownArgs(w, c)[3])
		e.last = pipe.HGet(ctx, s.keys.closed, string(e.res.Symbol))
		todo = append(todo, e)
	}
	if len(todo) == 0 {
		return
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
	// through keeps those for which one step went well.
	through := func(todo []*ending, step func(int) error) (kept []*ending) {
		for i, e := range todo {
			if settled(e, step(i)) {
				kept = append(kept, e)
			}
		}
		return kept
	}
	if s.leaseOver(w.lease) {
		through(todo, func(int) error { return errLeaseOver })
		return
	}
	_, _ = s.sendAll(ctx, pipe) // every command has its own error
	r.RoundTrips++
	todo = through(todo, func(i int) error {
		if err := todo[i].last.Err(); !strings.HasPrefix(replied(err), "WRONGTYPE") {
			return err
		}
		return nil // it becomes a memory again when it is noted
	})

	pipe = s.rdb.Pipeline()
	noted := make(map[position.Symbol]string) // by this batch, when its turn comes
	for _, e := range todo {
		var is bool
		if e.before, is = noted[e.res.Symbol]; !is {
			e.before = e.last.Val()
		}
		before := parseEnded(e.before)
		e.res.Revision = max(e.ended.Revision, before.Revision)
		if e.ended.Episode == "" || before.Episode != e.ended.Episode {
			noted[e.res.Symbol] = Ended{Episode: e.ended.Episode, Revision: e.res.Revision}.text()
			e.added = pipe.XAdd(ctx, &redis.XAddArgs{Stream: s.keys.stream, MaxLen: streamLength, Approx: true, Values: e.values})
		}
	}
	if pipe.Len() > 0 {
		_, _ = s.sendAll(ctx, pipe)
		r.RoundTrips++
	}
	todo = through(todo, func(i int) error {
		if todo[i].added == nil {
			return nil
		}
		return todo[i].added.Err()
	})

	notes := &plan{s: s, lease: w.lease}
	calls := make([]int, len(todo))
	for i, e := range todo {
		if calls[i] = len(notes.calls); e.ended.Episode == "" {
			calls[i] = -1
			continue
		}
		m := notes.begin(noteScript, e.res.Symbol, s.keys.closed, "")
		notes.each(string(e.res.Symbol), e.ended.Episode, strconv.FormatInt(e.ended.Revision, 10), e.before)
		notes.end(m, noteScript, nil)
	}
	errs := s.runEach(ctx, notes, r)
	todo = through(todo, func(i int) error {
		if calls[i] < 0 {
			return nil
		}
		return errs[calls[i]]
	})

	clears := &plan{s: s, lease: w.lease}
	for _, e := range todo {
		m := clears.begin(clearScript, e.res.Symbol, beside(s.keys.Proposal(e.res.Symbol)), "")
		clears.each(e.fence, e.ended.Episode)
		clears.whole(endedLife.Milliseconds())
		clears.end(m, clearScript, nil)
	}
	_ = s.runEach(ctx, clears, r) // where that fails it is found, and found recorded, later on
}

// runEach runs what comes after a write. Every call has its own error.
func (s *Store) runEach(ctx context.Context, after *plan, r *Results) []error {
	errs := make([]error, len(after.calls))
	if len(errs) == 0 {
		return nil
	}
	after.finish()
	trips, err := s.run(ctx, after)
	r.RoundTrips += trips
	for i := range after.calls {
		if cmd := after.calls[i].cmd; cmd == nil || cmd.Err() == nil && cmd.Val() == nil {
			errs[i] = cmp.Or(err, errNoAnswer)
		} else {
			errs[i] = cmd.Err()
		}
	}
	return errs
}

var errNoAnswer = errors.New("no answer")

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
		case c.script.publishes():
			stream = s.keys.stream
		case c.script == produceScript && strings.HasPrefix(textOf(w.args[c.from+3]), s.keys.marketState):
			stream = s.keys.marketStream
		case c.script == produceScript:
			stream = s.keys.riskStream
		default:
			continue
		}
		values := append([]any{"symbol", string(c.result.Symbol)}, valuesOf(w, c)...)
		if c.script.publishes() {
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

// ownArgs are the arguments of a call behind its keys, ARGV[1] first.
func ownArgs(w *plan, c *call) []any {
	args := w.argsOf(c)
	keys, _ := strconv.Atoi(textOf(args[2]))
	return args[3+keys:]
}

// valuesOf gives the name-value pairs of a call: behind the six arguments that every script has.
func valuesOf(w *plan, c *call) []any {
	pairs := ownArgs(w, c)[6:]
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
