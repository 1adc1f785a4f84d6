package rules_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v2"

	"quantumharvest/internal/realserver"
	"quantumharvest/internal/rules"
)

// unitTests is one file of deploy/alerts/tests.
type unitTests struct {
	Tests []struct {
		Name  string
		Cases []struct {
			Alert string           `yaml:"alertname"`
			At    model.Duration   `yaml:"eval_time"`
			Exp   []map[string]any `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
		Queries []struct{ Expr string } `yaml:"promql_expr_test"`
	}
}

func testFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(alertsDir, "tests", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of the rules: %v", err)
	}
	return files
}

func TestRulesLoad(t *testing.T) {
	t.Parallel()
	scaled := filepath.Join(t.TempDir(), "scaled.yml")
	if err := os.WriteFile(scaled, render(t, rules.Defaults().Scale(5)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(alertsDir, rules.FileName), scaled} {
		if out, err := exec.Command(realserver.Tool(t, "promtool"), "check", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

func TestRulesDoWhatTheirTestsSay(t *testing.T) {
	t.Parallel()
	promtool := realserver.Tool(t, "promtool")
	for _, file := range testFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yml"), func(t *testing.T) {
			t.Parallel()
			if strings.HasSuffix(file, "_long.yml") && os.Getenv("HARVEST_LONG") == "" {
				return
			}
			if out, err := exec.Command(promtool, "test", "rules", file).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func eachTestFile(t *testing.T, f func(file string, u unitTests)) {
	t.Helper()
	for _, file := range testFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var u unitTests
		if err := yaml.Unmarshal(text, &u); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		f(file, u)
	}
}

// Every alert is tested firing and silent, just before it fires, and after its cause has ended; one that always fires has
// only the first.
func TestEveryAlertIsTested(t *testing.T) {
	type count struct {
		all, firing, silent int
		begins, resolves    bool // there is a case right before it fires, and one after it fired
	}
	counts := map[string]*count{}
	edge := map[string]time.Duration{} // what "right before" is
	for _, a := range rules.Alerts() {
		counts[a.Name] = new(count)
		edge[a.Name] = time.Minute
	}
	// It needs a day of samples, of which only a few moments are looked at.
	edge["QuantumHarvestFreshnessBurnSlow"] = 3 * time.Hour
	eachTestFile(t, func(file string, u unitTests) {
		for _, tt := range u.Tests {
			if tt.Name == "" {
				t.Errorf("%s: a test has no name", file)
			}
			type moment struct {
				at     time.Duration
				firing bool
			}
			moments := map[string][]moment{}
			for _, c := range tt.Cases {
				n := counts[c.Alert]
				if n == nil {
					t.Errorf("%s: %s is no alert", file, c.Alert)
					continue
				}
				n.all++
				if len(c.Exp) > 0 {
					n.firing++
				} else {
					n.silent++
				}
				moments[c.Alert] = append(moments[c.Alert], moment{time.Duration(c.At), len(c.Exp) > 0})
			}
			for name, list := range moments {
				slices.SortStableFunc(list, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
				for i := 1; i < len(list); i++ {
					before, after := list[i-1], list[i]
					counts[name].begins = counts[name].begins || !before.firing && after.firing && after.at-before.at <= edge[name]
					counts[name].resolves = counts[name].resolves || before.firing && !after.firing
				}
			}
		}
	})
	for name, n := range counts {
		if name == "Watchdog" {
			n.silent, n.begins, n.resolves = 1, true, true
		}
		if n.all < 3 || n.firing == 0 || n.silent == 0 || !n.begins || !n.resolves {
			t.Errorf("%s has %d cases: %d firing, %d silent, right before it fires %v, after it %v", name, n.all, n.firing, n.silent, n.begins, n.resolves)
		}
	}
}

func TestEveryRecordingIsTested(t *testing.T) {
	asked := ""
	eachTestFile(t, func(_ string, u unitTests) {
		for _, tt := range u.Tests {
			for _, q := range tt.Queries {
				asked += q.Expr + " \n"
			}
		}
	})
	for _, r := range rules.Recordings() {
		if !regexp.MustCompile(regexp.QuoteMeta(r.Record) + `[^a-z0-9_]`).MatchString(asked) {
			t.Errorf("no test asks for %s", r.Record)
		}
	}
}

// However often Prometheus repeats alerts, and at whatever speed: failing notifications are seen in time, stay seen while
// a scrape is missed, and are over soon after the repair.
func TestFailingNotificationsWhateverTheDelay(t *testing.T) {
	t.Parallel()
	promtool := realserver.Tool(t, "promtool")
	for _, scale := range []int{1, 5} {
		for _, delay := range []time.Duration{10 * time.Second, time.Minute} {
			th := rules.Defaults()
			th.ResendDelay = delay
			th = th.Scale(scale)
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, rules.FileName), render(t, th), 0o600); err != nil {
				t.Fatal(err)
			}
			// In quarters of an interval: scrapes fall between the evaluations, or into them. Prometheus sends an alert
			// again at the first evaluation after the delay.
			const from, to, every = 40, 240, 4
			period := every * (int(th.ResendDelay/th.Interval) + 1)
			end := to + period + 8*every
			quarter := th.Interval / every
			var expect strings.Builder
			for at := 0; at <= end; at += every {
				firing := 0
				switch {
				case at >= from+period+2*every && at <= to-period:
					firing = 1
				case at > from && at <= to+period+6*every:
					continue // begins, or ends
				}
				fmt.Fprintf(&expect, "      - {expr: 'count(ALERTS{alertname=\"QuantumHarvestNotificationsFailing\", alertstate=\"firing\"}) or vector(0)', eval_time: %s, exp_samples: [{labels: '{}', value: %d}]}\n",
					model.Duration(time.Duration(at)*quarter), firing)
			}
			text := fmt.Sprintf("rule_files: [%s]\nevaluation_interval: %s\ntests:\n", rules.FileName, th.Interval)
			for _, phase := range []int{0, 1, 3} {
				var values []string
				failed := 0
				for at := 0; at <= end; at++ {
					if at > from && at <= to && (at-from)%period == 0 {
						failed++
					}
					// A scrape is missed now and then.
					if at%every == phase && (at-phase)%(11*every) != 8*every {
						values = append(values, strconv.Itoa(failed))
					} else {
						values = append(values, "_")
					}
				}
				text += fmt.Sprintf("  - interval: %s\n    input_series:\n      - {series: 'prometheus_notifications_errors_total{alertmanager=\"a\"}', values: '%s'}\n    promql_expr_test:\n%s",
					model.Duration(quarter), strings.Join(values, " "), expect.String())
			}
			file := filepath.Join(dir, "test.yml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(promtool, "test", "rules", file).CombinedOutput(); err != nil {
				t.Errorf("every %s, scale %d: %v\n%s", delay, scale, err, out)
			}
		}
	}
}
