package store

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

// recorded is what a release left in a real Redis. The files stay as they were written: a release adds its own.
type recorded struct {
	From          string                       `json:"recorded_from"`
	SchemaVersion int                          `json:"schema_version"`
	Hashes        map[string]map[string]string `json:"hashes"`
	Expected      []string                     `json:"expected"`
	Stream        []map[string]string          `json:"stream"`
}

func TestWhatEarlierReleasesLeftIsRead(t *testing.T) {
	text, err := os.ReadFile("testdata/schema-1.json")
	if err != nil {
		t.Fatal(err)
	}
	var rec recorded
	if err := json.Unmarshal(text, &rec); err != nil {
		t.Fatal(err)
	}
	want := Proposal{
		Symbol: "BTCUSDT", Action: kernel.ActionFullClose, Side: position.Long, SchemaVersion: 1, Revision: 1, Episode: "BTCUSDT-L-1769129938",
		InputState: InputFresh, MarketSource: "redis", PositionSource: "redis_hash", Publisher: "desk-1", Fence: 1796022223008050,
		OpenedAt: time.Unix(1769129938, 0).UTC(), LastUpdate: time.Unix(1796022237, 0).UTC(), ValidUntil: time.Unix(1796022242, 0).UTC(), Peak: 100.5, Trough: 99,
	}
	hash := rec.Hashes["quantum:harvest:proposal:BTCUSDT"]
	var v values
	v.take(listed(hash))
	got := Proposal{Symbol: "BTCUSDT"}
	if problems := v.decode(&got); len(problems) > 0 || v.strangers() != nil {
		t.Errorf("problems %v, unknown %v", problems, v.strangers())
	}
	memory := Proposal{
		Symbol: got.Symbol, Action: got.Action, Side: got.Side, SchemaVersion: got.SchemaVersion, Revision: got.Revision, Episode: got.Episode,
		InputState: got.InputState, MarketSource: got.MarketSource, PositionSource: got.PositionSource, Publisher: got.Publisher, Fence: got.Fence,
		OpenedAt: got.OpenedAt, LastUpdate: got.LastUpdate, ValidUntil: got.ValidUntil, Peak: got.Peak, Trough: got.Trough,
	}
	if d := cmp.Diff(want, memory); d != "" {
		t.Errorf("what must survive an upgrade (-want +got):\n%s", d)
	}
	if got.PublisherVersion != "" {
		t.Errorf("a release is made up: %q", got.PublisherVersion)
	}

	lease := decodeLease(rec.Hashes["quantum:harvest:lease"], time.UnixMilli(1796022238000))
	if lease.Layout != NewLayout(1, nil) || len(lease.Shards) != 1 || lease.Shards[0].Fence != 1796022223008050 || !lease.Shards[0].Live(lease.Now) || len(lease.Members) != 1 {
		t.Errorf("lease %+v", lease)
	}
	if e := parseEnded(rec.Hashes["quantum:harvest:closed"]["SOLUSDT"]); e != (Ended{Episode: "SOLUSDT-L-1769129938", Revision: 1}) {
		t.Errorf("closed %+v", e)
	}
	if symbols, invalid := parseSymbols(rec.Expected); invalid > 0 || len(symbols) != 2 {
		t.Errorf("expected %v, %d invalid", symbols, invalid)
	}
	for _, entry := range rec.Stream {
		if entry["symbol"] == "" || entry["episode"] == "" {
			t.Errorf("stream entry %v", entry)
		}
	}
	if len(rec.Stream) != 2 || rec.Stream[1]["event"] != "closed" {
		t.Errorf("a publish and a close were recorded, read %v", rec.Stream)
	}
}

// The wire is only added to: what an earlier release wrote has today every field that it had, under the same name.
func TestNoFieldOfAnEarlierReleaseWent(t *testing.T) {
	text, err := os.ReadFile("testdata/schema-1.json")
	if err != nil {
		t.Fatal(err)
	}
	var rec recorded
	if err := json.Unmarshal(text, &rec); err != nil {
		t.Fatal(err)
	}
	if rec.SchemaVersion < SchemaVersion-1 {
		t.Skipf("schema %d is more than one step behind: its fields may go", rec.SchemaVersion)
	}
	for _, f := range fields {
		_, had := rec.Hashes["quantum:harvest:proposal:BTCUSDT"][f.name]
		if had == f.later {
			t.Errorf("%s was in the hash: %v; it is marked as one that came later: %v", f.name, had, f.later)
		}
		delete(rec.Hashes["quantum:harvest:proposal:BTCUSDT"], f.name)
	}
	for name := range rec.Hashes["quantum:harvest:proposal:BTCUSDT"] {
		t.Errorf("%s is not written any more: readers of the release before miss it", name)
	}
}
