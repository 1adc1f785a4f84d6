package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"quantumharvest/internal/config"
	"quantumharvest/internal/doctor"
	"quantumharvest/internal/proof"
	"quantumharvest/internal/service"
	"quantumharvest/internal/store"
)

// errFindings ends a doctor's visit that found something.
var errFindings = errors.New("something is wrong")

// lowDisk is from where on the disk is about to be full.
const lowDisk = 500 << 20

// hostUnits are the services of a host, with their env files below its root.
var hostUnits = []struct {
	unit, env string
	role      config.Role
	must      bool // the monitor may be elsewhere
}{
	{"quantum-harvest-proposal.service", "etc/quantum/harvest-proposal.env", config.Publish, true},
	{"quantum-harvest-metrics-exporter.service", "etc/quantum/harvest-metrics-exporter.env", config.Export, true},
	{"quantum-harvest-monitor.service", "etc/quantum/harvest-monitor.env", config.Monitor, false},
}

// Doctor says what is wrong with the services of this host. It changes nothing.
func Doctor(ctx context.Context, env Env) error {
	root := env.Config.Deploy.Root
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("doctor: find this program: %w", err)
	}
	m := serviceManager(env.Config, self)
	r := &doctor.Report{At: time.Now().UTC(), Version: env.Build.Version}
	settings, unread := map[config.Role]config.Config{}, map[config.Role]string{}
	for _, u := range hostUnits {
		path := filepath.Join(root, u.env)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			path = "" // then the defaults count
		}
		examineUnit(ctx, r, m, root, u.unit, u.must)
		c, _, err := config.LoadFile(u.role, path, credentials(m, root)...)
		var bad *config.Error
		if errors.As(err, &bad) && bad.Denied() {
			unread[u.role] = cannotRead(r, u.unit, path, bad)
			continue
		}
		if err != nil {
			r.Add(doctor.Critical, "the settings of "+u.unit+" stop its start", err.Error(), "a key or value in "+path+" is wrong", "harvest "+string(u.role)+" --env-file "+path)
			continue
		}
		settings[u.role] = c
		if path != "" {
			r.OK("settings: %s loads", path)
		}
	}
	examineEarlier(ctx, r, m, root)
	lib := filepath.Join(root, "var/lib")
	switch free, err := service.FreeBytes(lib); {
	case err != nil:
		r.Add(doctor.Warning, "nobody knows how full the disk is", err.Error(), "it cannot be read for "+lib, "df -h "+lib)
	case free < lowDisk:
		r.Add(doctor.Warning, "the disk is nearly full", fmt.Sprintf("%d MB free below %s", free>>20, lib), "series, logs or somebody else's files grow", "du -xh "+filepath.Join(root, "var")+" | sort -h | tail")
	default:
		r.OK("disk: %d MB free", free>>20)
	}
	pub, known := settings[config.Publish]
	switch why := unread[config.Publish] + unread[config.Export]; {
	case why != "":
		r.CannotTell("ports, Redis, proposals, alerts", "where they are stands in the settings that cannot be read", asRoot)
	case known:
		unsure := map[string]string{}
		if unread[config.Monitor] != "" {
			unsure["rules"] = unread[config.Monitor]
		}
		if err := examineDesk(ctx, env, r, pub, settings[config.Export].MetricsPort, root, unsure, credentials(m, root)); err != nil {
			return err
		}
	}
	r.Sort()
	if env.Config.JSON {
		raw, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("doctor: %w", err)
		}
		fmt.Fprintf(env.Out, "%s\n", raw)
	} else {
		fmt.Fprint(env.Out, r)
	}
	if !r.Fine() {
		return fmt.Errorf("doctor: %w: %d findings", errFindings, len(r.Findings))
	}
	return nil
}

// asRoot is how everything can be looked at.
const asRoot = "sudo harvest doctor"

