//go:build unix

package realserver

import (
	"testing"

	"quantumharvest/internal/freeport"
)

// FreePort is a loopback port that nobody listens on at the moment.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
