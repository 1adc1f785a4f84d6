// Package legacy reads what the earlier services left: their env files, which become ours, and the proposals they wrote,
// which are held against ours.
package legacy

import (
	"fmt"
	"slices"
	"strings"

	"quantumharvest/internal/config"
)

// Fate is what becomes of a key of an earlier env file.
type Fate string

// The fates.
const (
	Kept    Fate = "kept"
	Renamed Fate = "renamed"
	Ignored Fate = "ignored"
	Refused Fate = "refused"
)

// Entry is one setting of an earlier service, and where it stands.
type Entry struct {
	Key, Value, Where string
}

// Row is what one key now means.
type Row struct {
	Key   string
	Value string // ready to show: never that of a secret
	Name  string // its name now; blank: none
	Fate  Fate
	Text  string // meaning, reason, or what to do
	Where string

	value string
}

// renames are spellings that deployments are known to use besides the names of the contract.
var renames = map[string]string{
	"REDIS_PASS": "REDIS_PASSWORD", "REDIS_AUTH": "REDIS_PASSWORD", "LOGLEVEL": "LOG_LEVEL", "EXPORTER_PORT": "METRICS_PORT",
	"HARVEST_METRICS_PORT": "METRICS_PORT", "HARVEST_SYMBOLS": "SYMBOLS",
}

// ofTheInterpreter are keys that only the runtime of the earlier services reads.
func ofTheInterpreter(key string) bool {
	if strings.HasPrefix(key, "PYTHON") || strings.HasPrefix(key, "LC_") || strings.HasPrefix(key, "PIP_") {
		return true
	}
	return slices.Contains([]string{"VIRTUAL_ENV", "PATH", "LANG", "LANGUAGE", "HOME", "TZ", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX"}, key)
}

// remarks are what a kept key now means where that is not what its name says.
var remarks = map[string]string{
	"PUBLISH_INTERVAL_SEC": "length of a cycle; the heartbeat is written every second beside it (HEARTBEAT_INTERVAL_SEC)",
	"MAX_PUBLISH_AGE_SEC":  "a full publish at the latest after this time; freshness no longer depends on it",
	"POLL_INTERVAL_SEC":    "at most one log line in this time: Redis is read at every scrape, nothing is cached",
	"POSITION_SOURCE":      "auto never falls back to made-up positions; synthetic makes them because it asks for them by name, and says so everywhere",
}

// Carry says what becomes of every setting of a service that now has the role, later ones of the same name winning. extra
// are keys that the operator leaves out on purpose.
func Carry(entries []Entry, role config.Role, leaveOut []string) []Row {
	known := map[string]config.Setting{}
	for _, s := range config.Settings() {
		if _, there := known[s.Env]; s.Env != "" && (!there || s.For(role)) {
			known[s.Env] = s
		}
	}
	last := map[string]int{}
	for i, e := range entries {
		last[now(e.Key, known)] = i
	}
	var rows []Row
	for i, e := range entries {
		name := now(e.Key, known)
		s, ok := known[name]
		r := Row{Key: e.Key, Value: e.Value, Name: name, Where: e.Where, value: e.Value}
		if s.Secret || looksSecret(e.Key, e.Value) {
			r.Value = "[secret]"
		}
		switch {
		case slices.Contains(leaveOut, e.Key):
			r.Name, r.Fate, r.Text = "", Ignored, "left out because --ignore-keys names it"
		case last[name] != i:
			r.Name, r.Fate, r.Text = "", Ignored, "set again later, in "+entries[last[name]].Where
		case !ok && ofTheInterpreter(e.Key):
			r.Name, r.Fate, r.Text = "", Ignored, "only the runtime of the earlier services reads it"
		case !ok:
			r.Name, r.Fate = "", Refused
			r.Text = "nobody reads it; " + config.Suggest(e.Key) + ", or leave it out with --ignore-keys " + e.Key
		case strings.TrimSpace(e.Value) == "":
			r.Fate, r.Text = Ignored, "blank: the default counts"
		default:
			r.Fate, r.Text = Kept, meaning(s, role)
			if name != e.Key {
				r.Fate = Renamed
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// now is the name that a key has now.
func now(key string, known map[string]config.Setting) string {
	if _, ok := known[key]; ok {
		return key
	}
	if name, ok := renames[strings.ToUpper(key)]; ok {
		return name
	}
	if _, ok := known[strings.ToUpper(key)]; ok {
		return strings.ToUpper(key)
	}
	return key
}

func meaning(s config.Setting, role config.Role) string {
	switch {
	case slices.Equal(s.Roles, []config.Role{config.Apply}):
		return "of the apply service: known, and not read"
	case !s.For(role):
		return "not read by harvest " + string(role) + "; kept for whoever shares the file"
	case remarks[s.Env] != "":
		return remarks[s.Env]
	}
	return s.Usage
}

// looksSecret tells whether a value must not be shown: a key called so, or an address with a password in it.
func looksSecret(key, value string) bool {
	key = strings.ToUpper(key)
	for _, word := range []string{"PASS", "SECRET", "TOKEN", "API_KEY", "AUTH"} {
		if strings.Contains(key, word) && !strings.HasSuffix(key, "_FILE") {
			return true
		}
	}
	at := strings.LastIndex(value, "@")
	return at > 0 && strings.Contains(value[:at], "://")
}

// Text is our env file. The same rows always give the same bytes.
func Text(service string, rows []Row, more ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Settings of %s, carried over from the earlier service by harvest deploy.\n", service)
	for _, r := range rows {
		if r.Fate == Kept || r.Fate == Renamed {
			fmt.Fprintf(&b, "%s=%s\n", r.Name, quote(strings.TrimSpace(r.value)))
		}
	}
	for _, line := range more {
		name, value, _ := strings.Cut(line, "=")
		fmt.Fprintf(&b, "%s=%s\n", name, quote(value))
	}
	return []byte(b.String())
}

// quote writes a value so that systemd and our own reader find the same in it.
func quote(v string) string {
	if v != "" && strings.Trim(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:,@%+=-") == "" {
		return v
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", "$", `\$`).Replace(v) + `"`
}

// RefusedRows are those that stop a takeover.
func RefusedRows(rows []Row) []Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r.Fate != Refused })
}
