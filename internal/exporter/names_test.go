package exporter

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"quantumharvest/internal/store"
)

func TestLint(t *testing.T) {
	// Names of the earlier exporter are kept as they were, whatever the linter thinks of them.
	legacy := make(map[string]bool)
	for _, d := range Metrics {
		legacy[d.Name] = d.Legacy
	}
	problems, err := testutil.CollectAndLint(checked{goldenExporter(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if !legacy[p.Metric] {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestTableOfMetrics(t *testing.T) {
	families, err := goldenExporter(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	gathered := make(map[string]*dto.MetricFamily)
	for _, mf := range families {
		gathered[mf.GetName()] = mf
	}
	seen := make(map[string]bool)
	for _, d := range Metrics {
		if seen[d.Name] {
			t.Errorf("%s is in the table twice", d.Name)
		}
		seen[d.Name] = true
		mf := gathered[d.Name]
		if mf == nil {
			t.Errorf("%s is in the table and not on the page", d.Name)
			continue
		}
		delete(gathered, d.Name)
		want := d.Labels
		if d.Type != Gauge || d.Name == descBuildInfo.Name {
			want = slices.Sorted(slices.Values(d.Labels)) // made by the client library
		}
		for _, m := range mf.Metric {
			var got []string
			for _, l := range m.Label {
				got = append(got, l.GetName())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: labels (-want +got):\n%s", d.Name, diff)
				break
			}
		}
	}
	for name := range gathered {
		if strings.HasPrefix(name, "quantum_") {
			t.Errorf("%s is on the page and not in the table", name)
		}
	}
	if !slices.IsSortedFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) }) {
		t.Error("families are not sorted by name")
	}
	known := make(map[string]bool)
	for _, name := range store.FieldNames() {
		known[name] = true
	}
	for _, c := range columns {
		if !known[c.field] {
			t.Errorf("%s reads the field %q, which the store does not have", c.Name, c.field)
		}
	}
	if len(known) > 64 {
		t.Errorf("%d fields do not fit into one set of bits", len(known))
	}
}
