package reference

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestUpdate(t *testing.T) {
	for _, s := range sections {
		begin, end := "<!-- "+s.name+":begin -->", "<!-- "+s.name+":end -->"
		got, err := Update("# a\n" + begin + "\nwritten earlier\n" + end + "\nb\n")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(got, "# a\n"+begin+"\n") || !strings.HasSuffix(got, end+"\nb\n") || strings.Contains(got, "written earlier") {
			t.Errorf("got %s", got)
		}
		if again, err := Update(got); err != nil || again != got {
			t.Errorf("a second time changes it: %v", err)
		}
		for _, bad := range []string{"", begin, end + begin, begin + end + begin} {
			if _, err := Update(bad); err == nil {
				t.Errorf("%q: accepted", bad)
			}
		}
	}
}

// Nothing of ours is without a type, a meaning or a place where it is seen.
func TestMetricsAreWhole(t *testing.T) {
	text, err := metrics()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"quantum_harvest_kill_score", "quantum_harvest_publish_total", "quantum_harvest_cycle_seconds", "quantum_harvest_feed_used_weight", "quantum_harvest_monitor_damaged_total", "quantum_harvest_scrapes_total"} {
		if !strings.Contains(text, "| `"+name+"`") {
			t.Errorf("%s is missing", name)
		}
	}
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); strings.HasPrefix(line, "| `") && (strings.TrimSpace(cells[2]) == "" || strings.TrimSpace(cells[5]) == "") {
			t.Errorf("without a type or a meaning: %s", line)
		}
	}
	if !strings.Contains(text, "[HeartbeatLost](runbooks/QuantumHarvestHeartbeatLost.md)") {
		t.Error("the alerts that rest on a metric are missing")
	}
}

// A metric that is there only when something is switched on is on no page of most desks: the code is asked for the names that it
// gives to metrics, and each must be in the reference, with what it takes.
func TestEveryMetricOfTheCodeIsInTheReference(t *testing.T) {
	text, err := metrics()
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^quantum_harvest_[a-z0-9_]*[a-z0-9]$`)
	seen := 0
	err = filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			field, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			key, ok := field.Key.(*ast.Ident)
			value, literal := field.Value.(*ast.BasicLit)
			if !ok || !literal || key.Name != "Name" || value.Kind != token.STRING {
				return true
			}
			if metric, err := strconv.Unquote(value.Value); err == nil && name.MatchString(metric) {
				seen++
				if !strings.Contains(text, "\n| `"+metric+"`") {
					t.Errorf("%s: %s is not in docs/METRICS.md: add it to app.MetricDocs and run 'make generate'", path, metric)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 10 {
		t.Errorf("only %d names were found: metrics are made in another way", seen)
	}
	for metric, when := range map[string]string{"flight_records_total": "DEBUG_DIR", "trace_spans_total": "OTEL_EXPORTER_OTLP_ENDPOINT", "feed_connections": "HARVEST_FEED"} {
		if !regexp.MustCompile("(?m)^\\| `quantum_harvest_" + metric + "`.* Only .*`" + when + "`").MatchString(text) {
			t.Errorf("%s: it is not said that it takes %s", metric, when)
		}
	}
}
