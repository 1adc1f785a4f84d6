package rules

import "time"

// Severity is how urgent an alert is: the label severity.
type Severity string

// The severities. A critical alert means that positions are, or may be, without advice.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
	None     Severity = "none" // nothing is asked of anybody: Watchdog and Blind
)

// Group is a group of rules: evaluated together, in order, at one moment.
type Group string

// The groups. What must be firing in the moment in which a vanished series resolves another alert is in the group of that
// other alert: groups are evaluated at different moments.
const (
	GroupAlerts  Group = "quantum_harvest_alerts"
	GroupSLO     Group = "quantum_harvest_slo"
	GroupMonitor Group = "quantum_harvest_monitor"
)

// Alert is one alerting rule. Expr, the texts and the durations are those of the default thresholds where they carry
// placeholders: see Thresholds.
type Alert struct {
	Name     string
	Group    Group
	Severity Severity
	// Legacy tells that name, expression, duration, severity and labels are those of the earlier deployment: exact.
	Legacy bool

	Expr string
	// For and KeepFiringFor name a threshold, as placeholders do; blank is none.
	For, KeepFiringFor string

	// Summary is one line, Description what it means and what follows; both are Prometheus templates. FirstStep is what
	// whoever is paged does first.
	Summary, Description, FirstStep string
	Dashboard                       Dashboard

	// Faults are the rows of the fault table (docs/adr/0018-alert-rules.md) that this alert is there to see.
	Faults []int
}

// Recording is one recording rule: Record is level:metric:operation.
type Recording struct {
	Record string
	Group  Group
	Expr   string
}

// Dashboard is where an alert leads to; the value is the uid in Grafana.
type Dashboard string

// The dashboards, made by internal/dashboards.
const (
	DashboardControl   Dashboard = "quantum-harvest-control"
	DashboardFreshness Dashboard = "quantum-harvest-freshness"
)

// Alerts is the table of all alerts, in the order of the rule file.
func Alerts() []Alert {
	var all []Alert
	for _, part := range [][]Alert{sightAlerts(), legacyAlerts(), blindAlerts(), coverageAlerts(), inputAlerts(), storeAlerts(), clockAlerts(), writerAlerts(), exitAlerts()} {
		all = append(all, inGroup(GroupAlerts, part)...)
	}
	all = append(all, inGroup(GroupSLO, burnAlerts())...)
	return append(all, inGroup(GroupMonitor, monitorAlerts())...)
}

func inGroup(g Group, alerts []Alert) []Alert {
	for i := range alerts {
		alerts[i].Group = g
	}
	return alerts
}

// Recordings is the table of all recording rules, in the order of the rule file: in each group before its alerts.
func Recordings() []Recording { return append(viewRecordings(), freshnessRecordings()...) }

// evaluationInterval is how often a group is evaluated.
func (t Thresholds) evaluationInterval(g Group) time.Duration {
	if g == GroupSLO {
		return 3 * t.Interval
	}
	return t.Interval
}
