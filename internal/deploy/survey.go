package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/config"
	"quantumharvest/internal/deploy/legacy"
	"quantumharvest/internal/service"
)

// Service is an earlier service as it was found.
type Service struct {
	Unit    string `json:"unit"`
	Path    string `json:"path"`
	Program string `json:"program"`
	Active  bool   `json:"active"`
	Enabled bool   `json:"enabled"`
}

// roles are what the units do now, and what our env files are called.
var roles = []struct {
	unit, env string
	role      config.Role
}{
	{UnitProposal, "etc/quantum/harvest-proposal.env", config.Publish},
	{UnitExporter, "etc/quantum/harvest-metrics-exporter.env", config.Export},
	{UnitMonitor, "etc/quantum/harvest-monitor.env", config.Monitor},
}

// next is the ending of an env file that waits for the switch-over: until then the earlier service may be restarted, and
// must find its own.
const next = ".next"

// wantBytes is how much must be free for backups, logs and a little while of series.
const wantBytes = 200 << 20

// find looks for the earlier services. Those that are ours already are none.
func (r *run) find(ctx context.Context) ([]Service, error) {
	var found []Service
	for _, unit := range []string{UnitProposal, UnitExporter} {
		u, err := service.Read(r.d.Root, unit)
		if errors.Is(err, service.ErrNoUnit) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if filepath.Base(u.Exec[0]) == "harvest" {
			return nil, fmt.Errorf("%s runs %s: it is ours already; harvest doctor says how it is", u.Path, strings.Join(u.Exec, " "))
		}
		s := Service{Unit: unit, Path: u.Path, Program: strings.Join(u.Exec, " ")}
		if s.Active, err = r.o.Manager.Active(ctx, unit); err != nil {
			return nil, err
		}
		if s.Enabled, err = r.o.Manager.Enabled(ctx, unit); err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	if len(found) == 0 || found[0].Unit != UnitProposal {
		return nil, fmt.Errorf("there is no %s below %s: %w; docs/INSTALL.md is for a server without the earlier services", UnitProposal, r.d.Root, errNothing)
	}
	if !found[0].Active {
		return nil, fmt.Errorf("%s does not run, so there is nothing to compare ours with: %s", UnitProposal, r.o.Manager.ByHand("start", UnitProposal))
	}
	return found, nil
}

// entries are the settings of an earlier service, as it sees them.
func (r *run) entries(unit string) ([]legacy.Entry, []string, error) {
	u, err := service.Read(r.d.Root, unit)
	if err != nil {
		return nil, nil, err
	}
	var list []legacy.Entry
	var files []string
	for _, line := range u.Environment {
		k, v, _ := strings.Cut(line, "=")
		list = append(list, legacy.Entry{Key: k, Value: v, Where: u.Path})
	}
	for _, f := range u.EnvironmentFiles {
		src, err := os.ReadFile(f.Path)
		if errors.Is(err, fs.ErrNotExist) && f.Optional {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("env file of %s: %w", unit, err)
		}
		got, problems := config.ParseEnv(src)
		if len(problems) > 0 {
			return nil, nil, fmt.Errorf("env file %s cannot be read: %s", f.Path, strings.Join(problems, "; "))
		}
		files = append(files, f.Path)
		for _, e := range got {
			list = append(list, legacy.Entry{Key: e.Key, Value: e.Value, Where: fmt.Sprintf("%s, line %d", f.Path, e.Line)})
		}
	}
	return list, files, nil
}

// carried is what the env file of a role becomes.
type carried struct {
	unit, path string
	role       config.Role
	rows       []legacy.Row
	text       []byte
	from       []string
	config     config.Config
	notes      []config.Note
}

// carryAll makes our env files in memory and loads each as the service will.
func (r *run) carryAll() ([]carried, error) {
	var all []carried
	var failed error
	var shared []string // what the rules of the monitor must know, too
	for _, x := range roles[:2] {
		if _, err := service.Find(r.d.Root, x.unit); errors.Is(err, service.ErrNoUnit) {
			continue
		}
		entries, from, err := r.entries(x.unit)
		if err != nil {
			return nil, err
		}
		c := carried{unit: x.unit, path: r.at(x.env), role: x.role, from: from, rows: legacy.Carry(entries, x.role, r.d.IgnoreKeys)}
		var more []string
		if x.role == config.Publish {
			more = r.ownPort()
		}
		c.text = legacy.Text(x.unit, c.rows, more...)
		for _, row := range legacy.RefusedRows(c.rows) {
			failed = errors.Join(failed, fmt.Errorf("%s: %s: %s", row.Where, row.Key, row.Text))
		}
		if c.config, c.notes, err = loadText(x.role, c.text); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", x.unit, err))
		}
		all = append(all, c)
		if x.role == config.Publish {
			for _, row := range c.rows {
				if s := row.Name; (row.Fate == legacy.Kept || row.Fate == legacy.Renamed) && forRole(s, config.Monitor) && forRole(s, config.Rules) {
					shared = append(shared, s+"="+row.Value)
				}
			}
		}
	}
	if failed != nil {
		return all, failed
	}
	if len(all) == 0 || all[0].role != config.Publish {
		return nil, fmt.Errorf("there is no %s below %s: %w", UnitProposal, r.d.Root, errNothing)
	}
	mon := carried{unit: UnitMonitor, path: r.at(roles[2].env), role: config.Monitor}
	shared = append(shared,
		fmt.Sprintf("MONITOR_EXPORTER_TARGETS=127.0.0.1:%d", exporterPort(all)),
		fmt.Sprintf("MONITOR_PUBLISHER_TARGETS=127.0.0.1:%d", all[0].config.PublisherPort))
	var err error
	if mon.text, err = r.monitorText(mon.path, shared); err != nil {
		return all, fmt.Errorf("%s: %w", UnitMonitor, err)
	}
	if mon.config, mon.notes, err = loadText(config.Monitor, mon.text); err != nil {
		return all, fmt.Errorf("%s: %w", UnitMonitor, err)
	}
	if m := mon.config.Monitor; r.prometheusConfig() == "" && m.AlertmanagerURL == nil && m.AlertmanagerConfig == "" && !mon.config.Notify.Any() {
		return all, fmt.Errorf("%s is what watches this server, and it would tell nobody: %w", UnitMonitor, errSilent{mon.path})
	}
	return append(all, mon), nil
}

