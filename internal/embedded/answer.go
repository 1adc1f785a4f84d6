package embedded

import (
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// version is the Redis whose behaviour clients may count on.
const version = "7.0.15"

// settings is what CONFIG GET knows: what clients and tools look at before they work.
var settings = [...][2]string{
	{"appendonly", "no"},
	{"databases", "16"},
	{"maxmemory", "0"},
	{"maxmemory-policy", "noeviction"},
	{"save", ""},
	{"timeout", "0"},
}

// answer takes the commands that the library lacks and that redis-cli and operators use. It takes no lock: it is also
// asked for commands inside a script.
func (s *Server) answer(c *server.Peer, cmd string, args ...string) bool {
	sub := ""
	if len(args) > 0 {
		sub = strings.ToUpper(args[0])
	}
	switch {
	case cmd == "COMMAND" && sub == "DOCS":
		c.WriteMapLen(0)
	case cmd == "CONFIG" && sub == "GET" && len(args) > 1:
		writeSettings(c, args[1:])
	case cmd == "INFO":
		c.WriteBulk(s.info(args))
	default:
		return false
	}
	return true
}

func writeSettings(c *server.Peer, patterns []string) {
	var found [][2]string
	for _, kv := range settings {
		for _, p := range patterns {
			if ok, err := path.Match(strings.ToLower(p), kv[0]); err == nil && ok {
				found = append(found, kv)
				break
			}
		}
	}
	c.Block(func(w *server.Writer) {
		w.WriteMapLen(len(found))
		for _, kv := range found {
			w.WriteBulk(kv[0])
			w.WriteBulk(kv[1])
		}
	})
}

// info gives the wanted sections, all of them where none is named.
func (s *Server) info(sections []string) string {
	want := map[string]bool{}
	for _, name := range sections {
		want[strings.ToLower(name)] = true
	}
	all := len(want) == 0 || want["all"] || want["default"] || want["everything"]
	var b strings.Builder
	section := func(name string, write func()) {
		if !all && !want[name] {
			return
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		fmt.Fprintf(&b, "# %s%s\r\n", strings.ToUpper(name[:1]), name[1:])
		write()
	}
	line := func(key string, value any) { fmt.Fprintf(&b, "%s:%v\r\n", key, value) }
	section("server", func() {
		up := int64(time.Since(s.started).Seconds())
		line("redis_version", version)
		line("redis_mode", "standalone")
		line("embedded", "quantum-harvest")
		line("process_id", os.Getpid())
		line("run_id", s.runID)
		line("tcp_port", s.listener.Addr().String()[strings.LastIndex(s.listener.Addr().String(), ":")+1:])
		line("uptime_in_seconds", up)
		line("uptime_in_days", up/86400)
	})
	section("clients", func() { line("connected_clients", s.srv.ClientsLen()) })
	section("persistence", func() {
		line("loading", 0)
		line("embedded_snapshot", map[bool]string{true: "on", false: "off"}[s.opts.Dir != ""])
	})
	section("stats", func() {
		line("total_connections_received", s.srv.TotalConnections())
		line("total_commands_processed", s.srv.TotalCommands())
	})
	section("replication", func() {
		line("role", "master")
		line("connected_slaves", 0)
	})
	return b.String()
}
