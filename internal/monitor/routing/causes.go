package routing

// perSymbol are the alerts that are a decision about one position each: they are told symbol by symbol, while an outage
// that touches many symbols is told once.
const perSymbol = "QuantumHarvestKillScore.*"

// cause is one inhibition: while an alert that matches Source fires, those that match Hides and have the same values of
// Equal keep quiet. One cause pages once, under its own name.
type cause struct {
	Why    string
	Source []string
	Hides  []string
	Equal  []string
}

// What the exporter shows. Alerts about the publisher and about the monitor itself have other sources.
const (
	anyAlert      = `alertname=~"QuantumHarvest.+"`
	exporterDown  = `QuantumHarvestExporter(Down|Absent)`
	storeDown     = `QuantumHarvestStoreDown`
	heartbeatLost = `QuantumHarvestHeartbeat(Lost|Absent)`
	notExporter   = `alertname!~"QuantumHarvest(Exporter.+|Publisher.+|Monitor.+|Rule.+|Notification.+)"`
	notStore      = `alertname!~"QuantumHarvest(Exporter.+|Store.+|Publisher(Down|Absent)|Monitor.+|Rule.+|Notification.+)"`
	// read is what rests on a heartbeat: its legacy alert, the inputs behind it and the scores it carries.
	read = `alertname=~"QuantumHarvest(MetricsStale|KillScore.+|Input.+|Content.+|Cadence.+|Heartbeat(Late|Slow)|Refused.+)"`
)

// causes are the inhibitions, the deepest cause first.
var causes = []cause{
	{
		Why:    "without the exporter nothing is known of store, heartbeats and scores",
		Source: []string{`alertname=~"` + exporterDown + `"`},
		Hides:  []string{anyAlert, notExporter},
	},
	{
		Why:    "without the store there is no heartbeat and no score of any symbol",
		Source: []string{`alertname="` + storeDown + `"`},
		Hides:  []string{anyAlert, notStore},
	},
	{
		Why:    "a lost heartbeat is the first sign of a publisher that is gone",
		Source: []string{`alertname=~"` + heartbeatLost + `"`},
		Hides:  []string{`alertname=~"QuantumHarvestPublisher(Down|Absent)"`},
	},
	{
		Why:    "without any heartbeat nothing that rests on one is news",
		Source: []string{`alertname=~"` + heartbeatLost + `"`, `symbol=""`},
		Hides:  []string{read},
	},
	{
		Why:    "without its heartbeat nothing that rests on it is news, and a kill score that stands still is no advice",
		Source: []string{`alertname=~"` + heartbeatLost + `"`},
		Hides:  []string{read},
		Equal:  []string{"symbol"},
	},
	{
		Why:    "a kill score that stands still is no advice",
		Source: []string{`alertname="QuantumHarvestMetricsStale"`},
		Hides:  []string{`alertname=~"QuantumHarvestKillScore.+"`},
		Equal:  []string{"symbol"},
	},
	{
		Why:    "critical says all that high says",
		Source: []string{`alertname="QuantumHarvestKillScoreCritical"`},
		Hides:  []string{`alertname="QuantumHarvestKillScoreHigh"`},
		Equal:  []string{"symbol"},
	},
}
