package prom

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"quantumharvest/internal/livetest"
)

const twoGroups = `groups:
- {name: one, rules: [{alert: Kept, expr: 'vector(1)', for: 1s}]}
- {name: two, rules: [{alert: LevelHigh, expr: 'max_over_time(desk_level[2s]) > %d', for: %s}, {alert: Beside, expr: 'vector(1)', for: 1s}]}
`

// reload puts other jobs and rules in force.
func (r *running) reload(jobs []Job, rules ...RuleFile) error {
	next, err := r.server.Prepare(r.t.Context(), jobs, rules)
	if err != nil {
		return err
	}
	return next.Apply()
}

// since is when an alert became active.
func (r *running) since(name string) (at string) {
	r.t.Helper()
	for _, a := range r.server.Alerts() {
		if a.Name == name {
			at = a.Since.String()
		}
	}
	if at == "" {
		r.t.Errorf("%s is not active", name)
	}
	return at
}

func TestReloadKeepsAlerts(t *testing.T) {
	t.Parallel()
	g, other := newTarget(t), newTarget(t)
	g.value.Store(7)
	rules := func(level int, wait string) RuleFile {
		return RuleFile{Name: "desk.yml", Content: fmt.Appendf(nil, twoGroups, level, wait)}
	}
	r := start(t, "", fmt.Sprintf(twoGroups, 5, "1h"), func(o *Options) { o.Jobs = jobs(g) })
	r.becomes("LevelHigh", v1.AlertStatePending)
	for _, name := range []string{"Kept", "Beside"} {
		r.becomes(name, v1.AlertStateFiring)
	}
	was := map[string]string{}
	for _, name := range []string{"Kept", "Beside", "LevelHigh"} {
		was[name] = r.since(name)
	}
	same := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if is := r.since(name); is != was[name] {
				t.Errorf("%s is active since %s, before %s", name, is, was[name])
			}
		}
	}
	if err := r.reload(jobs(g), rules(6, "1h")); err != nil {
		t.Fatal(err)
	}
	if text := r.get("/api/v1/rules"); !strings.Contains(text, "\\u003e 6") && !strings.Contains(text, "> 6") {
		t.Errorf("the new threshold is not shown: %s", text)
	}
	same("Kept", "Beside", "LevelHigh")

	t.Log("a shorter wait counts what was waited already, a threshold that is not reached ends it")
	if err := r.reload(jobs(g), rules(6, "2s")); err != nil {
		t.Fatal(err)
	}
	r.becomes("LevelHigh", v1.AlertStateFiring)
	same("Kept", "Beside", "LevelHigh")
	if err := r.reload(jobs(g), rules(8, "1s")); err != nil {
		t.Fatal(err)
	}
	r.becomes("LevelHigh", "")
	same("Kept", "Beside")

	t.Log("targets are added and removed")
	if err := r.reload([]Job{{Name: "desk", Targets: []string{other.URL}}, {Name: "more", Targets: []string{g.URL}}}, rules(8, "1s")); err != nil {
		t.Fatal(err)
	}
	livetest.Eventually(t, soon, func() error {
		all := r.server.Targets()
		if len(all) != 2 || all[0].URL != other.URL+"/metrics" || all[1].URL != g.URL+"/metrics" || !all[0].Up || !all[1].Up {
			return fmt.Errorf("targets: %+v", all)
		}
		return nil
	})
	r.value(fmt.Sprintf("up{job=%q}", "more"))
	if v := r.value(`prometheus_config_last_reload_successful or vector(1)`); v != 1 || !r.server.loaded.good.Load() {
		t.Error("it does not say that all is well")
	}

	t.Log("what is bad changes nothing")
	for _, bad := range []RuleFile{{Name: "bad.yml", Content: []byte("groups: [{name: x, rules: [{alert: A, expr: 'sum('}]}]")}, {Name: filepath.Join(t.TempDir(), "none.yml")}} {
		if err := r.reload(jobs(g), rules(1, "1s"), bad); err == nil || !strings.Contains(err.Error(), bad.Name) {
			t.Errorf("%s: %v", bad.Name, err)
		}
	}
	same("Kept", "Beside")
	if r.server.loaded.good.Load() || len(r.server.Targets()) != 2 || !strings.Contains(r.get("/api/v1/rules"), "8") {
		t.Error("something of the bad configuration is in force, or it is not said to be bad")
	}
	if err := r.server.Progress(); err != nil {
		t.Error(err)
	}
}
