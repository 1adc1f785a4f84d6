//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quantumharvest/internal/drill"
	"quantumharvest/internal/realserver"
)

// runDrill runs drills with the servers of .tools; the copies run this test binary as harvest.
func runDrill(t *testing.T, args ...string) (code int, results []drill.Result) {
	t.Helper()
	path := os.Getenv("PATH")
	for _, name := range []string{"redis-server", "prometheus", "prometheus-alertmanager"} {
		path = filepath.Dir(realserver.Tool(t, name)) + string(os.PathListSeparator) + path
	}
	t.Setenv("PATH", path)
	var out, errs bytes.Buffer
	code = run(context.Background(), append([]string{"drill", "--json", "--time-scale", "5"}, args...), process{stdout: &out, stderr: &errs, environ: os.Environ()})
	for line := range strings.Lines(out.String()) {
		var r drill.Result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		results = append(results, r)
		t.Logf("%d %s: %+v clear after %.1f s, told %v", r.Number, r.Fault, r.Sights, r.ClearSec, r.Told)
		for _, f := range r.Failures {
			t.Errorf("%d %s: %s", r.Number, r.Fault, f)
		}
	}
	if code != exitOK && len(results) == 0 {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	return code, results
}

// One plug, pulled with the real servers; make drill pulls all of them. What is set for a desk of the operator is not set for
// the copy.
func TestDrillOfOneFault(t *testing.T) {
	for name, value := range map[string]string{"KEY_PREFIX": "mine:", "SYMBOLS": "NOBODYUSDT", "HARVEST_POSITIONS": "demo"} {
		t.Setenv(name, value)
	}
	code, results := runDrill(t, "--only", "12")
	if code != exitOK || len(results) != 1 || len(results[0].Sights) != 1 || results[0].Sights[0].FiringSec == 0 {
		t.Errorf("exit %d: %+v", code, results)
	}
}
