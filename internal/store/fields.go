package store

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

// field is one row of the wire schema: the name in the hash, how a Proposal is written to it and how it is read back.
type field struct {
	name string
	// legacy fields are in every writer's hash; the others only where schema_version is.
	legacy bool
	// beat fields move with every heartbeat, all others only with a full publish.
	beat bool
	// blank tells that the empty text has a meaning (none, unknown).
	blank bool
	// later tells that the field came after the first hash of its schema: one that lacks it was written by an earlier release,
	// and says nothing about it. Its zero value must mean unknown.
	later bool
	get   func(p *Proposal, v string) bool
	// put writes a field that is no number.
	put func(b []byte, p *Proposal) []byte
	// number points at the number behind the field, nil where there is none: it must be finite to be written.
	number func(p *Proposal) *float64
	// none tells that the number 0 is none, written empty.
	none bool
}

// append writes the value of the field. It writes nothing and is not ok where that is a number and not finite.
func (f *field) append(b []byte, p *Proposal) (_ []byte, ok bool) {
	if f.number == nil {
		return f.put(b, p), true
	}
	v := *f.number(p)
	if f.none && v == 0 {
		return b, true
	}
	return appendNumber(b, v), finite(v)
}

// revisionField is assigned by the server, inside the publish script.
const revisionField = "revision"

// fields is the one table of the proposal hash. revision comes first, because the publish script fills it in.
var fields = [...]field{
	count(revisionField, func(p *Proposal) *int64 { return &p.Revision }),
	actionField(),
	priceOrNone("new_sl_proposed", true, func(p *Proposal) *float64 { return &p.NewStop }),
	legacyNumber("R_net", func(p *Proposal) *float64 { return &p.RNet }),
	legacyNumber("risk_unit", func(p *Proposal) *float64 { return &p.RiskUnit }),
	legacyNumber("cost_est", func(p *Proposal) *float64 { return &p.CostEst }),
	legacyNumber("kill_score", func(p *Proposal) *float64 { return &p.KillScore }),
	reasonsField(),
	legacyNumber("k_regime_flip", func(p *Proposal) *float64 { return &p.K.RegimeFlip }),
	legacyNumber("k_sigma_spike", func(p *Proposal) *float64 { return &p.K.SigmaSpike }),
	legacyNumber("k_ts_drop", func(p *Proposal) *float64 { return &p.K.TSDrop }),
	legacyNumber("k_age_penalty", func(p *Proposal) *float64 { return &p.K.AgePenalty }),
	legacyNumber("sigma", func(p *Proposal) *float64 { return &p.Sigma }),
	legacyNumber("ts", func(p *Proposal) *float64 { return &p.TS }),
	legacyNumber("p_trend", func(p *Proposal) *float64 { return &p.PTrend }),
	legacyNumber("p_mr", func(p *Proposal) *float64 { return &p.PMR }),
	legacyNumber("p_chop", func(p *Proposal) *float64 { return &p.PChop }),
	computedAtField(),
	sideField(),
	legacyNumber("position_age_sec", func(p *Proposal) *float64 { return &p.AgeSec }),
	legacyNumber("position_current_price", func(p *Proposal) *float64 { return &p.Current }),
	legacyNumber("position_entry_price", func(p *Proposal) *float64 { return &p.Entry }),
	legacyNumber("position_unrealized_pnl", func(p *Proposal) *float64 { return &p.UnrealizedPnL }),
	schemaField(),
	text("episode", func(p *Proposal) *string { return &p.Episode }),
	instant("position_opened_epoch", func(p *Proposal) *time.Time { return &p.OpenedAt }),
	priceOrNone("position_current_sl", false, func(p *Proposal) *float64 { return &p.Stop }),
	instant("content_market_epoch", func(p *Proposal) *time.Time { return &p.ContentMarketAt }),
	instant("content_position_epoch", func(p *Proposal) *time.Time { return &p.ContentPositionAt }),
	text("market_source", func(p *Proposal) *string { return &p.MarketSource }),
	text("position_source", func(p *Proposal) *string { return &p.PositionSource }),
	text("publisher", func(p *Proposal) *string { return &p.Publisher }),
	added(text("publisher_version", func(p *Proposal) *string { return &p.PublisherVersion })),
	count("fence", func(p *Proposal) *int64 { return &p.Fence }),

	lastUpdateField(),
	beating(instant("market_epoch", func(p *Proposal) *time.Time { return &p.MarketAt })),
	beating(instant("position_epoch", func(p *Proposal) *time.Time { return &p.PositionAt })),
	beating(inputStateField()),
	beating(instant("valid_until_epoch", func(p *Proposal) *time.Time { return &p.ValidUntil })),
	beating(priceOrNone("position_peak_price", false, func(p *Proposal) *float64 { return &p.Peak })),
	beating(priceOrNone("position_trough_price", false, func(p *Proposal) *float64 { return &p.Trough })),
}

