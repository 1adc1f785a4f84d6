package engine_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// What goes wrong in a world, and what is seen of it from outside.

func (w *world) fault() { w.faultUntil(w.now) }

func (w *world) faultUntil(at time.Time) {
	w.whole, w.calm = false, false
	if at.After(w.faultAt) {
		w.faultAt = at
	}
}

// misfortune makes one thing go wrong and arranges the next: soon, or after it has become calm.
func (w *world) misfortune() {
	w.fault()
	alive := w.alive()
	switch kind := w.plan.IntN(12); kind {
	case 0, 1: // a process dies; another one starts some time later
		if len(alive) > 1 || w.plan.chance(0.3) {
			p := alive[w.plan.IntN(len(alive))]
			p.dead = true
			w.tally.kills++
			w.after(w.plan.between(0.1, 12), func() { w.fault(); w.start() })
		}
	case 2, 3: // a process stands still
		p := alive[w.plan.IntN(len(alive))]
		if !p.paused {
			p.paused = true
			w.tally.pauses++
			w.after(w.plan.between(0.1, 15), p.resume)
		}
	case 4, 5:
		w.stormTo = w.now.Add(time.Duration(w.plan.between(1, 8) * float64(time.Second)))
	case 6:
		w.tally.failovers++
		w.failover()
	case 7:
		w.tally.outages++
		w.downTo = w.now.Add(time.Duration(w.plan.between(0.2, 9) * float64(time.Second)))
		w.faultUntil(w.downTo)
	case 8:
		w.tally.clockSteps++
		w.offset += time.Duration(w.plan.between(-30, 30) * float64(time.Second))
	case 9: // it comes back empty
		w.tally.outages++
		w.forget(func() { w.redis.FlushAll() })
	case 10:
		w.turn()
	case 11: // a process is told to stop, or another one joins
		if len(alive) > 1 {
			p := alive[w.plan.IntN(len(alive))]
			if !p.paused && !p.busy && !p.leasing && !w.now.Before(w.downTo) {
				_, _ = w.store.AskLease(context.Background(), p.eng.LeaveLease(p.clock()).LeaseAsk)
				p.dead = true
			}
		} else {
			w.start()
		}
	}
	next := w.plan.between(0.1, 5)
	if w.plan.chance(0.4) {
		next = w.plan.between(1, 1.5)*worldBound.Seconds() + max(0, w.faultAt.Sub(w.now).Seconds())
	}
	w.after(next, w.misfortune)
}

func (w *world) alive() []*proc {
	var alive []*proc
	for _, p := range w.procs {
		if !p.dead {
			alive = append(alive, p)
		}
	}
	if len(alive) == 0 {
		alive = append(alive, w.start())
	}
	w.procs = alive
	return alive
}

func (p *proc) resume() {
	if p.dead {
		return
	}
	p.w.fault()
	p.paused = false
	held := p.held
	p.held = nil
	for _, do := range held {
		p.whenAwake(do)
	}
}

// turn ends, opens or turns round one position.
func (w *world) turn() {
	sym := w.symbols[w.plan.IntN(len(w.symbols))]
	r, open := w.positions[sym]
	w.tally.flips++
	switch {
	case !open:
		w.open(sym, position.Long)
	case w.plan.chance(0.5) || len(w.positions) < 2:
		side := position.Short
		if r.Side == position.Short {
			side = position.Long
		}
		w.open(sym, side)
	default:
		delete(w.positions, sym)
	}
}

// replicate copies the server to its replica, as asynchronous replication does: a little late.
func (w *world) replicate() {
	if !w.now.Before(w.downTo) {
		copyAll(w.redis, w.replica)
	}
	w.after(w.plan.between(0.01, 0.6), w.replicate)
}

// failover makes the replica the server: what it had not received is lost.
func (w *world) failover() {
	w.forget(func() { copyAll(w.replica, w.redis) })
	w.offset += time.Duration(w.plan.between(-0.5, 0.5) * float64(time.Second))
	w.downTo = w.now.Add(time.Duration(w.plan.between(0, 3) * float64(time.Second)))
	w.faultUntil(w.downTo)
}

