package app_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/config"
	"quantumharvest/internal/watch"
)

// The settings name exactly the events that there are.
func TestWatchEvents(t *testing.T) {
	var kinds []string
	for _, kind := range watch.Kinds {
		kinds = append(kinds, string(kind))
	}
	if diff := cmp.Diff(kinds, config.WatchEvents()); diff != "" {
		t.Error(diff)
	}
}
