package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxFileBytes bounds what is read of a file that settings come from; more is refused by whoever knows what it should hold.
const maxFileBytes = maxEnvFileBytes + 1

// unreadError tells that a file could not be read: that says nothing about what is in it, and a later try may find it.
type unreadError struct{ err error }

// Error says why; it does not repeat the path.
func (e unreadError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e unreadError) Unwrap() error { return e.err }

// unread is the reason for which a file could not be read, where an error is of that kind.
func unread(err error) error {
	var e unreadError
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// openFile opens a regular file. Of a pipe it would wait for the other end, for ever, and it might become one between a look
// and the opening: so it is opened without waiting, and looked at then.
func openFile(path string) (f *os.File, err error) {
	defer func() {
		if err != nil {
			var pathErr *os.PathError
			if errors.As(err, &pathErr) {
				err = fmt.Errorf("cannot be read: %w", pathErr.Err)
			}
			err = unreadError{err}
		}
	}()
	info, err := os.Stat(path) // a device may do something when it is opened
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, err
	}
	if f, err = os.OpenFile(path, os.O_RDONLY|noWait, 0); err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = regular(info)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func regular(info os.FileInfo) error {
	switch {
	case info.IsDir():
		return errors.New("is a folder; name a file")
	case !info.Mode().IsRegular():
		return errors.New("is a pipe, a socket or a device; put a regular file in its place, or name another one")
	}
	return nil
}

// readFile reads a regular file, and no more of it than any of ours may hold.
func readFile(path string) ([]byte, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	if err != nil {
		return nil, unreadError{fmt.Errorf("cannot be read: %w", err)}
	}
	return content, nil
}

// readable checks that path is a file that can be opened. The returned error does not repeat the path.
func readable(path string) error {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// Fingerprint tells one content of the env file from another. All that cannot be read are the same, which is said.
func (r *Reloader) Fingerprint() (sum [sha256.Size]byte, there bool) {
	content, err := readFile(r.File())
	if err != nil {
		return sum, false
	}
	return sha256.Sum256(content), true
}