// forget lets the server lose something: what is seen from outside begins anew with what it still knows.
func (w *world) forget(lose func()) {
	w.forgot = true
	lose()
	w.client.ScriptFlush(context.Background())
	for _, sym := range w.symbols {
		w.seen[sym] = w.look(sym)
	}
}

const worldProposal = "quantum:harvest:proposal:"

// look reads one hash past everything that is tested.
func (w *world) look(sym position.Symbol) seen {
	key := worldProposal + string(sym)
	fields, err := w.redis.HKeys(key)
	if err != nil {
		return seen{}
	}
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%s=%s\n", f, w.redis.HGet(key, f))
	}
	s := seen{text: b.String(), at: w.now}
	s.revision, _ = strconv.ParseInt(w.redis.HGet(key, "revision"), 10, 64)
	s.fence, _ = strconv.ParseInt(w.redis.HGet(key, "fence"), 10, 64)
	if len(fields) != len(store.FieldNames()) {
		w.violation("the hash of %s has %d fields, whole ones have %d", sym, len(fields), len(store.FieldNames()))
	}
	return s
}

// observe looks at what a batch of one process did.
func (w *world) observe(p *proc, res store.Results) {
	for _, group := range [][]store.Result{res.Publishes, res.Beats, res.Closes} {
		for _, r := range group {
			if r.Outcome == store.Unleased || r.Outcome == store.Fenced {
				w.tally.refused++
			}
		}
	}
	leases := w.leases()
	for _, sym := range w.symbols {
		was, is := w.seen[sym], w.look(sym)
		if is.text == was.text {
			continue
		}
		w.tally.writes++
		l := leases[store.ShardOf(sym, w.shards)]
		switch {
		case l.holder != p.id+"#x":
			w.violation("%s wrote %s while the lease is of %q", p.id, sym, l.holder)
		case !w.now.Add(w.offset).Before(l.until):
			w.violation("%s wrote %s under a lease that ran out %v ago", p.id, sym, w.now.Add(w.offset).Sub(l.until))
		case is.text != "" && is.fence != l.fence:
			w.violation("%s wrote %s under fence %d, the lease has %d", p.id, sym, is.fence, l.fence)
		}
		if is.text == "" { // closed: what comes next must be above all the same
			is.revision, is.fence = was.revision, was.fence
		}
		if is.revision < was.revision || is.fence < was.fence {
			w.violation("%s made %s go back: revision %d -> %d, fence %d -> %d", p.id, sym, was.revision, is.revision, was.fence, is.fence)
		}
		w.seen[sym] = is
	}
}

type leaseSeen struct {
	holder string
	fence  int64
	until  time.Time
}

func (w *world) leases() []leaseSeen {
	out := make([]leaseSeen, w.shards)
	for i := range out {
		at := func(part string) string { return w.redis.HGet("quantum:harvest:lease", strconv.Itoa(i)+":"+part) }
		out[i].holder = at("holder")
		out[i].fence, _ = strconv.ParseInt(at("fence"), 10, 64)
		ms, _ := strconv.ParseInt(at("until_ms"), 10, 64)
		out[i].until = time.UnixMilli(ms)
	}
	return out
}

// observeLease looks at what an ask did: a lease changes hands only where it was free, under a fence that nobody had.
func (w *world) observeLease(before []leaseSeen) {
	for i, is := range w.leases() {
		was := before[i]
		if is.fence < was.fence {
			w.violation("the fence of shard %d went from %d to %d", i, was.fence, is.fence)
		}
		if is.holder == was.holder && is.fence == was.fence {
			continue
		}
		if is.holder == "" {
			continue // given up
		}
		w.tally.takeovers++
		if was.holder != "" && was.holder != is.holder && w.now.Add(w.offset).Before(was.until) {
			w.violation("%s took shard %d from %s, whose lease holds for another %v", is.holder, i, was.holder, was.until.Sub(w.now.Add(w.offset)))
		}
		term := fmt.Sprint(i, " ", is.fence)
		if other := w.holders[term]; other != "" && other != is.holder {
			w.violation("%s and %s hold shard %d under one fence %d", other, is.holder, i, is.fence)
		}
		w.holders[term] = is.holder
	}
}