// errSilent is a monitor without a receiver. The proof at the end would not hold.
type errSilent struct{ path string }

func (e errSilent) Error() string {
	return "put NOTIFY_SLACK_URL_FILE, NOTIFY_WEBHOOK_URL or another NOTIFY_ setting into " + e.path + ", which stays as it is otherwise"
}

// monitorText is the env file of the monitor: that which is there, whose settings stay, and what it must have beside them.
func (r *run) monitorText(path string, shared []string) ([]byte, error) {
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return legacy.Text(UnitMonitor, nil, shared...), nil
	}
	if err != nil {
		return nil, err
	}
	has, problems := config.ParseEnv(old)
	if len(problems) > 0 {
		return old, nil // what is wrong with it is said when it is loaded
	}
	missing := slices.DeleteFunc(slices.Clone(shared), func(line string) bool {
		name, _, _ := strings.Cut(line, "=")
		return slices.ContainsFunc(has, func(e config.EnvEntry) bool { return e.Key == name })
	})
	if len(missing) == 0 {
		return old, nil
	}
	if len(old) > 0 && !bytes.HasSuffix(old, []byte("\n")) {
		old = append(old, '\n')
	}
	return append(old, legacy.Text(UnitMonitor, nil, missing...)...), nil
}

// ownPort is the setting of the port that the earlier publisher had not.
func (r *run) ownPort() []string {
	if r.d.PublisherPort == 0 {
		return nil
	}
	return []string{fmt.Sprintf("PUBLISHER_PORT=%d", r.d.PublisherPort)}
}

