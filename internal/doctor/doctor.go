// Package doctor says what is wrong with a running desk, why, and what to do. It asks what a proof asks, and what only
// somebody on the host can see: settings, units, ports, disk, and services of before that still run.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"quantumharvest/internal/proof"
	"quantumharvest/internal/store"
)

// Severity is how urgent a finding is.
type Severity string

// The severities, as those of alerts.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
	Info     Severity = "info"
)

// Finding is one thing that is wrong.
type Finding struct {
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Evidence string   `json:"evidence"`
	Why      string   `json:"why"`
	Fix      string   `json:"fix"` // a command
}

// Unknown is one thing that this user cannot see.
type Unknown struct {
	What string `json:"what"`
	Why  string `json:"why"`
	Fix  string `json:"fix"`
}

// Report is everything that was found, the most urgent first.
type Report struct {
	At       time.Time `json:"at"`
	Version  string    `json:"version"`
	Findings []Finding `json:"findings"`
	// Unknown is what could not be looked at. It may be in order or not: somebody with more rights can tell.
	Unknown []Unknown `json:"unknown"`
	// Looked are the things that were looked at and are in order.
	Looked []string `json:"in_order"`
}

// Add takes a finding in.
func (r *Report) Add(s Severity, what, evidence, why, fix string) {
	r.Findings = append(r.Findings, Finding{s, what, evidence, why, fix})
}

// CannotTell says that something could not be looked at.
func (r *Report) CannotTell(what, why, fix string) {
	r.Unknown = append(r.Unknown, Unknown{what, why, fix})
}

// OK says that something was looked at and is in order.
func (r *Report) OK(format string, args ...any) {
	r.Looked = append(r.Looked, fmt.Sprintf(format, args...))
}

// Sort puts the most urgent first.
func (r *Report) Sort() {
	rank := []Severity{Critical, Warning, Info}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(rank, a.Severity), slices.Index(rank, b.Severity))
	})
}

// Fine tells whether nothing was found to be wrong.
func (r *Report) Fine() bool { return len(r.Findings) == 0 }

// String is the report for people.
func (r *Report) String() string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s\n  seen: %s\n  why:  %s\n  fix:  %s\n\n", strings.ToUpper(string(f.Severity)), f.What, f.Evidence, f.Why, f.Fix)
	}
	for _, u := range r.Unknown {
		fmt.Fprintf(&b, "UNKNOWN: %s\n  why:  %s\n  fix:  %s\n\n", u.What, u.Why, u.Fix)
	}
	for _, l := range r.Looked {
		fmt.Fprintf(&b, "ok  %s\n", l)
	}
	switch {
	case !r.Fine():
		fmt.Fprintf(&b, "\n%d findings", len(r.Findings))
	case len(r.Unknown) > 0:
		b.WriteString("\nNothing that was seen is wrong")
	default:
		b.WriteString("\nNothing is wrong")
	}
	if len(r.Unknown) > 0 {
		things := "things"
		if len(r.Unknown) == 1 {
			things = "thing"
		}
		fmt.Fprintf(&b, "; %d %s could not be looked at", len(r.Unknown), things)
	}
	b.WriteString(".\n")
	return b.String()
}

// cause is what a failed check of a proof usually comes from, and what to do first.
type cause struct {
	severity Severity
	why, fix string
}

// causes are by the names of the checks.
var causes = map[string]cause{
	"heartbeat moves": {
		Critical, "no publisher writes, or it cannot reach Redis", "journalctl -u quantum-harvest-proposal -n 50",
	},
	"exporter moves": {
		Critical, "the exporter does not run, or reads another Redis or prefix", "journalctl -u quantum-harvest-metrics-exporter -n 50",
	},
	"staleness": {
		Critical, "Prometheus has no fresh heartbeats: it scrapes another place, or not at all", "promtool query instant http://127.0.0.1:9091 'time() - quantum_harvest_last_update_epoch'",
	},
	"alerts": {
		Warning, "an alert fires; its runbook in docs/runbooks says what it means", "harvest top",
	},
	"health": {
		Critical, "a part does not run, or Prometheus has no target for it", "systemctl status 'quantum-harvest-*'",
	},
	"rules": {
		Warning, "Prometheus has other rules than these settings make", "harvest rules --out /etc/prometheus/rules",
	},
	"coverage": {
		Critical, "open positions have no proposal: SYMBOLS leaves them out, or their record is refused", "journalctl -u quantum-harvest-proposal | grep refused",
	},
	"one lease holder": {
		Critical, "nobody, or somebody else, holds the lease", "redis-cli HGETALL quantum:harvest:lease",
	},
	"clocks agree": {
		Warning, "a clock is off", "timedatectl",
	},
}

