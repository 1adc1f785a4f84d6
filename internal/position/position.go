// Package position holds what the desk protects: symbols, sides and positions in one unit system, and the book that
// keeps the identity (episode), the extremes and the age of each open position where a source does not report them.
//
// Units: prices in quote currency per unit of base, quantity in base units, profit in quote currency per unit of base.
package position

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Symbol is the name of one instrument as the exchange spells it, for example BTCUSDT. A Symbol made by ParseSymbol
// is safe to use in keys, labels and pages.
type Symbol string

const maxSymbolBytes = 64

// ParseSymbol trims s and checks it: 1 to 64 bytes of letters, digits and . _ - / : with no lower-case letter.
// The error says what is wrong and how to spell it right.
func ParseSymbol(s string) (Symbol, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", fmt.Errorf("symbol is blank")
	}
	if len(s) > maxSymbolBytes {
		return "", fmt.Errorf("symbol is longer than %d bytes", maxSymbolBytes)
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("symbol %q is not UTF-8", s)
	}
	for _, r := range s {
		switch {
		case unicode.IsLower(r):
			return "", fmt.Errorf("symbol %q has a lower-case letter: write %q", s, strings.ToUpper(s))
		case unicode.IsLetter(r), unicode.IsDigit(r), strings.ContainsRune("._-/:", r):
		default:
			return "", fmt.Errorf("symbol %q has the character %q: letters, digits and . _ - / : are allowed", s, r)
		}
	}
	return Symbol(s), nil
}

// Side is the direction of a position. Its zero value is no side and is never a position.
type Side string

// The two sides, as written on the wire.
const (
	Long  Side = "LONG"
	Short Side = "SHORT"
)

// ParseSide accepts exactly LONG and SHORT. Nothing else is guessed: a side that is spelled otherwise is refused, so
// that it can never be taken for the opposite one.
func ParseSide(s string) (Side, error) {
	switch Side(s) {
	case Long:
		return Long, nil
	case Short:
		return Short, nil
	}
	return "", fmt.Errorf("side %q is neither LONG nor SHORT", s)
}

// Sign is +1 for a long, -1 for a short and 0 for no side.
func (s Side) Sign() float64 {
	switch s {
	case Long:
		return 1
	case Short:
		return -1
	}
	return 0
}

// Record is what one source says about one position at one moment: every field already checked at the edge, nothing
// derived. Where a field has no "Has" companion, its zero value means that the source does not report it.
type Record struct {
	Symbol Symbol
	Side   Side
	Entry  float64 // average entry price, > 0

	Current float64 // last price known to the source
	Peak    float64 // highest price since entry
	Trough  float64 // lowest price since entry
	Stop    float64 // resting stop price
	Target  float64 // resting target price

	Quantity    float64 // base units, >= 0
	HasQuantity bool
	PnL         float64 // as reported: of the whole position where Quantity is reported, else per unit
	HasPnL      bool
	Age         time.Duration
	HasAge      bool

	OpenedAt  time.Time // in the source's clock
	UpdatedAt time.Time // event time of this record

	// Closed is set where the source says in so many words that the position is gone (a close event). Side and Entry
	// may then be missing.
	Closed bool
}

// Flat tells whether the record is itself evidence that the position is gone: a close event or a quantity of zero.
func (r Record) Flat() bool { return r.Closed || (r.HasQuantity && r.Quantity == 0) }

// Position is one open position with everything the kernel needs; what its source does not report is derived by Book.
type Position struct {
	Symbol   Symbol
	Side     Side
	Episode  string // identity from open to flat
	Entry    float64
	Current  float64 // 0 while no price is known
	Peak     float64 // highest price seen since entry, both sides
	Trough   float64 // lowest price seen since entry, both sides
	Stop     float64 // 0: none
	Target   float64 // 0: none
	Quantity float64 // base units; 0: not reported
	// ReportedPnL is profit per unit as the source has it, converted at the edge; HasPnL tells whether there was one.
	ReportedPnL float64
	HasPnL      bool
	// ReportedPrice is the last price in the record itself, whatever the market says since; 0: none.
	ReportedPrice float64
	OpenedAt      time.Time
	CurrentAt     time.Time // event time of Current
	UpdatedAt     time.Time // newest valid evidence that the position stands
	// Strategy tells that OpenedAt is strategy time (a replayed clock), not wall time.
	Strategy bool
	Source   string
}

// Snapshot is one reading of a position source.
type Snapshot struct {
	Source string
	At     time.Time // when it was read, wall clock
	// Instance identifies the incarnation of the source (a Redis run id): absence only counts as evidence between
	// snapshots of one and the same instance. Blank where there is no such notion.
	Instance string
	// Complete: the source was read to the end without an error, so a symbol that is in neither Records, Refused nor Lost
	// is absent from it.
	Complete bool
	// Alive: the source proved that it lives apart from the positions in it (its own heartbeat, an answer from an
	// exchange, a file that was read and parsed). Without it an empty snapshot is no evidence of anything.
	Alive   bool
	Records []Record
	// Refused are the symbols whose record was there but refused: they are not absent.
	Refused []Symbol
	// Lost are symbols that were looked for where nobody answered, while other places did: they are neither there nor
	// absent.
	Lost []Symbol
	// Strategy: times in the records are strategy time.
	Strategy bool
	// Standing: the records are events that stand until the next one of their symbol (the last entry of a stream).
	// Their UpdatedAt dates what they say; the evidence that it still stands is this reading.
	Standing bool
}
