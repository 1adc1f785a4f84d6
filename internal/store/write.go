package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

// maxAttempts bounds the round trips of one Write: one normally, a second where the server has lost its scripts, a third
// where it lost them again in between.
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
	w := s.newPlan(len(b.Publishes), len(b.Beats), len(b.Closes), len(b.States)+len(b.Stops))
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
	w.expect("SREM", b.Unexpect)
	for i := range b.States {
		w.state(&b.States[i], &r.States[i])
	}
	for i := range b.Stops {
		w.stops(&b.Stops[i], &r.Stops[i])
	}
	trips, err := s.run(ctx, w.calls)
	if err != nil {
		return Results{RoundTrips: trips}, s.fault("write", err)
	}
	r.RoundTrips = trips
	for i := range w.calls {
		s.settle(&w.calls[i], &r)
	}
	return r, nil
}

// call is one script to run on the server and where its outcome goes.
type call struct {
	script *script
	result *Result // nil for changes of the expected set
	args   []any
	cmd    *redis.Cmd
}

// run sends the calls in one pipeline and, where the server does not know a script, loads the scripts and sends those
// again that were not run. The error is about the batch as a whole.
func (s *Store) run(ctx context.Context, calls []call) (trips int, err error) {
	if len(calls) == 0 {
		return 0, nil
	}
	todo := make([]*call, len(calls))
	for i := range calls {
		todo[i] = &calls[i]
	}
	load := !s.loaded.Load()
	for trips < maxAttempts && len(todo) > 0 {
		pipe := s.rdb.Pipeline()
		if load {
			for _, sc := range scripts {
				pipe.ScriptLoad(ctx, sc.source)
			}
		}
		for _, c := range todo {
			c.cmd = redis.NewCmd(ctx, c.args...)
			if err := pipe.Process(ctx, c.cmd); err != nil {
				return trips, err
			}
		}
		cmds, err := send(ctx, pipe)
		trips++
		if err != nil {
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
		if load && len(again) > 0 && cmds[0].Err() != nil {
			return trips, cmds[0].Err() // the scripts cannot be loaded: a permission
		}
		todo, load = again, true
	}
	return trips, refusedAll(calls)
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
		if err != nil && r.ExpectErr == nil {
			r.ExpectErr = s.fault("change the expected set", err)
		}
		return
	}
	res := c.result
	if err != nil {
		res.Outcome, res.Err = Failed, s.fault(c.script.name+" "+string(res.Symbol), err)
		return
	}
	switch v := reply.(type) {
	case int64:
		res.Outcome = Done
		if c.script == publishScript {
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

// plan gathers the calls of one Write.
type plan struct {
	s     *Store
	calls []call
	args  []any    // backing of all argument lists
	texts []string // what the arguments point to: an interface made of a pointer costs no allocation
	buf   []byte   // scratch
}

func (s *Store) newPlan(publishes, beats, closes, produced int) *plan {
	texts := publishes*(6+len(allFields)) + beats*(5+len(beatFields)) + closes*(16+len(recordFields)) + produced*40 + 8
	return &plan{
		s:     s,
		calls: make([]call, 0, publishes+beats+closes+produced+2),
		args:  make([]any, 0, 2*texts),
		texts: make([]string, 0, texts),
	}
}

// The constant arguments, put into interfaces once: a batch has dozens per symbol.
var (
	evalsha    any = "evalsha"
	keyCounts      = [...]any{"0", "1", "2", "3"}
	wholeHash  any = strconv.Itoa(len(fields))
	fieldNames     = func() (names [len(fields)]any) {
		for i := range fields {
			names[i] = fields[i].name
		}
		return names
	}()
)

// Which fields go into a publish, a beat and a closing record, as indices into the table.
var (
	allFields    = pick(func(*field) bool { return true })
	beatFields   = pick(func(f *field) bool { return f.beat })
	recordFields = pick(func(f *field) bool { return f.name != "harvest_action" })
)

func pick(wanted func(f *field) bool) (indices []int) {
	for i := range fields {
		if wanted(&fields[i]) {
			indices = append(indices, i)
		}
	}
	return indices
}

// begin starts the arguments of one call; end closes them. In between they are appended.
func (p *plan) begin(sc *script, keys ...string) (start int) {
	start = len(p.args)
	p.args = append(p.args, evalsha, &sc.sha, keyCounts[len(keys)])
	p.add(keys...)
	return start
}

func (p *plan) add(texts ...string) {
	for _, text := range texts {
		// Where the backing array grows, earlier pointers keep the old one, which nobody changes.
		p.texts = append(p.texts, text)
		p.args = append(p.args, &p.texts[len(p.texts)-1])
	}
}

func (p *plan) end(sc *script, start int, res *Result) {
	p.calls = append(p.calls, call{script: sc, result: res, args: p.args[start:len(p.args):len(p.args)]})
}

func (p *plan) refuse(res *Result, op string, err error) {
	res.Outcome, res.Err = Failed, fmt.Errorf("%s %s: nothing was sent: %w", op, res.Symbol, err)
}

// values appends the chosen fields of q, with their names.
func (p *plan) values(q *Proposal, chosen []int) {
	var ends [len(fields)]int
	p.buf = p.buf[:0]
	for i, f := range chosen {
		p.buf = fields[f].put(p.buf, q)
		ends[i] = len(p.buf)
	}
	all, from := string(p.buf), 0
	for i, f := range chosen {
		p.args = append(p.args, fieldNames[f])
		p.add(all[from:ends[i]])
		from = ends[i]
	}
}

func (p *plan) publish(q *Proposal, res *Result) {
	res.Symbol = q.Symbol
	if err := check(q); err != nil {
		p.refuse(res, "publish", err)
		return
	}
	p.s.seenFence(q.Fence)
	var start int
	if p.s.streams {
		start = p.begin(publishScript, p.s.keys.Proposal(q.Symbol), p.s.keys.stream)
	} else {
		start = p.begin(publishScript, p.s.keys.Proposal(q.Symbol))
	}
	p.add(strconv.FormatInt(q.Revision, 10), strconv.FormatInt(q.Fence, 10), string(q.Symbol))
	p.values(q, allFields)
	p.end(publishScript, start, res)
}

func (p *plan) beat(b *Beat, res *Result) {
	res.Symbol = b.Symbol
	q := Proposal{
		LastUpdate: b.LastUpdate, MarketAt: b.MarketAt, PositionAt: b.PositionAt, InputState: b.InputState,
		ValidUntil: b.ValidUntil, Peak: b.Peak, Trough: b.Trough,
	}
	switch {
	case b.LastUpdate.IsZero():
		p.refuse(res, "beat", errors.New("field last_update_epoch is not set"))
		return
	case !knownInputState(string(b.InputState)):
		p.refuse(res, "beat", fmt.Errorf("field input_state: %q is not a state", b.InputState))
		return
	case !finite(b.Peak), !finite(b.Trough):
		p.refuse(res, "beat", errors.New("the peak or trough is not finite"))
		return
	}
	fence := b.Fence
	if fence == 0 {
		fence = p.s.seenFence(0)
	}
	start := p.begin(beatScript, p.s.keys.Proposal(b.Symbol))
	p.add(strconv.FormatInt(b.Revision, 10), strconv.FormatInt(fence, 10))
	p.args = append(p.args, wholeHash)
	p.values(&q, beatFields)
	p.end(beatScript, start, res)
}

func (p *plan) close(c *Close, res *Result) {
	res.Symbol = c.Symbol
	fence := c.Fence
	if fence == 0 {
		fence = max(c.Last.Fence, p.s.seenFence(0))
	}
	keys := &p.s.keys
	start := p.begin(closeScript, keys.Proposal(c.Symbol), keys.stream, keys.closed)
	p.add(c.Episode, strconv.FormatInt(fence, 10), string(c.Symbol),
		"symbol", string(c.Symbol), "event", "closed", "close_reason", c.Reason, "closed_at_epoch", string(appendEpoch(nil, c.At)),
		"harvest_action", "NONE", "last_action", string(c.Last.Action))
	last := c.Last
	if last.Episode == "" {
		last.Episode = c.Episode
	}
	p.values(&last, recordFields)
	p.end(closeScript, start, res)
}

// expect adds symbols to the expected set or takes them out, in portions that Lua can unpack.
func (p *plan) expect(command string, symbols []position.Symbol) {
	const portion = 1000
	for len(symbols) > 0 {
		n := min(portion, len(symbols))
		start := p.begin(expectScript, p.s.keys.expected)
		p.add(command)
		for _, sym := range symbols[:n] {
			p.add(string(sym))
		}
		p.end(expectScript, start, nil)
		symbols = symbols[n:]
	}
}