func exporterPort(all []carried) int {
	for _, c := range all {
		if c.role == config.Export {
			return c.config.MetricsPort
		}
	}
	return 8042
}

func monitorPort(all []carried) int {
	for _, c := range all {
		if c.role == config.Monitor {
			return c.config.Monitor.Port
		}
	}
	return 9091
}

func forRole(name string, role config.Role) bool {
	return slices.ContainsFunc(config.Settings(), func(s config.Setting) bool { return s.Env == name && s.For(role) })
}

// loadText loads settings as from an env file with that text.
func loadText(role config.Role, text []byte, environ ...string) (config.Config, []config.Note, error) {
	f, err := os.CreateTemp("", "harvest-*.env") // of mode 0600: there may be passwords in it
	if err != nil {
		return config.Config{}, nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return config.Config{}, nil, err
	}
	c, notes, err := config.LoadFile(role, f.Name(), environ...)
	if err != nil {
		err = errors.New(strings.ReplaceAll(err.Error(), f.Name(), "of the role "+string(role)))
	}
	return c, notes, err
}

// settings are those of the publisher, wherever its env file is at the moment.
func (r *run) settings(role config.Role) (config.Config, string, error) {
	for _, x := range roles {
		if x.role != role {
			continue
		}
		path := r.at(x.env)
		if _, err := os.Stat(path + next); err == nil {
			path += next
		}
		c, _, err := config.LoadFile(role, path)
		return c, path, err
	}
	return config.Config{}, "", fmt.Errorf("no env file belongs to %s", role)
}

func (r *run) settingsCopy() string { return filepath.Join(r.dir, "backups", "publisher.env") }

// settingsOfBefore are those of the publisher for a rollback, which may find the earlier env file in its place already.
func (r *run) settingsOfBefore() (config.Config, error) {
	if _, err := os.Stat(r.settingsCopy()); err == nil {
		c, _, err := config.LoadFile(config.Publish, r.settingsCopy())
		return c, err
	}
	c, _, err := r.settings(config.Publish) // of a deployment that began before there was a copy
	return c, err
}

// survey looks at everything that the steps need, and changes nothing.
func (r *run) survey(ctx context.Context) (facts []string, found []Service, err error) {
	add := func(format string, args ...any) { facts = append(facts, fmt.Sprintf(format, args...)) }
	found, err = r.find(ctx)
	if err != nil {
		return facts, nil, err
	}
	for _, s := range found {
		add("%s: %s, running: %t, started with the host: %t", s.Path, s.Program, s.Active, s.Enabled)
	}
	// What has to be refused is the business of step 3; what is asked here is where Redis is.
	all, carryErr := r.carryAll()
	if len(all) == 0 {
		return facts, found, carryErr
	}
	pub := all[0].config
	if carryErr != nil {
		lines := legacy.Text(UnitProposal, slices.DeleteFunc(slices.Clone(all[0].rows), func(w legacy.Row) bool { return w.Fate == legacy.Refused }), r.ownPort()...)
		if pub, _, err = loadText(config.Publish, lines); err != nil {
			return facts, found, err
		}
	}
	for _, c := range all {
		for _, f := range c.from {
			add("%s can be read", f)
		}
	}
	rdb := r.o.Desk.Connect(pub.Redis)
	defer rdb.Close()
	more, err := r.lookAtRedis(ctx, rdb, pub)
	facts = append(facts, more...)
	if err != nil {
		return facts, found, err
	}
	more, err = r.lookAtPorts(found, pub, exporterPort(all), monitorPort(all))
	facts = append(facts, more...)
	if err != nil {
		return facts, found, err
	}
	for _, dir := range []string{r.dir, r.at("etc")} {
		free, err := service.FreeBytes(dir)
		if err != nil {
			return facts, found, fmt.Errorf("disk: %w", err)
		}
		add("%s: %d MB free", dir, free>>20)
		if free < wantBytes {
			return facts, found, fmt.Errorf("%s has %d MB free, %d are needed for backups and logs", dir, free>>20, wantBytes>>20)
		}
	}
	more, err = r.lookForTools()
	return append(facts, more...), found, err
}

