//go:build unix

package drill

import (
	"os"
	"os/exec"
	"syscall"
)

// What freezes a process and lets it go on.
var (
	sigStop os.Signal = syscall.SIGSTOP
	sigCont os.Signal = syscall.SIGCONT
)

// ownGroup makes a process the first of its own group: an interrupt at the terminal goes to the drill alone, which ends its
// children itself.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
