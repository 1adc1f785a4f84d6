package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const tree = "../.."

// found are the files of a pattern below the root of the tree; there must be as many as told.
func found(t *testing.T, pattern string, want int) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(tree, pattern))
	if err != nil || len(list) != want {
		t.Fatalf("%s: %d files, want %d (%v)", pattern, len(list), want, err)
	}
	return list
}

// analyze is systemd-analyze with an argument list.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze %s: %v\n%s\n(on Debian and Ubuntu: apt-get install systemd)", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// exposureLimit is what systemd may judge the units to be worth, of 10 where everything is open.
const exposureLimit = "2.0"

func TestUnitsAreHardened(t *testing.T) {
	for _, path := range found(t, "deploy/systemd/*.service", 3) {
		// The threshold is in tenths; beyond it systemd-analyze fails.
		analyze(t, "security", "--offline=true", "--threshold="+strings.ReplaceAll(exposureLimit, ".", ""), path)
	}
}

func TestUnitsAreClean(t *testing.T) {
	dir := t.TempDir()
	var copies []string
	for _, path := range found(t, "deploy/systemd/*.service", 3) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// Where the program is not installed, verify would say nothing but that.
		copied := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(copied, []byte(strings.ReplaceAll(string(text), "/usr/bin/harvest ", "/bin/true ")), 0o600); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, copied)
	}
	if out := analyze(t, append([]string{"verify", "--man=no"}, copies...)...); strings.TrimSpace(out) != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
}

// Every credential has something that stands in for it, so that a unit starts where the operator has put none.
func TestUnitsStartWithoutCredentials(t *testing.T) {
	for _, path := range found(t, "deploy/systemd/*.service", 3) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "LoadCredential="); ok {
				name, _, _ := strings.Cut(rest, ":")
				if !strings.Contains(string(text), "\nSetCredential="+name+":") {
					t.Errorf("%s: %s has no SetCredential= to fall back on", path, name)
				}
			}
		}
	}
}

func TestScriptsAreShell(t *testing.T) {
	common, err := os.ReadFile(filepath.Join(tree, "deploy/packages/scripts/common.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found(t, "deploy/packages/scripts/*.sh", 7) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = strings.NewReader(string(common) + string(text))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}

func TestVersions(t *testing.T) {
	for said, want := range map[string]string{
		"v1.2.0": "1.2.0", "v1.2.0-rc.1": "1.2.0~rc.1", "v1.2.0-3-gabc123": "1.2.0+3.abc123", "v1.2.0-rc.1-3-gabc123": "1.2.0~rc.1+3.abc123",
		"0~git20260102030405.abc": "0~git20260102030405.abc",
	} {
		out, err := exec.Command("./version.sh", said).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s: got %q, want %q (%v)", said, got, want, err)
		} else if err := checkVersion(got); err != nil {
			t.Error(err)
		}
	}
	for _, pair := range [][2]string{
		{"0~git20260102030405.abc", "0~git20260102030406.aaa"},
		{"0~git20260102030406.aaa", "0.1.0"},
		{"1.2.0~rc.1", "1.2.0"},
		{"1.2.0", "1.2.0+3.abc"},
		{"1.2.0+3.abc", "1.2.1~rc.1"},
	} {
		if out, err := exec.Command("dpkg", "--compare-versions", pair[0], "lt", pair[1]).CombinedOutput(); err != nil {
			t.Errorf("dpkg does not sort %s before %s: %v %s", pair[0], pair[1], err, out)
		}
	}
	for _, bad := range []string{"", "v1.0", "1.0-1", "1.0 ", "1:2"} {
		if err := checkVersion(bad); err == nil {
			t.Errorf("the version %q is taken", bad)
		}
	}
}

func TestCompareFindsWhatDiffers(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	put := func(dir, name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(a, "same", "x")
	put(b, "same", "x")
	if err := compare(a, b); err != nil {
		t.Error(err)
	}
	put(a, "other", "x")
	put(b, "other", "y")
	if err := compare(a, b); err == nil || !strings.Contains(err.Error(), "other is not reproducible") {
		t.Errorf("got %v", err)
	}
	put(a, "alone", "x")
	if err := compare(a, b); err == nil {
		t.Error("a file that is made once only is no difference")
	}
}

func TestPlaces(t *testing.T) {
	for in, want := range map[string]string{
		"LICENSE":                   "/usr/share/doc/quantum-harvest/copyright",
		"man/harvest.1":             "/usr/share/man/man1/harvest.1",
		"docs/runbooks/README.md":   "/usr/share/doc/quantum-harvest/docs/runbooks/README.md",
		"docs/README.md":            "/usr/share/doc/quantum-harvest/docs/README.md", // beside the README of the root
		"README.md":                 "/usr/share/doc/quantum-harvest/README.md",
		"alerts/x.yml":              "/usr/share/quantum-harvest/alerts/x.yml",
		"completions/zsh/_harvest":  "/usr/share/zsh/vendor-completions/_harvest",
		"completions/bash/harvest":  "/usr/share/bash-completion/completions/harvest",
		"systemd/x.service":         "/usr/lib/systemd/system/x.service",
		"dashboards/freshness.json": "/usr/share/quantum-harvest/dashboards/freshness.json",
	} {
		if got := place("deb", in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestRootsAreThere(t *testing.T) {
	if n := strings.Count(string(roots()), "BEGIN CERTIFICATE"); n < 100 {
		t.Errorf("%d certificates", n)
	}
}

// jsonOf is for comparing what is decoded with what stands there.
func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
