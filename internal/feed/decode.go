package feed

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// shortenBytes bounds every offending value that is carried in a Refusal.
const shortenBytes = 64

// parseNumber reads a decimal number. A blank reason means that it is there, readable and finite; otherwise the number
// is 0 and the reason says what is wrong. Surrounding blanks are tolerated, hexadecimal and underscores are not: no
// writer of the contract uses them, so they are garbage.
func parseNumber(text string) (float64, Reason) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, ReasonMissing
	}
	if strings.ContainsAny(text, "xXpP_") {
		return 0, ReasonUnreadable
	}
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, ReasonNotFinite
	case err != nil:
		return 0, ReasonUnreadable
	case math.IsNaN(v), math.IsInf(v, 0):
		return 0, ReasonNotFinite
	}
	return v, ""
}

// jsonNumber reads a number out of a decoded JSON value: a number, or a string that holds one. Null and nothing are
// missing; everything else is unreadable.
func jsonNumber(value any) (float64, Reason) {
	switch v := value.(type) {
	case nil:
		return 0, ReasonMissing
	case json.Number:
		return parseNumber(v.String())
	case string:
		return parseNumber(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, ReasonNotFinite
		}
		return v, ""
	}
	return 0, ReasonUnreadable
}

// jsonText is the offending value of a refusal as text.
func jsonText(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case json.Number:
		return shorten(v.String())
	case string:
		return shorten(v)
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return shorten(string(raw))
}

// shorten makes any text from outside safe to log and to print on a page: printable UTF-8 without control characters,
// at most shortenBytes bytes.
func shorten(value string) string {
	const ellipsis = "…"
	var b strings.Builder
	cut := 0 // where the text ends if an ellipsis has to follow it
	for _, r := range value {
		// Ranging over a string yields RuneError for every byte that is not UTF-8.
		if !unicode.IsPrint(r) {
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r) > shortenBytes {
			return b.String()[:cut] + ellipsis
		}
		b.WriteRune(r)
		if b.Len() <= shortenBytes-len(ellipsis) {
			cut = b.Len()
		}
	}
	return b.String()
}

// Instants outside these bounds are garbage: no market data is older, and no clock is that wrong.
var (
	earliestTime = time.Date(1973, time.March, 4, 0, 0, 0, 0, time.UTC)
	latestTime   = time.Date(2200, time.January, 1, 0, 0, 0, 0, time.UTC)
)

// timeLayouts are the texts accepted where an instant is not a number; those without a zone are UTC.
var timeLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00",
	"2006-01-02 15:04:05.999999999",
}

// parseTime reads an instant: ISO 8601 text (UTC where it names no zone), or a number of seconds, milliseconds,
// microseconds or nanoseconds since 1970, told apart by their size: between 1973 and 2200 their ranges do not touch.
func parseTime(text string) (time.Time, Reason) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, ReasonMissing
	}
	if whole, err := strconv.ParseInt(text, 10, 64); err == nil {
		return plausible(epochTime(whole))
	}
	seconds, reason := parseNumber(text)
	switch {
	case reason == "" && seconds > 0 && seconds < 1e11:
		whole, fraction := math.Modf(seconds)
		return plausible(time.Unix(int64(whole), int64(fraction*1e9)).UTC())
	case reason == "" && seconds >= 1e11 && seconds < math.MaxInt64:
		// Below a millisecond nothing is lost that a candle could need.
		return plausible(epochTime(int64(seconds)))
	case reason == "":
		return time.Time{}, ReasonDomain
	case reason == ReasonNotFinite:
		return time.Time{}, reason
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return plausible(t.UTC())
		}
	}
	return time.Time{}, ReasonUnreadable
}

// epochTime reads a whole number in the unit that its size implies.
func epochTime(n int64) time.Time {
	switch {
	case n < 0:
		return time.Time{}
	case n < 1e11:
		return time.Unix(n, 0).UTC()
	case n < 1e14:
		return time.UnixMilli(n).UTC()
	case n < 1e17:
		return time.UnixMicro(n).UTC()
	}
	return time.Unix(n/1e9, n%1e9).UTC()
}

func plausible(t time.Time) (time.Time, Reason) {
	if t.Before(earliestTime) || t.After(latestTime) {
		return time.Time{}, ReasonDomain
	}
	return t, ""
}

// jsonTime reads an instant out of a decoded JSON value.
func jsonTime(value any) (time.Time, Reason) {
	switch v := value.(type) {
	case nil:
		return time.Time{}, ReasonMissing
	case json.Number:
		return parseTime(v.String())
	case string:
		return parseTime(v)
	}
	return time.Time{}, ReasonUnreadable
}
