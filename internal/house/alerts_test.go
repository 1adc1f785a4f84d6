package house

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quantumharvest/internal/rules"
)

const runbooks = "docs/runbooks"

func alertNames() (names []string) {
	for _, a := range rules.Alerts() {
		names = append(names, a.Name)
	}
	return names
}

// exported tells whether a metric is one of ours, from the literals of the code that measures.
func exported(t *testing.T) func(name string) bool {
	t.Helper()
	said := literals(t)
	return func(name string) bool {
		for _, tail := range []string{"", "_bucket", "_sum", "_count"} {
			base, ok := strings.CutSuffix(name, tail)
			if !ok {
				continue
			}
			short := strings.TrimPrefix(base, "quantum_harvest_")
			if said[base] || said[short] || said[strings.TrimPrefix(short, "feed_")] {
				return true
			}
		}
		return false
	}
}

// asked is one question to Prometheus, and who asks it.
type asked struct{ where, expr string }

// expressions are those of all rules and of all panels.
func expressions(t *testing.T) (all []asked) {
	t.Helper()
	for _, r := range rules.Recordings() {
		all = append(all, asked{r.Record, r.Expr})
	}
	for _, a := range rules.Alerts() {
		all = append(all, asked{a.Name, a.Expr})
	}
	files(t, func(path string, text []byte) {
		if !strings.HasPrefix(path, "deploy/dashboards/") {
			return
		}
		var d struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all = append(all, asked{path + ", " + p.Title, q.Expr})
			}
		}
	}, ".json")
	return all
}

// An expression that asks for a metric nobody exports is silent for ever. Those of Prometheus itself are looked up in a
// running one, by a test of internal/app.
func TestRulesAndDashboardsAskForMetricsThatExist(t *testing.T) {
	isOurs := exported(t)
	recorded := map[string]bool{}
	for _, r := range rules.Recordings() {
		recorded[r.Record] = true
	}
	quoted := regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	name := regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*(?::[a-zA-Z0-9_:]+)?`)
	for _, a := range expressions(t) {
		for _, n := range name.FindAllString(quoted.ReplaceAllString(a.expr, ""), -1) {
			switch {
			case strings.HasPrefix(n, "quantum_harvest_") && !isOurs(n):
				t.Errorf("%s asks for %s, which nobody exports", a.where, n)
			case strings.Contains(n, ":") && !recorded[n]:
				t.Errorf("%s asks for %s, which nobody records", a.where, n)
			}
		}
	}
}

// Every alert leads to one runbook, which has the same parts as the others.
func TestRunbooks(t *testing.T) {
	names := alertNames()
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root, runbooks, name+".md"))
		if err != nil {
			t.Errorf("%s has no runbook: %v", name, err)
			continue
		}
		var parts []string
		for line := range strings.Lines(string(text)) {
			if h, ok := strings.CutPrefix(line, "#"); ok {
				parts = append(parts, strings.TrimSpace(strings.TrimLeft(h, "#")))
			}
		}
		if want := []string{name, "Meaning", "Who is affected", "First command", "Decision", "Fix", "How it clears", "Drill", "Related"}; !slices.Equal(parts, want) {
			t.Errorf("%s: its parts are %q, not %q", name, parts, want)
		}
	}
	entries, err := os.ReadDir(filepath.Join(root, runbooks))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := strings.TrimSuffix(e.Name(), ".md"); name != "README" && !slices.Contains(names, name) {
			t.Errorf("%s is the runbook of no alert", e.Name())
		}
	}
}

// Names of alerts in documents are names of alerts.
func TestAlertsInDocumentsExist(t *testing.T) {
	alert := regexp.MustCompile(`\bQuantum(?:Harvest|Exit)[A-Z]\w+`)
	names := alertNames()
	documents(t, func(where, _, line string) {
		for _, name := range alert.FindAllString(line, -1) {
			if !slices.Contains(names, name) {
				t.Errorf("%s: %s is no alert", where, name)
			}
		}
	})
}
