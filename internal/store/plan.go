package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

// plan gathers the calls of one Write. Its memory is used again by the next: a desk writes every second for as long as
// it is open. Texts are written one after the other into one buffer, and finish makes the arguments point at them: a hook
// of the client that keeps arguments must copy what they point to.
type plan struct {
	s     *Store
	lease Lease // what every call proves
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
	p.moved, p.lease = Proposal{}, Lease{}
}

// finish cuts the texts and hands them to the arguments. They share the memory of the buffer, which nothing writes to until
// the answers are there: a copy would be 5 kB for each of the thousands of proposals of a batch.
func (p *plan) finish() {
	all, from := unsafe.String(unsafe.SliceData(p.buf), len(p.buf)), 0
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
	keyCounts      = [...]any{"0", "1", "2", "3", "4"}
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

// firstKey is where the first key stands among the arguments of a call, behind the command, the script and the number of keys.
const firstKey = 3

// begin starts a call that writes under the key prefix+name, and under more keys behind it; end or drop closes it. In
// between its arguments are appended. Every script is told first which lease it is to ask for.
func (p *plan) begin(sc *script, sym position.Symbol, prefix, name string, more ...string) mark {
	m := mark{len(p.args), len(p.ends), len(p.buf)}
	shard, fence := p.lease.of(sym)
	holder := p.lease.Holder
	if p.s.perKey {
		// The lease lies in another slot, where a script on this key cannot look.
		holder = ""
		p.args = append(p.args, evalsha, &sc.sha, keyCounts[1+len(more)])
		p.joined(prefix, name)
	} else {
		p.args = append(p.args, evalsha, &sc.sha, keyCounts[2+len(more)])
		p.joined(prefix, name)
		p.text(p.s.keys.lease)
	}
	p.each(more...)
	p.whole(int64(shard))
	p.text(holder)
	p.whole(fence)
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
	script, more := publishScript, p.s.withProposal
	if p.s.perKey {
		script, more = publishAloneScript, []string{beside(p.s.keys.Proposal(q.Symbol))}
	}
	m := p.begin(script, q.Symbol, p.s.keys.harvest, string(q.Symbol), more...)
	p.whole(q.Fence)
	p.whole(q.Revision)
	p.text(string(q.Symbol))
	if err := p.values(q, allFields); err != nil {
		p.drop(m)
		p.refuse(res, "publish", err)
		return
	}
	p.end(m, script, res)
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
	m := p.begin(beatScript, b.Symbol, p.s.keys.harvest, string(b.Symbol))
	p.whole(b.Fence)
	p.whole(b.Revision)
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
	keys := &p.s.keys
	script, more := closeScript, []string{keys.stream, keys.closed}
	if p.s.perKey {
		script, more = endScript, []string{beside(keys.Proposal(c.Symbol))}
	}
	m := p.begin(script, c.Symbol, keys.harvest, string(c.Symbol), more...)
	p.whole(c.Fence)
	p.each(c.Episode, string(c.Symbol))
	p.record(c)
	p.end(m, script, res)
}

// record appends the closing record.
func (p *plan) record(c *Close) {
	p.each("symbol", string(c.Symbol), "event", "closed", "close_reason", c.Reason, "closed_at_epoch")
	p.buf = appendEpoch(p.buf, c.At)
	p.done()
	p.each("harvest_action", "NONE", "last_action", string(c.Last.Action))
	p.moved = c.Last
	if p.moved.Episode == "" {
		p.moved.Episode = c.Episode
	}
	_ = p.values(&p.moved, recordFields) // a record of what is over: what is not finite is left blank
}

// expect adds symbols to the expected set or takes them out: shard by shard, because each has a lease of its own, and in
// portions that Lua can unpack.
func (p *plan) expect(command string, symbols []position.Symbol) {
	if len(symbols) == 0 {
		return
	}
	shards := make([][]position.Symbol, max(1, len(p.lease.Fences)))
	for _, sym := range symbols {
		shard, _ := p.lease.of(sym)
		shards[shard] = append(shards[shard], sym)
	}
	for _, all := range shards {
		for some := range slices.Chunk(all, 1000) {
			m := p.begin(expectScript, some[0], p.s.keys.expected, "")
			p.text(command)
			for _, sym := range some {
				p.text(string(sym))
			}
			p.end(m, expectScript, nil)
		}
	}
}
