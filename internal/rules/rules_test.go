package rules_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v2"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/rules"
)

const alertsDir = "../../deploy/alerts"

// rule is a rule as it stands in the file.
type rule struct {
	Alert, Record, Expr string
	For                 string
	KeepFiringFor       string `yaml:"keep_firing_for"`
	Labels, Annotations map[string]string
}

func parsed(t *testing.T, text []byte) (all []rule, intervals map[string]string) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name, Interval string
			Rules          []rule
		}
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	intervals = map[string]string{}
	for _, g := range file.Groups {
		intervals[g.Name] = g.Interval
		all = append(all, g.Rules...)
	}
	return all, intervals
}

func alertNames() (names []string) {
	for _, a := range rules.Alerts() {
		names = append(names, a.Name)
	}
	return names
}

func render(t *testing.T, th rules.Thresholds) []byte {
	t.Helper()
	text, err := rules.Render(th)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func find(t *testing.T, all []rule, name string) rule {
	t.Helper()
	i := slices.IndexFunc(all, func(r rule) bool { return r.Alert == name })
	if i < 0 {
		t.Fatalf("there is no alert %s", name)
	}
	return all[i]
}

func TestTheRuleFileIsThatOfTheTable(t *testing.T) {
	for name, want := range map[string][]byte{
		alertsDir + "/" + rules.FileName: render(t, rules.Defaults()), "../../deploy/alertmanager/" + rules.InhibitFileName: rules.RenderInhibitions(),
	} {
		is, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(is, want) {
			t.Errorf("%s is not what the table makes: run 'make generate'", name)
		}
	}
}

func severity(s string) map[string]string { return map[string]string{"severity": s} }

// The wire contract: exact.
func TestLegacyAlerts(t *testing.T) {
	all, intervals := parsed(t, render(t, rules.Defaults()))
	if got := intervals["quantum_harvest_alerts"]; got != "10s" {
		t.Errorf("the group is evaluated every %q", got)
	}
	for _, want := range []rule{
		{Alert: "QuantumHarvestMetricsStale", Expr: "(time() - quantum_harvest_last_update_epoch) > 30", For: "2m", Labels: severity("warning")},
		{Alert: "QuantumHarvestKillScoreHigh", Expr: "quantum_harvest_kill_score >= 0.6", For: "2m", Labels: severity("warning")},
		{Alert: "QuantumHarvestKillScoreCritical", Expr: "quantum_harvest_kill_score >= 0.8", For: "1m", Labels: severity("critical")},
		{Alert: "QuantumHarvestExporterDown", Expr: `up{job="quantum-harvest-exporter"} == 0`, For: "1m", Labels: severity("critical")},
	} {
		got := find(t, all, want.Alert)
		if got.Expr != want.Expr || got.For != want.For || got.KeepFiringFor != "" || got.Labels["severity"] != want.Labels["severity"] {
			t.Errorf("%s is %q for %s, %s", want.Alert, got.Expr, got.For, got.Labels["severity"])
		}
	}
	longer := rules.Defaults()
	longer.StaleFor = 5 * time.Minute
	all, _ = parsed(t, render(t, longer))
	if got := find(t, all, "QuantumHarvestMetricsStale").For; got != "5m" {
		t.Errorf("the documented option gives %q", got)
	}
}

func TestEveryAlertSaysWhatItIs(t *testing.T) {
	all, _ := parsed(t, render(t, rules.Defaults()))
	seen := map[string]bool{}
	for _, r := range all {
		if r.Record != "" {
			if strings.Count(r.Record, ":") != 2 || len(r.Labels)+len(r.Annotations) > 0 {
				t.Errorf("%s is not level:metric:operation, or says more than a number", r.Record)
			}
			continue
		}
		if seen[r.Alert] {
			t.Errorf("%s is there twice", r.Alert)
		}
		seen[r.Alert] = true
		if r.Labels["component"] != "quantum-trader" || r.Labels["subsystem"] != "harvest" || r.Labels["severity"] == "" {
			t.Errorf("%s: labels %v", r.Alert, r.Labels)
		}
		for _, key := range []string{"summary", "description", "runbook", "runbook_url", "dashboard_url"} {
			if r.Annotations[key] == "" {
				t.Errorf("%s has no %s", r.Alert, key)
			}
		}
		if want := "docs/runbooks/" + r.Alert + ".md"; r.Annotations["runbook_url"] != want {
			t.Errorf("%s leads to %s", r.Alert, r.Annotations["runbook_url"])
		}
	}
}

// In a system that is in order no alert with Harvest in its name fires; those about the advice and the one that always
// fires have other names.
func TestNamesForOperatorsWhoGrep(t *testing.T) {
	for _, name := range alertNames() {
		want := name != "Watchdog" && name != "QuantumExitNotActedOn"
		if strings.Contains(name, "Harvest") != want {
			t.Errorf("%s: Harvest in the name must be %v", name, want)
		}
	}
}

// What makes another alert resolve by vanishing must be seen in the same evaluation: the same group, and before it.
func TestTheLossOfSightComesFirst(t *testing.T) {
	names := alertNames()
	for _, hidden := range []string{"QuantumHarvestMetricsStale", "QuantumHarvestKillScoreHigh", "QuantumHarvestKillScoreCritical"} {
		if slices.Index(names, "QuantumHarvestSightLost") > slices.Index(names, hidden) {
			t.Errorf("SightLost is evaluated after %s", hidden)
		}
	}
	for _, a := range rules.Alerts()[:9] {
		if a.Group != rules.GroupAlerts {
			t.Errorf("%s is in group %s", a.Name, a.Group)
		}
	}
}

func TestBenignReasonsAreReasons(t *testing.T) {
	var known []string
	for _, r := range feed.Reasons {
		known = append(known, string(r))
	}
	for _, r := range rules.BenignReasons {
		if !slices.Contains(known, r) {
			t.Errorf("%s is no reason of the feeds", r)
		}
	}
	all, _ := parsed(t, render(t, rules.Defaults()))
	if expr := find(t, all, "QuantumHarvestInputRefused").Expr; !strings.Contains(expr, `reason!~"`+strings.Join(rules.BenignReasons, "|")+`"`) {
		t.Errorf("the rule leaves out other reasons: %s", expr)
	}
}

func TestInhibitions(t *testing.T) {
	names := regexp.MustCompile(`[A-Z]\w+`)
	known := alertNames()
	for _, in := range rules.Inhibitions() {
		sources, targets := names.FindAllString(in.SourceMatch, -1), names.FindAllString(in.TargetMatch, -1)
		if len(sources) == 0 || len(targets) == 0 || in.Reason == "" {
			t.Errorf("%+v says nothing", in)
		}
		for _, name := range slices.Concat(sources, targets) {
			if !slices.Contains(known, name) {
				t.Errorf("%s in %+v is no alert", name, in)
			}
		}
		for _, name := range sources {
			if slices.Contains(targets, name) {
				t.Errorf("%s silences itself", name)
			}
		}
	}
}

// The file is a part of a configuration that Alertmanager takes.
func TestAlertmanagerTakesTheInhibitions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alertmanager.yml")
	text := "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n" + string(rules.RenderInhibitions())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(realserver.Tool(t, "amtool"), "check-config", file).CombinedOutput()
	if want := fmt.Sprintf("%d inhibit rules", len(rules.Inhibitions())); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v, and not %q in\n%s", err, want, out)
	}
}

