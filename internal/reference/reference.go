// Package reference writes what documents say of settings, metrics, keys and alerts from the tables of the code, so that
// they cannot drift from it.
package reference

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/rules"
	"quantumharvest/internal/store"
)

// section is a part of a document that is made: between <!-- NAME:begin --> and <!-- NAME:end -->.
type section struct {
	name string
	make func() (string, error)
}

var sections = []section{
	{"settings", func() (string, error) { return config.MarkdownTable(), nil }},
	{"metrics", metrics},
	{"keys", keys},
	{"alerts", alerts},
}

// Update returns a document with every made part of it made anew, and an error where it has none, or a marker without
// its other half.
func Update(document string) (string, error) {
	found := 0
	for _, s := range sections {
		begin, end := "<!-- "+s.name+":begin -->", "<!-- "+s.name+":end -->"
		if !strings.Contains(document, begin) && !strings.Contains(document, end) {
			continue
		}
		before, rest, begins := strings.Cut(document, begin)
		_, after, ends := strings.Cut(rest, end)
		if !begins || !ends || strings.Contains(after, begin) || strings.Contains(before, end) {
			return "", fmt.Errorf("the document needs one pair of %s and %s, each on a line of its own", begin, end)
		}
		text, err := s.make()
		if err != nil {
			return "", fmt.Errorf("%s: %w", s.name, err)
		}
		document = before + begin + "\n" + text + end + after
		found++
	}
	if found == 0 {
		return "", fmt.Errorf("the document has no part that is made")
	}
	return document, nil
}

func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", `\|`)
}

func code(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = "`" + s + "`"
	}
	return strings.Join(quoted, ", ")
}

// ports are the titles under which metrics stand, with what is exported where.
var ports = []struct{ name, title, about string }{
	{"exporter", "Exporter, port 8042", "What Redis holds, read at every scrape. Job `quantum-harvest-exporter`."},
	{"publisher", "Publisher, port 8041", "The publisher's own figures. Job `quantum-harvest-publisher`; beside them those of the Go runtime and of the process (`go_*`, `process_*`)."},
	{"monitor", "Monitor, ports 9091 and 9093", "The monitor's own figures, beside those of its libraries (`prometheus_*`, `alertmanager_*`)."},
}

// unit reads the unit off a name, which by convention ends in it.
func unit(name, kind string) string {
	switch {
	case strings.HasSuffix(name, "_timestamp_seconds"), strings.HasSuffix(name, "_epoch"):
		return "s since 1970"
	case strings.HasSuffix(name, "_seconds"):
		return "s"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	case kind == "counter":
		return "count"
	case strings.HasSuffix(name, "_price"), strings.HasSuffix(name, "_new_sl"):
		return "quote currency"
	case strings.HasSuffix(name, "_r_net"):
		return "R"
	}
	return ""
}

