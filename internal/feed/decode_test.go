package feed

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestParseNumber(t *testing.T) {
	for _, tc := range []struct {
		text   string
		want   float64
		reason Reason
	}{
		{"1.5", 1.5, ""},
		{" -2e3\n", -2000, ""},
		{"0", 0, ""},
		{"", 0, ReasonMissing},
		{"  ", 0, ReasonMissing},
		{"NaN", 0, ReasonNotFinite},
		{"nan", 0, ReasonNotFinite},
		{"inf", 0, ReasonNotFinite},
		{"-Infinity", 0, ReasonNotFinite},
		{"1e999", 0, ReasonNotFinite},
		{"None", 0, ReasonUnreadable},
		{"0x10", 0, ReasonUnreadable},
		{"1_000", 0, ReasonUnreadable},
		{"1,000", 0, ReasonUnreadable},
		{"12abc", 0, ReasonUnreadable},
	} {
		got, reason := parseNumber(tc.text)
		if got != tc.want || reason != tc.reason {
			t.Errorf("parseNumber(%q) = %v, %q; want %v, %q", tc.text, got, reason, tc.want, tc.reason)
		}
	}
}

func TestJSONNumber(t *testing.T) {
	for _, tc := range []struct {
		value  any
		want   float64
		reason Reason
	}{
		{json.Number("7"), 7, ""},
		{"7.5", 7.5, ""},
		{3.25, 3.25, ""},
		{nil, 0, ReasonMissing},
		{math.NaN(), 0, ReasonNotFinite},
		{"NaN", 0, ReasonNotFinite},
		{true, 0, ReasonUnreadable},
		{map[string]any{}, 0, ReasonUnreadable},
	} {
		got, reason := jsonNumber(tc.value)
		if got != tc.want || reason != tc.reason {
			t.Errorf("jsonNumber(%v) = %v, %q; want %v, %q", tc.value, got, reason, tc.want, tc.reason)
		}
	}
}

func TestShorten(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                    "plain",
		"tab\tand\x00zero":         "tab�and�zero",
		"\xff":                     "�",
		strings.Repeat("a", 64):    strings.Repeat("a", 64),
		strings.Repeat("a", 65):    strings.Repeat("a", 61) + "…",
		strings.Repeat("é", 1000):  strings.Repeat("é", 30) + "…",
		"<script>alert()</script>": "<script>alert()</script>",
	} {
		if got := shorten(text); got != want {
			t.Errorf("shorten(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	want := time.Date(2025, time.May, 4, 15, 33, 0, 0, time.UTC)
	for _, text := range []string{
		"1746372780", "1746372780000", "1746372780000000", "1746372780000000000", "1746372780.0", "1.74637278e9",
		"1746372780000.0", "2025-05-04T15:33:00", "2025-05-04T15:33:00Z", "2025-05-04 15:33:00", "2025-05-04T17:33:00+02:00",
		"2025-05-04 15:33:00+00:00", " 2025-05-04T15:33:00.000 ",
	} {
		got, reason := parseTime(text)
		if reason != "" || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("parseTime(%q) = %v, %q; want %v", text, got, reason, want)
		}
	}
	for text, want := range map[string]Reason{
		"":                     ReasonMissing,
		"0":                    ReasonDomain,
		"-5":                   ReasonDomain,
		"-9223372036854775808": ReasonDomain,
		"12345":                ReasonDomain,
		"9223372036854775807":  ReasonDomain,
		"1e30":                 ReasonDomain,
		"NaN":                  ReasonNotFinite,
		"1e999":                ReasonNotFinite,
		"soon":                 ReasonUnreadable,
		"2025-13-04T15:33:00Z": ReasonUnreadable,
		"0001-01-01T00:00:00Z": ReasonDomain,
	} {
		if got, reason := parseTime(text); reason != want {
			t.Errorf("parseTime(%q) = %v, %q; want %q", text, got, reason, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"1.5", "NaN", "1746372780000", "2025-05-04T15:33:00Z", "-1e308", "\xff\x00", "9e18", "None"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, reason := parseNumber(text)
		if math.IsNaN(v) || math.IsInf(v, 0) || reason != "" && v != 0 {
			t.Fatalf("parseNumber(%q) = %v, %q", text, v, reason)
		}
		at, reason := parseTime(text)
		if reason == "" && (at.Before(earliestTime) || at.After(latestTime)) || reason != "" && !at.IsZero() {
			t.Fatalf("parseTime(%q) = %v, %q", text, at, reason)
		}
		short := shorten(text)
		if len(short) > shortenBytes || !utf8.ValidString(short) || strings.ContainsFunc(short, unicode.IsControl) {
			t.Fatalf("shorten(%q) = %q", text, short)
		}
	})
}