// checkCalm demands, once nothing went wrong for as long as a takeover may take, that every open position is written, and
// goes on being written, and that nothing else is there.
func (w *world) checkCalm() {
	active := false
	for _, p := range w.procs {
		active = active || (!p.dead && !p.paused)
	}
	if !active {
		w.fault()
		return
	}
	if !w.whole && !w.now.Before(w.faultAt) {
		w.whole = true
		for sym := range w.positions {
			w.whole = w.whole && w.seen[sym].at.After(w.faultAt)
		}
		if w.whole {
			w.tally.longest = max(w.tally.longest, w.now.Sub(w.faultAt).Seconds())
		}
	}
	if w.now.Sub(w.faultAt) <= worldBound {
		return
	}
	if !w.calm {
		w.calm = true
		w.tally.calm++
	}
	for _, sym := range w.symbols {
		r, open := w.positions[sym]
		s := w.seen[sym]
		key := worldProposal + string(sym)
		switch {
		case open && (s.text == "" || w.now.Sub(s.at) > 2200*time.Millisecond):
			w.violation("%v after the last fault %s was last written %v ago", w.now.Sub(w.faultAt), sym, w.now.Sub(s.at))
			w.fault()
		case open && w.redis.HGet(key, "position_side") != string(r.Side):
			w.violation("%v after the last fault advice for another side stands for %s", w.now.Sub(w.faultAt), sym)
			w.fault()
		case !open && s.text != "":
			w.violation("%v after the last fault there is advice for %s, which has no position", w.now.Sub(w.faultAt), sym)
			w.fault()
		}
	}
}

// checkRecords demands one closing record for every episode, as long as the server kept what it had.
func (w *world) checkRecords() {
	if w.forgot {
		return
	}
	entries, err := w.redis.Stream("quantum:stream:harvest.proposal")
	if err != nil {
		return // none
	}
	records := map[string]int{}
	for _, e := range entries {
		for i := 0; i+1 < len(e.Values); i += 2 {
			if e.Values[i] == "episode" {
				records[e.Values[i+1]]++
			}
		}
	}
	for episode, n := range records {
		if n > 1 {
			w.violation("%d closing records of episode %s", n, episode)
		}
	}
}

// saboteur changes the scripts on their way to the server.
type saboteur struct {
	change func(string) string
	shas   map[string]string
}

func newSaboteur(words []string) *saboteur {
	s := &saboteur{shas: map[string]string{}}
	s.change = func(source string) string {
		for _, word := range words {
			switch word {
			case "expiry":
				source = strings.ReplaceAll(source, " or whole(lease[3]) <= clock[1] * 1000 + clock[2] / 1000", "")
			default:
				source = strings.ReplaceAll(source, "return {'"+word+"'", "local _ = {'"+word+"'")
			}
		}
		return source
	}
	return s
}

func (s *saboteur) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s *saboteur) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.spoil(cmd)
		return next(ctx, cmd)
	}
}

func (s *saboteur) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			s.spoil(cmd)
		}
		return next(ctx, cmds)
	}
}

func (s *saboteur) spoil(cmd redis.Cmder) {
	args := cmd.Args()
	switch {
	case strings.EqualFold(fmt.Sprint(args[0]), "script") && len(args) == 3:
		source := args[2].(string)
		args[2] = s.change(source)
		s.shas[sha1Of(source)] = sha1Of(args[2].(string))
	case args[0] == "evalsha":
		sha, ok := args[1].(string)
		if p, is := args[1].(*string); is {
			sha, ok = *p, true
		}
		if ok && s.shas[sha] != "" {
			args[1] = s.shas[sha]
		}
	}
}

func sha1Of(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// copyAll makes one server hold what the other one holds: hashes, sets and strings.
func copyAll(from, to *miniredis.Miniredis) {
	to.FlushAll()
	for _, key := range from.Keys() {
		switch from.Type(key) {
		case "hash":
			fields, _ := from.HKeys(key)
			for _, f := range fields {
				to.HSet(key, f, from.HGet(key, f))
			}
		case "set":
			members, _ := from.Members(key)
			_, _ = to.SetAdd(key, members...)
		case "string":
			v, _ := from.Get(key)
			_ = to.Set(key, v)
		}
	}
}
