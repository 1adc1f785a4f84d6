package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"quantumharvest/internal/config"
	"quantumharvest/internal/rules"
)

// The servers that are told to read their configuration anew.
const (
	serverPrometheus   = "prometheus"
	serverAlertmanager = "alertmanager"
)

// nobody is the receiver of alerts that only keep others quiet.
const nobody = "quantum-harvest-nobody"

// seenWithin is how long a server may take until it shows what was loaded.
const seenWithin = time.Minute

func (r *run) existing(given string, places ...string) string {
	if given != "" {
		return given
	}
	for _, p := range places {
		if info, err := os.Stat(r.at(p)); err == nil && info.Mode().IsRegular() {
			return r.at(p)
		}
	}
	return ""
}

func (r *run) prometheusConfig() string {
	return r.existing(r.d.PrometheusConfig, "etc/prometheus/prometheus.yml")
}

func (r *run) alertmanagerConfig() string {
	return r.existing(r.d.AlertmanagerConfig, "etc/prometheus/alertmanager.yml", "etc/alertmanager/alertmanager.yml")
}

func (r *run) dashboardsDir() string {
	if r.d.DashboardsDir != "" {
		return r.d.DashboardsDir
	}
	if info, err := os.Stat(r.at("var/lib/grafana/dashboards")); err == nil && info.IsDir() {
		return r.at("var/lib/grafana/dashboards")
	}
	return ""
}

func (r *run) rulesFile() string {
	if r.d.RulesDir != "" {
		return filepath.Join(r.d.RulesDir, rules.FileName)
	}
	return filepath.Join(filepath.Dir(r.prometheusConfig()), "rules", rules.FileName)
}

func (r *run) address(server string) string {
	m, u := r.o.Config.Monitor, "http://127.0.0.1:9091"
	if server == serverAlertmanager {
		u = "http://127.0.0.1:9093"
		if m.AlertmanagerURL != nil {
			u = m.AlertmanagerURL.String()
		}
	} else if m.PrometheusURL != nil {
		u = m.PrometheusURL.String()
	}
	return strings.TrimSuffix(u, "/")
}

func (r *run) planMonitoring(context.Context) ([]string, error) {
	var lines []string
	if p := r.prometheusConfig(); p != "" {
		lines = append(lines, "would write "+r.rulesFile()+" and add what is missing of rule_files and scrape_configs to "+p+", check both with promtool, and have "+r.address(serverPrometheus)+" read them")
		aside, notes, err := r.earlierRules()
		if err != nil {
			return lines, err
		}
		for _, f := range aside {
			lines = append(lines, "would set aside "+f+": every alert of it is in ours")
		}
		lines = append(lines, notes...)
	} else {
		lines = append(lines, "no Prometheus is configured below "+r.d.Root+": "+UnitMonitor+" brings one, from the switch-over on")
	}
	if p := r.alertmanagerConfig(); p != "" {
		lines = append(lines, "would add our inhibitions and routes to "+p+", check it with amtool, and have "+r.address(serverAlertmanager)+" read it")
	}
	if d := r.dashboardsDir(); d != "" {
		lines = append(lines, "would write two dashboards into "+d)
	}
	return lines, nil
}

// monitoring puts what is watched into an existing Prometheus and Alertmanager. Beside the earlier publisher only the rules
// that it can keep are loaded; all of ours, and the job of our publisher, follow at the switch-over.
func (r *run) monitoring(ctx context.Context) (facts []string, err error) {
	if d := r.dashboardsDir(); d != "" {
		files, err := r.o.Desk.Dashboards()
		if err != nil {
			return facts, err
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if _, err := r.put(filepath.Join(d, name), files[name], 0o644); err != nil {
				return facts, err
			}
			facts = append(facts, filepath.Join(d, name)+" is there")
		}
	}
	if r.prometheusConfig() != "" {
		more, err := r.intoPrometheus(ctx, true)
		facts = append(facts, more...)
		if err != nil {
			return facts, err
		}
	} else {
		facts = append(facts, "no Prometheus is here: "+UnitMonitor+" brings one, from the switch-over on")
	}
	if r.alertmanagerConfig() != "" {
		more, err := r.intoAlertmanager(ctx)
		facts = append(facts, more...)
		if err != nil {
			return facts, err
		}
	}
	return facts, nil
}

