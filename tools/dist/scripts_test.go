package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// host is a machine on which scripts of the package run: folders of its own, and commands that only note how they were
// called.
type host struct{ dir string }

func newHost(t *testing.T) host {
	h := host{t.TempDir()}
	h.write(t, "shipped/harvest-proposal.env", "A=1\n")
	h.write(t, "shipped/harvest-metrics-exporter.env", "A=1\n")
	h.write(t, "shipped/harvest-monitor.env", "A=1\n")
	h.command(t, "systemctl", "")
	h.command(t, "deb-systemd-helper", "")
	h.command(t, "deb-systemd-invoke", "")
	h.command(t, "getent", "") // the user is there
	h.command(t, "userdel", "")
	h.command(t, "groupdel", "")
	h.command(t, "install", `for last in "$@"; do from=${to:-}; to=$last; done; cp "$from" "$to"`) // root's owner is root's to give
	return h
}

func (h host) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (h host) command(t *testing.T, name, body string) {
	h.write(t, "bin/"+name, "#!/bin/sh\necho \""+name+" $*\" >>"+h.dir+"/called\n"+body+"\n")
}

// run runs a script as the package manager does and gives what it called.
func (h host) run(t *testing.T, script string, args ...string) (called, said string) {
	t.Helper()
	var text strings.Builder
	text.WriteString("set -e\n")
	for _, name := range []string{"common.sh", script} {
		part, err := os.ReadFile(filepath.Join(tree, "deploy/packages/scripts", name))
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(strings.NewReplacer("/run/systemd/system", h.dir, "/etc/", h.dir+"/etc/", "=/usr/share/quantum-harvest/env", "="+h.dir+"/shipped",
			"/var/lib/", h.dir+"/var/lib/").Replace(string(part)))
	}
	path := filepath.Join(h.dir, "script")
	h.write(t, "script", text.String())
	if err := os.MkdirAll(filepath.Join(h.dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(h.dir, "called"))
	cmd := exec.Command("sh", append([]string{path}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+h.dir+"/bin:"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", script, strings.Join(args, " "), err, out)
	}
	list, err := os.ReadFile(filepath.Join(h.dir, "called"))
	if err != nil {
		t.Fatal(err)
	}
	return string(list), string(out)
}

const starts = "deb-systemd-invoke start quantum-harvest-proposal.service"

// dpkg gives the version that was there to the installation after a removal, too: that one starts what the removal stopped, and
// an upgrade does not start what somebody stopped.
func TestDebStartsWhatARemovalStopped(t *testing.T) {
	h := newHost(t)
	if called, _ := h.run(t, "deb-postinst.sh", "configure", ""); !strings.Contains(called, starts) {
		t.Errorf("a first installation starts nothing:\n%s", called)
	}
	upgrade := func() {
		t.Helper()
		called, _ := h.run(t, "deb-postinst.sh", "configure", "1.0.0")
		if strings.Contains(called, "invoke start") || strings.Count(called, "systemctl try-restart") != 3 {
			t.Errorf("an upgrade calls\n%s", called)
		}
	}
	upgrade()
	if called, _ := h.run(t, "deb-prerm.sh", "remove"); !strings.Contains(called, "deb-systemd-invoke stop quantum-harvest-proposal.service") {
		t.Errorf("a removal stops nothing:\n%s", called)
	}
	h.run(t, "deb-postrm.sh", "remove")
	if called, _ := h.run(t, "deb-postinst.sh", "configure", "1.0.0"); !strings.Contains(called, starts) {
		t.Errorf("an installation after a removal starts nothing:\n%s", called)
	}
	upgrade()
	h.run(t, "deb-prerm.sh", "remove")
	h.run(t, "deb-postrm.sh", "remove")
	h.run(t, "deb-postrm.sh", "purge")
	for _, left := range []string{"etc/quantum", "var/lib/quantum-harvest-package"} {
		if _, err := os.Lstat(filepath.Join(h.dir, left)); err == nil {
			t.Errorf("%s is left behind", left)
		}
	}
}

// A user that something still runs as cannot be removed: that must not leave the package half removed.
func TestPurgeWithAUserThatIsInUse(t *testing.T) {
	h := newHost(t)
	h.run(t, "deb-postinst.sh", "configure", "")
	h.command(t, "userdel", "exit 8")
	h.command(t, "groupdel", "exit 8")
	if _, said := h.run(t, "deb-postrm.sh", "purge"); !strings.Contains(said, "the user quantum-harvest stays") {
		t.Errorf("it is not said that the user stays: %q", said)
	}
}

// What is said beside earlier services must be what works: a unit below /etc goes before that of the package.
func TestWhatIsSaidBesideEarlierServices(t *testing.T) {
	h := newHost(t)
	h.write(t, "etc/systemd/system/quantum-harvest-proposal.service", "[Service]\n")
	h.write(t, "etc/quantum/harvest-proposal.env", "SYMBOLS=BTCUSDT\n")
	called, said := h.run(t, "deb-postinst.sh", "configure", "")
	if strings.Contains(called, "invoke start") || strings.Contains(called, "helper enable") {
		t.Errorf("services are started beside the earlier ones:\n%s", called)
	}
	if strings.Contains(said, "*.env") || strings.Contains(said, "etc/quantum/harvest-monitor.env") {
		t.Errorf("files that are not in question are named:\n%s", said)
	}
	for _, want := range []string{"harvest deploy", "/etc/systemd/system/quantum-harvest-proposal.service", "chgrp quantum-harvest", "systemctl enable --now"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said:\n%s", want, said)
		}
	}
}
