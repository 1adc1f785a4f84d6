package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEarlierPacks(t *testing.T) {
	const checks = `"checks":[{"name":"heartbeat","passed":true}]`
	for name, c := range map[string]struct{ text, says string }{
		"of a release that wrote no format": {`{` + checks + `}`, ""},
		"of this":                           {`{"format":1,` + checks + `}`, ""},
		"of a newer one":                    {`{"format":2,` + checks + `}`, "newer release"},
		"something else":                    {`{"a":1}`, "is no proof.json"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "proof.json")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			pack, err := readPack(path)
			switch {
			case c.says == "" && (err != nil || len(pack.Checks) != 1 || !pack.Checks[0].Passed):
				t.Errorf("%+v, %v", pack, err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v", err)
			}
		})
	}
}
