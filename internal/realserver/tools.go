//go:build unix

// Package realserver starts the real servers that tests are about, each with a directory and ports of its own, and finds
// the tools they need. A tool that is missing fails the test: a test that skips proves nothing.
package realserver

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Tool gives the path of an executable: from $PATH, else from .tools/bin of the repository. Where it is in neither,
// the test fails with the way to get it.
func Tool(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	root := repositoryRoot(t)
	path := filepath.Join(root, ".tools", "bin", name)
	if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
		return path
	}
	t.Fatalf("%s is neither in $PATH nor in %s: run `make tools`", name, filepath.Dir(path))
	return ""
}

// repositoryRoot is the nearest directory at or above the working directory that holds go.mod.
func repositoryRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("working directory: %v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatalf("no go.mod at or above the working directory")
		}
		dir = parent
	}
}

// Dir makes a directory that is removed when the test ends. Its path is short, because a unix socket's must be.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "qh")
	if err != nil {
		t.Fatalf("temporary directory: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
