// Package installed installs the .deb in a clean Debian, runs its services by what the installed units say, and takes it
// away again. It has a network and processes of its own, so that no port of the machine is touched and nothing survives.
package installed

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const inside = "HARVEST_INSTALLED_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(reenter())
	}
	if err := prepare(); err != nil {
		fmt.Fprintf(os.Stderr, "installed: %v\n", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// reenter runs this test program again in namespaces of its own.
func reenter() int {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "installed: installing a package in a Debian of its own needs root: run as root in a container or a virtual machine")
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC, Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState != nil {
			return max(1, cmd.ProcessState.ExitCode())
		}
		fmt.Fprintf(os.Stderr, "installed: %v\n", err)
		return 1
	}
	return 0
}

// prepare makes mounts private and brings loopback up.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}
