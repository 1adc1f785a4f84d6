//go:build unix

package service

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// MayRead names the group whose members may read a file, or enter the folder that hides it; blank where there is none but root's.
func MayRead(path string) string {
	for path != "" {
		info, err := os.Stat(path)
		if err != nil {
			if parent := filepath.Dir(path); parent != path {
				path = parent
				continue
			}
			return ""
		}
		is, ok := info.Sys().(*syscall.Stat_t)
		if !ok || is.Gid == 0 || info.Mode().Perm()&0o040 == 0 {
			return ""
		}
		g, err := user.LookupGroupId(strconv.FormatUint(uint64(is.Gid), 10))
		if err != nil {
			return ""
		}
		return g.Name
	}
	return ""
}
