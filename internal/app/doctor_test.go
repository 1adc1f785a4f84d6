//go:build linux

package app_test

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"

	"quantumharvest/internal/app"
	"quantumharvest/internal/buildinfo"
	"quantumharvest/internal/config"
)

// nobody is a user that owns nothing.
const nobody = 65534

// visit has the doctor look at a root, as a user that is not root where that is asked for.
func visit(t *testing.T, asNobody bool, args ...string) (string, error) {
	t.Helper()
	flags := pflag.NewFlagSet("doctor", pflag.ContinueOnError)
	config.Register(flags, config.Doctor)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(flags, config.Doctor, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	done := make(chan error)
	go func() {
		if asNobody && os.Geteuid() == 0 {
			runtime.LockOSThread() // and never given back: the thread ends with this goroutine
			if err := syscall.Setfsuid(nobody); err != nil {
				done <- err
				return
			}
		}
		done <- app.Doctor(t.Context(), app.Env{Config: c, Build: buildinfo.Read(), Out: &out, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	}()
	err = <-done
	return out.String(), err
}

// host is a root with an env file for each service, and its units.
func host(t *testing.T, envs map[string]string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range envs {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, text)
	}
	return root
}

const (
	proposalEnv = "etc/quantum/harvest-proposal.env"
	exporterEnv = "etc/quantum/harvest-metrics-exporter.env"
	monitorEnv  = "etc/quantum/harvest-monitor.env"
)

// What this user may not read is unknown: neither wrong nor missing, and nothing that rests on it is judged.
func TestTheDoctorAsAUserWhoMayNotReadTheSettings(t *testing.T) {
	root := host(t, map[string]string{proposalEnv: "REDIS_PORT=1\n", exporterEnv: "REDIS_PORT=1\n", monitorEnv: ""})
	if os.Geteuid() != 0 {
		for _, name := range []string{proposalEnv, exporterEnv, monitorEnv} {
			if err := os.Chmod(filepath.Join(root, name), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, mode := range map[string]os.FileMode{"files of root's": 0o755, "a folder that may not be entered": 0o700} {
		if err := os.Chmod(filepath.Join(root, "etc/quantum"), mode); err != nil {
			t.Fatal(err)
		}
		out, _ := visit(t, true, "--root", root, "--service-manager", "exec")
		for _, want := range []string{
			"UNKNOWN: the settings of quantum-harvest-proposal.service", "cannot be read as user", filepath.Join(root, proposalEnv),
			"UNKNOWN: ports, Redis, proposals, alerts", "fix:  sudo harvest doctor", "4 things could not be looked at",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: the report lacks %q:\n%s", name, want, out)
			}
		}
		for _, wrong := range []string{"stop its start", "Redis cannot be read", "nobody listens", "CRITICAL: the settings"} {
			if strings.Contains(out, wrong) {
				t.Errorf("%s: the report says %q:\n%s", name, wrong, out)
			}
		}
	}
	if err := os.Chmod(filepath.Join(root, "etc/quantum"), 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		out, err := visit(t, false, "--root", root, "--service-manager", "exec")
		if err == nil || !strings.Contains(out, "CRITICAL: Redis cannot be read") || strings.Contains(out, "UNKNOWN") {
			t.Errorf("as root, %v:\n%s", err, out)
		}
	}
}