func TestThresholdsThatCannotWork(t *testing.T) {
	for name, change := range map[string]func(*rules.Thresholds){
		"Lost":         func(t *rules.Thresholds) { t.Lost = 20 * time.Second },
		"Interval":     func(t *rules.Thresholds) { t.Interval = 0 },
		"StaleFor":     func(t *rules.Thresholds) { t.StaleFor = -1 },
		"PublishAge":   func(t *rules.Thresholds) { t.PublishAge = -time.Second },
		"FreshnessSLO": func(t *rules.Thresholds) { t.FreshnessSLO = 99.9 },
	} {
		th := rules.Defaults()
		change(&th)
		if _, err := rules.Render(th); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// A drill runs five times as fast: intervals, windows and thresholds shrink together.
func TestScale(t *testing.T) {
	all, intervals := parsed(t, render(t, rules.Defaults().Scale(5)))
	if intervals["quantum_harvest_alerts"] != "2s" || intervals["quantum_harvest_slo"] != "6s" {
		t.Errorf("intervals %v", intervals)
	}
	stale := find(t, all, "QuantumHarvestMetricsStale")
	if stale.Expr != "(time() - quantum_harvest_last_update_epoch) > 6" || stale.For != "24s" {
		t.Errorf("%s for %s", stale.Expr, stale.For)
	}
	lost := find(t, all, "QuantumHarvestHeartbeatLost")
	for _, want := range []string{"> 5\n", "[5s]", "[6s]"} {
		if !strings.Contains(lost.Expr, want) {
			t.Errorf("no %q in %s", want, lost.Expr)
		}
	}
	if slow := find(t, all, "QuantumHarvestStoreSlow").Expr; !strings.Contains(slow, "> 0.5") {
		t.Errorf("how slow is too slow does not depend on the time scale: %s", slow)
	}
	if fast := find(t, all, "QuantumHarvestFreshnessBurnFast").Expr; !strings.Contains(fast, "[12m]) >= 90") || !strings.Contains(fast, "> 0.0144") {
		t.Errorf("%s", fast)
	}
}
