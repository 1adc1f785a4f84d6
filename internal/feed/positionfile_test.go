package feed

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"quantumharvest/internal/position"
)

type positionFileRig struct {
	t        *testing.T
	path     string
	source   *PositionFile
	now      time.Time
	snap     *Snapshot
	refusals []string
	outages  []Outage
}

func newPositionFileRig(t *testing.T) *positionFileRig {
	t.Helper()
	g := &positionFileRig{t: t, path: filepath.Join(t.TempDir(), "p.json"), now: recordNow}
	var err error
	g.source, err = NewPositionFile(PositionFileOptions{Path: g.path, Now: func() time.Time { return g.now }})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *positionFileRig) poll(content string) {
	g.t.Helper()
	if err := os.WriteFile(g.path, []byte(content), 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.again()
}

func (g *positionFileRig) again() {
	g.now = g.now.Add(time.Second)
	g.snap, g.refusals, g.outages = nil, nil, nil
	g.source.poll(func(ev Event) {
		switch ev := ev.(type) {
		case Snapshot:
			g.snap = &ev
		case Refusal:
			g.refusals = append(g.refusals, strings.TrimSpace(string(ev.Symbol)+" "+strings.TrimPrefix(ev.Key, g.path)+" "+ev.Field+" "+string(ev.Reason)))
		case Outage:
			g.outages = append(g.outages, ev)
		}
	})
}

func TestPositionFile(t *testing.T) {
	btc := position.Record{Symbol: "BTCUSDT", Side: position.Long, Entry: 100}
	eth := position.Record{Symbol: "ETHUSDT", Side: position.Short, Entry: 50, Age: time.Minute, HasAge: true}
	for _, tc := range []struct {
		name, content string
		records       []position.Record
		refused       []position.Symbol
		incomplete    bool
		refusals      []string
	}{
		{name: "empty list", content: `[]`},
		{name: "empty object", content: "\n{ }\n"},
		{name: "list", content: `[{"symbol":"BTCUSDT","side":"LONG","entry_price":100},
			{"symbol":"ETHUSDT","side":"SHORT","entry_price":"50","age_sec":60}]`, records: []position.Record{btc, eth}},
		{
			name: "object", content: `{"BTCUSDT":{"side":"LONG","entry_price":100},"ETHUSDT":{"symbol":"ETHUSDT","side":"SHORT","entry_price":50,"age_sec":60}}`,
			records: []position.Record{btc, eth},
		},
		{
			name: "one is wrong", content: "[\n{\"symbol\":\"BTCUSDT\",\"side\":\"LONG\",\"entry_price\":100},\n{\"symbol\":\"ETHUSDT\",\"side\":\"short\",\"entry_price\":50}]",
			records: []position.Record{btc}, refused: []position.Symbol{"ETHUSDT"}, refusals: []string{"ETHUSDT :3 side unknown_side"},
		},
		{
			name: "one has no name", content: "[{\"symbol\":\"BTCUSDT\",\"side\":\"LONG\",\"entry_price\":100},7,{}]",
			records: []position.Record{btc}, incomplete: true, refusals: []string{":1  unreadable_value", ":1#2 side missing_field", ":1#2 entry_price missing_field", ":1#2 symbol missing_field"},
		},
		{
			name: "one has another name", content: `{"BTCUSDT":{"symbol":"ETHUSDT","side":"LONG","entry_price":100}}`,
			refused: []position.Symbol{"BTCUSDT"}, refusals: []string{"BTCUSDT :1 symbol bad_symbol"},
		},
		{name: "bad key", content: `{"btc":{"side":"LONG","entry_price":100}}`, refusals: []string{":1 key bad_symbol"}},
		{
			name: "twice", content: `{"BTCUSDT":{"side":"LONG","entry_price":100},"BTCUSDT":{"side":"SHORT","entry_price":100}}`,
			records: []position.Record{btc}, refusals: []string{"BTCUSDT :1 symbol duplicate"},
		},
		{name: "flat", content: `{"BTCUSDT":{"quantity":0}}`, records: []position.Record{{Symbol: "BTCUSDT", HasQuantity: true}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newPositionFileRig(t)
			g.poll(tc.content)
			if g.snap == nil {
				t.Fatalf("no snapshot; outages %v", g.outages)
			}
			want := position.Snapshot{
				Source: "file", At: g.now, Complete: !tc.incomplete, Alive: true, Strategy: true, Records: tc.records, Refused: tc.refused,
			}
			if diff := cmp.Diff(want, g.snap.Snapshot, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("snapshot (-want +got):\n%s", diff)
			}
			less := func(a, b string) bool { return a < b }
			if diff := cmp.Diff(tc.refusals, g.refusals, cmpopts.SortSlices(less), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
			g.again()
			if g.snap == nil || !g.snap.At.Equal(g.now) || len(g.refusals) != 0 {
				t.Errorf("read again: %+v, %v", g.snap, g.refusals)
			}
		})
	}
}

func TestPositionFileOutage(t *testing.T) {
	g := newPositionFileRig(t)
	g.again()
	if g.snap != nil || len(g.outages) != 1 || !errors.Is(g.outages[0].Err, fs.ErrNotExist) || len(g.refusals) != 0 {
		t.Fatalf("missing file: %+v %v %v", g.snap, g.outages, g.refusals)
	}
	for range 9 {
		g.again()
		if len(g.outages) != 0 {
			t.Fatal("an outage is reported with every poll")
		}
	}
	g.again()
	if len(g.outages) != 1 {
		t.Error("an outage that lasts is not reported again")
	}
	good := `{"BTCUSDT":{"side":"LONG","entry_price":100}}`
	g.poll(good)
	if g.snap == nil {
		t.Fatal("no snapshot")
	}
	for content, place := range map[string]string{
		"":                               "line 1, byte 0",
		"{\n\"BTCUSDT\":{\n\"side\" 1}}": "line 3",
		"[\n{\"symbol\":\"A\"},\n":       "line 3",
		"\"positions\"":                  "line 1",
		"[] []":                          "line 1",
		"[{\"entry_price\":NaN}]":        "line 1",
		strings.Repeat(" ", positionFileBytes) + "[]": "larger than",
	} {
		g.source.away = outage{}
		g.poll(content)
		if g.snap != nil || len(g.outages) != 1 || !strings.Contains(g.outages[0].Err.Error(), place) {
			t.Errorf("%.30q: snapshot %+v, outages %v; want one at %s", content, g.snap, g.outages, place)
		}
		if len(g.refusals) != 1 {
			t.Errorf("%.30q: refusals %v", content, g.refusals)
		}
		g.poll(good)
		if g.snap == nil || len(g.snap.Records) != 1 {
			t.Errorf("after %.30q: %+v", content, g.snap)
		}
	}
	for want, path := range map[string]string{"folder": t.TempDir(), "no regular file": pipe(t)} {
		g.source.opts.Path, g.source.away = path, outage{}
		g.again()
		if g.snap != nil || len(g.outages) != 1 || !strings.Contains(g.outages[0].Err.Error(), want) {
			t.Errorf("%s: snapshot %+v, outages %v", want, g.snap, g.outages)
		}
	}
	if _, err := NewPositionFile(PositionFileOptions{}); err == nil {
		t.Error("no path: no error")
	}
}

func TestPositionFileRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		source, err := NewPositionFile(PositionFileOptions{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		snaps := 0
		done := make(chan error, 1)
		go func() { done <- source.Run(ctx, func(Event) { snaps++ }) }()
		time.Sleep(9*time.Second + 500*time.Millisecond)
		cancel()
		if err := <-done; err != nil || snaps != 10 || source.Name() != "file" {
			t.Errorf("%d snapshots in ten seconds, %v", snaps, err)
		}
	})
}
