// Package vectortest reads vector files for tests.
package vectortest

import (
	"os"
	"testing"

	"quantumharvest/internal/golden/vector"
)

// Load reads one vector file; one that is not whole fails the test.
func Load(t testing.TB, path string) vector.File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := vector.Parse(path, b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
