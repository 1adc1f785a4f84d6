//go:build unix

package config

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAPipeIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe.csv")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := load(t, Up, []string{"--feed=file:" + path})
	if err == nil || !strings.Contains(err.Error(), "pipe") {
		t.Fatalf("error %v does not say that it is a pipe", err)
	}
}
