package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxAttempts bounds how often one Write is sent: once normally, a second time where the server has lost its scripts, a
// third where it lost them again in between.
const maxAttempts = 3

// Write does everything in b, in one pipelined round trip unless the server has lost the scripts. Order: symbols added
// to the expected set, publishes, beats, closes, symbols removed from it, produced records.
//
// The error is set where the server could not be reached or refused everything for a reason of its own: nothing is
// confirmed then, although some of it may have arrived. Otherwise each operation has its own Result, and a fault of one
// stays with it.
func (s *Store) Write(ctx context.Context, b Batch) (Results, error) {
	r := Results{
		Publishes: make([]Result, len(b.Publishes)),
		Beats:     make([]Result, len(b.Beats)),
		Closes:    make([]Result, len(b.Closes)),
		States:    make([]Result, len(b.States)),
		Stops:     make([]Result, len(b.Stops)),
	}
	var w *plan
	select {
	case w = <-s.spares:
	default:
		w = &plan{s: s}
	}
	w.lease = b.Lease
	w.expect("SADD", b.Expect)
	for i := range b.Publishes {
		w.publish(&b.Publishes[i], &r.Publishes[i])
	}
	for i := range b.Beats {
		w.beat(&b.Beats[i], &r.Beats[i])
	}
	for i := range b.Closes {
		w.close(&b.Closes[i], &r.Closes[i])
	}
	if !s.perKey {
		w.expect("SREM", b.Unexpect)
	}
	for i := range b.States {
		w.state(&b.States[i], &r.States[i])
	}
	for i := range b.Stops {
		w.stops(&b.Stops[i], &r.Stops[i])
	}
	w.finish()
	ctx, cancel := s.withinLease(ctx, b.Lease)
	defer cancel()
	trips, err := s.run(ctx, w)
	if err != nil {
		return Results{RoundTrips: trips}, s.fault("write", err)
	}
	r.RoundTrips = trips
	for i := range w.calls {
		s.settle(&w.calls[i], &r)
	}
	if s.perKey {
		s.writeBeside(ctx, &b, w, &r)
	}
	w.reset()
	// Not after an error: a round trip that was cut off may still hold on to it. Of a Cluster each node's part has ended by now.
	select {
	case s.spares <- w:
	default:
	}
	return r, nil
}

// run sends the calls in one pipeline and, where the server does not know a script, loads the scripts and sends those
// again that were not run. The error is about the batch as a whole.
func (s *Store) run(ctx context.Context, w *plan) (trips int, err error) {
	load := !s.loaded.Load()
	todo := w.todo
	for attempt := 0; attempt < maxAttempts && len(todo) > 0; attempt, load = attempt+1, true {
		pipe := s.rdb.Pipeline()
		if load {
			n, err := s.load(ctx, pipe)
			trips += n
			if err != nil {
				return trips, err
			}
		}
		loading := pipe.Len() > 0
		w.cmds = w.cmds[:0]
		for _, c := range todo {
			c.cmd = redis.NewCmd(ctx, w.argsOf(c)...)
			w.cmds = append(w.cmds, c.cmd)
		}
		if err := pipe.BatchProcess(ctx, w.cmds...); err != nil {
			return trips, err
		}
		if s.leaseOver(w.lease) {
			for _, c := range todo {
				c.cmd.SetErr(errLeaseOver)
			}
			return trips, nil
		}
		cmds, err := s.sendAll(ctx, pipe)
		trips++
		if err != nil && !s.oneNodeLost(ctx, w.cmds, err) {
			return trips, err
		}
		again := todo[:0]
		for _, c := range todo {
			if err := c.cmd.Err(); err != nil && strings.HasPrefix(replied(err), "NOSCRIPT") {
				again = append(again, c)
			}
		}
		if load && len(again) == 0 {
			s.loaded.Store(true)
		}
		if loading && len(again) > 0 && cmds[0].Err() != nil {
			return trips, cmds[0].Err() // the scripts cannot be loaded: a permission
		}
		todo = again
	}
	if err := refusedAll(w.calls); err != nil {
		all := make([]redis.Cmder, len(w.calls))
		for i := range w.calls {
			all[i] = w.calls[i].cmd
		}
		if !s.oneNodeLost(ctx, all, err) {
			return trips, err
		}
	}
	return trips, nil
}

