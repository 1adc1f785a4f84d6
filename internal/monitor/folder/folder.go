// Package folder is the place on disk of one monitor: it belongs to one process at a time, what is damaged in it is set
// aside instead of stopping the start, and without a place of its own it is made anew and removed at the end.
package folder

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"quantumharvest/internal/scratch"
	"quantumharvest/internal/statefile"
)

const (
	lockFile = "monitor.lock"
	pidFile  = "monitor.pid"
	// stampLayout sorts as text in the order of time.
	stampLayout = "20060102T150405.000000000Z"
)

// Folder is an open data folder. Close releases it.
type Folder struct {
	path      string
	temporary *scratch.Folder // nil: it lasts
	lock      *flock.Flock
	log       *slog.Logger

	mu      sync.Mutex
	damaged map[string]int
}

// Open makes the folder where it is missing and takes it. A blank path makes a temporary one, removed by Close. A
// folder that another living process has is an error that names the process.
func Open(path string, log *slog.Logger) (*Folder, error) {
	f := &Folder{path: path, log: log, damaged: map[string]int{}}
	if path == "" {
		dir, err := scratch.New("monitor")
		if err != nil {
			return nil, fmt.Errorf("monitor: %w (--data names a lasting one)", err)
		}
		f.path, f.temporary = dir.Path, dir
		return f, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("monitor: data folder %s: %w", path, err)
	}
	f.path = abs
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("monitor: make the data folder: %w", err)
	}
	if err := ofTrustedHands(abs); err != nil {
		return nil, err
	}
	f.lock = flock.New(filepath.Join(abs, lockFile), flock.SetPermissions(0o600))
	taken, err := f.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("monitor: lock the data folder %s: %w", abs, err)
	}
	if !taken {
		return nil, fmt.Errorf("monitor: the data folder %s is in use by %s: stop that one, or give this one a folder of its own (--data)",
			abs, owner(filepath.Join(abs, pidFile)))
	}
	if err := os.WriteFile(filepath.Join(abs, pidFile), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		_ = f.lock.Close()
		return nil, fmt.Errorf("monitor: the data folder cannot be written: %w", err)
	}
	if err := statefile.Sweep(f.path); err != nil {
		f.log.Warn("what a killed process left half written cannot be removed", "err", err)
	}
	if err := f.bringForward(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ofTrustedHands refuses a folder in which anybody may put what we then write through: a link in place of the token leads
// what is written to another file. Windows does not say in a mode who may write.
func ofTrustedHands(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("monitor: look at the data folder: %w", err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("monitor: everybody may write into the data folder %s, and could put a link where the token is written: chmod o-w it, or give --data another folder", dir)
	}
	return nil
}

// owner names the process that wrote the file.
func owner(path string) string {
	text, err := os.ReadFile(path)
	if pid, bad := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && bad == nil {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}

// Path is where the part of that name is kept.
func (f *Folder) Path(name string) string { return filepath.Join(f.path, name) }

// Temporary tells that nothing in it outlives Close.
func (f *Folder) Temporary() bool { return f.temporary != nil }

// SetAside moves a damaged part out of the way, says so and counts it, so that the part can begin anew. The copy keeps
// its name with the time of the move; only the newest few are kept.
func (f *Folder) SetAside(name string, cause error) error {
	return f.SetPieceAside(name, f.Path(name), cause)
}

// SetPieceAside does the same with one piece of many that are of one kind; the others stay in use.
func (f *Folder) SetPieceAside(kind, path string, cause error) error {
	to := f.Path(kind + ".damaged-" + time.Now().UTC().Format(stampLayout))
	if err := os.Rename(path, to); err != nil {
		return fmt.Errorf("monitor: %s is damaged (%w) and cannot be moved out of the way: %w", path, cause, err)
	}
	f.log.Error("data of the monitor is damaged: it was set aside, and the monitor goes on without it", "part", kind, "moved_to", to, "err", cause)
	f.mu.Lock()
	f.damaged[kind]++
	f.mu.Unlock()
	if err := statefile.KeepNewest(f.Path(kind + ".damaged-*")); err != nil {
		f.log.Warn("an old damaged copy cannot be removed", "part", kind, "err", err)
	}
	return nil
}

// Damaged is how often each part was set aside since Open.
func (f *Folder) Damaged() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.damaged)
}

// Close releases the folder, and removes a temporary one.
func (f *Folder) Close() error {
	if f.temporary != nil {
		if err := f.temporary.Remove(); err != nil {
			return fmt.Errorf("monitor: remove the temporary folder: %w", err)
		}
		return nil
	}
	// The pid goes first: between the two nobody finds a name that means nobody.
	err := errors.Join(os.Remove(f.Path(pidFile)), f.lock.Close())
	if err != nil {
		return fmt.Errorf("monitor: release the data folder: %w", err)
	}
	return nil
}
