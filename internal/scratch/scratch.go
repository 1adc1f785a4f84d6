// Package scratch makes temporary folders that do not pile up: a folder is locked for as long as its process lives, and what
// killed processes left is removed when the next one is made.
package scratch

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const lockFile = ".scratch.lock"

// settled is the age from which a folder without a living process is taken for left behind: a younger one may be about to be
// locked.
const settled = time.Minute

// Folder is one temporary folder.
type Folder struct {
	Path string
	lock *flock.Flock
}

// New makes a folder of that kind ("monitor") in the system's place for temporary files, and removes those of the kind that
// belong to nobody any more.
func New(kind string) (*Folder, error) {
	prefix := "harvest-" + kind + "-"
	sweep(os.TempDir(), prefix)
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder: %w (TMPDIR names another place)", err)
	}
	f := &Folder{Path: dir, lock: flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600))}
	if taken, err := f.lock.TryLock(); err != nil || !taken {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("lock the temporary folder %s: %w", dir, err)
	}
	return f, nil
}

// Remove removes the folder with all that is in it.
func (f *Folder) Remove() error {
	// Unlocked first, because some systems do not remove an open file. Nobody takes it for left behind: whoever sweeps removes
	// it just the same.
	_ = f.lock.Close()
	return os.RemoveAll(f.Path)
}

// sweep removes what killed processes left. What cannot be removed, or is somebody else's, stays: a start never fails for it.
func sweep(dir, prefix string) {
	left, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
	if err != nil {
		return
	}
	for _, path := range left {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < settled {
			continue
		}
		name := filepath.Join(path, lockFile)
		if _, err := os.Lstat(name); err != nil {
			continue // not made here
		}
		lock := flock.New(name, flock.SetPermissions(0o600))
		if free, err := lock.TryLock(); err != nil || !free {
			continue // it lives
		}
		_ = lock.Close()
		_ = os.RemoveAll(path)
	}
}
