package service

import (
	"os/exec"
	"syscall"
)

// OwnGroup keeps signals of the terminal from a child, and has the kernel send it one when this process is killed. The kernel
// goes by the thread that started it: the caller locks itself to its thread until the child has ended.
func OwnGroup(cmd *exec.Cmd, orphaned syscall.Signal) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: orphaned}
}