// FieldNames lists every field of the proposal hash, in the order in which they are written.
func FieldNames() []string {
	names := make([]string, len(fields))
	for i := range fields {
		names[i] = fields[i].name
	}
	return names
}

// Encode gives the whole hash of p as alternating names and values. The schema version is always the one that this
// package writes.
func Encode(p Proposal) []string {
	out := make([]string, 0, 2*len(fields))
	var buf []byte
	for i := range fields {
		buf, _ = fields[i].append(buf[:0], &p)
		out = append(out, fields[i].name, string(buf))
	}
	return out
}

// SameHash tells whether the hashes of p and q are the same.
func SameHash(p, q *Proposal) bool {
	a, b := make([]byte, 0, longField), make([]byte, 0, longField)
	for i := range fields {
		a, _ = fields[i].append(a[:0], p)
		b, _ = fields[i].append(b[:0], q)
		if !bytes.Equal(a, b) {
			return false
		}
	}
	return true
}

// longField is for how many bytes of a field there is room at first.
const longField = 128

// check says what keeps p from being written, nil if nothing does; that its numbers are finite shows as they are written.
// A hash that is published is whole: no NaN, no unknown word, no missing clock.
func check(p *Proposal) error {
	if _, err := position.ParseSymbol(string(p.Symbol)); err != nil {
		return err
	}
	if !knownAction(string(p.Action)) {
		return fmt.Errorf("field harvest_action: %q is not an action", p.Action)
	}
	if p.Side.Sign() == 0 {
		return fmt.Errorf("field position_side: %q is neither LONG nor SHORT", p.Side)
	}
	if !knownInputState(string(p.InputState)) {
		return fmt.Errorf("field input_state: %q is not a state", p.InputState)
	}
	if p.ComputedAt.IsZero() {
		return fmt.Errorf("field computed_at_utc is not set")
	}
	if p.LastUpdate.IsZero() {
		return fmt.Errorf("field last_update_epoch is not set")
	}
	return nil
}

func knownAction(s string) bool {
	for _, a := range kernel.Actions {
		if string(a) == s {
			return true
		}
	}
	return false
}

