package deploy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"quantumharvest/internal/rules"
)

func TestAddItem(t *testing.T) {
	for _, x := range []struct {
		name, src, want string
		path            []string
		item            any
	}{
		{"a list", "# mine\na: 1\nrule_files:\n  - x.yml # keep\nb: 2\n", "# mine\na: 1\nrule_files:\n  - n.yml\n  - x.yml # keep\nb: 2\n", []string{"rule_files"}, "n.yml"},
		{"a list that is not indented", "rule_files:\n- x.yml\n", "rule_files:\n- n.yml\n- x.yml\n", []string{"rule_files"}, "n.yml"},
		{"a list in brackets", "rule_files: [x.yml] # keep\n", "rule_files: [\"n.yml\", x.yml] # keep\n", []string{"rule_files"}, "n.yml"},
		{"an empty list", "rule_files: []\n", "rule_files: [\"n.yml\"]\n", []string{"rule_files"}, "n.yml"},
		{"nothing", "rule_files:\nb: 2\n", "rule_files:\n  - n.yml\nb: 2\n", []string{"rule_files"}, "n.yml"},
		{"no key, no newline at the end", "# mine\nb: 2", "# mine\nrule_files:\n  - n.yml\nb: 2\n", []string{"rule_files"}, "n.yml"},
		{"deeper", "route:\n  receiver: r\n  group_wait: 1s\n", "route:\n  routes:\n    - receiver: people\n  receiver: r\n  group_wait: 1s\n", []string{"route", "routes"}, map[string]any{"receiver": "people"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			got, err := addItem([]byte(x.src), x.path, x.item)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(x.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, bad := range []string{"", "- a\n", "rule_files: 3\n", "a: [\n", "rule_files: {a: b}\n"} {
		if got, err := addItem([]byte(bad), []string{"rule_files"}, "n"); err == nil {
			t.Errorf("%q: accepted as %q", bad, got)
		}
	}
}

func TestAddToAlertmanager(t *testing.T) {
	src := "route:\n  receiver: people\nreceivers:\n  - name: people\n"
	got, _, err := addToAlertmanager([]byte(src), rules.RenderInhibitions())
	if err != nil {
		t.Fatal(err)
	}
	var is struct {
		Route struct {
			Routes []struct{ Receiver string }
		}
		Inhibit []any `yaml:"inhibit_rules"`
	}
	if err := yaml.Unmarshal(got, &is); err != nil {
		t.Fatal(err)
	}
	if len(is.Route.Routes) != 1 || len(is.Inhibit) == 0 || strings.Count(string(got), "name: "+nobody) != 1 {
		t.Errorf("got\n%s", got)
	}
	again, _, err := addToAlertmanager(got, rules.RenderInhibitions())
	if err != nil || string(again) != string(got) {
		t.Errorf("a second time changes it: %v", err)
	}
}
