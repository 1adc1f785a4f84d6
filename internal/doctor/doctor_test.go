package doctor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/proof"
	"quantumharvest/internal/store"
)

func TestStoreFindings(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	entry := func(sym position.Symbol, p store.Proposal) store.Entry {
		return store.Entry{Symbol: sym, Found: true, Proposal: p}
	}
	fine := store.Proposal{SchemaVersion: 1, LastUpdate: now, InputState: store.InputFresh}
	old, frozen, earlier := fine, fine, fine
	old.LastUpdate = now.Add(-time.Minute)
	frozen.InputState = store.InputStaleMarket
	earlier.SchemaVersion = 0
	var r Report
	r.Store(store.Collection{ServerTime: now, Entries: []store.Entry{
		entry("AUSDT", fine), entry("BUSDT", old), entry("CUSDT", frozen), entry("DUSDT", earlier),
		{Symbol: "EUSDT"},
		{Symbol: "FUSDT", Err: errors.New("wrong type")},
	}}, 30*time.Second, "p:")
	r.Sort()
	text := r.String()
	for _, want := range []string{
		"BUSDT: the heartbeat stands still", "CUSDT: its inputs are stale", "an earlier publisher writes", "EUSDT has no proposal", "FUSDT cannot be read", "5 findings",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "AUSDT") {
		t.Errorf("a proposal that is in order is found:\n%s", text)
	}
	if r.Findings[len(r.Findings)-1].Severity != Warning {
		t.Error("the most urgent do not come first")
	}
	for _, f := range r.Findings {
		if f.What == "" || f.Evidence == "" || f.Why == "" || f.Fix == "" {
			t.Errorf("a finding without evidence, reason or help: %+v", f)
		}
	}
}

func TestVersionsAndProof(t *testing.T) {
	var r Report
	r.Versions(map[string]string{"publisher": "1.0", "exporter": "1.0"})
	if !r.Fine() {
		t.Errorf("parts of one version are a finding: %s", &r)
	}
	r.Versions(map[string]string{"publisher": "1.0", "exporter": "1.1"})
	r.FromProof(proof.Pack{Checks: []proof.Check{
		{Name: "coverage", Passed: true, Claim: "all"},
		{Name: "health", Failures: []string{"no answer"}},
		{Name: "three clocks", Claim: "x", Failures: []string{"one"}, ByHand: []string{"by hand"}},
		{Name: "rules", Claim: "the rules are ours", Failures: []string{"other ones"}},
	}}, map[string]string{"rules": "nobody can read them"})
	text := r.String()
	for _, want := range []string{"different versions", "1.0: publisher", "health does not hold", "ok  coverage", "fix:  by hand", "UNKNOWN: whether this holds: the rules are ours", "3 findings; 1 thing could not be looked at."} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}
