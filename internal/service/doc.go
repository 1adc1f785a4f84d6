// Package service starts and stops the services of a host by the units that describe them: through systemd, or, where
// there is none, through a small supervisor of ours that runs what a unit says and keeps its process id in a file.
//
// Both read the same unit files from the same places, so a host may change from one to the other.
package service

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Manager starts and stops services. Names are those of units, with their ending.
type Manager interface {
	// Name is how the manager is called in texts.
	Name() string
	// Active tells whether the service runs.
	Active(ctx context.Context, unit string) (bool, error)
	// Enabled tells whether the service is started with the host.
	Enabled(ctx context.Context, unit string) (bool, error)
	// Start, Stop, Enable and Disable do nothing where it is so already.
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
	// Signal asks a running service to read its configuration anew.
	Signal(ctx context.Context, unit string) error
	// Reread makes changed unit files count.
	Reread(ctx context.Context) error
	// ByHand is the command that does one of these by hand: start, stop, status.
	ByHand(verb, unit string) string
}

// unitDirs are where units are, below the root; the first one that has a unit counts.
var unitDirs = []string{"etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"}

// AdminDir is where units of the operator are: they come before those of packages.
const AdminDir = "etc/systemd/system"

// wants holds a link for every unit that is started with the host.
const wants = AdminDir + "/multi-user.target.wants"

// ErrNoUnit is a unit that is nowhere.
var ErrNoUnit = errors.New("there is no such unit")

// Find gives the file of a unit below root.
func Find(root, unit string) (string, error) {
	for _, dir := range unitDirs {
		path := filepath.Join(root, dir, unit)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", ErrNoUnit
}
