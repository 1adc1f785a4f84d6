package exporter

import (
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

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

// families builds the metric families of one scrape. Labels come in the order of the table, symbol first, as scripts of
// the earlier deployment look for them; Prometheus does not mind. The families are made of protocol messages outright, in large blocks: at
// ten thousand symbols the usual way, one object and one channel send per sample, costs seconds of a core.
type families struct {
	cells []cell
	out   []*dto.MetricFamily
}

// cell is everything one gauge sample needs.
type cell struct {
	metric dto.Metric
	gauge  dto.Gauge
	value  float64
}

const cellsPerBlock = 512

func (f *families) sample(labels []*dto.LabelPair, v float64) *dto.Metric {
	if len(f.cells) == 0 {
		f.cells = make([]cell, cellsPerBlock)
	}
	c := &f.cells[0]
	f.cells = f.cells[1:]
	c.value = v
	c.gauge.Value = &c.value
	c.metric.Gauge = &c.gauge
	c.metric.Label = labels
	return &c.metric
}

// add appends a family; one without samples is left out, as the exposition formats want it.
func (f *families) add(d *Desc, metrics []*dto.Metric) {
	if len(metrics) == 0 {
		return
	}
	f.out = append(f.out, &dto.MetricFamily{
		Name: &d.Name, Help: &d.Help, Type: dto.MetricType_GAUGE.Enum(), Metric: metrics,
	})
}

func (f *families) one(d *Desc, v float64) { f.add(d, []*dto.Metric{f.sample(nil, v)}) }

func pair(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: proto.String(name), Value: proto.String(value)}
}

// row is one proposal that could be read.
type row struct {
	proposal *store.Proposal
	bad      uint64         // its fields with a problem
	symbol   *dto.LabelPair // shared by all its samples
	labels   []*dto.LabelPair
}

// symbols adds everything that has a label symbol, and the counts over all of them.
func (f *families) symbols(s *snapshot, bits fieldBits) {
	rows := make([]row, 0, len(s.Entries))
	present := make([]*dto.Metric, 0, len(s.Entries))
	problems := make([]*dto.Metric, 0, len(s.Entries))
	unreadable, incomplete := 0, 0
	for i := range s.Entries {
		e := &s.Entries[i]
		symbol := pair("symbol", string(e.Symbol))
		labels := []*dto.LabelPair{symbol}
		if e.Err != nil {
			unreadable++
		}
		if e.Err != nil || !e.Found {
			present = append(present, f.sample(labels, 0))
			continue
		}
		bad := bits.of(e.Problems)
		usable := 1.0
		if bad&bits["harvest_action"] != 0 {
			usable = 0 // a timestamp alone is no proposal
		}
		if bad != 0 {
			incomplete++
		}
		present = append(present, f.sample(labels, usable))
		problems = append(problems, f.sample(labels, float64(len(e.Problems))))
		rows = append(rows, row{&e.Proposal, bad, symbol, labels})
	}
	expected := make([]*dto.Metric, len(s.expected))
	for i, sym := range s.expected {
		expected[i] = f.sample([]*dto.LabelPair{pair("symbol", string(sym))}, 1)
	}

	for i := range columns {
		f.column(&columns[i], bits, rows)
	}
	f.oneHot(&descAction, "action", bits["harvest_action"], rows, actionNames(), func(p *store.Proposal) string { return string(p.Action) })
	f.oneHot(&descInputState, "state", bits["input_state"], rows, inputStates(), func(p *store.Proposal) string { return string(p.InputState) })
	f.info(rows)
	f.add(&descExpected, expected)
	f.add(&descPresent, present)
	f.add(&descProblems, problems)
	f.add(&descSymbols, []*dto.Metric{
		f.sample([]*dto.LabelPair{pair("state", "expected")}, float64(len(s.expected))),
		f.sample([]*dto.LabelPair{pair("state", "found")}, float64(len(rows))),
		f.sample([]*dto.LabelPair{pair("state", "incomplete")}, float64(incomplete)),
		f.sample([]*dto.LabelPair{pair("state", "invalid")}, float64(s.Invalid)),
		f.sample([]*dto.LabelPair{pair("state", "missing")}, float64(len(s.Entries)-len(rows)-unreadable)),
		f.sample([]*dto.LabelPair{pair("state", "unreadable")}, float64(unreadable)),
	})
}

func (f *families) column(c *gaugeColumn, bits fieldBits, rows []row) {
	metrics := make([]*dto.Metric, 0, len(rows))
	bit := bits[c.field]
	for i := range rows {
		r := &rows[i]
		if r.bad&bit != 0 {
			continue
		}
		if v, ok := c.value(r.proposal); ok {
			metrics = append(metrics, f.sample(r.labels, v))
		}
	}
	f.add(&c.Desc, metrics)
}

// oneHot adds one sample per possible value: 1 for the one that the proposal has. A proposal without a known value has
// no samples at all.
func (f *families) oneHot(d *Desc, label string, bit uint64, rows []row, values []string, of func(*store.Proposal) string) {
	metrics := make([]*dto.Metric, 0, len(rows)*len(values))
	pairs := make([]*dto.LabelPair, len(values))
	for i, v := range values {
		pairs[i] = pair(label, v)
	}
	for i := range rows {
		r := &rows[i]
		is := of(r.proposal)
		if r.bad&bit != 0 || is == "" {
			continue
		}
		for j, v := range values {
			hot := 0.0
			if v == is {
				hot = 1
			}
			metrics = append(metrics, f.sample([]*dto.LabelPair{r.symbol, pairs[j]}, hot))
		}
	}
	f.add(d, metrics)
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

func (f *families) info(rows []row) {
	metrics := make([]*dto.Metric, 0, len(rows))
	for i := range rows {
		p := rows[i].proposal
		metrics = append(metrics, f.sample([]*dto.LabelPair{
			rows[i].symbol,
			pair("side", string(p.Side)),
			pair("publisher", labelText(p.Publisher)),
			pair("market_source", labelText(p.MarketSource)),
			pair("position_source", labelText(p.PositionSource)),
			pair("schema_version", strconv.Itoa(p.SchemaVersion)),
		}, 1))
	}
	f.add(&descInfo, metrics)
}

// leases adds who may write what.
func (f *families) leases(v *store.LeaseView) {
	if v.Layout == "" {
		return // no publisher that takes leases was ever there
	}
	f.one(&descLeaseShards, float64(len(v.Shards)))
	f.one(&descPublishers, float64(len(v.Members)))
	var held, until, since, fence, info []*dto.Metric
	for _, l := range v.Shards {
		shard := pair("shard", strconv.Itoa(l.Shard))
		labels := []*dto.LabelPair{shard}
		live := 0.0
		if l.Live(v.Now) {
			live = 1
			info = append(info, f.sample([]*dto.LabelPair{shard, pair("holder", labelText(store.HolderName(l.Holder)))}, 1))
			if !l.Since.IsZero() {
				since = append(since, f.sample(labels, epoch(l.Since)))
			}
		}
		held = append(held, f.sample(labels, live))
		if !l.Until.IsZero() {
			until = append(until, f.sample(labels, epoch(l.Until)))
		}
		if l.Fence > 0 {
			fence = append(fence, f.sample(labels, float64(l.Fence)))
		}
	}
	f.add(&descLeaseHeld, held)
	f.add(&descLeaseUntil, until)
	f.add(&descLeaseSince, since)
	f.add(&descLeaseFence, fence)
	f.add(&descLeaseInfo, info)
}
