package top

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// picture is what the store held at one good reading.
type picture struct {
	at     time.Time // the moment on this machine's clock at which the server said:
	server time.Time
	rtt    time.Duration

	rows        []row // sorted by symbol
	expected    int
	found       int
	missing     []position.Symbol // expected and not there
	invalid     int               // members of the expected set that are no symbols
	expectedErr error
	lease       store.LeaseView
	leaseErr    error // the lease could not be read: nothing is known of it

	rates counts // of all symbols, per second
	rated bool   // the rates were observed for long enough to say anything
}

// row is one symbol.
type row struct {
	symbol   position.Symbol
	expected bool
	entry    store.Entry
	bad      map[string]store.Problem // fields that could not be read, by name
	rates    counts
	rated    bool
}

func newPicture(r reading, symbols []position.Symbol) picture {
	p := picture{
		at: r.begin.Add(r.c.RTT / 2), server: r.c.ServerTime, rtt: r.c.RTT,
		invalid: r.c.Invalid, expectedErr: r.c.ExpectedErr, lease: r.c.Lease, leaseErr: r.c.LeaseErr,
	}
	if p.server.IsZero() {
		p.server = p.at
	}
	expected := slices.Compact(slices.Sorted(slices.Values(slices.Concat(r.c.Expected, symbols))))
	p.expected = len(expected)
	for _, e := range r.c.Entries {
		_, wanted := slices.BinarySearch(expected, e.Symbol)
		one := row{symbol: e.Symbol, expected: wanted, entry: e}
		if len(e.Problems) > 0 {
			one.bad = make(map[string]store.Problem, len(e.Problems))
			for _, problem := range e.Problems {
				one.bad[problem.Field] = problem
			}
		}
		p.rows = append(p.rows, one)
		switch {
		case e.Found:
			p.found++
		case wanted:
			p.missing = append(p.missing, e.Symbol)
		}
	}
	slices.SortStableFunc(p.rows, func(a, b row) int { return cmp.Compare(a.symbol, b.symbol) })
	return p
}

// serverNow is the clock of the server at the moment now of this machine.
func (p *picture) serverNow(now time.Time) time.Time { return p.server.Add(now.Sub(p.at)) }

// offset is how far the clock of this machine is ahead of the server's.
func (p *picture) offset() time.Duration { return p.at.Sub(p.server) }

// The sources that are not a live market or a real account.
var madeUp = map[string]string{"synthetic": "synthetic market", "replay": "replayed market", "demo": "demo positions"}

// notReal says which of a proposal's inputs are not real.
func notReal(p *store.Proposal) []string {
	var list []string
	for _, source := range []string{p.MarketSource, p.PositionSource} {
		if _, found := madeUp[source]; found {
			list = append(list, source)
		}
	}
	return list
}

// writer is who holds proposals, as they say themselves.
type writer struct {
	id       string
	fence    int64
	symbols  int
	validFor time.Duration // of its shortest-lived proposal
	valid    bool          // the proposals say how long they are valid
}

// writers lists who holds the proposals, the one with the most of them first.
func (p *picture) writers(now time.Time) []writer {
	var list []writer
	server := p.serverNow(now)
	for i := range p.rows {
		e := &p.rows[i].entry
		if !e.Found {
			continue
		}
		at := slices.IndexFunc(list, func(w writer) bool { return w.id == e.Proposal.Publisher })
		if at < 0 {
			at = len(list)
			list = append(list, writer{id: e.Proposal.Publisher})
		}
		w := &list[at]
		w.symbols++
		w.fence = max(w.fence, e.Proposal.Fence)
		if until := e.Proposal.ValidUntil; !until.IsZero() {
			left := until.Sub(server)
			if !w.valid || left < w.validFor {
				w.validFor = left
			}
			w.valid = true
		}
	}
	slices.SortStableFunc(list, func(a, b writer) int {
		return cmp.Or(cmp.Compare(b.symbols, a.symbols), cmp.Compare(a.id, b.id))
	})
	return list
}

// status is the state of one symbol, the gravest word first.
type status string

const (
	statusMissing  status = "missing"    // no proposal
	statusBroken   status = "unreadable" // a key that is no proposal
	statusExpired  status = "expired"    // nobody renewed it in time
	statusPosition status = status(store.InputStalePosition)
	statusMarket   status = status(store.InputStaleMarket)
	statusFresh    status = status(store.InputFresh)
	statusUnknown  status = "unknown" // an earlier writer does not say
)

