// Package statefile is how a file is kept from one run to the next, and from one release to the next: it is replaced as a
// whole, says in which format it is, is brought forward from earlier formats with a copy of what was before, and one of a
// newer release is refused and left as it is.
package statefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kept is how many copies of one file are kept, of each kind; older ones are removed, so that no folder fills up with them.
const Kept = 3

// partial follows the name of a file that is being written; a number comes after it.
const partial = ".tmp"

// stampLayout sorts as text in the order of time.
const stampLayout = "20060102T150405.000000000Z"

// NewerError tells that a file is of a release that came after this one. It was not touched.
type NewerError struct {
	Path         string
	Found, Known int // formats
}

// Error names the file and what to do.
func (e *NewerError) Error() string {
	return fmt.Sprintf("%s is of a newer release (format %d, this one knows %d at most) and was left as it is: start that release again, or name another place",
		e.Path, e.Found, e.Known)
}

// Refuse is the error for a file in a format that is not known yet, nil where it is.
func Refuse(path string, found, known int) error {
	if found <= known {
		return nil
	}
	return &NewerError{Path: path, Found: found, Known: known}
}

// As says whose a file is that is written; without any only this user may read it.
type As func(*os.File) error

// Mode gives the file these permissions, whatever the umask.
func Mode(mode fs.FileMode) As { return func(f *os.File) error { return f.Chmod(mode) } }

// Owner gives the file away. It comes before Mode: a change of the owner takes setuid and setgid off.
func Owner(uid, gid int) As { return func(f *os.File) error { return f.Chown(uid, gid) } }

// Write replaces a file so that after a crash there is either the old or the new one, whole, and never one that is somebody
// else's or may be read by more than it will be.
func Write(path string, content []byte, as ...As) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+partial+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(content); err != nil {
		return err
	}
	for _, set := range as {
		if err = set(f); err != nil {
			return err
		}
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // where a directory cannot be synced
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Sweep removes what a killed process left of files that it was writing in a folder: of the named ones, or of all where none
// is named. Nobody may be writing there meanwhile. A folder that is not there has nothing left in it.
func Sweep(dir string, names ...string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, e := range entries {
		of, number, is := cutLast(e.Name(), partial)
		if !is || number == "" || strings.Trim(number, "0123456789") != "" || len(names) > 0 && !slices.Contains(names, of) {
			continue // somebody's own file, whatever it is for
		}
		errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
	}
	return errors.Join(append(errs, err)...)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Backup copies a file in an earlier format before it is brought forward. The copy lies beside it and only the newest few
// are kept.
func Backup(path string, format int) (copied string, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	kind := path + ".format-" + strconv.Itoa(format) + "-"
	copied = kind + time.Now().UTC().Format(stampLayout)
	if err := Write(copied, content); err != nil {
		return "", err
	}
	return copied, KeepNewest(kind + "*")
}

// SetAside moves a damaged file out of the way. Only the newest few are kept.
func SetAside(path string) (to string, err error) {
	kind := path + ".damaged-"
	to = kind + time.Now().UTC().Format(stampLayout)
	if err := os.Rename(path, to); err != nil {
		return "", err
	}
	return to, KeepNewest(kind + "*")
}

// KeepNewest removes all but the newest few of the copies that a pattern names; their names must sort by time.
func KeepNewest(pattern string) error {
	copies, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	slices.Sort(copies)
	var errs []error
	for _, old := range copies[:max(0, len(copies)-Kept)] {
		errs = append(errs, os.RemoveAll(old))
	}
	return errors.Join(errs...)
}

// Format is one kind of JSON object that is kept in files. It carries its number in the field "format"; one without it is
// format 0. Steps[n] brings an object from format n to n+1, so the number of steps is the newest format.
type Format struct {
	Kind  string // what it is, for messages
	Steps []Step
}

// Step changes an object of one format into the next. It must leave an object alone that is already in that one.
type Step func(object map[string]json.RawMessage) error

// Same is the step to a format that reads like the one before.
func Same(map[string]json.RawMessage) error { return nil }

// Version is the newest format.
func (f Format) Version() int { return len(f.Steps) }

// Marshal gives the object of v, its number first, in one line.
func (f Format) Marshal(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(raw) < 2 || raw[0] != '{' {
		return nil, fmt.Errorf("%s is no object", f.Kind)
	}
	head := `{"format":` + strconv.Itoa(f.Version())
	if raw[1] != '}' {
		head += ","
	}
	return append([]byte(head), raw[1:]...), nil
}

// Unmarshal reads an object of any format up to the newest into v, and tells which it was. A newer one is a NewerError of
// path; every other error means that this is no such object, or a damaged one.
func (f Format) Unmarshal(path string, content []byte, v any) (was int, err error) {
	object := map[string]json.RawMessage{}
	if err := json.Unmarshal(content, &object); err != nil {
		return 0, fmt.Errorf("%s %s: %w", f.Kind, path, err)
	}
	if object == nil {
		return 0, fmt.Errorf("%s %s: it is no object", f.Kind, path)
	}
	if raw, numbered := object["format"]; numbered {
		if err := json.Unmarshal(raw, &was); err != nil || was < 0 {
			return 0, fmt.Errorf("%s %s: format %s is no number", f.Kind, path, raw)
		}
	}
	if err := Refuse(path, was, f.Version()); err != nil {
		return was, err
	}
	object = maps.Clone(object)
	for n, step := range f.Steps[was:] {
		if err := step(object); err != nil {
			return was, fmt.Errorf("%s %s: bring it from format %d to %d: %w", f.Kind, path, was+n, was+n+1, err)
		}
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return was, err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return was, fmt.Errorf("%s %s: %w", f.Kind, path, err)
	}
	return was, nil
}

// Save writes v into a file.
func (f Format) Save(path string, v any) error {
	content, err := f.Marshal(v)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, content, "", "  "); err != nil {
		return err
	}
	text.WriteByte('\n')
	return Write(path, text.Bytes())
}

// Load reads a file into v; there is an error of kind fs.ErrNotExist where it is missing. A file in an earlier format is
// copied and then written anew; where that fails nothing was changed.
func (f Format) Load(path string, v any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	was, err := f.Unmarshal(path, content, v)
	if err != nil || was == f.Version() {
		return err
	}
	if _, err := Backup(path, was); err != nil {
		return fmt.Errorf("%s %s: copy it before it is brought to format %d: %w", f.Kind, path, f.Version(), err)
	}
	if err := f.Save(path, v); err != nil {
		return fmt.Errorf("%s %s: bring it to format %d: %w", f.Kind, path, f.Version(), err)
	}
	return nil
}

// Missing tells whether an error of Load says that there is no file.
func Missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
