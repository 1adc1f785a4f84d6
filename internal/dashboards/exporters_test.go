package dashboards_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"quantumharvest/internal/realserver"
)

// Two exporters that read the same Redis show everything twice; a panel that counts symbols shows each of them once.
func TestTwoExportersDoubleNothing(t *testing.T) {
	t.Parallel()
	promtool := realserver.Tool(t, "promtool")
	want := map[string]string{
		"proposals": `[{labels: '{}', value: 2}]`,
		"New stop":  `[{labels: '{symbol="A"}', value: 1}, {labels: '{symbol="B"}', value: 0}]`,
	}
	var series, asks strings.Builder
	for _, exporter := range []string{"one:8042", "two:8042"} {
		for _, name := range []string{
			`quantum_harvest_proposal_present{symbol="A"`, `quantum_harvest_proposal_present{symbol="B"`, `quantum_harvest_new_sl{symbol="A"`,
			`quantum_harvest_kill_score{symbol="A"`, `quantum_harvest_kill_score{symbol="B"`,
		} {
			fmt.Fprintf(&series, "      - {series: '%s, job=\"quantum-harvest-exporter\", instance=\"%s\"}', values: '1x5'}\n", name, exporter)
		}
	}
	for _, text := range made(t) {
		var d struct {
			Panels []struct {
				Targets []struct{ Expr, LegendFormat string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				samples := want[q.LegendFormat]
				if samples == "" || strings.HasPrefix(q.Expr, "max by") {
					continue
				}
				expr := strings.ReplaceAll(strings.Join(strings.Fields(strings.ReplaceAll(q.Expr, "$symbol", ".+")), " "), "'", "''")
				fmt.Fprintf(&asks, "      - {expr: '%s', eval_time: 20s, exp_samples: %s}\n", expr, samples)
				delete(want, q.LegendFormat)
			}
		}
	}
	if len(want) > 0 {
		t.Fatalf("no panel asks for %v", want)
	}
	file := filepath.Join(t.TempDir(), "test.yml")
	text := "evaluation_interval: 10s\ntests:\n  - interval: 10s\n    input_series:\n" + series.String() + "    promql_expr_test:\n" + asks.String()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
}
