package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The roles that only look at the store need its address and nothing of the engine.
func TestLookingRoles(t *testing.T) {
	for _, role := range []Role{Top, Watch} {
		c := mustLoad(t, role, []string{"--symbols", "BTCUSDT"}, "REDIS_URL=redis://h:7/2", "KEY_PREFIX=mine:", "HARVEST_FEED=synthetic", "METRICS_PORT=x")
		if c.Redis.String() != "redis://h:7/2" || c.Embedded || c.Keys.Harvest != "mine:harvest:proposal:" || len(c.Symbols) != 1 {
			t.Errorf("%s: %+v", role, c)
		}
		if c.Feed.Kind != "" || c.Positions.Kind != "" || c.Keys.MarketState != "" {
			t.Errorf("%s: has settings that it does not read: %+v", role, c)
		}
	}
}

func TestWatchSettings(t *testing.T) {
	c := mustLoad(t, Watch, []string{"--exec", `notify "$HARVEST_SYMBOL"; true`, "--on", "Action, stale,,action", "--initial"}, "HARVEST_WATCH_TIMEOUT_SEC=2.5")
	if c.WatchExec != `notify "$HARVEST_SYMBOL"; true` || !c.WatchInitial || c.WatchTimeout != 2500*time.Millisecond || c.WatchParallel != 4 {
		t.Errorf("got %+v", c)
	}
	if diff := cmp.Diff([]string{"action", "stale"}, c.WatchOn); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--on", "explosion"}, "write one or more of action, state"},
		{[]string{"--on", ","}, "names no event"},
		{[]string{"--exec", "a\x00b"}, "zero byte"},
		{[]string{"--exec", "true", "--json"}, "leave one of them out"},
		{[]string{"--exec-parallel", "0"}, "from 1 to 64"},
	} {
		if _, _, err := load(t, Watch, c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}
