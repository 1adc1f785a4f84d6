package service

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, root, path, text string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	root := t.TempDir()
	write(t, root, "usr/lib/systemd/system/a.service", "[Service]\nExecStart=/bin/false\n")
	write(t, root, "etc/systemd/system/a.service", "# mine\n[Unit]\nDescription=x\n[Service]\nEnvironment=A=1 \"B=two words\"\nEnvironmentFile=-/etc/%p.env\n"+
		"ExecStart=-/usr/bin/python3 -m x \\\n  --name %n --value ${B} $A\nRestart=on-failure\nRestartSec=2s\nTimeoutStopSec=1min 30s\n")
	write(t, root, "etc/systemd/system/a.service.d/more.conf", "[Service]\nEnvironment=C=3\n")
	u, err := Read(root, "a.service")
	if err != nil {
		t.Fatal(err)
	}
	want := Unit{
		Name: "a.service", Path: filepath.Join(root, "etc/systemd/system/a.service"),
		Exec:        []string{"/usr/bin/python3", "-m", "x", "--name", "a.service", "--value", "${B}", "$A"},
		Environment: []string{"A=1", "B=two words", "C=3"}, EnvironmentFiles: []EnvironmentFile{{"/etc/a.env", true}},
		Restart: "on-failure", RestartDelay: 2 * time.Second, StopWithin: 90 * time.Second,
	}
	if diff := cmp.Diff(want, u); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	got := expand(u.Exec, []string{"A=1 2", "B=two words"})
	if diff := cmp.Diff([]string{"/usr/bin/python3", "-m", "x", "--name", "a.service", "--value", "two words", "1", "2"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := Read(root, "b.service"); !errors.Is(err, ErrNoUnit) {
		t.Errorf("a unit that is nowhere: %v", err)
	}
	for name, text := range map[string]string{
		"no command": "[Service]\nType=simple\n", "an open quote": "[Service]\nExecStart=/bin/a 'b\n", "no line": "[Service]\nExecStart\n",
		"no time": "[Service]\nExecStart=/bin/a\nRestartSec=soon\n",
	} {
		write(t, root, "etc/systemd/system/bad.service", text)
		if _, err := Read(root, "bad.service"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
