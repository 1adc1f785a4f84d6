package service

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Listener is who listens on a TCP port of this host.
type Listener struct {
	PID  int    // 0: not to be found out, for lack of rights or on another system than Linux
	Name string // of its program
}

// String is the listener for people.
func (l Listener) String() string {
	if l.PID == 0 {
		return "somebody whom this user cannot see"
	}
	return fmt.Sprintf("%s, process %d", l.Name, l.PID)
}

// OnPort tells whether somebody listens on a loopback port, and who.
func OnPort(port int) (Listener, bool) {
	c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), 2*time.Second)
	if err != nil {
		return Listener{}, false
	}
	c.Close()
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(table)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && inodes[target] {
			parts := strings.Split(l, "/")
			pid, _ := strconv.Atoi(parts[2])
			name, _ := os.ReadFile(filepath.Join("/proc", parts[2], "comm"))
			return Listener{pid, strings.TrimSpace(string(name))}, true
		}
	}
	return Listener{}, true
}
