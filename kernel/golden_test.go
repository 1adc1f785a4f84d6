package kernel_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/golden"
	"quantumharvest/internal/golden/vector"
	"quantumharvest/internal/golden/vectortest"
)

// vectorFiles are the files of testdata/vectors with the number of their cases that are strict.
var vectorFiles = []struct {
	kind   golden.Kind
	file   string
	strict int
}{
	{golden.MarketState, "market_state.json", 152},
	{golden.Stops, "risk_stops.json", 229},
	{golden.Harvest, "harvest_kernel.json", 463},
	{golden.Chain, "chain.json", 60},
	{golden.Gate, "publish_gate.json", 39},
}

// result is an answer line.
type result struct {
	ID     string
	Output json.RawMessage
	Error  *struct{ Field, Reason string }
}

func evalCase(t *testing.T, kind golden.Kind, c vector.Case) result {
	t.Helper()
	var r result
	line, refused := golden.Eval(kind, c.Raw)
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatalf("%s: answer %s: %v", c.ID, line, err)
	}
	if r.ID != c.ID || refused != (r.Error != nil) {
		t.Fatalf("%s: answer %s, refused %v", c.ID, line, refused)
	}
	return r
}

func loadVectors(t *testing.T, file string) vector.File {
	t.Helper()
	return vectortest.Load(t, filepath.Join("..", "testdata", "vectors", file))
}

func TestStrictVectors(t *testing.T) {
	for _, v := range vectorFiles {
		t.Run(string(v.kind), func(t *testing.T) {
			f := loadVectors(t, v.file)
			strict := 0
			for _, c := range f.Cases {
				if !c.Strict {
					continue
				}
				strict++
				r := evalCase(t, v.kind, c)
				if c.WantsError() {
					if r.Error == nil || r.Error.Field == "" {
						t.Errorf("%s %v: got %s, want a refusal that names a field", c.ID, c.Tags, r.Output)
					}
					continue
				}
				if r.Error != nil {
					t.Errorf("%s %v: refused: %+v", c.ID, c.Tags, *r.Error)
					continue
				}
				diffs, err := vector.Compare(c.Expected, r.Output, f.Tolerance)
				if err != nil {
					t.Fatalf("%s: %v", c.ID, err)
				}
				for _, d := range diffs {
					t.Errorf("%s %v: %s", c.ID, c.Tags, d)
				}
			}
			if strict != v.strict {
				t.Errorf("%d strict cases, want %d", strict, v.strict)
			}
		})
	}
}

// TestNonStrictVectors says for every input outside the domain which of the two right things happens: it is refused
// with the name of the field, or it gives the recorded answer.
func TestNonStrictVectors(t *testing.T) {
	const recorded = "gives the recorded answer"
	want := map[string]string{
		"ms-s-0098": "theta.trend.method",
		"ms-s-0154": "prices[200]",
		"ms-s-0155": "prices[200]",
		"ms-s-0156": "prices[299]",
		"rs-s-0230": "market_state.regime_probs.trend",
		"hk-s-0375": "market_state.ts",
		"hk-s-0376": "market_state.ts",
		"hk-s-0387": "market_state.p_trend",
		"hk-s-0405": "position.current_sl",
		"hk-s-0406": "position.current_sl",
		"hk-s-0422": "position.current_sl",
		"hk-s-0423": "position.current_sl",
		"pg-s-0022": recorded,
	}
	got := map[string]string{}
	for _, v := range vectorFiles {
		f := loadVectors(t, v.file)
		for _, c := range f.Cases {
			if c.Strict {
				continue
			}
			r := evalCase(t, v.kind, c)
			if r.Error != nil {
				got[c.ID] = r.Error.Field
				continue
			}
			diffs, err := vector.Compare(c.Expected, r.Output, f.Tolerance)
			if err != nil {
				t.Fatalf("%s: %v", c.ID, err)
			}
			got[c.ID] = recorded
			for _, d := range diffs {
				t.Errorf("%s %v: neither refused nor as recorded: %s", c.ID, c.Tags, d)
			}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("what happens to non-strict cases (-want +got):\n%s", d)
	}
}
