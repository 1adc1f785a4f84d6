package watch

import (
	"context"
	"os/exec"
	"syscall"
)

// shell makes the command. Its text reaches cmd.exe as it is: the quoting that Go does for other programs would change
// it. Children that outlive the command at its timeout are left alone.
func shell(ctx context.Context, command string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "cmd.exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: "cmd.exe /C " + command}
	return cmd
}
