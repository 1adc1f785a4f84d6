package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// DeploySettings say how a server that runs the earlier services is taken over.
type DeploySettings struct {
	Root     string // directory in place of /
	StateDir string // where progress, backups and proofs are kept; blank: below Root
	Manager  string // systemd, exec or auto

	DryRun, Status, Rollback bool

	AcceptDifferences bool
	Cycles            int // of the comparison
	IgnoreKeys        []string
	PublisherPort     int // written into our env file; 0: the usual one

	PrometheusConfig   string // file; blank: looked for
	RulesDir           string
	AlertmanagerConfig string
	DashboardsDir      string
	PrometheusPID      string // file
	AlertmanagerPID    string // file
}

// How services are started and stopped.
const (
	ManagerAuto    = "auto" // systemd where it runs this host, else exec
	ManagerSystemd = "systemd"
	ManagerExec    = "exec" // a supervisor of ours runs what the units say
)

// moves tells whether the role works on the services of a host.
func (r Role) moves() bool { return r == Deploy || r == Doctor || r == Supervise }

func deploySettings() []Setting {
	one, both, three := []Role{Deploy}, []Role{Deploy, Doctor}, []Role{Deploy, Doctor, Supervise}
	rows := []Setting{
		{
			Env: "HARVEST_DEPLOY_ROOT", Flag: "root", Arg: "DIR", Default: "/", Roles: three,
			Usage: "directory in place of /: units, env files and everything else lie below it",
			set: func(d *draft, text string) (err error) {
				d.Deploy.Root, err = filepath.Abs(text)
				if err == nil {
					if info, e := os.Stat(d.Deploy.Root); e != nil || !info.IsDir() {
						err = errors.New("not a directory that is there")
					}
				}
				return err
			},
		},
		{
			Env: "HARVEST_SERVICE_MANAGER", Flag: "service-manager", Arg: "WHICH", Default: ManagerAuto, Roles: both,
			Usage: "what starts and stops services: systemd; exec (a supervisor of ours runs what the units say, for hosts without systemd); or auto: systemd where it runs this host",
			set:   choice(func(d *draft) *string { return &d.Deploy.Manager }, ManagerAuto, ManagerSystemd, ManagerExec),
		},
		{
			Flag: "unit", Arg: "NAME", Roles: []Role{Supervise},
			DefaultText: "every unit that is enabled",
			Usage:       "unit that is run",
			set:         token(func(d *draft) *string { return &d.Unit }),
		},
		{
			Env: "HARVEST_DEPLOY_STATE", Flag: "state-dir", Arg: "DIR", Roles: one,
			DefaultText: "/var/lib/quantum-harvest-deploy",
			Usage:       "where progress, backups and proofs are kept",
			set:         func(d *draft, text string) (err error) { d.Deploy.StateDir, err = filepath.Abs(text); return err },
		},
		{
			Flag: "dry-run", Default: "false", Roles: one,
			Usage: "say what would be done, and change nothing",
			set:   boolean(func(d *draft) *bool { return &d.Deploy.DryRun }),
		},
		{
			Flag: "status", Default: "false", Roles: one,
			Usage: "say how far a deployment is, and change nothing",
			set:   boolean(func(d *draft) *bool { return &d.Deploy.Status }),
		},
		{
			Flag: "rollback", Default: "false", Roles: one,
			Usage: "take everything back: files as they were, the earlier services running, our keys and fields removed",
			set:   boolean(func(d *draft) *bool { return &d.Deploy.Rollback }),
		},
		{
			Flag: "cycles", Arg: "N", Default: "6", Roles: one,
			Usage: "cycles of the earlier publisher for which ours is compared with it before it takes over",
			set:   integer(func(d *draft) *int { return &d.Deploy.Cycles }, 1, 10_000),
		},
		{
			Flag: "accept-differences", Default: "false", Roles: one,
			Usage: "go on although proposals differ for a reason that is not known; they are listed all the same",
			set:   boolean(func(d *draft) *bool { return &d.Deploy.AcceptDifferences }),
		},
		{
			Flag: "ignore-keys", Arg: "LIST", Roles: one,
			Usage: "keys of the earlier env files that are left out although nobody knows them, separated by commas",
			set: func(d *draft, text string) error {
				for part := range strings.SplitSeq(text, ",") {
					part = strings.TrimSpace(part)
					if !validKey(part) {
						return fmt.Errorf("%s is not a name of an environment variable", shown(part))
					}
					d.Deploy.IgnoreKeys = append(d.Deploy.IgnoreKeys, part)
				}
				return nil
			},
		},
		{
			Env: "PUBLISHER_PORT", Flag: "publisher-port", Arg: "PORT", Roles: one,
			DefaultText: "8041",
			Usage:       "port of the publisher's own metrics, which the earlier one had not",
			set:         integer(func(d *draft) *int { return &d.Deploy.PublisherPort }, 1, 65535),
		},
		{
			Flag: "prometheus-config", Arg: "FILE", Roles: one,
			DefaultText: "/etc/prometheus/prometheus.yml where it is there",
			Usage:       "configuration of the Prometheus that gets our rules and scrape jobs",
			set:         file(func(d *draft) *string { return &d.Deploy.PrometheusConfig }),
		},
		{
			Flag: "prometheus-rules-dir", Arg: "DIR", Roles: one,
			DefaultText: "rules beside that file",
			Usage:       "where our rule file is put",
			set:         func(d *draft, text string) (err error) { d.Deploy.RulesDir, err = filepath.Abs(text); return err },
		},
		{
			Flag: "prometheus-pid-file", Arg: "FILE", Roles: one,
			DefaultText: "the unit prometheus is reloaded",
			Usage:       "process id of that Prometheus, for a reload by SIGHUP where its /-/reload is not enabled",
			set:         file(func(d *draft) *string { return &d.Deploy.PrometheusPID }),
		},
		{
			Flag: "alertmanager-config-file", Arg: "FILE", Roles: one,
			DefaultText: "/etc/prometheus/alertmanager.yml or /etc/alertmanager/alertmanager.yml where it is there",
			Usage:       "configuration of the Alertmanager that gets our inhibitions and routes",
			set:         file(func(d *draft) *string { return &d.Deploy.AlertmanagerConfig }),
		},
		{
			Flag: "alertmanager-pid-file", Arg: "FILE", Roles: one,
			DefaultText: "its /-/reload is asked",
			Usage:       "process id of that Alertmanager, for a reload by SIGHUP",
			set:         file(func(d *draft) *string { return &d.Deploy.AlertmanagerPID }),
		},
		{
			Flag: "dashboards-dir", Arg: "DIR", Roles: one,
			DefaultText: "/var/lib/grafana/dashboards where it is there",
			Usage:       "folder from which Grafana takes dashboards",
			set:         func(d *draft, text string) (err error) { d.Deploy.DashboardsDir, err = filepath.Abs(text); return err },
		},
	}
	return inGroup(GroupDeploy, rows)
}

