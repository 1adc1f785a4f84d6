// Package rules holds the alert and recording rules as one table: what each rule watches, how long it waits, what it
// says, and which alert silences which. Render makes the rule file for Prometheus 2.42 and newer from it; Inhibitions
// gives the relations for Alertmanager.
//
// Alerts whose name contains "Harvest" say that the desk, or the view of it, is not in order: in health none of them
// fires, except for the two kill-score alerts of the earlier deployment. What the advice itself asks for, and the alert
// that always fires, go by other names.
package rules
