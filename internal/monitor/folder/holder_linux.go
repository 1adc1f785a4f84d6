package folder

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Holder names the process that holds an advisory lock on the file, as far as the system tells.
func Holder(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "another process"
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "another process"
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return "another process"
	}
	defer locks.Close()
	// "1: FLOCK  ADVISORY  WRITE 4242 fe:00:393234 0 EOF": a process, and the device and inode of the file.
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil && pid > 0 && strings.HasSuffix(fields[5], ":"+strconv.FormatUint(stat.Ino, 10)) {
			return fmt.Sprintf("process %d", pid)
		}
	}
	return "another process"
}
