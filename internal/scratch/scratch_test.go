package scratch

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("SCRATCH_TEST_DIE") != "" {
		f, err := New("trial")
		if err != nil {
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString(f.Path)
		os.Exit(0) // without removing it, as a kill does
	}
	os.Exit(m.Run())
}

// What a process left that ended without cleaning up is removed by the next one; what lives, is new or is somebody else's stays.
func TestLeftBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SCRATCH_TEST_DIE=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	left := string(out)
	if err := os.WriteFile(filepath.Join(left, "data"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	old := func(path string) {
		t.Helper()
		at := time.Now().Add(-2 * settled)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	is := func(path string, want bool) {
		t.Helper()
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", path, err == nil, want)
		}
	}
	foreign := filepath.Join(os.TempDir(), "harvest-trial-of-somebody")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	old(foreign)
	first, err := New("trial")
	if err != nil {
		t.Fatal(err)
	}
	is(left, true) // young: it might be about to be locked
	old(left)
	old(first.Path)
	second, err := New("trial")
	if err != nil {
		t.Fatal(err)
	}
	is(left, false)
	is(first.Path, true)
	is(foreign, true)
	for _, f := range []*Folder{first, second} {
		if err := f.Remove(); err != nil {
			t.Error(err)
		}
		is(f.Path, false)
	}
	t.Setenv("TMPDIR", filepath.Join(os.TempDir(), "not", "there"))
	if _, err := New("trial"); err == nil {
		t.Error("a folder where there is no place for it")
	}
}
