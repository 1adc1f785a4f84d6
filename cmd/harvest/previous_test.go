//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// previousRelease is the commit of the release before this one: what is upgraded from, and gone back to. A release moves it on
// to its own commit when it is out (docs/UPGRADE.md).
const previousRelease = "fb4b0259e70ec2b38dc5b090542a8c1b6ee4fb4b"

// previousHarvest gives the program of the release before, built from its own source once and kept in .tools/old.
func previousHarvest(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(root, ".tools", "old", previousRelease, "harvest")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	run := func(dir, hint, name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s\n%s", name, strings.Join(args, " "), err, out, hint)
		}
	}
	if !hasHistory(root) {
		t.Skip("this copy of the repository has no history, from which the release before is built: git fetch --unshallow brings it")
	}
	source := t.TempDir()
	archive := filepath.Join(source, "source.tar")
	run(root, "previousRelease names a commit of this repository",
		"git", "archive", "--format=tar", "-o", archive, previousRelease)
	run(source, "tar unpacks the source of the release before", "tar", "-xf", archive)
	run(source, "the release before does not build with this Go; previousRelease names it", "go", "build", "-o", "harvest.new", "./cmd/harvest")
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		t.Fatal(err)
	}
	// Another run may do the same: each puts a whole file there.
	beside := filepath.Join(filepath.Dir(binary), "harvest."+filepath.Base(source))
	text, err := os.ReadFile(filepath.Join(source, "harvest.new"))
	if err == nil {
		err = os.WriteFile(beside, text, 0o755)
	}
	if err == nil {
		err = os.Rename(beside, binary)
	}
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// hasHistory tells a clone from an archive of the source and from a shallow clone.
func hasHistory(root string) bool {
	out, err := exec.Command("git", "-C", root, "rev-parse", "--is-shallow-repository").Output()
	return err == nil && strings.TrimSpace(string(out)) == "false"
}
