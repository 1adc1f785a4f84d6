//go:build unix

package service

import (
	"path/filepath"
	"syscall"
)

// FreeBytes is how much a user may still write where path is, or will be.
func FreeBytes(path string) (uint64, error) {
	for {
		var s syscall.Statfs_t
		err := syscall.Statfs(path, &s)
		if err == nil {
			return uint64(s.Bavail) * uint64(s.Bsize), nil
		}
		if parent := filepath.Dir(path); parent != path {
			path = parent
			continue
		}
		return 0, err
	}
}
