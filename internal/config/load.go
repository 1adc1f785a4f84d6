package config

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// layer is where a value came from; a higher one wins.
type layer int

const (
	fromDefault layer = iota
	fromFile
	fromEnvironment
	fromFlag
)

// given is the winning text of one setting.
type given struct {
	text   string
	layer  layer
	origin string // for messages
}

// loader gathers what was given, what is wrong with it and what should be said about it.
type loader struct {
	role     Role
	values   map[string]given // by Setting.Env, or "--flag" where it has none
	draft    draft
	problems []Problem
	failed   map[string]bool   // settings that have a problem already
	seen     [sha256.Size]byte // SHA-256 of the env file; zero where there is none, or no regular one

	credentials string // folder that systemd fills for a service; blank: none
}

func key(s Setting) string {
	if s.Env != "" {
		return s.Env
	}
	return "--" + s.Flag
}

// Load reads the settings of a role from flags registered by Register and parsed, from environ (NAME=value lines as
// os.Environ gives them) and from the file that --env-file names. The error is an *Error with every problem found.
// Environment variables it does not know are none of its business; an unknown key in the file is a problem.
func Load(flags *pflag.FlagSet, role Role, environ []string) (Config, []Note, error) {
	l := gather(flags, role, environ, nil)
	if len(l.problems) > 0 {
		return Config{}, nil, &Error{Problems: l.problems}
	}
	return l.draft.Config, l.draft.notes, nil
}

// gather reads everything, but for the settings that are pinned: those have what they are given.
func gather(flags *pflag.FlagSet, role Role, environ []string, pinned map[string]given) *loader {
	l := &loader{role: role, values: map[string]given{}, failed: map[string]bool{}}
	table := Settings()
	fromEnv := environment(environ)
	l.credentials = fromEnv["CREDENTIALS_DIRECTORY"]
	inFile := l.readEnvFile(flags, table)

	var foreign []string
	for _, s := range table {
		if !s.For(role) {
			_, filed := inFile[s.Env]
			if filed && slices.Equal(s.Roles, []Role{Apply}) {
				foreign = append(foreign, s.Env)
			}
			continue
		}
		v, fixed := pinned[key(s)]
		if !fixed {
			v = l.pick(flags, s, fromEnv, inFile)
		}
		l.values[key(s)] = v
		if v.text == "" {
			continue
		}
		if err := s.set(&l.draft, v.text); err != nil {
			before := len(l.problems)
			l.refuse(s, err.Error())
			l.unread(before, unread(err))
		}
	}
	l.draft.Role, l.draft.InForce = role, l.inForce(table)
	l.combine()
	if len(foreign) > 0 {
		l.note("", fmt.Sprintf("the env file also holds settings of apply, which %s does not read: %s", role, strings.Join(foreign, ", ")))
	}
	return l
}

// Usual gives the settings of a role that nobody gave flags or a file, but for what environ says.
func Usual(role Role, environ ...string) (Config, error) {
	c, _, err := Load(pflag.NewFlagSet(string(role), pflag.ContinueOnError), role, environ)
	return c, err
}

func environment(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, line := range environ {
		if name, value, ok := strings.Cut(line, "="); ok {
			m[name] = value
		}
	}
	return m
}

// pick finds the text of a setting in the highest layer that has one that is not blank.
func (l *loader) pick(flags *pflag.FlagSet, s Setting, env map[string]string, file map[string]fileEntry) given {
	if s.Flag != "" {
		if flag := flags.Lookup(s.Flag); flag != nil && flag.Changed {
			if text := strings.TrimSpace(flag.Value.String()); text != "" {
				return given{text, fromFlag, "flag"}
			}
		}
	}
	if s.Env != "" {
		if text := strings.TrimSpace(env[s.Env]); text != "" {
			return given{text, fromEnvironment, "environment"}
		}
		if e, ok := file[s.Env]; ok && strings.TrimSpace(e.value) != "" {
			return given{strings.TrimSpace(e.value), fromFile, "env file, line " + strconv.Itoa(e.line)}
		}
	}
	return given{s.Default, fromDefault, "default"}
}

// readEnvFile reads the file named by --env-file; its problems are recorded.
func (l *loader) readEnvFile(flags *pflag.FlagSet, table []Setting) map[string]fileEntry {
	flag := flags.Lookup(envFileFlag)
	if flag == nil || !flag.Changed {
		return nil
	}
	path := flag.Value.String()
	bad := func(line int, text string) {
		l.problems = append(l.problems, Problem{Setting: fmt.Sprintf("env file %s, line %d", path, line), Text: text})
	}
	src, err := readFile(path)
	if err != nil {
		l.problems = append(l.problems, Problem{Setting: "--" + envFileFlag, Value: strconv.Quote(path), Text: err.Error(), Unread: unread(err)})
		return nil
	}
	l.seen = sha256.Sum256(src)
	entries, lines := parseEnvFile(src)
	for _, e := range lines {
		bad(e.line, e.text)
	}
	known := map[string]Setting{}
	for _, s := range table {
		if s.Env != "" {
			known[s.Env] = s
		}
	}
	file := map[string]fileEntry{}
	for _, e := range entries {
		s, ok := known[e.key]
		before, twice := file[e.key]
		switch {
		case !ok:
			bad(e.line, "unknown setting "+e.key+suggestion(e.key, table))
		case twice && before.value != e.value:
			bad(e.line, fmt.Sprintf("%s is set to something else in line %d already; keep one of the two", e.key, before.line))
		case s.Secret && e.comment:
			bad(e.line, e.key+" has a blank followed by #: put the value in single quotes, or the comment on a line of its own")
		default:
			file[e.key] = e
		}
	}
	return file
}

// suggestion names the known setting that looks most like an unknown one.
func suggestion(name string, table []Setting) string {
	best, distance := "", min(5, 1+len(name)/3)
	for _, s := range table {
		if s.Env == "" {
			continue
		}
		if d := editDistance(strings.ToUpper(name), s.Env); d < distance {
			best, distance = s.Env, d
		}
	}
	if best == "" {
		return "; remove it, or move it to the file of the program that reads it"
	}
	return "; did you mean " + best + "?"
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// maxShownRunes bounds an offending value in a message.
const maxShownRunes = 80

func (l *loader) refuse(s Setting, text string) {
	v := l.values[key(s)]
	p := Problem{Setting: s.Name(), Text: text}
	if v.layer != fromDefault {
		p.Origin = v.origin
		if !s.Secret {
			p.Value = shown(v.text)
		}
	}
	l.problems = append(l.problems, p)
	l.failed[key(s)] = true
}

// unread marks the problems from there on as those of files that could not be read; nil leaves them as they are.
func (l *loader) unread(from int, why error) {
	for i := range l.problems[from:] {
		l.problems[from+i].Unread = why
	}
}

func shown(text string) string {
	if r := []rune(text); len(r) > maxShownRunes {
		text = string(r[:maxShownRunes]) + "..."
	}
	return strconv.Quote(text)
}
