package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"time"

	"quantumharvest/internal/position"
)

const (
	// recordBytes is the largest position record that is read.
	recordBytes = 64 << 10
	// recordFuture is how far a record's stamps may lie ahead of the clock without being reported.
	recordFuture = 5 * time.Second
	// recordOldest is the largest age in seconds that is believed: thirty years.
	recordOldest = 1e9
)

// recordField numbers the fields of a position record.
type recordField int

const (
	recordSymbol recordField = iota
	recordSide
	recordEntry
	recordCurrent
	recordPeak
	recordTrough
	recordAge
	recordPnL
	recordStop
	recordTarget
	recordQuantity
	recordOpenedAt
	recordUpdatedAt
	recordStateFields // those above are the fields of a state; an event may have those below as well

	recordEvent recordField = iota - 1
	recordStatus
	recordFields
)

// recordNames are the fields on the wire.
var recordNames = [recordFields]string{
	recordSymbol: "symbol", recordSide: "side", recordEntry: "entry_price", recordCurrent: "current_price",
	recordPeak: "peak_price", recordTrough: "trough_price", recordAge: "age_sec", recordPnL: "unrealized_pnl",
	recordStop: "current_sl", recordTarget: "current_tp", recordQuantity: "quantity",
	recordOpenedAt: "opened_at_epoch", recordUpdatedAt: "updated_at_epoch",
	recordEvent: "event", recordStatus: "status",
}

// recordValue is one field as found. Blank text means that it is absent.
type recordValue struct {
	text string
	bad  bool // something that is neither text nor number
}

// rawRecord is a position record as found, whatever carried it.
type rawRecord [recordFields]recordValue

func (r *rawRecord) set(f recordField, text string) {
	text = strings.TrimSpace(text)
	switch text {
	case "None", "null": // how the earlier writers spelled nothing
		text = ""
	}
	r[f] = recordValue{text: text}
}

// parseRecordJSON reads a JSON object into fields. Numbers may be numbers or text.
func parseRecordJSON(text []byte) (*rawRecord, flaw, bool) {
	if len(text) > recordBytes {
		return nil, flaw{reason: ReasonTooLarge}, false
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil || object == nil {
		return nil, flaw{reason: ReasonUnreadable, value: string(text)}, false
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, flaw{reason: ReasonUnreadable, value: string(text)}, false
	}
	raw := new(rawRecord)
	for f, name := range recordNames {
		switch v := object[name].(type) {
		case nil:
		case string:
			raw.set(recordField(f), v)
		case json.Number:
			raw.set(recordField(f), v.String())
		default:
			raw[f] = recordValue{text: jsonText(v), bad: true}
		}
	}
	return raw, flaw{}, true
}

// recordReader gathers what is wrong with a record while it is read.
type recordReader struct {
	raw   *rawRecord
	flaws []flaw
}

func (r *recordReader) refuse(f recordField, reason Reason) {
	r.flaws = append(r.flaws, flaw{recordNames[f], reason, r.raw[f].text})
}

// number reads an optional number, which must not be below least.
func (r *recordReader) number(f recordField, least float64) (float64, bool) {
	v := r.raw[f]
	if v.text == "" && !v.bad {
		return 0, false
	}
	if v.bad {
		r.refuse(f, ReasonUnreadable)
		return 0, false
	}
	n, reason := parseNumber(v.text)
	if reason == "" && n < least {
		reason = ReasonDomain
	}
	if reason != "" {
		r.refuse(f, reason)
		return 0, false
	}
	return n, true
}

// price reads an optional price.
func (r *recordReader) price(f recordField) float64 {
	return r.optional(f, math.SmallestNonzeroFloat64)
}

func (r *recordReader) optional(f recordField, least float64) float64 {
	n, _ := r.number(f, least)
	return n
}

func (r *recordReader) time(f recordField) time.Time {
	v := r.raw[f]
	if v.text == "" && !v.bad {
		return time.Time{}
	}
	t, reason := parseTime(v.text)
	if v.bad {
		reason = ReasonUnreadable
	}
	if reason != "" {
		r.refuse(f, reason)
		return time.Time{}
	}
	return t
}

// decodeRecord checks a record field by field. Sym is the symbol that its key names; blank where the record itself must
// name it. The record is accepted whole or not at all: a field that is there and cannot be right puts all others in
// doubt, and the position stays on its last good record.
//
// A quantity of zero, or an event or status that says closed, close or flat where those fields are given, is a record of
// no position; then nothing but its symbol and its times counts. Times ahead of now are reported with an accepted
// record, which is true for them: whoever uses them bounds them. Zero now means that they are not in our clock.
func decodeRecord(sym position.Symbol, raw *rawRecord, now time.Time) (position.Record, []flaw, bool) {
	r := &recordReader{raw: raw}
	rec := position.Record{Symbol: sym}
	switch v := raw[recordSymbol]; {
	case v.text == "" && !v.bad:
		if sym == "" {
			r.refuse(recordSymbol, ReasonMissing)
		}
	default:
		named, err := position.ParseSymbol(v.text)
		if v.bad || err != nil || (sym != "" && named != sym) {
			r.refuse(recordSymbol, ReasonSymbol)
		}
		if err == nil && !v.bad && sym == "" {
			rec.Symbol = named
		}
	}
	rec.UpdatedAt = r.time(recordUpdatedAt)
	rec.Closed = saysClosed(raw[recordEvent]) || saysClosed(raw[recordStatus])
	rec.Quantity, rec.HasQuantity = r.number(recordQuantity, 0)
	if rec.Flat() {
		return rec, r.flaws, len(r.flaws) == 0
	}

	switch v := raw[recordSide]; {
	case v.text == "" && !v.bad:
		r.refuse(recordSide, ReasonMissing)
	default:
		side, err := position.ParseSide(v.text)
		if v.bad || err != nil {
			r.refuse(recordSide, ReasonSide)
		}
		rec.Side = side
	}
	if v := raw[recordEntry]; v.text == "" && !v.bad {
		r.refuse(recordEntry, ReasonMissing)
	}
	rec.Entry = r.price(recordEntry)
	rec.Current = r.price(recordCurrent)
	rec.Peak = r.price(recordPeak)
	rec.Trough = r.price(recordTrough)
	if rec.Peak != 0 && rec.Peak < rec.Trough {
		r.refuse(recordPeak, ReasonDomain)
	}
	age, hasAge := r.number(recordAge, 0)
	if age > recordOldest {
		r.refuse(recordAge, ReasonDomain)
	} else {
		rec.Age, rec.HasAge = time.Duration(age*float64(time.Second)), hasAge
	}
	rec.PnL, rec.HasPnL = r.number(recordPnL, math.Inf(-1))
	rec.Stop = r.optional(recordStop, 0)
	rec.Target = r.optional(recordTarget, 0)
	rec.OpenedAt = r.time(recordOpenedAt)
	if len(r.flaws) > 0 {
		return position.Record{Symbol: rec.Symbol}, r.flaws, false
	}
	if !now.IsZero() {
		if rec.UpdatedAt.Sub(now) > recordFuture {
			r.refuse(recordUpdatedAt, ReasonFuture)
		}
		if rec.OpenedAt.Sub(now) > recordFuture {
			r.refuse(recordOpenedAt, ReasonFuture)
		}
	}
	return rec, r.flaws, true
}

func saysClosed(v recordValue) bool {
	if v.bad {
		return false
	}
	switch strings.ToLower(v.text) {
	case "closed", "close", "flat":
		return true
	}
	return false
}
