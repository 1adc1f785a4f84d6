package feed

import (
	"testing"
	"time"
)

// What somebody is paged for is looked at again in time for its alert to clear; what only lies in the window is not worth
// reading all of it every few seconds.
func TestHowSoonADefectIsLookedAtAgain(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0)
	for name, tc := range map[string]struct {
		flaws []flaw
		after time.Duration // 0: never
	}{
		"nothing":             {nil, 0},
		"a gap":               {[]flaw{{"time", ReasonGap, "1"}}, orderRecheck},
		"a gap and a repeat":  {[]flaw{{"time", ReasonGap, "1"}, {"time", ReasonDuplicate, "2"}}, orderRecheck},
		"disorder":            {[]flaw{{"time", ReasonOutOfOrder, "1"}}, orderRecheck},
		"garbage":             {[]flaw{{"element", ReasonUnreadable, "x"}}, defectRepeat},
		"garbage after a gap": {[]flaw{{"time", ReasonGap, "1"}, {"element", ReasonUnreadable, "x"}}, defectRepeat},
	} {
		b := newDefectBook("test")
		b.set("key", "BTCUSDT", tc.flaws, begin, func(Event) {})
		for _, wait := range []time.Duration{defectRepeat - 1, defectRepeat, orderRecheck - 1, orderRecheck, time.Hour} {
			if got, want := b.due("key", begin, begin.Add(wait)), tc.after > 0 && wait >= tc.after; got != want {
				t.Errorf("%s: due after %s: %v", name, wait, got)
			}
		}
	}
}
