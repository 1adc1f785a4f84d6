package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"quantumharvest/internal/statefile"
)

// stateFormat is the form of the state file. One of a newer program is not gone on with.
var stateFormat = statefile.Format{Kind: "the state of a deployment", Steps: []statefile.Step{statefile.Same}}

// Status is how far a step or a deployment is.
type Status string

// The statuses.
const (
	Pending     Status = "pending"
	Running     Status = "running"
	Done        Status = "done"
	RollingBack Status = "rolling back"
	RolledBack  Status = "rolled back"
)

// State is what is remembered of a deployment, so that another run goes on, or takes back what was done. Every change is
// written down before it is made.
type State struct {
	Begun    time.Time `json:"begun"`
	By       string    `json:"by"` // version of the program
	Root     string    `json:"root"`
	Manager  string    `json:"service_manager"`
	Status   Status    `json:"status"`
	Steps    []Step    `json:"steps"`
	Services []Service `json:"services"` // of before
	Changes  []Change  `json:"changes"`
	// Reason is why it was taken back.
	Reason string `json:"reason,omitempty"`
}

// Step is one of the seven.
type Step struct {
	Number int       `json:"number"`
	Name   string    `json:"name"`
	Status Status    `json:"status"`
	Ended  time.Time `json:"ended,omitzero"`
	Facts  []string  `json:"facts,omitempty"`
}

// Kind is what a change was made to.
type Kind string

// The kinds.
const (
	KindFile    Kind = "file"    // written, replaced or removed
	KindDir     Kind = "dir"     // made
	KindUser    Kind = "user"    // made
	KindService Kind = "service" // stopped, started, enabled or disabled
	KindRedis   Kind = "redis"   // ours began to write under the keys of the earlier publisher
	KindShadow  Kind = "shadow"  // a publisher under a prefix of its own
	KindServer  Kind = "server"  // told to read its configuration anew
)

// Change is one thing that was changed, with what is needed to take it back.
type Change struct {
	Step int    `json:"step"`
	Kind Kind   `json:"kind"`
	What string `json:"what"` // path, unit, user, prefix or server

	Absent bool        `json:"absent,omitempty"` // a file that was not there
	Backup string      `json:"backup,omitempty"` // its bytes as they were, a file in the folder of backups
	Sum    string      `json:"sha256,omitempty"`
	Link   string      `json:"link,omitempty"` // where it led, had it been a link
	Mode   fs.FileMode `json:"mode,omitempty"`
	UID    int         `json:"uid,omitempty"`
	GID    int         `json:"gid,omitempty"`

	Active  bool `json:"active,omitempty"` // a service that ran
	Enabled bool `json:"enabled,omitempty"`
	PID     int  `json:"pid,omitempty"`

	Undone bool `json:"undone,omitempty"`
}

func stateFile(dir string) string { return filepath.Join(dir, "state.json") }

// rollbackFile is what the state file is called once a rollback has begun that could not be written down.
func rollbackFile(dir string) string { return filepath.Join(dir, "state.rollback.json") }

