//go:build unix && !linux

package service

import (
	"os/exec"
	"syscall"
)

// OwnGroup keeps signals of the terminal from a child. This kernel does not tell it when its parent is killed.
func OwnGroup(cmd *exec.Cmd, _ syscall.Signal) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