// errLeaseOver is what became of a write that was not sent any more.
var errLeaseOver = errors.New("the lease ran out before: this process was stopped, or had no time")

// leaseOver tells whether a writer whose lease no script can check must not send anything now. A machine that slept shows on
// the wall clock alone.
func (s *Store) leaseOver(l Lease) bool {
	if !s.perKey || l.Until.IsZero() {
		return false
	}
	now := s.now()
	return !now.Before(l.Until) || !now.Round(0).Before(l.Until.Round(0))
}

// withinLease ends a write of such a writer with its lease: what waits for a connection by then is not sent.
func (s *Store) withinLease(ctx context.Context, l Lease) (context.Context, context.CancelFunc) {
	if !s.perKey || l.Until.IsZero() {
		return ctx, func() {}
	}
	begin := time.Now() // first: a stop between the two makes the time shorter
	return context.WithDeadline(ctx, begin.Add(l.Until.Sub(s.now())))
}

// send runs a pipeline. The error is set where there was no answer or the session was refused; else each command has an
// answer or an error reply of its own.
func send(ctx context.Context, pipe redis.Pipeliner) ([]redis.Cmder, error) {
	cmds, failed := pipe.Exec(ctx)
	own := false
	for _, cmd := range cmds {
		err := cmd.Err()
		if err != nil && (replied(err) == "" || stopsSession(err)) {
			return cmds, err
		}
		own = own || err != nil
	}
	if !own {
		// A handshake that the server refuses is in the error of the pipeline alone: the commands look as if they had
		// succeeded and said nothing.
		return cmds, failed
	}
	return cmds, nil
}

// refusedAll gives the error where every call failed for a reason of the server's own.
func refusedAll(calls []call) error {
	var first error
	for i := range calls {
		err := calls[i].cmd.Err()
		if err == nil || !stopsAll(err) {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// settle reads the answer of one call. Scripts answer a number where all went as it should, else a list of a word and
// what belongs to it.
func (s *Store) settle(c *call, r *Results) {
	reply, err := c.cmd.Result()
	if c.result == nil {
		if list, refused := reply.([]any); refused && err == nil {
			err = fmt.Errorf("the writer is %s", stringAt(list, 0))
		}
		if err != nil && r.ExpectErr == nil {
			r.ExpectErr = s.fault("change the expected set", err)
		}
		return
	}
	res := c.result
	if errors.Is(err, errLeaseOver) {
		res.Outcome = Unleased
		return
	}
	if err != nil {
		res.Outcome, res.Err = Failed, s.fault(c.script.name+" "+string(res.Symbol), err)
		return
	}
	switch v := reply.(type) {
	case int64:
		res.Outcome = Done
		if c.script.publishes() {
			res.Revision = v
		}
	case []any:
		s.settleList(c, v, r)
	default:
		res.Outcome, res.Err = Failed, fmt.Errorf("%s %s: redis at %s answered %T", c.script.name, res.Symbol, s.addr, reply)
	}
}

func (s *Store) settleList(c *call, v []any, r *Results) {
	res := c.result
	res.Outcome = Outcome(stringAt(v, 0))
	switch res.Outcome {
	case Unleased:
		res.FencedBy.Publisher = HolderName(stringAt(v, 1))
		res.FencedBy.Fence, _ = parseCount(stringAt(v, 2))
	case Fenced:
		res.FencedBy.Publisher = stringAt(v, 1)
		res.FencedBy.Fence, _ = parseCount(stringAt(v, 2))
		res.FencedBy.ValidUntil, _ = parseEpoch(stringAt(v, 3))
	case Done, OtherEpisode:
		res.Revision, _ = parseCount(stringAt(v, 1))
		if len(v) > 2 {
			n, _ := v[2].(int64)
			res.Repaired = n == 1
		}
		if note := stringAt(v, 3); note != "" && r.StreamErr == nil {
			r.StreamErr = fmt.Errorf("append to the stream of %s %s: redis at %s answered %s", c.script.name, res.Symbol, s.addr, note)
		}
	case Missing, Incomplete, Superseded, Foreign:
	default:
		res.Err = fmt.Errorf("%s %s: redis at %s answered %q", c.script.name, res.Symbol, s.addr, res.Outcome)
		res.Outcome = Failed
	}
}

func stringAt(v []any, i int) string {
	if i >= len(v) {
		return ""
	}
	s, _ := v[i].(string)
	return s
}