// FromProof takes the checks of a proof in. Those that are named there rest on what is not known: that they fail says nothing.
func (r *Report) FromProof(p proof.Pack, unsure map[string]string) {
	for _, c := range p.Checks {
		switch {
		case c.Passed:
			r.OK("%s: %s", c.Name, c.Claim)
		case unsure[c.Name] != "":
			r.CannotTell("whether this holds: "+c.Claim, unsure[c.Name], asRoot)
		default:
			known, ok := causes[c.Name]
			if !ok {
				known = cause{Warning, "not so: " + c.Claim, "harvest proof"}
			}
			if len(c.ByHand) > 0 && known.fix == "harvest proof" {
				known.fix = c.ByHand[0]
			}
			r.Add(known.severity, c.Name+" does not hold", strings.Join(c.Failures, "; "), known.why, known.fix)
		}
	}
}

// asRoot is how everything can be looked at.
const asRoot = "sudo harvest doctor"

// Versions compares what the parts of a desk say of themselves.
func (r *Report) Versions(parts map[string]string) {
	seen := map[string][]string{}
	for part, v := range parts {
		seen[v] = append(seen[v], part)
	}
	if len(seen) < 2 {
		r.OK("versions: %d parts are of the same", len(parts))
		return
	}
	var lines []string
	for v, who := range seen {
		slices.Sort(who)
		lines = append(lines, fmt.Sprintf("%s: %s", v, strings.Join(who, ", ")))
	}
	slices.Sort(lines)
	r.Add(Warning, "parts are of different versions", strings.Join(lines, "; "), "an upgrade was not finished, or a service was not restarted after it",
		"systemctl restart quantum-harvest-proposal quantum-harvest-metrics-exporter quantum-harvest-monitor")
}

// Store looks at what Redis holds.
func (r *Report) Store(c store.Collection, stale time.Duration, prefix string) {
	earlier := 0
	for _, e := range c.Entries {
		p := e.Proposal
		switch {
		case e.Err != nil:
			r.Add(Critical, string(e.Symbol)+" cannot be read", e.Err.Error(), "the key is of another type, or may not be read",
				"redis-cli TYPE "+prefix+string(e.Symbol))
		case !e.Found:
			r.Add(Critical, string(e.Symbol)+" has no proposal", "it is in the expected set and its hash is not there", "the publisher refuses its inputs, or does not write",
				"journalctl -u quantum-harvest-proposal | grep "+string(e.Symbol))
		case p.SchemaVersion == 0:
			earlier++
		case c.ServerTime.Sub(p.LastUpdate) > stale:
			r.Add(Critical, string(e.Symbol)+": the heartbeat stands still", fmt.Sprintf("last_update_epoch is %s old", c.ServerTime.Sub(p.LastUpdate).Round(time.Second)),
				"the publisher does not run or has lost its lease", "systemctl status quantum-harvest-proposal")
		case p.InputState != store.InputFresh:
			r.Add(Warning, string(e.Symbol)+": its inputs are stale", fmt.Sprintf("input_state is %s, market_epoch %s, position_epoch %s", p.InputState, p.MarketAt.Format(time.RFC3339), p.PositionAt.Format(time.RFC3339)),
				"the service that writes them has stopped", "redis-cli HGETALL quantum:marketstate:"+string(e.Symbol))
		}
	}
	if earlier > 0 {
		r.Add(Critical, "an earlier publisher writes, or its hashes were left", fmt.Sprintf("%d proposals without schema_version", earlier),
			"two writers flip the proposals, or nobody took these symbols over", "systemctl disable --now the unit of the earlier publisher; harvest deploy --status")
	}
	if len(c.Entries) > 0 {
		r.OK("Redis: %d proposals looked at", len(c.Entries))
	}
}