// credentials names the folder from which systemd gives passwords to our services, as NAME=value lines.
func credentials(m service.Manager, root string) []string {
	if m.Name() != config.ManagerSystemd {
		return nil
	}
	return []string{"CREDENTIALS_DIRECTORY=" + filepath.Join(root, "etc/quantum/credentials")}
}

// cannotRead notes that this user may not read the settings of a service: they may be in order or not. It gives the reason.
func cannotRead(r *doctor.Report, unit, path string, bad *config.Error) (why string) {
	who := "this user"
	if u, err := user.Current(); err == nil {
		who = "user " + u.Username
	}
	named := make([]string, len(bad.Problems))
	for i, p := range bad.Problems {
		named[i] = p.String()
	}
	why = fmt.Sprintf("cannot be read as %s: %s", who, strings.Join(named, "; "))
	fix := asRoot
	// Membership does not open what else was denied, such as a password that is root's alone.
	if group := service.MayRead(path); group != "" && !slices.ContainsFunc(bad.Problems, func(p config.Problem) bool { return p.Setting != "--env-file" }) {
		fix += ", or as a member of the group " + group
	}
	r.CannotTell("the settings of "+unit, why, fix)
	return why
}

func examineUnit(ctx context.Context, r *doctor.Report, m service.Manager, root, unit string, must bool) {
	_, err := service.Find(root, unit)
	if errors.Is(err, service.ErrNoUnit) {
		if must {
			r.Add(doctor.Warning, unit+" is not installed", "no unit of that name below "+root, "the service runs in another way, or was never installed", "harvest deploy --dry-run")
		}
		return
	}
	on, err := m.Active(ctx, unit)
	switch {
	case err != nil:
		r.Add(doctor.Warning, m.Name()+" does not say whether "+unit+" runs", err.Error(), "the service manager is not reachable", m.ByHand("status", unit))
	case !on && must:
		r.Add(doctor.Critical, unit+" does not run", m.Name()+" says so", "it was stopped, or ended again and again", m.ByHand("start", unit))
	case on:
		r.OK("%s runs", unit)
	}
	if enabled, err := m.Enabled(ctx, unit); err == nil && on && !enabled {
		r.Add(doctor.Warning, unit+" is not started with the host", m.Name()+" says so", "it was started by hand, or a deployment was not finished", m.ByHand("enable", unit))
	}
}

// examineEarlier looks for services of before beside ours, by the names of their units.
func examineEarlier(ctx context.Context, r *doctor.Report, m service.Manager, root string) {
	for _, dir := range []string{service.AdminDir, "usr/lib/systemd/system", "lib/systemd/system"} {
		files, _ := filepath.Glob(filepath.Join(root, dir, "*harvest*.service"))
		for _, f := range files {
			u, err := service.Read(root, filepath.Base(f))
			if err != nil || u.Path != f || filepath.Base(u.Exec[0]) == "harvest" {
				continue
			}
			if on, err := m.Active(ctx, u.Name); err == nil && on {
				r.Add(doctor.Critical, "an earlier service runs: "+u.Name, f+" runs "+strings.Join(u.Exec, " "), "two writers flip the proposals, or two exporters show them",
					m.ByHand("disable --now", u.Name))
			}
		}
	}
}

