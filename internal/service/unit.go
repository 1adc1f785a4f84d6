package service

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Unit is what a unit file says of how its service runs.
type Unit struct {
	Name, Path string

	Exec             []string // ExecStart, in words
	Environment      []string // NAME=value lines
	EnvironmentFiles []EnvironmentFile
	WorkingDirectory string
	StateDirectories []string
	Restart          string // no, always, on-failure, ...
	RestartDelay     time.Duration
	StopWithin       time.Duration
}

// defaultStop is how long a service may take to stop where its unit does not say.
const defaultStop = 30 * time.Second

// stopWithin is how long a unit may take to stop.
func stopWithin(root, name string) time.Duration {
	if u, err := Read(root, name); err == nil {
		return u.StopWithin
	}
	return defaultStop
}

// EnvironmentFile is a file of NAME=value lines that the service gets.
type EnvironmentFile struct {
	Path     string
	Optional bool
}

// Read reads a unit of a root, with its drop-ins.
func Read(root, name string) (Unit, error) {
	path, err := Find(root, name)
	if err != nil {
		return Unit{}, fmt.Errorf("%s: %w", name, err)
	}
	files := []string{path}
	for i := len(unitDirs) - 1; i >= 0; i-- {
		extra, _ := filepath.Glob(filepath.Join(root, unitDirs[i], name+".d", "*.conf"))
		files = append(files, extra...)
	}
	u := Unit{Name: name, Path: path, Restart: "no", RestartDelay: 100 * time.Millisecond, StopWithin: defaultStop}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return Unit{}, fmt.Errorf("unit %s: %w", name, err)
		}
		if err := u.parse(string(text)); err != nil {
			return Unit{}, fmt.Errorf("unit %s: %s: %w", name, file, err)
		}
	}
	if len(u.Exec) == 0 {
		return Unit{}, fmt.Errorf("unit %s: %s has no ExecStart", name, path)
	}
	return u, nil
}

// parse takes in the lines of one file.
func (u *Unit) parse(text string) error {
	section := ""
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSpace(strings.TrimSuffix(line, `\`)) + " " + strings.TrimSpace(lines[i])
		}
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return fmt.Errorf("line %d is neither a section nor KEY=VALUE", i+1)
		}
		if section != "Service" {
			continue
		}
		if err := u.set(strings.TrimSpace(key), u.specifiers(strings.TrimSpace(value))); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return nil
}

func (u *Unit) set(key, value string) (err error) {
	switch key {
	case "ExecStart":
		if value == "" {
			u.Exec = nil
			return nil
		}
		words, err := splitWords(strings.TrimLeft(value, "-@:+!"))
		u.Exec = words
		return err
	case "Environment":
		if value == "" {
			u.Environment = nil
			return nil
		}
		words, err := splitWords(value)
		u.Environment = append(u.Environment, words...)
		return err
	case "EnvironmentFile":
		if value == "" {
			u.EnvironmentFiles = nil
			return nil
		}
		path, optional := strings.CutPrefix(value, "-")
		u.EnvironmentFiles = append(u.EnvironmentFiles, EnvironmentFile{path, optional})
	case "WorkingDirectory":
		u.WorkingDirectory = strings.TrimPrefix(value, "-")
	case "StateDirectory":
		u.StateDirectories = strings.Fields(value)
	case "Restart":
		u.Restart = value
	case "RestartSec":
		u.RestartDelay, err = timeSpan(value)
	case "TimeoutStopSec":
		u.StopWithin, err = timeSpan(value)
	}
	return err
}

// specifiers fills in those that say who the unit is and where its state is.
func (u *Unit) specifiers(value string) string {
	base := strings.TrimSuffix(u.Name, filepath.Ext(u.Name))
	return strings.NewReplacer("%%", "%", "%n", u.Name, "%N", base, "%p", base, "%S", "/var/lib", "%t", "/run", "%E", "/etc").Replace(value)
}

// timeSpan reads a time as units have it: seconds, or with a unit.
func timeSpan(value string) (time.Duration, error) {
	if sec, err := strconv.ParseFloat(value, 64); err == nil {
		return time.Duration(sec * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(strings.NewReplacer(" ", "", "min", "m", "sec", "s").Replace(value))
	if err != nil {
		return 0, fmt.Errorf("%q is not a time", value)
	}
	return d, nil
}

// splitWords splits a command as units have it: at blanks, but for those in quotes; a backslash takes the next byte as it is.
func splitWords(text string) ([]string, error) {
	var words []string
	var b strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text) && quote != '\'':
			i++
			b.WriteByte(text[i])
			inWord = true
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				b.WriteByte(c)
			}
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, b.String())
				b.Reset()
				inWord = false
			}
		default:
			b.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote that opens is never closed")
	}
	if inWord {
		words = append(words, b.String())
	}
	return words, nil
}

// expand fills variables of the environment into words: $NAME as a word of its own is split at blanks, ${NAME} is not.
func expand(words, environ []string) []string {
	value := func(name string) string {
		for i := len(environ) - 1; i >= 0; i-- {
			if v, ok := strings.CutPrefix(environ[i], name+"="); ok {
				return v
			}
		}
		return ""
	}
	var out []string
	for i, w := range words {
		if name, ok := strings.CutPrefix(w, "$"); ok && i > 0 && !strings.HasPrefix(name, "{") && !strings.HasPrefix(name, "$") {
			out = append(out, strings.Fields(value(name))...)
			continue
		}
		out = append(out, os.Expand(strings.ReplaceAll(w, "$$", "$DOLLAR"), func(name string) string {
			if name == "DOLLAR" {
				return "$"
			}
			return value(name)
		}))
	}
	return out
}
