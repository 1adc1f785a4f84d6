package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// level is how much attention something wants.
type level int

const (
	unknown level = iota
	good
	late
	bad
)

// limit says from which age on something is late and bad.
type limit struct{ late, bad time.Duration }

// The limits of the four ages. In health nothing is ever bad: the heartbeat moves every second and 30 s of silence is
// what the alert counts from; content is renewed every 60 s and at the end of the cycle of 10 s they fall into; candles
// of a minute are up to two of them old before the publisher calls them stale.
var (
	beatLimit     = limit{10 * time.Second, 30 * time.Second}
	contentLimit  = limit{60 * time.Second, 90 * time.Second}
	marketLimit   = limit{60 * time.Second, 120 * time.Second}
	positionLimit = limit{30 * time.Second, 60 * time.Second}
)

// ahead is how far a clock may run ahead of the server's before that is worth a mark.
const ahead = 2 * time.Second

// level judges an age.
func (l limit) level(age time.Duration) level {
	switch {
	case age >= l.bad:
		return bad
	case age >= l.late, age < -ahead:
		return late
	}
	return good
}

// marks stand behind an age, so that it says the same without colours.
var marks = map[level]string{unknown: " ", good: " ", late: "!", bad: "X"}

// shortAge is a duration in at most four characters: 7s, 59s, 3m, 23h, 99d, and 999d beyond.
func shortAge(d time.Duration) string {
	sign := ""
	if d < 0 {
		if d > -ahead {
			d = 0 // epochs are whole seconds, clocks are not
		} else {
			sign, d = "-", -d
		}
	}
	switch {
	case d < time.Minute:
		return sign + strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return sign + strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 24*time.Hour:
		return sign + strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return sign + strconv.Itoa(min(999, int(d/(24*time.Hour)))) + "d"
}

// longAge is a duration in words for the page of one symbol.
func longAge(d time.Duration) string {
	if d < time.Minute && d > -time.Minute {
		return shortAge(d)
	}
	return d.Truncate(time.Second).String()
}

// fitNumber writes v in at most width characters, giving up decimals before anything else, never a leading digit.
func fitNumber(v float64, width, decimals int, sign bool) string {
	write := func(format byte, prec int) string {
		s := strconv.FormatFloat(v, format, prec, 64)
		if sign && v >= 0 {
			s = "+" + s
		}
		return s
	}
	for prec := decimals; prec >= 0; prec-- {
		if s := write('f', prec); len(s) <= width {
			return s
		}
	}
	for prec := 3; prec >= 0; prec-- {
		if s := write('e', prec); len(s) <= width {
			return s
		}
	}
	return strings.Repeat("#", width)
}

// price writes a price in at most width characters; 0 is none.
func price(v float64, width int) string {
	if v == 0 {
		return "-"
	}
	decimals := 2
	if abs := math.Abs(v); abs < 1000 {
		// Seven significant digits.
		decimals = 6 - int(math.Floor(math.Log10(abs)))
	}
	decimals = min(decimals, 12)
	s := fitNumber(v, width, decimals, false)
	if shown, err := strconv.ParseFloat(s, 64); err != nil || math.Abs(shown-v) > math.Abs(v)/200 {
		s = fitNumber(v, width, -1, false) // too few digits would be left
	}
	if strings.Contains(s, ".") && !strings.Contains(s, "e") && decimals > 2 {
		s = strings.TrimRight(s, "0")
		s = strings.TrimSuffix(s, ".")
	}
	return s
}

// perSecond writes a rate.
func perSecond(r float64) string {
	if r < 10 {
		return fmt.Sprintf("%.2f/s", r)
	}
	return fmt.Sprintf("%.0f/s", r)
}

// roundTrip writes how long Redis took.
func roundTrip(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// clean makes text from outside safe for a terminal: what does not print, escape sequences above all, becomes a
// question mark, and line ends become blanks.
func clean(s string) string {
	ok := true
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			ok = false
			break
		}
	}
	if ok {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// cut shortens a line to the width of the screen; styles survive.
func cut(line string, width int) string { return ansi.Truncate(line, width, "…") }

// pad fills text with blanks to width, on the left where right is set. Longer text is cut.
func pad(text string, width int, right bool) string {
	text = ansi.Truncate(text, width, "…")
	gap := strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
	if right {
		return gap + text
	}
	return text + gap
}
