package feed

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/kernel"
)

// Fields read of ready hashes. The last is the one by which our family marks what it writes.
var (
	readyStateFields = []string{
		"sigma", "mu", "ts", "p_trend", "p_mr", "p_chop", "dp", "vr", "spike_proxy", "ts_timestamp", "buffer_size", "publisher",
	}
	readyStopsFields = []string{"stop_dist_pct", "proposed_sl", "proposed_tp", "computed_at_utc", "publisher"}
)

// readyReply are the answers for one ready hash.
type readyReply struct {
	names  []string
	values *redis.SliceCmd
}

// askReady reads the known fields only: a hash may hold more than anyone wants to read, and one that has none of them
// is no input.
func askReady(ctx context.Context, pipe redis.Pipeliner, key string, names []string) readyReply {
	return readyReply{names: names, values: pipe.HMGet(ctx, key, names...)}
}

// none tells whether there is no such hash.
func (r readyReply) none() bool {
	return !slices.ContainsFunc(r.values.Val(), func(v any) bool { return v != nil })
}

// readyFields are the fields of a hash that are there.
type readyFields map[string]string

func (r readyReply) fields() readyFields {
	fields := make(readyFields, len(r.names))
	for i, v := range r.values.Val() {
		if text, ok := v.(string); ok && i < len(r.names) {
			fields[r.names[i]] = text
		}
	}
	return fields
}

// ours tells whether our family wrote the hash: the publisher is the last field asked for.
func (r readyReply) ours() bool {
	values := r.values.Val()
	return len(values) == len(r.names) && values[len(values)-1] != nil
}

// mark is the content in one text, to see whether it changed.
func (r readyReply) mark() string {
	var b strings.Builder
	for _, v := range r.values.Val() {
		if text, ok := v.(string); ok {
			b.WriteString(text)
		} else {
			b.WriteByte(1)
		}
		b.WriteByte(0)
	}
	return b.String()
}

// readyKey is what is remembered of one ready hash between polls.
type readyKey struct {
	mark  string
	seen  bool // somebody else's hash was there at the last poll
	moved bool // and its content has changed while we looked
	event Event
	at    time.Time // event time of event
}

func (k *readyKey) forget() { *k = readyKey{} }

// look takes an answer in. It leaves the newest valid event that has not gone out yet in k.event, and tells whether the
// hash is somebody else's and could be read.
func (m *RedisMarket) look(k *readyKey, s *redisSymbol, key string, r readyReply, now time.Time, sink Sink,
	decode func(readyFields, time.Time) (Event, time.Time, []flaw),
) bool {
	if m.lost(r.values.Err()) {
		return k.seen // as it was
	}
	if bad, is := replyFlaw(r.values.Err()); is {
		m.defects.set(key, s.name, []flaw{bad}, now, sink)
		k.mark, k.event = "", nil
		return false
	}
	if r.ours() || r.none() {
		m.defects.set(key, s.name, nil, now, sink)
		k.forget()
		return false
	}
	mark := r.mark()
	if k.seen && k.mark == mark {
		return true
	}
	k.moved, k.seen, k.mark = k.seen, true, mark
	event, at, flaws := decode(r.fields(), now)
	m.defects.set(key, s.name, flaws, now, sink)
	if len(flaws) > 0 {
		event = nil
	}
	k.event, k.at = event, at
	return true
}

// takeReady decides whether a symbol is consumed, and hands on what is new.
func (m *RedisMarket) takeReady(s *redisSymbol, r *redisReplies, now time.Time, sink Sink) {
	foreign := m.look(&s.state, s, s.keys.state, r.state, now, sink,
		func(f readyFields, now time.Time) (Event, time.Time, []flaw) {
			state, at, flaws := decodeMarketState(f, now)
			return State{Symbol: s.name, State: state, At: at}, at, flaws
		})
	m.look(&s.stops, s, s.keys.stops, r.stops, now, sink,
		func(f readyFields, now time.Time) (Event, time.Time, []flaw) {
			stops, flaws := decodeStops(f, now)
			stops.Symbol = s.name
			return stops, stops.At, flaws
		})
	switch {
	case m.opts.Mode == MarketReady:
		s.consumed = true
	case s.consumed:
		if !foreign && !s.state.seen {
			s.consumed = false
			m.opts.Log.Info("market state is no longer written by another service: produced from candles",
				"symbol", s.name)
		}
	case foreign && m.takesOver(s, now):
		s.consumed = true
		m.forgetCandles(s)
		m.opts.Log.Info("market state is written by another service: consumed", "symbol", s.name)
	}
	if !s.consumed {
		return
	}
	for _, k := range []*readyKey{&s.state, &s.stops} {
		if k.event != nil {
			sink(k.event)
			k.event = nil
		}
	}
}

