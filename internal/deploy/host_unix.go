//go:build unix

package deploy

import (
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"quantumharvest/internal/service"
)

func ownerOf(info fs.FileInfo) (uid, gid int) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), int(s.Gid)
	}
	return -1, -1
}

// ownGroup keeps an interrupt at the terminal from a child: deploy ends it itself, and where it is killed the kernel does.
func ownGroup(cmd *exec.Cmd) { service.OwnGroup(cmd, syscall.SIGKILL) }

func terminate(pid int) { _ = syscall.Kill(pid, syscall.SIGTERM) }
func killHard(pid int)  { _ = syscall.Kill(pid, syscall.SIGKILL) }

func hangUp(pid int) error { return syscall.Kill(pid, syscall.SIGHUP) }

// lock keeps a second deployment away for as long as this one runs.
func lock(path string) (release func(), ok bool, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, err
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		f.Close()
		return nil, false, nil
	}
	return func() { f.Close() }, true, nil
}