// watchOurs loads all of our rules, or starts our own monitor, now that ours is what is watched.
func (r *run) watchOurs(ctx context.Context) ([]string, error) {
	if r.prometheusConfig() != "" {
		if err := r.await(ctx, seenWithin, func() error {
			v, err := r.query(ctx, "min(changes(quantum_harvest_last_update_epoch[1m]) > 0) and min(quantum_harvest_up) == 1")
			if err == nil && v == "" {
				err = errors.New("the Prometheus does not see yet that our heartbeats move")
			}
			return err
		}); err != nil {
			return nil, err
		}
		return r.intoPrometheus(ctx, false)
	}
	if err := r.exchange(ctx, UnitMonitor); err != nil {
		return nil, err
	}
	c, _, err := r.settings(config.Monitor)
	if err != nil {
		return nil, err
	}
	ready := fmt.Sprintf("http://127.0.0.1:%d/-/ready", c.Monitor.Port)
	err = r.await(ctx, seenWithin, func() error {
		_, err := r.get(ctx, ready)
		return err
	})
	return []string{UnitMonitor + " runs: Prometheus and Alertmanager of our own"}, err
}

// prometheusFile is what we read of a configuration.
type prometheusFile struct {
	RuleFiles     []string `yaml:"rule_files"`
	ScrapeConfigs []struct {
		Job     string `yaml:"job_name"`
		Statics []struct {
			Targets []string `yaml:"targets"`
		} `yaml:"static_configs"`
	} `yaml:"scrape_configs"`
}

func readPrometheus(path string) (src []byte, f prometheusFile, err error) {
	src, err = os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(src, &f)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", path, err)
	}
	return src, f, err
}

// earlierRules are the loaded rule files that ours replace, and what has to be said of others.
func (r *run) earlierRules() (aside, notes []string, err error) {
	path := r.prometheusConfig()
	_, f, err := readPrometheus(path)
	if err != nil {
		return nil, nil, err
	}
	var ours []string
	for _, a := range rules.Alerts() {
		ours = append(ours, a.Name)
	}
	for _, pattern := range f.RuleFiles {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(path), pattern)
		}
		files, err := filepath.Glob(pattern)
		if err != nil {
			return aside, notes, err
		}
		for _, file := range files {
			if file == r.rulesFile() {
				continue
			}
			names, others, err := alertsOf(file)
			if err != nil {
				return aside, notes, err
			}
			all := len(names) + others
			twice := slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(ours, n) })
			switch {
			case len(twice) == 0 || slices.Contains(aside, file):
			case len(twice) == all:
				aside = append(aside, file)
			default:
				notes = append(notes, fmt.Sprintf("%s also defines %s, beside rules of yours: remove them there by hand, or they are told twice", file, strings.Join(twice, ", ")))
			}
		}
	}
	return aside, notes, nil
}