// metrics lists every metric of ours, port by port, and which alerts rest on it.
func metrics() (string, error) {
	used, err := usedBy()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, port := range ports {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n| metric | type | labels | unit | meaning | alerts |\n|---|---|---|---|---|---|\n", port.title, port.about)
		for _, m := range app.MetricDocs() {
			if !slices.Contains(m.Ports, port.name) {
				continue
			}
			name := "`" + m.Name + "`"
			if m.Legacy {
				name += " ¹"
			}
			meaning := cell(m.Help)
			if m.When != "" {
				meaning += " Only " + m.When + "."
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", name, m.Type, code(m.Labels), unit(m.Name, m.Type), meaning, links(used[m.Name]))
		}
		b.WriteByte('\n')
	}
	b.WriteString("¹ Name of the earlier services, unchanged.\n")
	return b.String(), nil
}

func links(alerts []string) string {
	list := make([]string, len(alerts))
	for i, a := range alerts {
		list[i] = fmt.Sprintf("[%s](runbooks/%s.md)", strings.TrimPrefix(a, "QuantumHarvest"), a)
	}
	return strings.Join(list, ", ")
}

var word = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*(?::[a-zA-Z0-9_:]+)*`)

// usedBy tells which alerts rest on a metric, directly or through recording rules.
func usedBy() (map[string][]string, error) {
	recorded := map[string]string{}
	for _, r := range rules.Recordings() {
		recorded[r.Record] = r.Expr
	}
	used := map[string][]string{}
	for _, a := range rules.Alerts() {
		seen := map[string]bool{}
		var follow func(expr string)
		follow = func(expr string) {
			for _, w := range word.FindAllString(expr, -1) {
				if seen[w] {
					continue
				}
				seen[w] = true
				if inner, ok := recorded[w]; ok {
					follow(inner)
				}
				for _, tail := range []string{"", "_bucket", "_sum", "_count"} {
					if base, ok := strings.CutSuffix(w, tail); ok && strings.HasPrefix(base, "quantum_harvest_") && !slices.Contains(used[base], a.Name) {
						used[base] = append(used[base], a.Name)
					}
				}
			}
		}
		follow(a.Expr)
	}
	return used, nil
}

// keys lists every key of Redis, and the fields of those that have some.
func keys() (string, error) {
	every, err := produceEvery()
	if err != nil {
		return "", err
	}
	docs := store.KeyDocs(every)
	var b strings.Builder
	b.WriteString("| key | type | what | written by | read by | lifetime |\n|---|---|---|---|---|---|\n")
	for _, k := range docs {
		name := "`" + k.Pattern + "`"
		if k.Legacy {
			name += " ¹"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", name, k.Type, cell(k.Meaning), k.Writer, k.Reader, k.Life)
	}
	for _, k := range docs {
		if len(k.Fields) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## `%s`\n\n| field | kind | unit | meaning |\n|---|---|---|---|\n", k.Pattern)
		for _, f := range k.Fields {
			name := "`" + f.Name + "`"
			if f.Legacy {
				name += " ¹"
			}
			if f.Beat {
				name += " ²"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, f.Kind, f.Unit, cell(f.Meaning))
		}
	}
	b.WriteString("\n¹ Name of the earlier services, unchanged.\n² Moves with every heartbeat; the others only with a full publish.\n")
	return b.String(), nil
}

func produceEvery() (time.Duration, error) {
	for _, s := range config.Settings() {
		if s.Env == "MARKETSTATE_PUBLISH_INTERVAL" {
			n, err := strconv.Atoi(s.Default)
			return time.Duration(n) * time.Second, err
		}
	}
	return 0, fmt.Errorf("there is no setting MARKETSTATE_PUBLISH_INTERVAL")
}

// label is how an annotation names a label of the series that fires.
var label = regexp.MustCompile(`\{\{ \$labels\.(\w+) \}\}`)

// alerts lists every alert with the default thresholds.
func alerts() (string, error) {
	t := rules.Defaults()
	var b strings.Builder
	var group rules.Group
	for _, a := range rules.Alerts() {
		if a.Group != group {
			group = a.Group
			fmt.Fprintf(&b, "\n## Group `%s`\n\n| alert | severity | fires | for | first step |\n|---|---|---|---|---|\n", group)
		}
		expr, held, err := t.Filled(a)
		if err != nil {
			return "", fmt.Errorf("%s: %w", a.Name, err)
		}
		name := fmt.Sprintf("[%s](runbooks/%s.md)", a.Name, a.Name)
		if a.Legacy {
			name += " ¹"
		}
		fmt.Fprintf(&b, "| %s | %s | `%s` | %s | %s |\n", name, a.Severity, strings.Join(strings.Fields(cell(expr)), " "), held, cell(label.ReplaceAllString(a.FirstStep, "<$1>")))
	}
	b.WriteString("\n¹ Name, expression, duration and severity of the earlier deployment, unchanged.\n")
	return strings.TrimPrefix(b.String(), "\n"), nil
}