func knownInputState(s string) bool {
	switch InputState(s) {
	case InputFresh, InputStaleMarket, InputStalePosition:
		return true
	}
	return false
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// number is a decimal: written without exponent, because scripts of the earlier deployment read it, and shortest, so
// that it reads back to the same double.
func number(name string, at func(*Proposal) *float64) field {
	return field{
		name: name, number: at,
		get: func(p *Proposal, v string) (ok bool) {
			*at(p), ok = parseNumber(v)
			return ok
		},
	}
}

func legacyNumber(name string, at func(*Proposal) *float64) field {
	f := number(name, at)
	f.legacy = true
	return f
}

// priceOrNone is a price where 0 means that there is none, written empty. An earlier writer put the word None.
func priceOrNone(name string, legacy bool, at func(*Proposal) *float64) field {
	f := number(name, at)
	plainGet := f.get
	f.legacy, f.blank, f.none = legacy, true, true
	f.get = func(p *Proposal, v string) bool {
		if v == "" || v == "None" {
			*at(p) = 0
			return true
		}
		if plainGet(p, v) && *at(p) >= 0 {
			*at(p) += 0 // a negative zero is none, too
			return true
		}
		*at(p) = 0
		return false
	}
	return f
}

// instant is a moment in whole seconds; the zero time is unknown and written empty.
func instant(name string, at func(*Proposal) *time.Time) field {
	return field{
		name: name, blank: true,
		put: func(b []byte, p *Proposal) []byte { return appendEpoch(b, *at(p)) },
		get: func(p *Proposal, v string) (ok bool) {
			if v == "" {
				*at(p) = time.Time{}
				return true
			}
			*at(p), ok = parseEpoch(v)
			return ok
		},
	}
}

func text(name string, at func(*Proposal) *string) field {
	return field{
		name: name, blank: true,
		put: func(b []byte, p *Proposal) []byte { return append(b, *at(p)...) },
		get: func(p *Proposal, v string) bool {
			*at(p) = v
			return true
		},
	}
}

// count is a whole number that is never negative.
func count(name string, at func(*Proposal) *int64) field {
	return field{
		name: name,
		put:  func(b []byte, p *Proposal) []byte { return strconv.AppendInt(b, *at(p), 10) },
		get: func(p *Proposal, v string) (ok bool) {
			*at(p), ok = parseCount(v)
			return ok
		},
	}
}

func beating(f field) field {
	f.beat = true
	return f
}

func added(f field) field {
	f.later = true
	return f
}

func actionField() field {
	return field{
		name: "harvest_action", legacy: true,
		put: func(b []byte, p *Proposal) []byte { return append(b, p.Action...) },
		get: func(p *Proposal, v string) bool {
			if !knownAction(v) {
				return false
			}
			p.Action = kernel.Action(v)
			return true
		},
	}
}

func sideField() field {
	return field{
		name: "position_side", legacy: true,
		put: func(b []byte, p *Proposal) []byte { return append(b, p.Side...) },
		get: func(p *Proposal, v string) bool {
			side, err := position.ParseSide(v)
			p.Side = side
			return err == nil
		},
	}
}

func inputStateField() field {
	return field{
		name: "input_state",
		put:  func(b []byte, p *Proposal) []byte { return append(b, p.InputState...) },
		get: func(p *Proposal, v string) bool {
			if !knownInputState(v) {
				return false
			}
			p.InputState = InputState(v)
			return true
		},
	}
}

func reasonsField() field {
	return field{
		name: "reason_codes", legacy: true, blank: true,
		put: func(b []byte, p *Proposal) []byte {
			for i, r := range p.Reasons {
				if i > 0 {
					b = append(b, ',')
				}
				b = append(b, r...)
			}
			return b
		},
		get: func(p *Proposal, v string) bool {
			p.Reasons = nil
			for r := range strings.SplitSeq(v, ",") {
				if r = strings.TrimSpace(r); r != "" {
					p.Reasons = append(p.Reasons, r)
				}
			}
			return true
		},
	}
}

func schemaField() field {
	return field{
		name: "schema_version",
		put:  func(b []byte, _ *Proposal) []byte { return strconv.AppendInt(b, SchemaVersion, 10) },
		get: func(p *Proposal, v string) bool {
			n, ok := parseCount(v)
			if !ok || n == 0 || n > math.MaxInt32 {
				return false
			}
			p.SchemaVersion = int(n)
			return true
		},
	}
}

func lastUpdateField() field {
	f := instant("last_update_epoch", func(p *Proposal) *time.Time { return &p.LastUpdate })
	f.legacy, f.beat, f.blank = true, true, false
	return f
}

// computedLayout is how the earlier writer printed the instant: UTC, no zone.
const computedLayout = "2006-01-02T15:04:05.000000"

func computedAtField() field {
	return field{
		name: "computed_at_utc", legacy: true,
		put: func(b []byte, p *Proposal) []byte { return appendComputed(b, p.ComputedAt) },
		get: func(p *Proposal, v string) (ok bool) {
			p.ComputedAt, ok = parseISO(v)
			return ok
		},
	}
}

// appendNumber writes a plain decimal. What is not a number leaves nothing: no NaN ever goes out.
func appendNumber(b []byte, f float64) []byte {
	if !finite(f) {
		return b
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

// appendComputed writes an instant as computed_at_utc has it; the zero time leaves nothing.
func appendComputed(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return t.UTC().AppendFormat(b, computedLayout)
}

func appendEpoch(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return strconv.AppendInt(b, t.Unix(), 10)
}
