package store

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"quantumharvest/internal/position"
)

// ProblemKind is what is wrong with one field. The set is fixed: it is a metric label.
type ProblemKind string

// The kinds of problem.
const (
	FieldMissing    ProblemKind = "missing"    // absent, or empty where empty says nothing
	FieldUnparsable ProblemKind = "unparsable" // not a finite number, not a known word, out of range
	FieldNewer      ProblemKind = "newer"      // schema_version alone: of a release that this one cannot read
)

// Problem is one field of a hash that could not be read. The field keeps its zero value in the Proposal, which must
// not be shown or acted on as if it had been read.
type Problem struct {
	Field string
	Kind  ProblemKind
	Value string // the offending text, shortened
}

// Decode reads the hash of sym field by field: what can be read is in the Proposal, what cannot is a Problem. A hash of
// an earlier writer (no schema_version) lacks our fields, which is no problem; where it has no last_update_epoch
// either, computed_at_utc stands in and LastUpdateDerived is set.
//
// A hash of a newer schema than MaxSchema is read like that of an earlier writer: the legacy fields are exact in every
// schema, what ours mean there is not known. The problem is then FieldNewer, of schema_version.
func Decode(sym position.Symbol, hash map[string]string) (Proposal, []Problem) {
	var v values
	for name, value := range hash {
		v.add(0, name, value)
	}
	p := Proposal{Symbol: sym}
	return p, v.decode(&p)
}

// values are the fields of one hash.
type values struct {
	of      [len(fields)]string // by their place in the table
	there   uint64              // a bit for each
	unknown []string            // names that the table does not have
}

// Every field has a bit.
var _ [64 - len(fields)]struct{}

// places are those of the fields in the table, by name.
var places = func() map[string]int {
	m := make(map[string]int, len(fields))
	for i := range fields {
		m[fields[i].name] = i
	}
	return m
}()

var (
	schemaPlace     = places["schema_version"]
	lastUpdatePlace = places["last_update_epoch"]
)

// take replaces the values by those of names and values in turn, as HGETALL answers.
func (v *values) take(pairs []string) {
	*v = values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.add(i/2, pairs[i], pairs[i+1])
	}
}

// add takes in a field. Where it is in a hash that was written at once is where it is in the table.
func (v *values) add(guess int, name, value string) {
	place, known := guess, true
	if guess >= len(fields) || fields[guess].name != name {
		if place, known = places[name]; !known {
			v.unknown = append(v.unknown, name)
			return
		}
	}
	v.of[place] = value
	v.there |= 1 << place
}

func (v *values) has(place int) bool { return v.there>>place&1 != 0 }

// decode is Decode into a Proposal with nothing but its symbol.
func (v *values) decode(p *Proposal) (problems []Problem) {
	ours := v.has(schemaPlace)
	newer := tooNew(v.of[schemaPlace])
	for i := range fields {
		f := &fields[i]
		value, there := v.of[i], v.has(i)
		switch {
		case newer && !f.legacy:
			if i == schemaPlace {
				problems = append(problems, Problem{Field: f.name, Kind: FieldNewer, Value: shorten(value)})
			}
		case !there && !f.legacy && !ours:
		case !there && f.later:
		case !there, value == "" && !f.blank:
			problems = append(problems, Problem{Field: f.name, Kind: FieldMissing})
		case !f.get(p, value):
			problems = append(problems, Problem{Field: f.name, Kind: FieldUnparsable, Value: shorten(value)})
		}
	}
	if !ours && v.of[lastUpdatePlace] == "" && !p.ComputedAt.IsZero() {
		p.LastUpdate, p.LastUpdateDerived = p.ComputedAt.Truncate(time.Second), true
		problems = without(problems, "last_update_epoch")
	}
	return problems
}

// tooNew tells whether a schema_version is of a release whose fields this one cannot be sure of.
func tooNew(schema string) bool {
	n, ok := parseCount(schema)
	return ok && n > MaxSchema
}

// unknownNamed bounds how many fields of a hash are named that this version does not know.
const unknownNamed = 8

// strangers names the fields that this version does not know, sorted: those of a newer release, or somebody else's. Where they
// are many only the first are named.
func (v *values) strangers() []string {
	slices.Sort(v.unknown)
	var names []string
	for _, name := range v.unknown[:min(len(v.unknown), unknownNamed)] {
		names = append(names, shorten(name))
	}
	return names
}

func without(problems []Problem, name string) []Problem {
	kept := problems[:0]
	for _, pr := range problems {
		if pr.Field != name {
			kept = append(kept, pr)
		}
	}
	return kept
}

// shorten keeps the start of a text for a log line or a page.
func shorten(s string) string {
	const limit = 64
	if len(s) > limit {
		s = s[:limit]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		s = s[:max(len(s)-1, 0)] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// parseNumber reads a finite decimal. Go's hexadecimal floats and digit separators are not part of the contract.
func parseNumber(s string) (float64, bool) {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c == '+', c == '-', c == '.', c == 'e', c == 'E':
		default:
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !finite(f) {
		return 0, false
	}
	return f, true
}

// exactBelow is the end of the whole numbers that a double holds exactly. The scripts count in doubles: what lies beyond it
// is a number to nobody.
const exactBelow = 1 << 53

func parseCount(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n >= exactBelow {
		return 0, false
	}
	return n, true
}

// maxEpoch is the end of the year 9999: beyond it a number is not an epoch in seconds but something else, often
// milliseconds.
const maxEpoch = 253402300799

// parseEpoch reads seconds since 1970, whole or with a fraction; the fraction is kept to the microsecond.
func parseEpoch(s string) (time.Time, bool) {
	if strings.IndexByte(s, '.') < 0 { // nearly all
		if n, err := strconv.ParseUint(s, 10, 64); err == nil && n <= maxEpoch {
			return time.Unix(int64(n), 0).UTC(), true
		}
	}
	f, ok := parseNumber(s)
	if !ok || f < 0 || f > maxEpoch {
		return time.Time{}, false
	}
	whole, frac := math.Modf(f)
	return time.Unix(int64(whole), int64(math.Round(frac*1e6))*1000).UTC(), true
}

// isoLayouts are the forms of ISO 8601 seen in proposals; Go accepts a fraction after the seconds in all of them.
var isoLayouts = [...]string{"2006-01-02T15:04:05", "2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00"}

// parseISO reads an ISO 8601 instant; without a zone it is UTC.
func parseISO(s string) (time.Time, bool) {
	for _, layout := range isoLayouts {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		if t = t.UTC(); t.Unix() < 0 || t.Unix() > maxEpoch {
			return time.Time{}, false
		}
		return t, true
	}
	return time.Time{}, false
}
