package store

import (
	"strings"

	"quantumharvest/internal/position"
)

// The names of the wire contract.
const (
	DefaultPrefix = "quantum:"

	proposalTail = "harvest:proposal:"
	marketTail   = "marketstate:"
	riskTail     = "risk:proposal:"
)

// KeysOptions says under which names an instance keeps its records. Blank means the default.
type KeysOptions struct {
	Prefix      string // of everything, default "quantum:"
	Harvest     string // of the proposals, default <Prefix>harvest:proposal:
	MarketState string // of the market states, default <Prefix>marketstate:
	Risk        string // of the stop proposals, default <Prefix>risk:proposal:
	StreamName  string // of the proposal stream, default <Prefix>stream:harvest.proposal
}

// Keys are the names of one instance. All of our own keys derive from the prefix of the proposals, so that a second
// instance with another one never touches the first.
type Keys struct {
	harvest, marketState, risk       string // prefixes
	stream, marketStream, riskStream string
	expected                         string // set of the symbols that must have a proposal
	// closed is the hash that remembers, per symbol, the last episode whose closing record was left and the revision it
	// had come to: a repeated close leaves no second record. It grows by one field per symbol ever traded.
	closed string
	lease  string // hash that says who may write
	// kind marks the produced records of this instance (market states, stops) in their publisher field.
	kind string
}

// NewKeys derives all names. A prefix without its final colon gets one.
func NewKeys(o KeysOptions) Keys {
	prefix := closedByColon(o.Prefix, DefaultPrefix)
	k := Keys{
		harvest:     closedByColon(o.Harvest, prefix+proposalTail),
		marketState: closedByColon(o.MarketState, prefix+marketTail),
		risk:        closedByColon(o.Risk, prefix+riskTail),
		kind:        "quantum-harvest",
	}
	base, legacyShape := strings.CutSuffix(k.harvest, "proposal:")
	if !legacyShape {
		base = k.harvest + "_" // no symbol has a lower-case letter: these never meet a proposal's key
	}
	k.expected, k.closed, k.lease = base+"expected", base+"closed", base+"lease"
	k.stream = prefix + "stream:harvest.proposal"
	if k.harvest != prefix+proposalTail {
		k.stream = base + "stream"
		k.kind += "@" + k.harvest
	} else if prefix != DefaultPrefix {
		k.kind += "@" + prefix
	}
	if o.StreamName != "" {
		k.stream = o.StreamName
	}
	k.marketStream = streamBeside(prefix, k.marketState, marketTail, "marketstate")
	k.riskStream = streamBeside(prefix, k.risk, riskTail, "risk.proposal")
	return k
}

// streamBeside names the stream of produced records: the contract's name for the default prefix, one derived from the
// prefix where that was changed.
func streamBeside(prefix, records, tail, name string) string {
	if records == prefix+tail {
		return prefix + "stream:" + name
	}
	return records + "_stream"
}

func closedByColon(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	if !strings.HasSuffix(s, ":") {
		s += ":"
	}
	return s
}

// Proposal is the hash with the proposal of sym.
func (k Keys) Proposal(sym position.Symbol) string { return k.harvest + string(sym) }

// MarketState is the hash with the market state of sym.
func (k Keys) MarketState(sym position.Symbol) string { return k.marketState + string(sym) }

// Risk is the hash with the stop proposal of sym.
func (k Keys) Risk(sym position.Symbol) string { return k.risk + string(sym) }

// Expected is the set of the symbols that must have a proposal.
func (k Keys) Expected() string { return k.expected }

// Lease is the hash that says who may write.
func (k Keys) Lease() string { return k.lease }

// producer is the publisher field of a produced record; producerMark is what makes it one of this instance.
func (k Keys) producer(id string) string { return k.producerMark() + id }

func (k Keys) producerMark() string { return k.kind + "/" }
