package proof

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

func (c *Check) saw(format string, args ...any) {
	c.Evidence = append(c.Evidence, fmt.Sprintf(format, args...))
}

func (c *Check) fail(format string, args ...any) {
	c.Failures = append(c.Failures, fmt.Sprintf(format, args...))
}

func (c *Check) figure(name string, v float64) {
	if c.Figures == nil {
		c.Figures = map[string]float64{}
	}
	c.Figures[name] = v
}

// entriesOf gives the readings of one symbol, in order; those without a proposal are left out.
func (s *sights) entriesOf(sym position.Symbol) []store.Entry {
	var list []store.Entry
	for _, r := range s.readings {
		for _, e := range r.c.Entries {
			if e.Symbol == sym && e.Found {
				list = append(list, e)
			}
		}
	}
	return list
}

// symbols are those that must have a proposal: named by Redis at the last reading, and those asked for that have one. The list
// of a publisher is a filter: a symbol on it without a position has none, and should have none.
func (s *sights) symbols(o Options) []position.Symbol {
	if len(s.readings) == 0 {
		return nil
	}
	last := s.readings[len(s.readings)-1].c
	all := slices.Clone(last.Expected)
	for _, e := range last.Entries {
		if e.Found && slices.Contains(o.Symbols, e.Symbol) {
			all = append(all, e.Symbol)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// blind says that there was too little to look at.
func (c *Check) blind(o Options, s *sights) bool {
	for _, f := range slices.Compact(slices.Sorted(slices.Values(s.faults))) {
		c.fail("could not be read: %s", f)
	}
	switch {
	case len(s.readings) < 3:
		c.fail("Redis at %s was read %d times only", o.Redis, len(s.readings))
		return true
	case len(s.symbols(o)) == 0:
		c.fail("no symbol is expected: there is nothing to prove; is a position open, and a publisher running?")
		return true
	}
	return false
}

// byHand is a command that reads fields of a proposal that is there, where there is one.
func (s *sights) byHand(o Options, command, fields string) string {
	sym := position.Symbol("BTCUSDT")
	if all := s.symbols(o); len(all) > 0 {
		sym = all[0]
	}
	return o.RedisCommand + " " + command + " " + o.Keys.Proposal(sym) + " " + fields
}

func heartbeat(_ context.Context, o Options, s *sights) Check {
	c := Check{
		Name: "heartbeat moves", Claim: "every expected proposal has the field last_update_epoch, and it moves",
		ByHand: []string{s.byHand(o, "HGET", "last_update_epoch") + "    # twice, two seconds apart"},
	}
	if c.blind(o, s) {
		return c
	}
	for _, sym := range s.symbols(o) {
		list := s.entriesOf(sym)
		if len(list) < len(s.readings) {
			c.fail("%s had no proposal in %d of %d readings", sym, len(s.readings)-len(list), len(s.readings))
			if len(list) == 0 {
				continue
			}
		}
		first, last := list[0].Proposal.LastUpdate, list[len(list)-1].Proposal.LastUpdate
		span := s.readings[len(s.readings)-1].at.Sub(s.readings[0].at)
		c.saw("%s: from %s to %s in %s", sym, clock(first), clock(last), span.Round(time.Second))
		switch moved := last.Sub(first); {
		case first.IsZero() || list[0].Proposal.LastUpdateDerived:
			c.fail("%s has no last_update_epoch", sym)
		case moved <= 0:
			c.fail("the heartbeat of %s stood still for %s", sym, span.Round(time.Second))
		case span-moved > 3*o.Beat+time.Second:
			c.fail("the heartbeat of %s moved by %s in %s", sym, moved, span.Round(time.Second))
		}
	}
	return c
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "nothing"
	}
	return t.UTC().Format("15:04:05")
}

func exporterMoves(_ context.Context, o Options, s *sights) Check {
	c := Check{
		Name: "exporter moves", Claim: "the exporter shows the heartbeat of every expected symbol, and it moves",
		ByHand: []string{"curl -s " + o.Exporter + "/metrics | grep quantum_harvest_last_update_epoch"},
	}
	if c.blind(o, s) {
		return c
	}
	if len(s.pages) < 3 {
		c.fail("the exporter at %s was read %d times only", o.Exporter, len(s.pages))
		return c
	}
	first, last := s.pages[0], s.pages[len(s.pages)-1]
	for _, sym := range s.symbols(o) {
		from, ok := first.value("quantum_harvest_last_update_epoch", "symbol", string(sym))
		to, still := last.value("quantum_harvest_last_update_epoch", "symbol", string(sym))
		switch {
		case !ok || !still:
			c.fail("the exporter does not show %s", sym)
		case to <= from:
			c.fail("the exporter shows the same heartbeat of %s for %s", sym, last.at.Sub(first.at).Round(time.Second))
		default:
			c.saw("%s: %.0f, then %.0f", sym, from, to)
		}
	}
	return c
}

func staleness(_ context.Context, o Options, s *sights) Check {
	c := Check{
		Name: "staleness", Claim: fmt.Sprintf("seen through Prometheus at random moments, no heartbeat is older than %s", o.Stale),
		ByHand: []string{"curl -s '" + o.Prometheus + "/api/v1/query?query=max(time()-quantum_harvest_last_update_epoch)'"},
	}
	for _, m := range slices.Compact(slices.Sorted(slices.Values(s.misses))) {
		c.fail("a sample gave nothing: %s", m)
	}
	if len(s.ages) < MinSamples {
		c.fail("%d samples, %d are needed", len(s.ages), MinSamples)
		return c
	}
	ages := slices.Sorted(slices.Values(s.ages))
	at := func(q float64) float64 { return ages[int(q*float64(len(ages)-1)+0.5)] }
	c.figure("samples", float64(len(ages)))
	for name, q := range map[string]float64{"min": 0, "median": 0.5, "p95": 0.95, "max": 1} {
		c.figure(name, at(q))
	}
	c.saw("%d samples: min %.1f s, median %.1f s, p95 %.1f s, max %.1f s", len(ages), at(0), at(0.5), at(0.95), at(1))
	if at(1) > o.Stale.Seconds() {
		c.fail("a heartbeat was %.1f s old", at(1))
	}
	if at(0) < -o.Skew.Seconds() {
		c.fail("a heartbeat lay %.1f s ahead of the clock of Prometheus", -at(0))
	}
	return c
}

// clocksApart holds heartbeat, content and input against each other over all readings.
func clocksApart(_ context.Context, o Options, s *sights) Check {
	c := Check{
		Name: "three clocks", Claim: "heartbeat, content and inputs are three clocks: content moves with a revision and with nothing else, and a heartbeat moves without content",
		ByHand: []string{s.byHand(o, "HMGET", "last_update_epoch computed_at_utc market_epoch position_epoch revision")},
	}
	if c.blind(o, s) {
		return c
	}
	beats, publishes := 0, 0
	for _, sym := range s.symbols(o) {
		list := s.entriesOf(sym)
		for i, e := range list {
			p := e.Proposal
			if e.Newer() {
				c.fail("%s is written by a release that this one cannot read (schema above %d): use the proof of that release", sym, store.MaxSchema)
				break
			}
			if p.SchemaVersion == 0 {
				c.fail("%s is written by an earlier publisher, which has one clock only", sym)
				break
			}
			if p.ComputedAt.After(p.LastUpdate.Add(time.Second + o.Beat)) {
				c.fail("%s: content of %s is newer than its heartbeat of %s", sym, clock(p.ComputedAt), clock(p.LastUpdate))
			}
			if !p.ContentMarketAt.IsZero() && p.ContentMarketAt.After(p.MarketAt) || !p.ContentPositionAt.IsZero() && p.ContentPositionAt.After(p.PositionAt) {
				c.fail("%s: the content rests on inputs that are newer than the newest", sym)
			}
			if i == 0 {
				continue
			}
			was := list[i-1].Proposal
			switch {
			case p.Revision == was.Revision && !p.ComputedAt.Equal(was.ComputedAt):
				c.fail("%s: content moved from %s to %s without a revision", sym, clock(was.ComputedAt), clock(p.ComputedAt))
			case p.Revision == was.Revision && p.LastUpdate.After(was.LastUpdate):
				beats++
			case p.Revision != was.Revision:
				publishes++
			}
			if p.Revision < was.Revision {
				c.fail("%s: revision %d became %d", sym, was.Revision, p.Revision)
			}
		}
	}
	c.figure("beats", float64(beats))
	c.figure("publishes", float64(publishes))
	c.saw("%d times a heartbeat moved while revision and content stood, %d times a revision came with them", beats, publishes)
	if beats == 0 {
		c.fail("no heartbeat was seen to move without content: heartbeat and content may be one clock")
	}
	return c
}

// coverage counts what must have advice in three ways that know nothing of each other.
func coverage(_ context.Context, o Options, s *sights) Check {
	c := Check{
		Name: "coverage", Claim: "expected symbols, proposals and open positions counted at their source are as many",
		ByHand: []string{o.RedisCommand + " SCARD " + o.Keys.Expected(), "curl -s " + o.Exporter + "/metrics | grep -E 'open_positions|quantum_harvest_symbols'"},
	}
	if c.blind(o, s) {
		return c
	}
	last := s.readings[len(s.readings)-1].c
	found := map[position.Symbol]bool{}
	for _, e := range last.Entries {
		if e.Found && len(e.Problems) == 0 {
			found[e.Symbol] = true
		}
	}
	expected := s.symbols(o)
	for _, sym := range expected {
		if !found[sym] {
			c.fail("%s is expected and has no whole proposal", sym)
		}
	}
	if len(s.pages) == 0 {
		c.fail("the exporter could not be read, so nobody counted the open positions")
		return c
	}
	p := s.pages[len(s.pages)-1]
	open := p.total("quantum_harvest_open_positions")
	if p.families["quantum_harvest_open_positions"] == nil {
		c.fail("the exporter does not count the open positions")
	}
	c.saw("expected %d, proposals %d, open positions %.0f", len(expected), len(found), open)
	c.figure("expected", float64(len(expected)))
	c.figure("proposals", float64(len(found)))
	c.figure("open positions", open)
	if float64(len(expected)) != open || len(found) != len(expected) {
		c.fail("expected %d, proposals %d (%v), open positions %.0f", len(expected), len(found), slices.Sorted(maps.Keys(found)), open)
	}
	return c
}
