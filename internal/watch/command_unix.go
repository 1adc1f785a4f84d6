//go:build unix

package watch

import (
	"context"
	"os"
	"os/exec"
	"syscall"
)

// shell makes the command in a process group of its own, so that its end at the timeout is that of its children, too.
func shell(ctx context.Context, command string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
			return os.ErrProcessDone
		}
		return nil
	}
	return cmd
}
