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
	p := Proposal{Symbol: sym}
	problems, _ := p.decode(hash)
	return p, problems
}

// decode is Decode into a Proposal with nothing but its symbol. It also tells how many fields of the hash are known.
func (p *Proposal) decode(hash map[string]string) (problems []Problem, known int) {
	schema, ours := hash["schema_version"]
	newer := tooNew(schema)
	for i := range fields {
		f := &fields[i]
		v, there := hash[f.name]
		if there {
			known++
		}
		switch {
		case newer && !f.legacy:
			if f.name == "schema_version" {
				problems = append(problems, Problem{Field: f.name, Kind: FieldNewer, Value: shorten(v)})
			}
		case !there && !f.legacy && !ours:
		case !there && f.later:
		case !there, v == "" && !f.blank:
			problems = append(problems, Problem{Field: f.name, Kind: FieldMissing})
		case !f.get(p, v):
			problems = append(problems, Problem{Field: f.name, Kind: FieldUnparsable, Value: shorten(v)})
		}
	}
	if v := hash["last_update_epoch"]; !ours && v == "" && !p.ComputedAt.IsZero() {
		p.LastUpdate, p.LastUpdateDerived = p.ComputedAt.Truncate(time.Second), true
		problems = without(problems, "last_update_epoch")
	}
	return problems, known
}

// tooNew tells whether a schema_version is of a release whose fields this one cannot be sure of.
func tooNew(schema string) bool {
	n, ok := parseCount(schema)
	return ok && n > MaxSchema
}

// unknownNamed bounds how many fields of a hash are named that this version does not know.
const unknownNamed = 8

// unknownFields names the fields of a hash that this version does not know, sorted: those of a newer release, or somebody
// else's. Where they are many only the first are named.
func unknownFields(hash map[string]string) []string {
	var names []string
	for name := range hash {
		if !slices.ContainsFunc(fields[:], func(f field) bool { return f.name == name }) {
			names = append(names, shorten(name))
		}
	}
	slices.Sort(names)
	return names[:min(len(names), unknownNamed)]
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
