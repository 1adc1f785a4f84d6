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
	h.command(t, "usermod", "")
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

// without lacks user, group or both until systemd-sysusers makes them.
func (h host) without(t *testing.T, what ...string) {
	t.Helper()
	lacks := ""
	for _, w := range what {
		lacks += map[string]string{"user": "passwd", "group": "group"}[w] + "|"
	}
	h.command(t, "getent", `case "$1" in `+strings.TrimSuffix(lacks, "|")+") exit 2 ;; esac")
	h.command(t, "systemd-sysusers", "")
}

// A purge takes away what the package made of user and group, and nothing of before.
func TestPurgeLeavesAUserOfBefore(t *testing.T) {
	for name, c := range map[string]struct{ lacks, goes, stays string }{
		"both were there":      {"", "", "userdel groupdel"},
		"both are ours":        {"user group", "userdel groupdel", ""},
		"a group of one's own": {"user", "userdel", "groupdel"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			if c.lacks != "" {
				h.without(t, strings.Fields(c.lacks)...)
			}
			h.run(t, "deb-postinst.sh", "configure", "")
			h.command(t, "getent", "")
			h.run(t, "deb-postinst.sh", "configure", "1.0.0") // an upgrade finds the user there
			h.run(t, "deb-postrm.sh", "remove")
			called, _ := h.run(t, "deb-postrm.sh", "purge")
			for _, command := range strings.Fields(c.goes) {
				if !strings.Contains(called, command+" quantum-harvest") {
					t.Errorf("%s is not called:\n%s", command, called)
				}
			}
			for _, command := range strings.Fields(c.stays) {
				if strings.Contains(called, command) {
					t.Errorf("%s is called:\n%s", command, called)
				}
			}
			// userdel removes the first group of a user that has the same name.
			moved := strings.Index(called, "usermod -g nogroup quantum-harvest")
			if strings.Contains(c.goes, "userdel") && strings.Contains(c.stays, "groupdel") && (moved < 0 || moved > strings.Index(called, "userdel")) {
				t.Errorf("the group goes with the user:\n%s", called)
			}
			if _, err := os.Lstat(filepath.Join(h.dir, "var/lib/quantum-harvest-package")); err == nil {
				t.Error("what the package remembered is left behind")
			}
		})
	}
}

// harvest deploy puts units below /etc: they run the program of the package, and an upgrade restarts them. What runs another program
// it leaves alone.
func TestAnUpgradeRestartsWhatRunsTheProgram(t *testing.T) {
	for script, args := range map[string][]string{"deb-postinst.sh": {"configure", "1.0.0"}, "rpm-postun.sh": {"1"}} {
		h := newHost(t)
		h.write(t, "etc/systemd/system/quantum-harvest-proposal.service", "[Service]\nExecStart=/usr/bin/harvest publish --env-file x\n")
		h.write(t, "etc/systemd/system/quantum-harvest-metrics-exporter.service", "[Service]\nExecStart=/usr/bin/python3 /opt/harvest/exporter.py\n")
		called, _ := h.run(t, script, args...)
		for unit, want := range map[string]bool{"proposal": true, "metrics-exporter": false, "monitor": true} {
			if got := strings.Contains(called, "systemctl try-restart quantum-harvest-"+unit+".service"); got != want {
				t.Errorf("%s: %s is restarted: %t\n%s", script, unit, got, called)
			}
		}
		if strings.Contains(called, "invoke start") {
			t.Errorf("%s starts what was stopped:\n%s", script, called)
		}
	}
}

// A user that something still runs as cannot be removed: that must not leave the package half removed.
func TestPurgeWithAUserThatIsInUse(t *testing.T) {
	h := newHost(t)
	h.without(t, "user", "group")
	h.run(t, "deb-postinst.sh", "configure", "")
	h.command(t, "getent", "")
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