// takesOver decides for a symbol that was not consumed so far. Whoever has candles needs evidence that the other
// service lives: a hash left behind, or one of our own that lost its mark, must not silence them.
func (m *RedisMarket) takesOver(s *redisSymbol, now time.Time) bool {
	if s.state.event == nil {
		return false
	}
	fresh := now.Sub(s.state.at) <= readyFresh
	if s.candles.sent {
		return fresh && s.state.moved
	}
	return fresh || s.candles.kind == ""
}

// readyNumber is one number of a ready hash and its domain.
type readyNumber struct {
	name        string
	into        *float64
	least, most float64
	optional    bool // may be absent, not wrong
}

func (n readyNumber) read(fields readyFields) (flaw, bool) {
	text, there := fields[n.name]
	if !there && n.optional {
		return flaw{}, false
	}
	v, reason := parseNumber(text)
	if reason == "" && (v < n.least || v > n.most) {
		reason = ReasonDomain
	}
	if reason != "" {
		return flaw{n.name, reason, text}, true
	}
	*n.into = v
	return flaw{}, false
}

const (
	// probabilitySlack is how far the regime probabilities may be from summing to 1: writers round them.
	probabilitySlack = 1e-3
	// probabilityExact is how far they may be off and still be taken as they are; beyond, they are scaled to sum to 1,
	// which is what the kernel asks for.
	probabilityExact = 1e-9
)

// decodeMarketState checks a ready market state field by field. The time is when it was computed; now, where it does
// not say.
func decodeMarketState(fields readyFields, now time.Time) (kernel.MarketState, time.Time, []flaw) {
	var st kernel.MarketState
	var flaws []flaw
	for _, n := range []readyNumber{
		{"sigma", &st.Sigma, 0, math.MaxFloat64, false},
		{"mu", &st.Mu, -math.MaxFloat64, math.MaxFloat64, true},
		{"ts", &st.TS, 0, math.MaxFloat64, false},
		{"p_trend", &st.PTrend, 0, 1, false},
		{"p_mr", &st.PMR, 0, 1, false},
		{"p_chop", &st.PChop, 0, 1, false},
		{"dp", &st.DP, 0, 1, true},
		{"vr", &st.VR, 0, math.MaxFloat64, true},
		{"spike_proxy", &st.SpikeProxy, 0, math.MaxFloat64, true},
	} {
		if bad, is := n.read(fields); is {
			flaws = append(flaws, bad)
		}
	}
	switch sum := st.PTrend + st.PMR + st.PChop; {
	case len(flaws) > 0:
	case math.Abs(sum-1) > probabilitySlack:
		flaws = append(flaws, flaw{"p_trend+p_mr+p_chop", ReasonDomain, formatNumber(sum)})
	case math.Abs(sum-1) > probabilityExact:
		st.PTrend, st.PMR, st.PChop = st.PTrend/sum, st.PMR/sum, st.PChop/sum
	}
	at, bad, is := readyTime(fields, "ts_timestamp", now)
	if is {
		flaws = append(flaws, bad)
	}
	return st, at, flaws
}

// decodeStops checks a ready stop proposal field by field.
func decodeStops(fields readyFields, now time.Time) (Stops, []flaw) {
	var s Stops
	var flaws []flaw
	tp := fields["proposed_tp"]
	noTarget := tp == "" || tp == "None" // an earlier writer spelled nothing so
	numbers := []readyNumber{
		// A distance of the whole price or more is a percentage taken for a fraction.
		{"stop_dist_pct", &s.StopDistPct, 0, math.Nextafter(1, 0), false},
		{"proposed_sl", &s.ProposedSL, math.SmallestNonzeroFloat64, math.MaxFloat64, false},
	}
	if !noTarget {
		numbers = append(numbers, readyNumber{"proposed_tp", &s.ProposedTP, 0, math.MaxFloat64, false})
	}
	for _, n := range numbers {
		if bad, is := n.read(fields); is {
			flaws = append(flaws, bad)
		}
	}
	at, bad, is := readyTime(fields, "computed_at_utc", now)
	if is {
		flaws = append(flaws, bad)
	}
	s.At = at
	return s, flaws
}

// readyTime is the time a hash says it was computed at; now, where it does not say, because that is when its content
// was seen to change.
func readyTime(fields readyFields, name string, now time.Time) (time.Time, flaw, bool) {
	text, there := fields[name]
	if !there {
		return now, flaw{}, false
	}
	at, reason := parseTime(text)
	if reason == "" && at.Sub(now) > futureTolerance {
		reason = ReasonFuture
	}
	if reason != "" {
		return time.Time{}, flaw{name, reason, text}, true
	}
	if at.After(now) {
		at = now
	}
	return at, flaw{}, false
}
