package rules_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
			Exp   []map[string]any `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
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

// Every alert is tested firing and silent; one that always fires has only the first.
func TestEveryAlertIsTested(t *testing.T) {
	type count struct{ all, firing, silent int }
	counts := map[string]*count{}
	for _, name := range alertNames() {
		counts[name] = new(count)
	}
	for _, file := range testFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var u unitTests
		if err := yaml.Unmarshal(text, &u); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, tt := range u.Tests {
			if tt.Name == "" {
				t.Errorf("%s: a test has no name", file)
			}
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
			}
		}
	}
	for name, n := range counts {
		if n.all < 3 || n.firing == 0 || n.silent == 0 && name != "Watchdog" {
			t.Errorf("%s has %d cases: %d firing, %d silent", name, n.all, n.firing, n.silent)
		}
	}
}