// loadState reads the state of a deployment; nil where there is none.
func loadState(dir string) (*State, error) {
	var s State
	err := stateFormat.Load(stateFile(dir), &s)
	if statefile.Missing(err) {
		s = State{}
		if err = stateFormat.Load(rollbackFile(dir), &s); err == nil {
			s.Status, s.Reason = RollingBack, "it could not be written down how far the deployment was"
		}
	}
	switch {
	case statefile.Missing(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read how far the deployment is (what was changed is in the folder of backups beside it): %w", err)
	}
	return &s, nil
}

// markRollback notes that a rollback has begun where nothing can be written, as on a full disk: a file that is there still gets
// another name. The next run would otherwise take steps for done that were taken back.
func (r *run) markRollback() error {
	err := os.Rename(stateFile(r.dir), rollbackFile(r.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever written down, so nothing was changed
	}
	if err != nil {
		return fmt.Errorf("write down that it is taken back: %w", err)
	}
	return nil
}

// save writes the state so that a crash leaves the old or the new one, on the disk before anything else happens.
func (r *run) save() error {
	if err := stateFormat.Save(stateFile(r.dir), r.state); err != nil {
		return fmt.Errorf("write down how far the deployment is: %w", err)
	}
	_ = os.Remove(rollbackFile(r.dir)) // where both are there, the one that was written counts
	return nil
}

// sweep removes what a run that was killed left half written, in its own folder and beside the files that it was to change.
// Nobody else runs.
func (r *run) sweep() {
	// What cannot be removed is shown by the folder that stays.
	for _, dir := range []string{r.dir, filepath.Join(r.dir, "backups"), filepath.Join(r.dir, "units")} {
		_ = statefile.Sweep(dir)
	}
	if r.state == nil {
		return
	}
	for _, c := range r.state.Changes {
		if c.Kind == KindFile {
			_ = statefile.Sweep(filepath.Dir(c.What), filepath.Base(c.What))
		}
	}
}

// record writes a change down before it is made. What a step that was broken off wrote down already counts.
func (r *run) record(c Change) error {
	for _, old := range r.state.Changes {
		if old.Kind == c.Kind && old.What == c.What && !old.Undone && c.Kind != KindShadow {
			return nil
		}
	}
	c.Step = r.step
	r.state.Changes = append(r.state.Changes, c)
	return r.save()
}

// remember takes a backup of what is at path, nothing included, and writes it down.
func (r *run) remember(path string) error {
	c := Change{Kind: KindFile, What: path}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.Absent = true
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		if c.Link, err = os.Readlink(path); err != nil {
			return err
		}
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file: move it away, or name another place", path)
	default:
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		c.Mode, c.Sum = info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky), hex.EncodeToString(sum[:])
		c.UID, c.GID = ownerOf(info)
		c.Backup = fmt.Sprintf("%03d-%s", len(r.state.Changes), filepath.Base(path))
		for _, old := range r.state.Changes {
			if old.Kind == KindFile && old.What == path && !old.Undone {
				return nil // kept already, as it was before the first change
			}
		}
		if err := statefile.Write(filepath.Join(r.dir, "backups", c.Backup), raw); err != nil {
			return fmt.Errorf("keep %s: %w", path, err)
		}
	}
	return r.record(c)
}

// put writes a file of ours; what was there is kept for a rollback. It tells whether anything had to be changed.
func (r *run) put(path string, content []byte, mode fs.FileMode) (bool, error) {
	if is, err := os.ReadFile(path); err == nil && string(is) == string(content) {
		return false, nil
	}
	if err := r.mkdir(filepath.Dir(path)); err != nil {
		return false, err
	}
	if err := r.remember(path); err != nil {
		return false, err
	}
	as := []statefile.As{statefile.Mode(mode)}
	if info, err := os.Stat(path); err == nil {
		uid, gid := ownerOf(info)
		as = []statefile.As{statefile.Owner(uid, gid), statefile.Mode(info.Mode().Perm())}
	}
	if err := statefile.Write(path, content, as...); err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	return true, nil
}

// remove takes a file away; it is kept for a rollback.
func (r *run) remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := r.remember(path); err != nil {
		return err
	}
	return os.Remove(path)
}

// mkdir makes a folder with those above it.
func (r *run) mkdir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := r.mkdir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := r.record(Change{Kind: KindDir, What: dir}); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// restore puts a file back as it was, byte for byte.
func (r *run) restore(c Change) error {
	switch {
	case c.Absent:
		if err := os.Remove(c.What); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case c.Link != "":
		// A service manager removes folders of links that have become empty.
		if err := os.MkdirAll(filepath.Dir(c.What), 0o755); err != nil {
			return err
		}
		_ = os.Remove(c.What)
		return os.Symlink(c.Link, c.What)
	default:
		raw, err := os.ReadFile(filepath.Join(r.dir, "backups", c.Backup))
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != c.Sum {
			return fmt.Errorf("the backup %s of %s is damaged: its sum is another one", c.Backup, c.What)
		}
		info, err := os.Lstat(c.What)
		is, _ := os.ReadFile(c.What)
		if err != nil || !info.Mode().IsRegular() || string(is) != string(raw) {
			return statefile.Write(c.What, raw, statefile.Owner(c.UID, c.GID), statefile.Mode(c.Mode))
		}
		// The owner first: a change of it takes the bits of setuid and setgid away.
		if uid, gid := ownerOf(info); uid != c.UID || gid != c.GID {
			if err := os.Chown(c.What, c.UID, c.GID); err != nil {
				return err
			}
		}
		return os.Chmod(c.What, c.Mode)
	}
	return nil
}
