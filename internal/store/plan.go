package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

// plan gathers the calls of one Write. Its memory is used again by the next: a desk writes every second for as long as
// it is open. Texts are written one after the other into one buffer, and finish makes the arguments point at them: a hook
// of the client that keeps arguments must copy what they point to.
type plan struct {
	s     *Store
	calls []call
	args  []any    // of all calls, one after the other; nil where the next text belongs
	ends  []int    // where each text ends in buf
	buf   []byte   // all texts
	texts []string // the texts cut out: an interface made of a pointer costs no allocation
	todo  []*call
	cmds  []redis.Cmder

	moved Proposal // what a beat or a close writes
}

// call is one script to run on the server and where its outcome goes.
type call struct {
	script   *script
	result   *Result // nil for changes of the expected set
	from, to int     // its arguments
	cmd      *redis.Cmd
}

// mark is where a call begins.
type mark struct{ args, texts, buf int }

// reset makes the plan empty. It lets go of what belongs to the caller.
func (p *plan) reset() {
	clear(p.calls)
	clear(p.cmds)
	p.calls, p.args, p.ends, p.buf, p.todo, p.cmds = p.calls[:0], p.args[:0], p.ends[:0], p.buf[:0], p.todo[:0], p.cmds[:0]
	p.moved = Proposal{}
}

// finish cuts the texts and hands them to the arguments.
func (p *plan) finish() {
	all, from := string(p.buf), 0
	p.texts = slices.Grow(p.texts[:0], len(p.ends))[:len(p.ends)]
	for i, end := range p.ends {
		p.texts[i], from = all[from:end], end
	}
	next := 0
	for i := range p.args {
		if p.args[i] == nil {
			p.args[i] = &p.texts[next]
			next++
		}
	}
	for i := range p.calls {
		p.todo = append(p.todo, &p.calls[i])
	}
}

func (p *plan) argsOf(c *call) []any { return p.args[c.from:c.to:c.to] }

// The constant arguments, put into interfaces once: a batch has dozens per symbol.
var (
	evalsha    any = "evalsha"
	keyCounts      = [...]any{"0", "1", "2", "3"}
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

// begin starts a call on that many keys; end or drop closes it. In between its arguments are appended.
func (p *plan) begin(sc *script, keys int) mark {
	m := mark{len(p.args), len(p.ends), len(p.buf)}
	p.args = append(p.args, evalsha, &sc.sha, keyCounts[keys])
	return m
}

func (p *plan) end(m mark, sc *script, res *Result) {
	p.calls = append(p.calls, call{script: sc, result: res, from: m.args, to: len(p.args)})
}

// drop takes back what was appended since begin.
func (p *plan) drop(m mark) { p.args, p.ends, p.buf = p.args[:m.args], p.ends[:m.texts], p.buf[:m.buf] }

func (p *plan) refuse(res *Result, op string, err error) {
	res.Outcome, res.Err = Failed, fmt.Errorf("%s %s: nothing was sent: %w", op, res.Symbol, err)
}

// done makes what was appended to the buffer since the last argument the next one.
func (p *plan) done() {
	p.args = append(p.args, nil)
	p.ends = append(p.ends, len(p.buf))
}

// joined appends one argument made of two parts.
func (p *plan) joined(a, b string) {
	p.buf = append(append(p.buf, a...), b...)
	p.done()
}

func (p *plan) text(s string) { p.joined(s, "") }

func (p *plan) whole(n int64) {
	p.buf = strconv.AppendInt(p.buf, n, 10)
	p.done()
}

// each appends every text as an argument of its own.
func (p *plan) each(texts ...string) {
	for _, s := range texts {
		p.text(s)
	}
}

// values appends the chosen fields of q, with their names. The error is about the first that is not finite.
func (p *plan) values(q *Proposal, chosen []int) (err error) {
	for _, i := range chosen {
		f := &fields[i]
		var ok bool
		if p.buf, ok = f.append(p.buf, q); !ok && err == nil {
			err = fmt.Errorf("field %s is not finite", f.name)
		}
		p.args = append(p.args, fieldNames[i])
		p.done()
	}
	return err
}

func (p *plan) publish(q *Proposal, res *Result) {
	res.Symbol = q.Symbol
	if err := check(q); err != nil {
		p.refuse(res, "publish", err)
		return
	}
	keys := 1
	if p.s.streams {
		keys = 2
	}
	m := p.begin(publishScript, keys)
	p.joined(p.s.keys.harvest, string(q.Symbol))
	if p.s.streams {
		p.text(p.s.keys.stream)
	}
	p.whole(q.Revision)
	p.whole(q.Fence)
	p.text(string(q.Symbol))
	if err := p.values(q, allFields); err != nil {
		p.drop(m)
		p.refuse(res, "publish", err)
		return
	}
	p.s.seenFence(q.Fence)
	p.end(m, publishScript, res)
}

func (p *plan) beat(b *Beat, res *Result) {
	res.Symbol = b.Symbol
	switch {
	case b.LastUpdate.IsZero():
		p.refuse(res, "beat", errors.New("field last_update_epoch is not set"))
		return
	case !knownInputState(string(b.InputState)):
		p.refuse(res, "beat", fmt.Errorf("field input_state: %q is not a state", b.InputState))
		return
	}
	fence := b.Fence
	if fence == 0 {
		fence = p.s.seenFence(0)
	}
	m := p.begin(beatScript, 1)
	p.joined(p.s.keys.harvest, string(b.Symbol))
	p.whole(b.Revision)
	p.whole(fence)
	q := &p.moved
	q.LastUpdate, q.MarketAt, q.PositionAt, q.ValidUntil = b.LastUpdate, b.MarketAt, b.PositionAt, b.ValidUntil
	q.InputState, q.Peak, q.Trough = b.InputState, b.Peak, b.Trough
	if err := p.values(q, beatFields); err != nil {
		p.drop(m)
		p.refuse(res, "beat", err)
		return
	}
	p.end(m, beatScript, res)
}

func (p *plan) close(c *Close, res *Result) {
	res.Symbol = c.Symbol
	fence := c.Fence
	if fence == 0 {
		fence = max(c.Last.Fence, p.s.seenFence(0))
	}
	keys := &p.s.keys
	m := p.begin(closeScript, 3)
	p.joined(keys.harvest, string(c.Symbol))
	p.each(keys.stream, keys.closed, c.Episode)
	p.whole(fence)
	p.each(string(c.Symbol), "symbol", string(c.Symbol), "event", "closed", "close_reason", c.Reason, "closed_at_epoch")
	p.buf = appendEpoch(p.buf, c.At)
	p.done()
	p.each("harvest_action", "NONE", "last_action", string(c.Last.Action))
	p.moved = c.Last
	if p.moved.Episode == "" {
		p.moved.Episode = c.Episode
	}
	_ = p.values(&p.moved, recordFields) // a record of what is over: what is not finite is left blank
	p.end(m, closeScript, res)
}

// expect adds symbols to the expected set or takes them out, in portions that Lua can unpack.
func (p *plan) expect(command string, symbols []position.Symbol) {
	for some := range slices.Chunk(symbols, 1000) {
		m := p.begin(expectScript, 1)
		p.each(p.s.keys.expected, command)
		for _, sym := range some {
			p.text(string(sym))
		}
		p.end(m, expectScript, nil)
	}
}
