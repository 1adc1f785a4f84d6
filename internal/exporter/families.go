package exporter

import (
	"iter"
	"slices"
	"strconv"
	"time"

	"quantumharvest/internal/listen"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// snapshot is what one reading of the store gave. Entries are sorted by symbol and no symbol is there twice.
type snapshot struct {
	store.Collection
	expected []position.Symbol // the set in Redis together with SYMBOLS, sorted
	readAt   time.Time
	offset   time.Duration // clock of Redis minus ours
}

// fieldBits gives each field of the proposal hash one bit, for the set of those with a problem.
type fieldBits map[string]uint64

func newFieldBits() fieldBits {
	bits := make(fieldBits)
	for i, name := range store.FieldNames() {
		bits[name] = 1 << i
	}
	return bits
}

func (f fieldBits) of(problems []store.Problem) (set uint64) {
	for i := range problems {
		set |= f[problems[i].Field]
	}
	return set
}

// families are the gauges of one scrape. Labels come in the order of the table, symbol first, as scripts of the earlier
// deployment look for them; Prometheus does not mind.
type families []listen.Gauges

// add appends a family; one without samples is left out, as the exposition formats want it.
func (f *families) add(d *Desc, samples iter.Seq[listen.Sample]) {
	for range samples {
		*f = append(*f, listen.Gauges{Name: d.Name, Help: d.Help, Samples: samples})
		return
	}
}

// few adds a family of samples that are at hand.
func (f *families) few(d *Desc, samples ...listen.Sample) { f.add(d, slices.Values(samples)) }

func (f *families) one(d *Desc, v float64) { f.few(d, listen.Sample{Value: v}) }

// with is a sample with labels of its own.
func with(v float64, pairs ...string) listen.Sample {
	labels := listen.NewLabels(pairs...)
	return listen.Sample{Of: &labels, Value: v}
}

// row is one symbol that could be read or not, with what its samples share.
type row struct {
	entry  *store.Entry
	bad    uint64 // fields of its proposal with a problem
	labels listen.Labels
	state  *listen.Labels // of its info
}

// read tells whether the row has a proposal.
func (r *row) read() bool { return r.entry.Err == nil && r.entry.Found }

// symbols adds everything that has a label symbol, and the counts over all of them.
func (f *families) symbols(s *snapshot, bits fieldBits) {
	rows := make([]row, len(s.Entries))
	states := map[stateKey]*listen.Labels{}
	action := bits["harvest_action"]
	found, unreadable, incomplete := 0, 0, 0
	for i := range s.Entries {
		r := &rows[i]
		r.entry = &s.Entries[i]
		r.labels = listen.NewLabels("symbol", string(r.entry.Symbol))
		switch {
		case r.entry.Err != nil:
			unreadable++
		case r.entry.Found:
			found++
			r.bad = bits.of(r.entry.Problems)
			r.state = stateLabels(states, &r.entry.Proposal)
			if r.bad != 0 {
				incomplete++
			}
		}
	}

	for i := range columns {
		f.column(&columns[i], bits, rows)
	}
	f.oneHot(&descAction, "action", action, rows, actionNames(), func(p *store.Proposal) string { return string(p.Action) })
	f.oneHot(&descInputState, "state", bits["input_state"], rows, inputStates(), func(p *store.Proposal) string { return string(p.InputState) })
	f.add(&descInfo, each(rows, func(r *row) (listen.Sample, bool) {
		return listen.Sample{Of: &r.labels, And: r.state, Value: 1}, r.read()
	}))
	expected := make([]listen.Labels, len(s.expected))
	for i, sym := range s.expected {
		expected[i] = listen.NewLabels("symbol", string(sym))
	}
	f.add(&descExpected, each(expected, func(l *listen.Labels) (listen.Sample, bool) {
		return listen.Sample{Of: l, Value: 1}, true
	}))
	f.add(&descPresent, each(rows, func(r *row) (listen.Sample, bool) {
		usable := 0.0
		if r.read() && r.bad&action == 0 { // a timestamp alone is no proposal
			usable = 1
		}
		return listen.Sample{Of: &r.labels, Value: usable}, true
	}))
	f.add(&descProblems, each(rows, func(r *row) (listen.Sample, bool) {
		return listen.Sample{Of: &r.labels, Value: float64(len(r.entry.Problems))}, r.read()
	}))
	f.few(&descSymbols,
		with(float64(len(s.expected)), "state", "expected"),
		with(float64(found), "state", "found"),
		with(float64(incomplete), "state", "incomplete"),
		with(float64(s.Invalid), "state", "invalid"),
		with(float64(len(s.Entries)-found-unreadable), "state", "missing"),
		with(float64(unreadable), "state", "unreadable"),
	)
}

// each makes samples of the elements of a list that have one.
func each[T any](list []T, sample func(*T) (listen.Sample, bool)) iter.Seq[listen.Sample] {
	return func(yield func(listen.Sample) bool) {
		for i := range list {
			if s, ok := sample(&list[i]); ok && !yield(s) {
				return
			}
		}
	}
}

func (f *families) column(c *gaugeColumn, bits fieldBits, rows []row) {
	bit := bits[c.field]
	f.add(&c.Desc, each(rows, func(r *row) (listen.Sample, bool) {
		if !r.read() || r.bad&bit != 0 {
			return listen.Sample{}, false
		}
		v, ok := c.value(&r.entry.Proposal)
		return listen.Sample{Of: &r.labels, Value: v}, ok
	}))
}

// oneHot adds one sample per possible value: 1 for the one that the proposal has. A proposal without a known value has
// no samples at all.
func (f *families) oneHot(d *Desc, label string, bit uint64, rows []row, values []string, of func(*store.Proposal) string) {
	labels := make([]listen.Labels, len(values))
	for i, v := range values {
		labels[i] = listen.NewLabels(label, v)
	}
	f.add(d, func(yield func(listen.Sample) bool) {
		for i := range rows {
			r := &rows[i]
			if !r.read() || r.bad&bit != 0 {
				continue
			}
			is := of(&r.entry.Proposal)
			if is == "" {
				continue
			}
			for j, v := range values {
				hot := 0.0
				if v == is {
					hot = 1
				}
				if !yield(listen.Sample{Of: &r.labels, And: &labels[j], Value: hot}) {
					return
				}
			}
		}
	})
}

func actionNames() []string {
	names := make([]string, len(kernel.Actions))
	for i, a := range kernel.Actions {
		names[i] = string(a)
	}
	return names
}

func inputStates() []string {
	return []string{string(store.InputFresh), string(store.InputStaleMarket), string(store.InputStalePosition)}
}

// stateKey is what the info of a symbol says beside its name: the same for most of them.
type stateKey struct {
	side                      position.Side
	publisher, market, source string
	schema                    int
}

func stateLabels(known map[stateKey]*listen.Labels, p *store.Proposal) *listen.Labels {
	key := stateKey{p.Side, p.Publisher, p.MarketSource, p.PositionSource, p.SchemaVersion}
	labels, ok := known[key]
	if !ok {
		made := listen.NewLabels(
			"side", string(p.Side), "publisher", labelText(p.Publisher), "market_source", labelText(p.MarketSource),
			"position_source", labelText(p.PositionSource), "schema_version", strconv.Itoa(p.SchemaVersion),
		)
		labels = &made
		known[key] = labels
	}
	return labels
}

// leases adds who may write what.
func (f *families) leases(v *store.LeaseView) {
	if v.Layout == "" {
		return // no publisher that takes leases was ever there
	}
	f.one(&descLeaseShards, float64(len(v.Shards)))
	f.one(&descPublishers, float64(len(v.Members)))
	var held, until, since, fence, info []listen.Sample
	for _, l := range v.Shards {
		shard := listen.NewLabels("shard", strconv.Itoa(l.Shard))
		sample := func(v float64) listen.Sample { return listen.Sample{Of: &shard, Value: v} }
		live := 0.0
		if l.Live(v.Now) {
			live = 1
			holder := listen.NewLabels("holder", labelText(store.HolderName(l.Holder)))
			info = append(info, listen.Sample{Of: &shard, And: &holder, Value: 1})
			if !l.Since.IsZero() {
				since = append(since, sample(epoch(l.Since)))
			}
		}
		held = append(held, sample(live))
		if !l.Until.IsZero() {
			until = append(until, sample(epoch(l.Until)))
		}
		if l.Fence > 0 {
			fence = append(fence, sample(float64(l.Fence)))
		}
	}
	f.few(&descLeaseHeld, held...)
	f.few(&descLeaseUntil, until...)
	f.few(&descLeaseSince, since...)
	f.few(&descLeaseFence, fence...)
	f.few(&descLeaseInfo, info...)
}
