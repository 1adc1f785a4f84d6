package config

import (
	"crypto/sha256"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/spf13/pflag"
)

// live are the settings whose change takes effect without a restart, in the roles that are named.
var live = map[string][]Role{
	"SYMBOLS":                      {Up, Publish, Export},
	"MARKETSTATE_SYMBOLS":          {Up, Publish},
	"FALLBACK_STOP_PCT":            {Up, Publish},
	"PUBLISH_INTERVAL_SEC":         {Up, Publish, Monitor},
	"MAX_PUBLISH_AGE_SEC":          {Up, Publish, Monitor},
	"CHANGE_EPS_PCT":               {Up, Publish},
	"MARKET_STALE_SEC":             {Up, Publish, Monitor},
	"POSITION_STALE_SEC":           {Up, Publish, Monitor},
	"MARKETSTATE_PUBLISH_INTERVAL": {Up, Publish},
	"LOG_LEVEL":                    {Up, Publish, Export, Monitor},

	// What the monitor watches, by which rules, and whom it tells.
	"HEARTBEAT_INTERVAL_SEC":     {Monitor},
	"MONITOR_EXPORTER_TARGETS":   {Monitor},
	"MONITOR_PUBLISHER_TARGETS":  {Monitor},
	"MONITOR_RULE_FILES":         monitoring,
	"ALERT_HEARTBEAT_LOST_SEC":   monitoring,
	"ALERT_STALE_FOR_SEC":        monitoring,
	"ALERT_CLOCK_SKEW_SEC":       monitoring,
	"ALERT_STORE_SLOW_SEC":       monitoring,
	"ALERT_EXIT_UNACTED_SEC":     monitoring,
	"ALERT_FRESHNESS_SLO":        monitoring,
	"RUNBOOK_URL":                monitoring,
	"GRAFANA_URL":                monitoring,
	"ALERTMANAGER_CONFIG_FILE":   monitoring,
	"NOTIFY_SLACK_URL_FILE":      monitoring,
	"NOTIFY_SLACK_CHANNEL":       monitoring,
	"NOTIFY_PAGERDUTY_KEY_FILE":  monitoring,
	"NOTIFY_PAGERDUTY_URL":       monitoring,
	"NOTIFY_TELEGRAM_TOKEN_FILE": monitoring,
	"NOTIFY_TELEGRAM_CHAT_ID":    monitoring,
	"NOTIFY_TELEGRAM_URL":        monitoring,
	"NOTIFY_EMAIL_TO":            monitoring,
	"NOTIFY_EMAIL_FROM":          monitoring,
	"NOTIFY_SMTP_HOST":           monitoring,
	"NOTIFY_SMTP_USER":           monitoring,
	"NOTIFY_SMTP_PASSWORD_FILE":  monitoring,
	"NOTIFY_SMTP_TLS":            monitoring,
	"NOTIFY_WEBHOOK_URL":         monitoring,
	"NOTIFY_WEBHOOK_URL_FILE":    monitoring,
	"NOTIFY_WATCHDOG_URL":        monitoring,
	"NOTIFY_WATCHDOG_URL_FILE":   monitoring,
}

// Live tells whether a change of the setting takes effect in a running process of the role; the others need a restart.
func (s Setting) Live(role Role) bool { return slices.Contains(live[s.Env], role) }

// Change is a setting that is given another value than the running one.
type Change struct {
	Setting  string // as the operator knows it
	Old, New string // as written; blank where they must not be shown
}

// Reloading is what reading the settings again brought.
type Reloading struct {
	Config  Config // with the old values of what needs a restart
	Changed []Change
	Restart []Change // changed, too, and not in force before a restart
	Notes   []Note
}

// Reloader reads the settings of a running process again, from where they came at its start: flags and environment are
// what they were, the env file is what it is now.
type Reloader struct {
	flags   *pflag.FlagSet
	role    Role
	environ []string
	seen    [sha256.Size]byte
	inForce atomic.Pointer[[]Value] // beside mu, which is held for as long as a reload takes

	mu      sync.Mutex
	running map[string]given
	level   slog.Level
}

// LoadAgain is Load, with what it takes to read the settings of this process again.
func LoadAgain(flags *pflag.FlagSet, role Role, environ []string) (Config, []Note, *Reloader, error) {
	l := gather(flags, role, environ, nil)
	if len(l.problems) > 0 {
		return Config{}, nil, nil, &Error{Problems: l.problems}
	}
	r := &Reloader{flags: flags, role: role, environ: environ, running: l.values, level: l.draft.LogLevel, seen: l.seen}
	r.inForce.Store(&l.draft.InForce)
	return l.draft.Config, l.draft.notes, r, nil
}

// File is the env file; blank where there is none.
func (r *Reloader) File() string {
	flag := r.flags.Lookup(envFileFlag)
	if flag == nil || !flag.Changed {
		return ""
	}
	return flag.Value.String()
}

// Seen is the SHA-256 of the env file as it was read at the start.
func (r *Reloader) Seen() [sha256.Size]byte { return r.seen }

// Level is the level of the log that the settings in force ask for.
func (r *Reloader) Level() slog.Level {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.level
}

// InForce are the settings as they are now, for people to read. It never waits.
func (r *Reloader) InForce() []Value { return *r.inForce.Load() }

// Read reads everything again, checks it as at a start and has apply put it in force. With an error nothing has changed;
// without one what was read counts as running from then on.
func (r *Reloader) Read(apply func(Config) error) (Reloading, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := gather(r.flags, r.role, r.environ, nil)
	if len(wanted.problems) > 0 {
		return Reloading{}, &Error{Problems: wanted.problems, Running: true}
	}
	var out Reloading
	pinned := map[string]given{}
	for _, s := range Settings() {
		if !s.For(r.role) {
			continue
		}
		was, is := r.running[key(s)], wanted.values[key(s)]
		if !s.Live(r.role) {
			pinned[key(s)] = was
		}
		if was.text == is.text {
			continue
		}
		c := Change{Setting: s.Name()}
		if !s.Secret {
			c.Old, c.New = was.text, is.text
		}
		if s.Live(r.role) {
			out.Changed = append(out.Changed, c)
		} else {
			out.Restart = append(out.Restart, c)
		}
	}
	// What is in force in the end is checked as a whole, too: the new beside the old that stays.
	l := gather(r.flags, r.role, r.environ, pinned)
	if len(l.problems) > 0 {
		return Reloading{}, &Error{Problems: l.problems, Running: true}
	}
	if err := apply(l.draft.Config); err != nil {
		return Reloading{}, err
	}
	r.running, r.level = l.values, l.draft.LogLevel
	r.inForce.Store(&l.draft.InForce)
	out.Config, out.Notes = l.draft.Config, l.draft.notes
	return out, nil
}
