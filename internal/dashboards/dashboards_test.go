package dashboards_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"quantumharvest/internal/dashboards"
)

const dir = "../../deploy/dashboards"

func made(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := dashboards.Files("docs/runbooks")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTheFilesAreThoseOfTheTable(t *testing.T) {
	files := made(t)
	for name, text := range files {
		is, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(is, text) {
			t.Errorf("%s is not what the table makes: run 'make generate'", name)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()] == nil {
			t.Errorf("%s is no dashboard of the table", e.Name())
		}
	}
}

// Names that operators and the wire contract know, and what every panel needs to be read.
func TestDashboards(t *testing.T) {
	type panel struct {
		Title, Description string
		GridPos            struct{ X, Y, W, H int }
		Datasource         struct{ UID string }
		Targets            []struct{ Expr, RefID string }
	}
	found := map[string][]string{}
	for name, text := range made(t) {
		var d struct {
			UID, Title  string
			Panels      []panel
			Templating  struct{ List []struct{ Name, Type string } }
			Annotations struct{ List []struct{ Name, Expr string } }
			Links       []struct{ Title, URL string }
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, p := range d.Panels {
			found[d.Title] = append(found[d.Title], p.Title)
			if p.Description == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
				t.Errorf("%s, %s: description %q, data source %q, %d queries", name, p.Title, p.Description, p.Datasource.UID, len(p.Targets))
			}
			if p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s, %s: lies at %+v", name, p.Title, p.GridPos)
			}
		}
		for i, p := range d.Panels {
			for _, q := range d.Panels[:i] {
				a, b := p.GridPos, q.GridPos
				if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Errorf("%s: %s lies on %s", name, p.Title, q.Title)
				}
			}
		}
		if v := d.Templating.List; len(v) != 2 || v[0].Type != "datasource" || v[1].Name != "symbol" {
			t.Errorf("%s: variables %v", name, v)
		}
		if len(d.Annotations.List) != 1 || len(d.Links) == 0 || d.Links[0].URL != "docs/runbooks" {
			t.Errorf("%s: annotations %v, links %v", name, d.Annotations.List, d.Links)
		}
	}
	for title, want := range map[string][]string{
		"Quantum — Harvest Control (P2.7)": {"Actions", "Kill score", "R", "New stop", "Kill score components", "Harvest Metrics Freshness"},
		"Harvest Metrics Freshness":        {"Heartbeat age", "Content age", "Input age", "Alerts", "Publishes", "Refusals", "Lease owner", "Cycle time"},
	} {
		for _, w := range want {
			if !slices.Contains(found[title], w) {
				t.Errorf("%s has no panel %s", title, w)
			}
		}
	}
}
