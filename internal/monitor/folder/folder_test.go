package folder

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"quantumharvest/internal/statefile"
)

func quietly() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestOneProcessAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	f, err := Open(dir, quietly())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, quietly())
	if want := fmt.Sprintf("in use by process %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a second one gets %v, want %q", err, want)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, quietly())
	if err != nil {
		t.Fatalf("after it was released: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestATemporaryFolderIsRemoved(t *testing.T) {
	f, err := Open("", quietly())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.Path("x"), nil, 0o600); err != nil || !f.Temporary() {
		t.Fatalf("temporary %v, %v", f.Temporary(), err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.Path("")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestWhatAKilledProcessLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	left, ours := filepath.Join(dir, "token.tmp123"), filepath.Join(dir, "token")
	for _, path := range []string{left, ours} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Open(dir, quietly())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Stat(ours); err != nil {
		t.Error(err)
	}
}

func TestSetAsideKeepsAFew(t *testing.T) {
	var log strings.Builder
	f, err := Open(t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range statefile.Kept + 2 {
		if err := os.WriteFile(f.Path("part"), []byte{byte('0' + i)}, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.SetAside("part", errors.New("torn")); err != nil {
			t.Fatal(err)
		}
	}
	copies, _ := filepath.Glob(f.Path("part.damaged-*"))
	if len(copies) != statefile.Kept {
		t.Fatalf("%d copies are kept, want %d", len(copies), statefile.Kept)
	}
	for i, c := range copies {
		if text, _ := os.ReadFile(c); string(text) != fmt.Sprint(i+2) {
			t.Errorf("copy %d is %q: not the newest are kept", i, text)
		}
	}
	if n := f.Damaged()["part"]; n != statefile.Kept+2 {
		t.Errorf("counted %d", n)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "torn") {
		t.Errorf("it is not said loudly: %s", log.String())
	}
	if err := f.SetAside("absent", errors.New("torn")); err == nil || !strings.Contains(err.Error(), "torn") {
		t.Errorf("what cannot be moved gives %v", err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "below"), quietly()); err == nil || !strings.Contains(err.Error(), "make the data folder") {
		t.Errorf("below a file: %v", err)
	}
	t.Setenv("TMPDIR", filepath.Join(file, "below"))
	if _, err := Open("", quietly()); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("without a place for temporary files: %v", err)
	}
}

// Where anybody may write, anybody may put a link in place of a file of ours.
func TestAFolderForEverybodyIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a mode says nothing there")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, quietly()); err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("opened: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("something was written: %v, %v", entries, err)
	}
}
