package proof

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/guptarohit/asciigraph"
)

// Markdown is the pack for people. With an earlier pack it ends with what was and what is.
func (p Pack) Markdown(before *Pack) string {
	var b strings.Builder
	passed := 0
	for _, c := range p.Checks {
		if c.Passed {
			passed++
		}
	}
	fmt.Fprintf(&b, "# Proof pack\n\n%s, harvest %s, Redis %s: %d of %d checks hold, after %.0f s of looking.\n\n",
		p.Begun.UTC().Format("2006-01-02 15:04:05 UTC"), p.Version, p.Redis, passed, len(p.Checks), p.TookSec)
	b.WriteString("| # | check | |\n|---|---|---|\n")
	for _, c := range p.Checks {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", c.Number, c.Name, c.verdict())
	}
	for _, c := range p.Checks {
		fmt.Fprintf(&b, "\n## %d. %s: %s\n\nClaim: %s.\n\n", c.Number, c.Name, c.verdict(), c.Claim)
		for _, f := range c.Failures {
			fmt.Fprintf(&b, "- **%s**\n", f)
		}
		for _, e := range c.Evidence {
			fmt.Fprintf(&b, "- %s\n", e)
		}
		if c.Name == "staleness" && len(p.AgesSec) > 0 {
			fmt.Fprintf(&b, "\n```\n%s\n```\n", plot(p.AgesSec))
		}
		if len(c.ByHand) > 0 {
			fmt.Fprintf(&b, "\nBy hand:\n\n```sh\n%s\n```\n", strings.Join(c.ByHand, "\n"))
		}
	}
	if before != nil {
		b.WriteString("\n## Before and after\n\n" + p.compare(*before))
	}
	return b.String()
}

func (c Check) verdict() string {
	if c.Passed {
		return "holds"
	}
	return "FAILED"
}

// plot draws the sampled ages in the order in which they were taken.
func plot(ages []float64) string {
	return asciigraph.Plot(ages, asciigraph.Height(10), asciigraph.Width(min(max(len(ages), 40), 100)), asciigraph.Precision(1),
		asciigraph.LowerBound(0), asciigraph.Caption("age of the oldest heartbeat, seconds, sample by sample"))
}

// compare holds two packs against each other, check by check and figure by figure.
func (p Pack) compare(before Pack) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| check | figure | %s | %s |\n|---|---|---|---|\n", stamp(before.Begun), stamp(p.Begun))
	was := map[string]Check{}
	for _, c := range before.Checks {
		was[c.Name] = c
	}
	for _, c := range p.Checks {
		old, known := was[c.Name]
		verdict := "not checked"
		if known {
			verdict = old.verdict()
		}
		fmt.Fprintf(&b, "| %s | | %s | %s |\n", c.Name, verdict, c.verdict())
		for _, name := range slices.Sorted(maps.Keys(c.Figures)) {
			before := "-"
			if v, ok := old.Figures[name]; ok {
				before = figure(v)
			}
			fmt.Fprintf(&b, "| | %s | %s | %s |\n", name, before, figure(c.Figures[name]))
		}
	}
	return b.String()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

func figure(v float64) string {
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d", int64(v))
	}
	return fmt.Sprintf("%.3f", v)
}

// Line is the pack in one line.
func (p Pack) Line() string {
	var failed []string
	for _, c := range p.Checks {
		if !c.Passed {
			failed = append(failed, fmt.Sprintf("%d %s (%s)", c.Number, c.Name, c.Failures[0]))
		}
	}
	if len(failed) == 0 {
		return fmt.Sprintf("%s all %d checks hold", stamp(p.Begun), len(p.Checks))
	}
	return fmt.Sprintf("%s FAILED: %s", stamp(p.Begun), strings.Join(failed, "; "))
}