func (r *run) lookAtRedis(ctx context.Context, rdb redis.UniversalClient, pub config.Config) (facts []string, err error) {
	begin := time.Now()
	now, err := rdb.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("the Redis at %s does not answer: %w: is REDIS_URL, or REDIS_HOST and REDIS_PORT, what the earlier service uses?", pub.Redis, err)
	}
	took := time.Since(begin)
	offset := now.Sub(begin.Add(took / 2))
	info, err := rdb.Info(ctx, "server").Result()
	if err != nil {
		return nil, fmt.Errorf("ask Redis for its version: %w", err)
	}
	version := ""
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			version = v
		}
	}
	facts = append(facts, fmt.Sprintf("Redis at %s answers, version %s, its clock is %+.3f s from ours", pub.Redis, version, offset.Seconds()))
	var major int
	if _, err := fmt.Sscanf(version, "%d", &major); err != nil || major < 5 {
		return facts, fmt.Errorf("the Redis is of version %q: 5 or newer is needed", version)
	}
	if offset.Abs() > 5*time.Second {
		return facts, fmt.Errorf("the clock of this host is %+.1f s from that of Redis: put it right first (timedatectl)", -offset.Seconds())
	}
	keys, err := scan(ctx, rdb, pub.Keys.Harvest+"*")
	if err != nil {
		return facts, err
	}
	earlier, ours := 0, 0
	for _, k := range keys {
		has, err := rdb.HExists(ctx, k, "schema_version").Result()
		if err != nil {
			return facts, fmt.Errorf("read %s: %w", k, err)
		}
		if has {
			ours++
		} else {
			earlier++
		}
	}
	facts = append(facts, fmt.Sprintf("%d proposals of the earlier publisher below %s", earlier, pub.Keys.Harvest))
	if ours > 0 && !r.switched() {
		return facts, fmt.Errorf("%d proposals below %s were written by a publisher of ours: who is that? redis-cli HGET %s publisher", ours, pub.Keys.Harvest, keys[0])
	}
	return facts, nil
}

func (r *run) lookAtPorts(found []Service, pub config.Config, exporter, monitor int) (facts []string, err error) {
	has := slices.ContainsFunc(found, func(s Service) bool { return s.Unit == UnitExporter && s.Active })
	who, held := service.OnPort(exporter)
	switch {
	case held && has:
		facts = append(facts, fmt.Sprintf("port %d: %s; the exporter of ours takes it over", exporter, who))
	case held:
		return facts, fmt.Errorf("port %d, of the exporter, is held by %s and %s does not run: free it, or set METRICS_PORT", exporter, who, UnitExporter)
	default:
		facts = append(facts, fmt.Sprintf("port %d is free for the exporter", exporter))
	}
	ports := []struct {
		port int
		fix  string
	}{{pub.PublisherPort, "--publisher-port names another"}}
	if r.prometheusConfig() == "" {
		ports = append(ports, struct {
			port int
			fix  string
		}{monitor, "free it, or name the configuration of the Prometheus that is there with --prometheus-config"})
	}
	for _, p := range ports {
		if who, held := service.OnPort(p.port); held {
			return facts, fmt.Errorf("port %d is held by %s: %s", p.port, who, p.fix)
		}
		facts = append(facts, fmt.Sprintf("port %d is free", p.port))
	}
	return facts, nil
}

