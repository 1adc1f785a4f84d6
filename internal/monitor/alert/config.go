package alert

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/matcher/compat"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/common/version"
	"go.yaml.in/yaml/v2"
)

// LogReceiver is the name of the receiver that writes into the log what would have been sent. In a configuration it is a
// receiver without integrations, so that another Alertmanager takes it as one that is told nothing.
const LogReceiver = "log"

// Config is an Alertmanager configuration that was checked.
type Config struct{ c *config.Config }

// setUpOnce sets what the library keeps for the whole process, as the program itself does: how matchers are read, and the
// version that the status shows.
var setUpOnce = sync.OnceFunc(func() {
	compat.InitFromFlags(slog.New(slog.DiscardHandler), featurecontrol.NoopFlags{})
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	version.GoVersion = info.GoVersion
	for _, m := range info.Deps {
		if m.Path == "github.com/prometheus/alertmanager" {
			version.Version, version.Branch = strings.TrimPrefix(m.Version, "v"), "embedded"
		}
	}
})

// Parse checks a configuration. Its error names everything that is wrong.
func Parse(text []byte) (*Config, error) {
	return check(text, "", func() (*config.Config, error) { return config.Load(string(text)) })
}

// ParseFile checks the configuration in a file; relative paths in it are read as Alertmanager reads them.
func ParseFile(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration of Alertmanager: %w", err)
	}
	c, err := check(text, filepath.Dir(path), func() (*config.Config, error) { return config.LoadFile(path) })
	if err != nil {
		return nil, fmt.Errorf("configuration of Alertmanager %s: %w", path, err)
	}
	return c, nil
}

// check reports what Alertmanager itself finds, which stops at the first problem of meaning, and what can be found
// without understanding all of it: files that cannot be read, receivers that are not there.
func check(text []byte, dir string, load func() (*config.Config, error)) (*Config, error) {
	setUpOnce()
	problems := loose(text, dir)
	c, err := load()
	var typed *yaml.TypeError
	switch {
	case errors.As(err, &typed):
		for _, e := range typed.Errors {
			problems = append(problems, errors.New(e))
		}
	case err != nil && strings.HasPrefix(err.Error(), "undefined receiver") && len(problems) > 0:
		// Said already, with all others of the kind.
	case err != nil:
		problems = append(problems, err)
	case c.Route == nil:
		problems = append(problems, errNoRoute)
	}
	conf := &Config{c}
	if len(problems) == 0 {
		if tmpl, err := conf.templates(); err != nil {
			problems = append(problems, err)
		} else if _, err := conf.build(tmpl, slog.New(slog.DiscardHandler), slog.New(slog.DiscardHandler), func(string) bool { return true }); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return conf, nil
}

// loose finds problems in a configuration as it is written, whether or not it can be loaded.
func loose(text []byte, dir string) []error {
	var doc map[string]any
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc); err != nil {
		return nil // loading says so
	}
	var problems []error
	files(doc, func(key, path string) {
		if info, err := os.Stat(inDir(dir, path)); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", key, err))
		} else if info.IsDir() {
			problems = append(problems, fmt.Errorf("%s: %s is a folder; name a file", key, path))
		} else if info.Mode().IsRegular() { // opening anything else may wait for who writes it
			f, err := os.Open(inDir(dir, path))
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", key, err))
				return
			}
			_ = f.Close() // nothing was written
		}
	})
	var known []string
	list, _ := doc["receivers"].([]any)
	for _, r := range list {
		if m, ok := r.(map[any]any); ok {
			known = append(known, fmt.Sprint(m["name"]))
		}
	}
	var walk func(route any)
	walk = func(route any) {
		m, ok := route.(map[any]any)
		if !ok {
			return
		}
		if name, ok := m["receiver"].(string); ok && !slices.Contains(known, name) {
			problems = append(problems, fmt.Errorf("a route names the receiver %q, which is not in receivers", name))
		}
		routes, _ := m["routes"].([]any)
		for _, r := range routes {
			walk(r)
		}
	}
	walk(doc["route"])
	return problems
}

// inDir is where a relative path is found: some are taken from the folder of the configuration, others from that of
// the process.
func inDir(dir, path string) string {
	if _, err := os.Stat(path); err != nil && !filepath.IsAbs(path) {
		return filepath.Join(dir, path)
	}
	return path
}

// files calls f for every setting that names a file.
func files(node any, f func(key, path string)) {
	switch n := node.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(mapKeys(n)) {
			files(map[any]any{k: n[k]}, f)
		}
	case map[any]any:
		for k, v := range n {
			if path, ok := v.(string); ok && strings.HasSuffix(fmt.Sprint(k), "_file") && path != "" {
				f(fmt.Sprint(k), path)
				continue
			}
			files(v, f)
		}
	case []any:
		for _, v := range n {
			files(v, f)
		}
	}
}

func mapKeys(m map[string]any) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (c *Config) templates() (*template.Template, error) {
	t, err := template.FromGlobs(c.c.Templates)
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	return t, nil
}

// receivers makes the receivers that a route uses.
func (c *Config) receivers(routes *dispatch.Route, tmpl *template.Template, log, libraries *slog.Logger) (map[string][]notify.Integration, error) {
	used := map[string]bool{}
	routes.Walk(func(r *dispatch.Route) { used[r.RouteOpts.Receiver] = true })
	return c.build(tmpl, log, libraries, func(name string) bool { return used[name] })
}

func (c *Config) build(tmpl *template.Template, log, libraries *slog.Logger, wanted func(name string) bool) (map[string][]notify.Integration, error) {
	receivers := map[string][]notify.Integration{}
	var problems []error
	for _, r := range c.c.Receivers {
		if !wanted(r.Name) {
			continue
		}
		list, err := integrations(r, tmpl, libraries)
		if err != nil {
			problems = append(problems, fmt.Errorf("receiver %s: %w", r.Name, err))
		}
		if r.Name == LogReceiver && len(list) == 0 {
			list = []notify.Integration{notify.NewIntegration(newLogNotifier(log), always{}, LogReceiver, 0, r.Name)}
		}
		receivers[r.Name] = list
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return receivers, nil
}

func (c *Config) timeIntervals() map[string][]timeinterval.TimeInterval {
	all := map[string][]timeinterval.TimeInterval{}
	for _, t := range c.c.MuteTimeIntervals {
		all[t.Name] = t.TimeIntervals
	}
	for _, t := range c.c.TimeIntervals {
		all[t.Name] = t.TimeIntervals
	}
	return all
}
