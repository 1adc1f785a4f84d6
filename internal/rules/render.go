package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// FileName is the name of the rule file, InhibitFileName that of the inhibitions.
const (
	FileName        = "quantum_harvest.yml"
	InhibitFileName = "inhibit_rules.yml"
)

// JobExporter and JobPublisher are the job names that the rules look for.
const (
	JobExporter  = "quantum-harvest-exporter"
	JobPublisher = "quantum-harvest-publisher"
)

const header = `# Alert and recording rules of Quantum Harvest, for Prometheus 2.42 and newer. Made by 'harvest rules': change the settings
# (harvest rules --help) and make it anew, rather than this file. Runbooks: docs/runbooks.
`

// Render makes the rule file. The same thresholds always give the same bytes.
func Render(t Thresholds) ([]byte, error) {
	return render(t, Recordings(), Alerts())
}

// RenderEarly makes a rule file that an earlier publisher can keep, too, for the time until ours takes over: it has no
// heartbeat and no metrics of its own, so what asks for those would fire. The names, and the watchdog, are there.
func RenderEarly(t Thresholds) ([]byte, error) {
	var alerts []Alert
	for _, a := range Alerts() {
		if a.Legacy || a.Name == Watchdog {
			alerts = append(alerts, a)
		}
	}
	return render(t, nil, alerts)
}

func render(t Thresholds, recordings []Recording, alerts []Alert) ([]byte, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(header)
	b.WriteString("groups:\n")
	for _, g := range []Group{GroupAlerts, GroupSLO, GroupMonitor} {
		if !hasRules(g, recordings, alerts) {
			continue
		}
		fmt.Fprintf(&b, "  - name: %s\n    interval: %s\n    rules:\n", g, promDuration(t.evaluationInterval(g)))
		for _, r := range recordings {
			if r.Group == g {
				if err := writeRecording(&b, t, r); err != nil {
					return nil, fmt.Errorf("rules: %s: %w", r.Record, err)
				}
			}
		}
		for _, a := range alerts {
			if a.Group == g {
				if err := writeAlert(&b, t, a); err != nil {
					return nil, fmt.Errorf("rules: %s: %w", a.Name, err)
				}
			}
		}
	}
	return []byte(b.String()), nil
}

func hasRules(g Group, recordings []Recording, alerts []Alert) bool {
	return slices.ContainsFunc(recordings, func(r Recording) bool { return r.Group == g }) ||
		slices.ContainsFunc(alerts, func(a Alert) bool { return a.Group == g })
}

// Filled is what an alert asks, and for how long that must hold, with these thresholds.
func (t Thresholds) Filled(a Alert) (expr string, held time.Duration, err error) {
	if expr, err = t.expression(a.Expr); err != nil {
		return "", 0, err
	}
	held, err = t.duration(a.For)
	return expr, held, err
}

func writeRecording(b *strings.Builder, t Thresholds, r Recording) error {
	fmt.Fprintf(b, "      - record: %s\n", r.Record)
	return writeExpr(b, t, r.Expr)
}

func writeAlert(b *strings.Builder, t Thresholds, a Alert) error {
	fmt.Fprintf(b, "      - alert: %s\n", a.Name)
	if err := writeExpr(b, t, a.Expr); err != nil {
		return err
	}
	for _, d := range []struct{ key, name string }{{"for", a.For}, {"keep_firing_for", a.KeepFiringFor}} {
		v, err := t.duration(d.name)
		if err != nil {
			return err
		}
		if v > 0 {
			fmt.Fprintf(b, "        %s: %s\n", d.key, promDuration(v))
		}
	}
	b.WriteString("        labels:\n          component: quantum-trader\n")
	fmt.Fprintf(b, "          severity: %s\n          subsystem: harvest\n        annotations:\n", a.Severity)
	for _, text := range []struct{ key, value string }{
		{"summary", a.Summary},
		{"description", a.Description},
		{"runbook", a.FirstStep},
		{"runbook_url", t.RunbookURL + "/" + a.Name + ".md"},
		{"dashboard_url", t.DashboardURL + "/d/" + string(a.Dashboard)},
	} {
		v, err := t.text(text.value)
		if err != nil {
			return fmt.Errorf("%s: %w", text.key, err)
		}
		fmt.Fprintf(b, "          %s: %s\n", text.key, quote(v))
	}
	return nil
}

// writeExpr writes an expression as a block, which needs no quoting whatever is in it.
func writeExpr(b *strings.Builder, t Thresholds, expr string) error {
	filled, err := t.expression(expr)
	if err != nil {
		return err
	}
	if !strings.Contains(filled, "\n") && !strings.ContainsAny(filled, ":#{}[]") {
		fmt.Fprintf(b, "        expr: %s\n", filled)
		return nil
	}
	b.WriteString("        expr: |-\n")
	for line := range strings.SplitSeq(filled, "\n") {
		fmt.Fprintf(b, "          %s\n", line)
	}
	return nil
}

// quote makes a scalar of YAML in which nothing but the quote itself means anything.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