// alertsOf are the alerts of a rule file that could be ours by their name, and how many other rules it has.
func alertsOf(file string) (names []string, others int, err error) {
	raw, err := os.ReadFile(file)
	var f struct {
		Groups []struct {
			Rules []struct {
				Alert string `yaml:"alert"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err == nil {
		err = yaml.Unmarshal(raw, &f)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", file, err)
	}
	for _, g := range f.Groups {
		for _, rule := range g.Rules {
			if strings.Contains(rule.Alert, "Harvest") {
				names = append(names, rule.Alert)
			} else {
				others++
			}
		}
	}
	return names, others, nil
}

// intoPrometheus makes the files, has promtool check them, has Prometheus read them, and looks whether it did.
func (r *run) intoPrometheus(ctx context.Context, early bool) (facts []string, err error) {
	path := r.prometheusConfig()
	mon, _, err := r.settings(config.Monitor)
	if err != nil {
		return nil, err
	}
	text, err := r.o.Desk.Rules(mon, early)
	if err != nil {
		return nil, err
	}
	aside, notes, err := r.earlierRules()
	if err != nil {
		return nil, err
	}
	facts = append(facts, notes...)
	src, f, err := readPrometheus(path)
	if err != nil {
		return facts, err
	}
	jobs := map[string][]string{rules.JobExporter: mon.Monitor.ExporterTargets}
	if !early {
		jobs[rules.JobPublisher] = mon.Monitor.PublisherTargets
	}
	changed, added, err := addToPrometheus(src, f, filepath.Dir(path), r.rulesFile(), mon.Monitor.ScrapeInterval.String(), jobs)
	if err != nil {
		return facts, fmt.Errorf("%s: %w", path, err)
	}
	facts = append(facts, added...)
	// Checked in a folder of its own, before anything is where Prometheus would find it.
	if err := r.checkRules(ctx, text); err != nil {
		return facts, err
	}
	if err := r.record(Change{Kind: KindServer, What: serverPrometheus}); err != nil {
		return facts, err
	}
	if _, err := r.put(r.rulesFile(), text, 0o644); err != nil {
		return facts, err
	}
	for _, file := range aside {
		// An empty one stays: a file that rule_files names must be there.
		if _, err := r.put(file, []byte("# Set aside by harvest deploy: every alert that was here is in "+rules.FileName+".\ngroups: []\n"), 0o644); err != nil {
			return facts, err
		}
		facts = append(facts, "set aside "+file+": every alert of it is in ours")
	}
	if _, err := r.put(path, changed, 0o644); err != nil {
		return facts, err
	}
	if err := tool(ctx, "promtool", "check", "config", path); err != nil {
		return facts, err
	}
	if err := r.reload(ctx, serverPrometheus); err != nil {
		return facts, err
	}
	err = r.await(ctx, seenWithin, func() error { return r.loaded(ctx, text, slices.Sorted(maps.Keys(jobs))) })
	if err == nil {
		facts = append(facts, fmt.Sprintf("%s has the rules of %s, and its targets %s are up", r.address(serverPrometheus), r.rulesFile(), strings.Join(slices.Sorted(maps.Keys(jobs)), ", ")))
	}
	return facts, err
}

func addToPrometheus(src []byte, f prometheusFile, dir, rulesFile, every string, jobs map[string][]string) (_ []byte, facts []string, err error) {
	found := slices.ContainsFunc(f.RuleFiles, func(pattern string) bool {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(dir, pattern)
		}
		ok, _ := filepath.Match(pattern, rulesFile)
		return ok
	})
	if !found {
		if src, err = addItem(src, []string{"rule_files"}, rulesFile); err != nil {
			return nil, nil, err
		}
		facts = append(facts, "rule_files gets "+rulesFile)
	}
	for _, job := range slices.Backward(slices.Sorted(maps.Keys(jobs))) {
		there := false
		for _, s := range f.ScrapeConfigs {
			there = there || s.Job == job
		}
		if there {
			facts = append(facts, "the job "+job+" is there already, and stays as it is")
			continue
		}
		item := map[string]any{"job_name": job, "scrape_interval": every, "static_configs": []any{map[string]any{"targets": jobs[job]}}}
		if src, err = addItem(src, []string{"scrape_configs"}, item); err != nil {
			return nil, nil, err
		}
		facts = append(facts, fmt.Sprintf("scrape_configs gets the job %s: %s", job, strings.Join(jobs[job], ", ")))
	}
	return src, facts, nil
}

func (r *run) checkRules(ctx context.Context, text []byte) error {
	dir, err := os.MkdirTemp("", "harvest-rules-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, rules.FileName)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	return tool(ctx, "promtool", "check", "rules", file)
}

func tool(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w:\n%s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// intoAlertmanager adds our inhibitions, and the routes of what is there only for them.
func (r *run) intoAlertmanager(ctx context.Context) (facts []string, err error) {
	path := r.alertmanagerConfig()
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	changed, facts, err := addToAlertmanager(src, r.o.Desk.Inhibitions())
	if err != nil {
		return facts, fmt.Errorf("%s: %w", path, err)
	}
	if err := checkText(ctx, changed); err != nil {
		return facts, err
	}
	if err := r.record(Change{Kind: KindServer, What: serverAlertmanager}); err != nil {
		return facts, err
	}
	if _, err := r.put(path, changed, 0o644); err != nil {
		return facts, err
	}
	if err := tool(ctx, "amtool", "check-config", path); err != nil {
		return facts, err
	}
	if err := r.reload(ctx, serverAlertmanager); err != nil {
		return facts, err
	}
	err = r.await(ctx, seenWithin, func() error {
		text, err := r.get(ctx, r.address(serverAlertmanager)+"/api/v2/status")
		if err == nil && !strings.Contains(text, nobody) {
			err = errors.New("the Alertmanager runs on its configuration of before")
		}
		return err
	})
	return append(facts, r.address(serverAlertmanager)+" runs on it"), err
}

func addToAlertmanager(src, inhibitions []byte) (_ []byte, facts []string, err error) {
	if strings.Contains(string(src), nobody) {
		return src, []string{"our routes are there already"}, nil
	}
	var ours struct {
		Rules []map[string]any `yaml:"inhibit_rules"`
	}
	if err := yaml.Unmarshal(inhibitions, &ours); err != nil {
		return nil, nil, err
	}
	for _, rule := range slices.Backward(ours.Rules) {
		if src, err = addItem(src, []string{"inhibit_rules"}, rule); err != nil {
			return nil, nil, err
		}
	}
	quiet := []string{"QuantumHarvestBlind"}
	if !strings.Contains(string(src), rules.Watchdog) {
		quiet = append(quiet, rules.Watchdog)
		facts = append(facts, rules.Watchdog+" is told to nobody: route it to a dead man's switch outside of this host")
	}
	route := map[string]any{"matchers": []string{`alertname=~"` + strings.Join(quiet, "|") + `"`}, "receiver": nobody}
	if src, err = addItem(src, []string{"route", "routes"}, route); err != nil {
		return nil, nil, err
	}
	if src, err = addItem(src, []string{"receivers"}, map[string]any{"name": nobody}); err != nil {
		return nil, nil, err
	}
	return src, append(facts, fmt.Sprintf("%d inhibitions, a route for %s and the receiver %s are added", len(ours.Rules), strings.Join(quiet, " and "), nobody)), nil
}

func checkText(ctx context.Context, text []byte) error {
	f, err := os.CreateTemp("", "harvest-*.yml")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	f.Close()
	if err != nil {
		return err
	}
	return tool(ctx, "amtool", "check-config", f.Name())
}

// reload has a server read its configuration anew: by its own page, by SIGHUP where a pid file is named, or as a unit.
func (r *run) reload(ctx context.Context, server string) error {
	_, err := r.ask(ctx, http.MethodPost, r.address(server)+"/-/reload")
	if err == nil {
		return nil
	}
	file := r.d.PrometheusPID
	if server == serverAlertmanager {
		file = r.d.AlertmanagerPID
	}
	if file != "" {
		raw, e := os.ReadFile(file)
		if e != nil {
			return e
		}
		pid, e := strconv.Atoi(strings.TrimSpace(string(raw)))
		if e != nil || pid < 1 {
			return fmt.Errorf("%s holds no process id", file)
		}
		return hangUp(pid)
	}
	if r.o.Manager.Name() == config.ManagerSystemd {
		for _, unit := range []string{server, "prometheus-" + server} {
			if e := r.o.Manager.Signal(ctx, unit+".service"); e == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("%s cannot be told to read its configuration: %w (start it with --web.enable-lifecycle, or name its pid file)", server, err)
}

// ask sends a request whose answer must be 200.
func (r *run) ask(ctx context.Context, method, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return "\n" + string(text), err
}

// query gives the first sample of an expression; blank where there is none.
func (r *run) query(ctx context.Context, expr string) (string, error) {
	text, err := r.get(ctx, r.address(serverPrometheus)+"/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		return "", err
	}
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer.Data.Result) == 0 {
		return "", err
	}
	s, _ := answer.Data.Result[0].Value[1].(string)
	return s, nil
}

// loaded tells what is missing of the rules of a file and of the targets of jobs.
func (r *run) loaded(ctx context.Context, text []byte, jobs []string) error {
	var want struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []any  `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &want); err != nil {
		return err
	}
	page, err := r.get(ctx, r.address(serverPrometheus)+"/api/v1/rules")
	if err != nil {
		return err
	}
	var is struct {
		Data struct {
			Groups []struct {
				Name, File string
				Rules      []any
			}
		}
	}
	if err := json.Unmarshal([]byte(page), &is); err != nil {
		return err
	}
	for _, g := range want.Groups {
		n := -1
		for _, have := range is.Data.Groups {
			if have.Name == g.Name && filepath.Base(have.File) == rules.FileName {
				n = len(have.Rules)
			}
		}
		if n != len(g.Rules) {
			return fmt.Errorf("the Prometheus has %d rules of %s, not %d", n, g.Name, len(g.Rules))
		}
	}
	for _, job := range jobs {
		v, err := r.query(ctx, `min(up{job="`+job+`"})`)
		if err == nil && v != "1" {
			err = fmt.Errorf("the Prometheus does not reach the targets of %s (up is %q)", job, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
