package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// The names of the wire contract, which other programs' env files carry.
var legacyNames = strings.Fields(`
	REDIS_URL REDIS_HOST REDIS_PORT REDIS_DB SYMBOLS PUBLISH_INTERVAL_SEC MARKETSTATE_PREFIX RISKPROPOSAL_PREFIX
	HARVEST_PREFIX ENABLE_STREAM STREAM_NAME POSITION_SOURCE MAX_PUBLISH_AGE_SEC CHANGE_EPS_PCT FALLBACK_STOP_PCT LOG_LEVEL
	POLL_INTERVAL_SEC METRICS_PORT
	MARKETSTATE_SYMBOLS MARKETSTATE_PUBLISH_INTERVAL MARKETSTATE_WINDOW_SIZE MARKETSTATE_SOURCE
	APPLY_MODE APPLY_ALLOWLIST APPLY_KILL_SWITCH K_BLOCK_CRITICAL K_BLOCK_WARNING BINANCE_TESTNET_API_KEY
	BINANCE_TESTNET_API_SECRET`)

func TestTable(t *testing.T) {
	envs, flags := map[string]bool{}, map[string]bool{}
	taken := map[string]bool{} // by role: a name may mean something else to another one, in a row of its own
	shape := regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	legacy := 0
	for _, s := range Settings() {
		if s.Env != "" && !shape.MatchString(s.Env) {
			t.Errorf("%s is not a name", s.Env)
		}
		for _, r := range s.Roles {
			for _, name := range []string{s.Env, "--" + s.Flag} {
				if taken[string(r)+name] && strings.Trim(name, "-") != "" {
					t.Errorf("%s has %s twice", r, name)
				}
				taken[string(r)+name] = true
			}
		}
		envs[s.Env], flags[s.Flag] = true, true
		if len(s.Roles) == 0 || s.Group == "" || s.Usage == "" || strings.HasSuffix(s.Usage, ".") {
			t.Errorf("%s: roles, group or usage", s.Name())
		}
		if s.Legacy {
			legacy++
		}
		if s.set == nil {
			if !s.For(Apply) {
				t.Errorf("%s: cannot be set", s.Name())
			}
			continue
		}
		if s.Default != "" {
			if err := s.set(&draft{}, s.Default); err != nil {
				t.Errorf("%s: its default is refused: %v", s.Name(), err)
			}
		}
	}
	for _, name := range legacyNames {
		if !envs[name] {
			t.Errorf("%s is part of the wire contract and not in the table", name)
		}
	}
	if legacy != len(legacyNames) {
		t.Errorf("%d settings are marked legacy, the wire contract has %d", legacy, len(legacyNames))
	}
}

// Every setting of a role can be given as a flag, unless it is a secret that command lines would show.
func TestFlags(t *testing.T) {
	for _, role := range []Role{Up, Publish, Export, Top, Watch} {
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		Register(flags, role)
		help := Help(role)
		for _, s := range Settings() {
			want := slices.ContainsFunc(Settings(), func(other Setting) bool { return other.For(role) && other.Flag == s.Flag && s.Flag != "" })
			if got := s.Flag != "" && flags.Lookup(s.Flag) != nil; got != want {
				t.Errorf("%s: flag of %s: %v", role, s.Name(), got)
			}
			if !s.For(role) {
				continue
			}
			if s.Flag == "" && !s.Secret {
				t.Errorf("%s has no flag", s.Name())
			}
			for _, text := range []string{s.Env, s.Flag, s.Default} {
				if s.Arg != "" && !strings.Contains(help, text) {
					t.Errorf("help of %s does not say %q", role, text)
				}
			}
		}
		for line := range strings.Lines(help) {
			if len(line) > helpWidth+1 {
				t.Errorf("help of %s has a line of %d: %s", role, len(line), line)
			}
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	type hidden struct{ secret Secret }
	s := NewSecret("hunter2")
	js, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "in", hidden{s}, "redis", Redis{Password: s})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", s, "in", hidden{s}, "config", Config{Redis: Redis{Password: s}})
	for _, text := range []string{
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s), fmt.Sprintf("%v %+v %#v", hidden{s}, hidden{s}, &hidden{s}),
		fmt.Sprintf("%v %+v %#v", Config{Redis: Redis{Password: s}}, Redis{Password: s}, Redis{Password: s}),
		s.String(), s.GoString(), string(js), log.String(), Redis{Addr: "h:1", Username: "u", Password: s}.String(),
	} {
		for _, form := range []string{"hunter2", "68756e74657232"} {
			if strings.Contains(text, form) {
				t.Errorf("shows the secret: %s", text)
			}
		}
	}
	if s.Reveal() != "hunter2" || (Secret{}).Reveal() != "" {
		t.Error("Reveal does not give the text back")
	}
}

func TestMarkdownTableHasEverySetting(t *testing.T) {
	table := MarkdownTable()
	for _, s := range Settings() {
		if s.Env != "" && !strings.Contains(table, "`"+s.Env+"`") {
			t.Errorf("the table lacks %s", s.Env)
		}
	}
}