func (r *row) status(server time.Time) status {
	p := &r.entry.Proposal
	switch {
	case r.entry.Err != nil:
		return statusBroken
	case !r.entry.Found:
		return statusMissing
	case !p.ValidUntil.IsZero() && server.After(p.ValidUntil):
		return statusExpired
	case p.ValidUntil.IsZero() && !p.LastUpdate.IsZero() && server.Sub(p.LastUpdate) >= limitOfBeat(p).bad:
		return statusExpired
	case p.InputState == store.InputStalePosition:
		return statusPosition
	case p.InputState == store.InputStaleMarket:
		return statusMarket
	case p.InputState == store.InputFresh:
		return statusFresh
	}
	return statusUnknown
}

func (s status) level() level {
	switch s {
	case statusFresh:
		return good
	case statusMarket, statusPosition, statusUnknown:
		return late
	}
	return bad
}

// limitOfBeat is that of the content where an earlier writer has no heartbeat and the content stands in for it.
func limitOfBeat(p *store.Proposal) limit {
	if p.LastUpdateDerived {
		return contentLimit
	}
	return beatLimit
}

// ages of one proposal, and how bad each is. An age that is not known is 0 and unknown.
type ages struct {
	beat, content, market, position                     time.Duration
	beatLevel, contentLevel, marketLevel, positionLevel level
}

func (r *row) ages(server time.Time) ages {
	p := &r.entry.Proposal
	var a ages
	one := func(at time.Time, l limit) (time.Duration, level) {
		if at.IsZero() {
			return 0, unknown
		}
		age := server.Sub(at)
		return age, l.level(age)
	}
	a.beat, a.beatLevel = one(p.LastUpdate, limitOfBeat(p))
	a.content, a.contentLevel = one(p.ComputedAt, contentLimit)
	a.market, a.marketLevel = one(p.MarketAt, marketLimit)
	a.position, a.positionLevel = one(p.PositionAt, positionLimit)
	// The publisher knows its sources better than any limit here.
	switch p.InputState {
	case store.InputStaleMarket:
		a.marketLevel = max(a.marketLevel, bad)
	case store.InputStalePosition:
		a.positionLevel = max(a.positionLevel, bad)
	}
	return a
}

// oldest is the age that the sort by age goes by: of the heartbeat, since nothing else is worth anything without it,
// and then of the older input.
func (a *ages) oldest() time.Duration { return max(a.beat, a.market, a.position) }

// order is what the table is sorted by.
type order int

const (
	bySymbol order = iota
	byAction
	byR
	byK
	byAge
	orders
)

func (o order) String() string {
	return [...]string{"symbol", "action", "R", "K", "age"}[o]
}

// shown gives the rows that match the filter, in order. A symbol that has no proposal comes first wherever the order is
// about urgency: it wants somebody to look at it.
func (p *picture) shown(o order, filter string, now time.Time) []*row {
	server := p.serverNow(now)
	var list []*row
	for i := range p.rows {
		if p.rows[i].matches(filter, server) {
			list = append(list, &p.rows[i])
		}
	}
	rank := func(r *row) int {
		if !r.entry.Found {
			return len(kernel.Actions)
		}
		return slices.Index(kernel.Actions[:], r.entry.Proposal.Action)
	}
	slices.SortStableFunc(list, func(a, b *row) int {
		if o == bySymbol {
			return 0
		}
		if a.entry.Found != b.entry.Found {
			if a.entry.Found {
				return 1
			}
			return -1
		}
		pa, pb := &a.entry.Proposal, &b.entry.Proposal
		switch o {
		case byAction:
			return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(pb.KillScore, pa.KillScore))
		case byR:
			return cmp.Compare(pb.RNet, pa.RNet)
		case byK:
			return cmp.Compare(pb.KillScore, pa.KillScore)
		}
		agesA, agesB := a.ages(server), b.ages(server)
		return cmp.Compare(agesB.oldest(), agesA.oldest())
	})
	return list
}

// matches tells whether every word of the filter is in something that names the row.
func (r *row) matches(filter string, server time.Time) bool {
	if filter == "" {
		return true
	}
	p := &r.entry.Proposal
	hay := strings.ToLower(strings.Join([]string{
		string(r.symbol), string(p.Side), string(p.Action), string(r.status(server)), p.MarketSource, p.PositionSource, p.Publisher,
	}, " "))
	for word := range strings.FieldsSeq(strings.ToLower(filter)) {
		if !strings.Contains(hay, word) {
			return false
		}
	}
	return true
}