func (r *run) lookForTools() (facts []string, err error) {
	for _, t := range []struct {
		name   string
		wanted bool
	}{
		{"systemctl", r.o.Manager.Name() == config.ManagerSystemd},
		{"promtool", r.prometheusConfig() != ""},
		{"amtool", r.alertmanagerConfig() != ""},
	} {
		path, e := exec.LookPath(t.name)
		switch {
		case e == nil:
			facts = append(facts, t.name+" is "+path)
		case t.wanted:
			err = errors.Join(err, fmt.Errorf("%s is not on PATH, and what it would check is changed: install it first", t.name))
		default:
			facts = append(facts, t.name+" is not on PATH, and not needed")
		}
	}
	return facts, err
}

func (r *run) planPreflight(ctx context.Context) ([]string, error) {
	facts, _, err := r.survey(ctx)
	return append(facts, "would write a proof of how it is now into "+filepath.Join(r.dir, "before")), err
}

func (r *run) preflight(ctx context.Context) ([]string, error) {
	facts, found, err := r.survey(ctx)
	if err != nil {
		return facts, err
	}
	r.state.Services = found
	all, err := r.carryAll()
	if err != nil {
		return append(facts, "no proof of before: the configuration has to be put right first, see step 3"), nil
	}
	failures, err := r.prove(ctx, all[0].text, exporterPort(all), all[0].config.PublisherPort, "before", "")
	if err != nil {
		return facts, err
	}
	return append(facts, fmt.Sprintf("the proof of before is in %s: %d checks do not hold", filepath.Join(r.dir, "before"), len(failures))), nil
}

// prove runs a proof on settings.
func (r *run) prove(ctx context.Context, text []byte, exporter, publisher int, name, before string) ([]string, error) {
	f, err := os.CreateTemp(r.dir, "proof-*.env")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	f.Close()
	if err != nil {
		return nil, err
	}
	c, err := r.o.Config.ProofFor(f.Name(), append(r.timings(),
		fmt.Sprintf("MONITOR_EXPORTER_TARGETS=127.0.0.1:%d", exporter), fmt.Sprintf("MONITOR_PUBLISHER_TARGETS=127.0.0.1:%d", publisher))...)
	if err != nil {
		return nil, err
	}
	if token := r.at("var/lib/quantum-harvest/monitor/token"); c.Monitor.TokenFile == "" && r.prometheusConfig() == "" {
		if _, err := os.Stat(token); err == nil {
			c.Monitor.TokenFile = token
		}
	}
	return r.o.Desk.Prove(ctx, c, filepath.Join(r.dir, name), before)
}

// timings are what the rules of the monitor were made with, as far as a proof holds the rules against it.
func (r *run) timings() []string {
	path := r.at(roles[2].env)
	if _, err := os.Stat(path + next); err == nil {
		path += next
	}
	return config.RuleLines(path)
}

func (r *run) planProof(context.Context) ([]string, error) {
	return []string{"would write a proof into " + filepath.Join(r.dir, "after") + ", with a table of before and after, and fail where it does not hold"}, nil
}

// proofTries is how often a proof is tried: what was measured just after a switch-over may still hold a pause of before.
const proofTries = 2

func (r *run) proof(ctx context.Context) ([]string, error) {
	pub, path, err := r.settings(config.Publish)
	if err != nil {
		return nil, err
	}
	exp, _, err := r.settings(config.Export)
	if errors.Is(err, fs.ErrNotExist) || exp.MetricsPort == 0 {
		exp.MetricsPort = 8042
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	before := filepath.Join(r.dir, "before", "proof.json")
	if _, err := os.Stat(before); err != nil {
		before = ""
	}
	var failures []string
	for range proofTries {
		if failures, err = r.prove(ctx, text, exp.MetricsPort, pub.PublisherPort, "after", before); err != nil || len(failures) == 0 {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if len(failures) > 0 {
		return nil, fmt.Errorf("%d checks of the proof do not hold (%s): %s", len(failures), filepath.Join(r.dir, "after", "proof.md"), strings.Join(failures, "; "))
	}
	return []string{"every check holds: " + filepath.Join(r.dir, "after", "proof.md") + " ends with the table of before and after"}, nil
}
