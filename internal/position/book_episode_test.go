package position

import (
	"testing"
	"time"
)

func TestNextEpisode(t *testing.T) {
	for _, tc := range []struct{ ended, id, want string }{
		{"", "BTCUSDT-L-123", "BTCUSDT-L-123"},
		{"BTCUSDT-L-123", "BTCUSDT-L-123", "BTCUSDT-L-123.2"},
		{"BTCUSDT-L-123.2", "BTCUSDT-L-123", "BTCUSDT-L-123.3"},
		{"BTCUSDT-L-1234", "BTCUSDT-L-123", "BTCUSDT-L-123"},
		{"BTCUSDT-S-123", "BTCUSDT-L-123", "BTCUSDT-L-123"},
		{"BRK.B-L-123.9", "BRK.B-L-123", "BRK.B-L-123.10"},
	} {
		if got := nextEpisode(tc.ended, tc.id); got != tc.want {
			t.Errorf("after %q: %q, want %q", tc.ended, got, tc.want)
		}
	}
}

func TestARecordThatComesBackUnchangedAfterFlatIsAnotherEpisode(t *testing.T) {
	b := NewBook()
	at := time.Unix(1_800_000_000, 0)
	rec := Record{Symbol: "BTCUSDT", Side: Long, Entry: 100, OpenedAt: at.Add(-time.Hour)}
	observe := func(r Record) {
		at = at.Add(time.Second)
		b.Observe(Snapshot{Source: "redis_hash", At: at, Complete: true, Records: []Record{r}}, at)
	}
	seen := map[string]bool{}
	for range 3 {
		observe(rec)
		p, ok := b.Get("BTCUSDT")
		if !ok || seen[p.Episode] {
			t.Fatalf("open %v, episode %q was used before", ok, p.Episode)
		}
		seen[p.Episode] = true
		observe(Record{Symbol: "BTCUSDT", HasQuantity: true})
	}
}
