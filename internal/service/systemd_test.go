//go:build unix

package service

import (
	"os"
	"path/filepath"
	"testing"
)

// answer puts a systemctl on PATH that says that and exits so.
func answer(t *testing.T, says, complains string, code string) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nprintf '" + says + "'\nprintf '" + complains + "' >&2\nexit " + code + "\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

// A systemd that cannot be asked is not a service that does not run: two would write at once.
func TestSystemdThatDoesNotAnswer(t *testing.T) {
	answer(t, "", "Failed to connect to bus: Connection refused", "1")
	if on, err := (Systemd{}).Active(t.Context(), "a.service"); err == nil {
		t.Errorf("no answer is taken for one: running: %t", on)
	}
	if on, err := (Systemd{}).Enabled(t.Context(), "a.service"); err == nil {
		t.Errorf("no answer is taken for one: enabled: %t", on)
	}
}

func TestSystemdAnswers(t *testing.T) {
	for word, x := range map[string]struct {
		code string
		want bool
	}{
		"active": {"0", true}, "activating": {"3", true}, "reloading": {"0", true}, "inactive": {"3", false}, "failed": {"3", false}, "unknown": {"4", false},
		"deactivating": {"3", true},
	} {
		answer(t, word+"\\n", "", x.code)
		if on, err := (Systemd{}).Active(t.Context(), "a.service"); err != nil || on != x.want {
			t.Errorf("%s: running: %t, %v", word, on, err)
		}
	}
	for word, code := range map[string]string{"disabled": "1", "masked": "1", "static": "0", "not-found": "4"} {
		answer(t, word+"\\n", "", code)
		if on, err := (Systemd{}).Enabled(t.Context(), "a.service"); err != nil || on {
			t.Errorf("%s: enabled: %t, %v", word, on, err)
		}
	}
}

func TestByHandOfTheSupervisor(t *testing.T) {
	root := t.TempDir()
	write(t, root, "usr/lib/systemd/system/a.service", "[Service]\nExecStart=/bin/false\n")
	e := Exec{Root: root}
	link := filepath.Join(root, "etc/systemd/system/multi-user.target.wants")
	if got, want := e.ByHand("enable", "a.service"), "ln -s "+root+"/usr/lib/systemd/system/a.service "+link+"/"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
	if got := e.ByHand("disable --now", "a.service"); got != "rm -f "+link+"/a.service; kill $(head -1 "+root+"/run/quantum-harvest/a.service.pid)" {
		t.Errorf("%q", got)
	}
}