func examineDesk(ctx context.Context, env Env, r *doctor.Report, pub config.Config, exporterPort int, root string, unsure map[string]string, environ []string) error {
	if exporterPort == 0 {
		exporterPort = 8042
	}
	for _, p := range []struct {
		port int
		unit string
	}{{pub.PublisherPort, hostUnits[0].unit}, {exporterPort, hostUnits[1].unit}} {
		who, held := service.OnPort(p.port)
		switch {
		case !held:
			r.Add(doctor.Critical, fmt.Sprintf("nobody listens on port %d", p.port), "a connection is refused", p.unit+" does not run", "journalctl -u "+p.unit+" -n 50")
		case who.PID != 0 && who.Name != "harvest":
			r.Add(doctor.Critical, fmt.Sprintf("port %d is held by somebody else", p.port), who.String(), "an earlier service, or another program, took it first", fmt.Sprintf("ss -ltnp 'sport = :%d'", p.port))
		default:
			r.OK("port %d: %s", p.port, who)
		}
	}
	st := store.New(connect(pub.Redis), storeKeys(pub))
	defer st.Close()
	c, err := st.Collect(ctx, pub.Symbols)
	if err != nil {
		r.Add(doctor.Critical, "Redis cannot be read", err.Error(), "it does not run, or is not where the settings say", pub.Redis.Command()+" PING")
		return nil
	}
	r.OK("Redis: %s answers within %.1f ms", pub.Redis, c.RTT.Seconds()*1000)
	r.Store(c, 30*time.Second, pub.Keys.Harvest)
	client := &http.Client{Timeout: 5 * time.Second}
	examineFigures(ctx, r, client, env.Build.Version, fmt.Sprintf("http://127.0.0.1:%d", pub.PublisherPort), fmt.Sprintf("http://127.0.0.1:%d", exporterPort))
	return examineByProof(ctx, env, r, st, pub, exporterPort, root, unsure, environ)
}

// examineFigures reads what the parts say of themselves.
func examineFigures(ctx context.Context, r *doctor.Report, client *http.Client, version, publisher, exporter string) {
	versions := map[string]string{"this program": version}
	for _, part := range []struct{ name, address, metric string }{
		{"publisher", publisher, "quantum_harvest_publisher_build_info"}, {"exporter", exporter, "quantum_harvest_build_info"},
	} {
		f, err := proof.ReadFigures(ctx, client, part.address)
		if err != nil {
			continue // its port has a finding already
		}
		if v := f.Labels(part.metric, "version"); len(v) == 1 {
			versions[part.name] = v[0]
		}
		if n := f.Total("quantum_harvest_refused_positions"); n > 0 {
			r.Add(doctor.Critical, fmt.Sprintf("%.0f positions are refused", n), fmt.Sprintf("quantum_harvest_refused_positions is %.0f; reasons so far: %s", n, strings.Join(f.Labels("quantum_harvest_refusals_total", "reason"), ", ")),
				"their records are not what they should be, so nobody advises them", "journalctl -u quantum-harvest-proposal | grep refused")
		}
		if n := f.Total("quantum_harvest_uncovered_positions"); n > 0 && part.name == "exporter" {
			r.Add(doctor.Warning, fmt.Sprintf("%.0f open positions are outside SYMBOLS", n), fmt.Sprintf("quantum_harvest_uncovered_positions is %.0f", n), "SYMBOLS names others only", "harvest top")
		}
	}
	r.Versions(versions)
}

// examineByProof lets a proof look for a moment, and turns what does not hold into findings.
func examineByProof(ctx context.Context, env Env, r *doctor.Report, st *store.Store, pub config.Config, exporterPort int, root string, unsure map[string]string, environ []string) error {
	path := filepath.Join(root, hostUnits[0].env)
	if _, err := os.Stat(path); err != nil {
		path = ""
	}
	c, err := env.Config.ProofFor(path, append(append(config.RuleLines(filepath.Join(root, hostUnits[2].env)), environ...),
		fmt.Sprintf("MONITOR_EXPORTER_TARGETS=127.0.0.1:%d", exporterPort), fmt.Sprintf("MONITOR_PUBLISHER_TARGETS=127.0.0.1:%d", pub.PublisherPort))...)
	if err != nil {
		return err
	}
	env.Config = c
	o, err := proofOptions(env)
	if err != nil {
		return err
	}
	o.Reader, o.Quiet, o.Window = st, true, max(4*time.Second, 3*c.Heartbeat)
	pack, err := proof.Run(ctx, o)
	if err != nil {
		return err
	}
	r.FromProof(pack, unsure)
	return nil
}
