//go:build !unix

package drill

import (
	"os"
	"os/exec"
)

// Processes cannot be frozen here: the one fault that needs it says so.
var (
	sigStop os.Signal = os.Interrupt
	sigCont os.Signal = os.Interrupt
)

func ownGroup(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
