package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"quantumharvest/internal/engine"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// A publisher that is older than the one before it takes over: the position goes on as the same one, revision and fence too,
// and what it leaves out is said.
func TestTakingOverFromANewerRelease(t *testing.T) {
	var log strings.Builder
	loud := func(o *engine.Options) { o.Log, o.Version = slog.New(slog.NewTextHandler(&log, nil)), "v1.4.0" }
	for _, c := range []struct {
		name         string
		schema       int
		says         []string
		keepsExtreme bool
	}{
		{"one step ahead", store.MaxSchema, []string{"level=WARN", "new_tp_proposed", "first=BTCUSDT", "proposals=1"}, true},
		{"two steps ahead", store.MaxSchema + 1, []string{"level=ERROR", fmt.Sprintf("schema_version=%d", store.MaxSchema+1), "docs/UPGRADE.md"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			log.Reset()
			d := newDesk(t)
			d.market(btc, 100)
			d.seconds(3, true, d.long(btc, 99, 100))
			d.client.HSet(context.Background(), btcKey, "new_tp_proposed", "123", "schema_version", c.schema, "position_peak_price", "111")
			before := d.hash(btc)
			d.restart(loud)
			d.market(btc, 100)
			d.seconds(3, true, d.long(btc, 99, 100))
			after := d.whole(btc)
			if fmt.Sprint(after.Episode) != before["episode"] {
				t.Errorf("episode %s became %s", before["episode"], after.Episode)
			}
			if fmt.Sprint(after.Revision) <= before["revision"] || fmt.Sprint(after.Fence) <= before["fence"] {
				t.Errorf("revision %s became %d, fence %s became %d", before["revision"], after.Revision, before["fence"], after.Fence)
			}
			if kept := after.Peak == 111; kept != c.keepsExtreme {
				t.Errorf("highest price %v", after.Peak)
			}
			if h := d.hash(btc); h["new_tp_proposed"] != "" || h["schema_version"] != fmt.Sprint(store.SchemaVersion) || h["publisher_version"] != "v1.4.0" {
				t.Errorf("the hash is of two releases: %v", h)
			}
			for _, want := range c.says {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log lacks %q:\n%s", want, log.String())
				}
			}
		})
	}
}

// What a newer release left of a position that is gone is cleared away like anything else, with evidence.
func TestAnOrphanOfANewerReleaseIsClearedAway(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	d.market(eth, 50)
	d.seconds(3, true, d.long(btc, 99, 100), d.long(eth, 49, 50))
	d.client.HSet(context.Background(), btcKey, "schema_version", store.MaxSchema+1)
	d.restart()
	d.market(eth, 50)
	d.seconds(5, true, []position.Record{d.long(eth, 49, 50)}...)
	if h := d.hash(btc); len(h) != 0 {
		t.Errorf("it stands: %v", h)
	}
}

// A release that did not know of publisher_version yet: nothing is missing of its proposal.
func TestTakingOverFromAnEarlierRelease(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 100)
	d.seconds(3, true, d.long(btc, 99, 100))
	d.client.HDel(context.Background(), btcKey, "publisher_version")
	d.client.HSet(context.Background(), btcKey, "position_peak_price", "111")
	before := d.whole(btc)
	d.restart(func(o *engine.Options) { o.Version = "v1.4.0" })
	d.market(btc, 100)
	d.seconds(3, true, d.long(btc, 99, 100))
	after := d.whole(btc)
	if after.Episode != before.Episode || after.Peak != 111 || after.Revision <= before.Revision || after.PublisherVersion != "v1.4.0" {
		t.Errorf("%+v became %+v", before, after)
	}
}