// combineDeploy settles what belongs together.
func (l *loader) combineDeploy() {
	d := &l.draft.Deploy
	n := 0
	for _, on := range []bool{d.DryRun, d.Status, d.Rollback} {
		if on {
			n++
		}
	}
	if n > 1 {
		l.contradict("only one of them can be done at a time", "--dry-run", "--status", "--rollback")
	}
	if d.Manager == ManagerSystemd && d.Root != "/" {
		l.contradict("systemd reads the units of / only; leave the root out, or use exec", "HARVEST_SERVICE_MANAGER", "HARVEST_DEPLOY_ROOT")
	}
	if d.StateDir == "" {
		// Not below the state of a service: systemd gives all of that to the user of the service, backups of root's files included.
		d.StateDir = filepath.Join(d.Root, "var/lib/quantum-harvest-deploy")
	}
}

// EnvEntry is one KEY=VALUE of an env file.
type EnvEntry struct {
	Key, Value string
	Line       int
}

// ParseEnv reads an env file as --env-file does, without asking whether its keys are settings. Problems say the line and
// what is wrong with it; they never repeat its text.
func ParseEnv(src []byte) ([]EnvEntry, []string) {
	entries, bad := parseEnvFile(src)
	list := make([]EnvEntry, len(entries))
	for i, e := range entries {
		list[i] = EnvEntry{e.key, e.value, e.line}
	}
	var problems []string
	for _, b := range bad {
		problems = append(problems, fmt.Sprintf("line %d: %s", b.line, b.text))
	}
	return list, problems
}

// LoadFile gives the settings of a role from an env file and, above it, NAME=value lines.
func LoadFile(role Role, path string, environ ...string) (Config, []Note, error) {
	flags := pflag.NewFlagSet(string(role), pflag.ContinueOnError)
	Register(flags, role)
	if path != "" {
		if err := flags.Set(envFileFlag, path); err != nil {
			return Config{}, nil, err
		}
	}
	return Load(flags, role, environ)
}

// Suggest says what an unknown name may have meant, and what to do about it.
func Suggest(name string) string { return strings.TrimPrefix(suggestion(name, Settings()), "; ") }

// proving are the settings of a proof that deploy and doctor need as well.
func proving(rows []Setting) []Setting {
	for i, s := range rows {
		switch key(s) {
		case "PROMETHEUS_URL", "ALERTMANAGER_URL", "MONITOR_TOKEN_FILE":
			rows[i].Roles = append(slices.Clip(s.Roles), Deploy, Doctor)
		case "--window-sec", "--samples":
			rows[i].Roles = append(slices.Clip(s.Roles), Deploy)
		}
	}
	return rows
}

// ServerEnviron names the monitoring of these settings as NAME=value lines, for the settings of another role.
func (c Config) ServerEnviron() []string {
	var lines []string
	add := func(name string, u *url.URL) {
		if u != nil {
			lines = append(lines, name+"="+u.String())
		}
	}
	add("PROMETHEUS_URL", c.Monitor.PrometheusURL)
	add("ALERTMANAGER_URL", c.Monitor.AlertmanagerURL)
	if c.Monitor.TokenFile != "" {
		lines = append(lines, "MONITOR_TOKEN_FILE="+c.Monitor.TokenFile)
	}
	return lines
}

// ProofFor gives the settings of a proof of what an env file describes, looking as long as these settings say.
func (c Config) ProofFor(path string, environ ...string) (Config, error) {
	p, _, err := LoadFile(Proof, path, append(c.ServerEnviron(), environ...)...)
	if c.Proof.Window > 0 {
		p.Proof.Window, p.Proof.Samples = c.Proof.Window, c.Proof.Samples
	} else {
		p.Proof.Window = time.Second
	}
	return p, err
}

// RuleLines are the settings of an env file that rules are made with and a proof holds them against, as NAME=value lines;
// none where there is no such file.
func RuleLines(path string) []string {
	src, err := readFile(path)
	if err != nil {
		return nil
	}
	entries, _ := parseEnvFile(src)
	var lines []string
	for _, e := range entries {
		if slices.ContainsFunc(Settings(), func(s Setting) bool { return s.Env == e.key && s.For(Rules) }) &&
			slices.ContainsFunc(Settings(), func(s Setting) bool { return s.Env == e.key && s.For(Proof) }) {
			lines = append(lines, e.key+"="+e.value)
		}
	}
	return lines
}
