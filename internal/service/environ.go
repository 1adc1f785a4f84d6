package service

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Carries tells whether a process was started with a NAME=value in its environment: so it is known that it is the one that
// was started, and not somebody else's that was given its number. Of one that has ended, and where there is no /proc, it is
// false.
func Carries(pid int, line string) bool {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && slices.Contains(strings.Split(string(environ), "\x00"), line)
}
