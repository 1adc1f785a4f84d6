package rules

import "strings"

// Inhibition says that while a source alert fires its targets notify nobody, so that one cause pages once. The matchers
// are in Alertmanager's syntax, for source_matchers and target_matchers.
type Inhibition struct {
	SourceMatch, TargetMatch string
	// Equal are the labels that must agree, for relations between alerts of the same symbol.
	Equal []string
	// Reason says why the target adds nothing.
	Reason string
}

// relation is an Inhibition by names.
type relation struct {
	source, target []string
	where          string // what the source must be besides: one more matcher
	equal          []string
	reason         string
}

var (
	// ofSymbol are the alerts about one symbol that look at its series.
	ofSymbol = []string{
		"QuantumHarvestMetricsStale", "QuantumHarvestKillScoreHigh", "QuantumHarvestKillScoreCritical", "QuantumHarvestSightLost",
		"QuantumHarvestMarketStale", "QuantumHarvestPositionStale", "QuantumHarvestContentStale", "QuantumHarvestCadenceLow",
		"QuantumHarvestHeartbeatSkewed", "QuantumExitNotActedOn",
	}
	burn = []string{"QuantumHarvestFreshnessBurnFast", "QuantumHarvestFreshnessBurnSlow"}
	// throughExporter are the other alerts that the exporter must be seen for.
	throughExporter = []string{
		"QuantumHarvestHeartbeatLost", "QuantumHarvestProposalMissing", "QuantumHarvestCoverageShort", "QuantumHarvestCoverageUnknown",
		"QuantumHarvestFieldsBad", "QuantumHarvestLeaseUnheld", "QuantumHarvestLeaseFlapping",
	}
	// throughStore are those that follow from a Redis that does not answer.
	throughStore = []string{
		"QuantumHarvestStoreErrors", "QuantumHarvestStoreInterrupted", "QuantumHarvestStoreSlow", "QuantumHarvestPublisherStoreDown",
		"QuantumHarvestLeaseRefused", "QuantumHarvestClockSkew",
	}
	symbol   = []string{"symbol"}
	instance = []string{"job", "instance"}
)

func join(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func relations() []relation {
	return []relation{
		{
			source: []string{Blind}, target: join(ofSymbol, throughExporter, burn),
			reason: "where no exporter sees Redis nothing about symbols can be seen; one of several that is down keeps nothing quiet",
		},
		{
			source: []string{Blind}, where: `cause="QuantumHarvestStoreDown"`, target: throughStore,
			reason: "without Redis nothing about writers or leases can be seen or done",
		},
		{
			source: []string{"QuantumHarvestStoreDown"}, equal: instance,
			target: []string{"QuantumHarvestStoreErrors", "QuantumHarvestStoreInterrupted", "QuantumHarvestStoreSlow", "QuantumHarvestClockSkew"},
			reason: "it is this one that cannot read Redis",
		},
		{
			source: []string{"QuantumHarvestExporterDown"}, target: []string{"QuantumHarvestStoreDown"}, equal: instance,
			reason: "it is this one that does not answer",
		},
		{
			source: []string{"QuantumHarvestHeartbeatLost"}, target: ofSymbol, equal: symbol,
			reason: "what a dead publisher left behind says nothing about now",
		},
		{
			source: []string{"QuantumHarvestHeartbeatLost"},
			target: join([]string{"QuantumHarvestPublisherDown", "QuantumHarvestLeaseUnheld"}, burn),
			reason: "the lost heartbeat is what these are feared for",
		},
		{
			source: []string{"QuantumHarvestMetricsStale"},
			target: []string{"QuantumHarvestKillScoreHigh", "QuantumHarvestKillScoreCritical"}, equal: join(symbol, instance),
			reason: "a score that is not renewed is no reason to act; another exporter may see it renewed",
		},
		{
			source: []string{"QuantumHarvestKillScoreCritical"}, target: []string{"QuantumHarvestKillScoreHigh"}, equal: symbol,
			reason: "the higher threshold includes the lower",
		},
		{
			source: []string{"QuantumHarvestHeartbeatSkewed"},
			target: []string{"QuantumHarvestMetricsStale", "QuantumHarvestMarketStale", "QuantumHarvestPositionStale", "QuantumHarvestContentStale"}, equal: symbol,
			reason: "with a clock that is off these ages are wrong",
		},
		{
			source: []string{"QuantumHarvestClockSkew"}, target: []string{"QuantumHarvestHeartbeatSkewed"},
			reason: "the clock itself is known to be off",
		},
		{
			source: []string{"QuantumHarvestInputRefused"},
			target: []string{"QuantumHarvestMarketStale", "QuantumHarvestPositionStale", "QuantumHarvestProposalMissing"}, equal: symbol,
			reason: "refused input is why nothing newer arrives",
		},
		{
			source: []string{"QuantumHarvestFeedBlocked"}, target: []string{"QuantumHarvestFeedDown"},
			reason: "the exchange keeps us away",
		},
		{
			source: []string{"QuantumHarvestFeedDown"}, target: []string{"QuantumHarvestMarketStale"},
			reason: "no stream, no market data",
		},
		{
			source: []string{"QuantumHarvestPositionStale"}, target: []string{"QuantumHarvestCoverageUnknown"},
			reason: "the same source cannot be read",
		},
		{
			source: []string{"QuantumHarvestProposalMissing"},
			target: []string{"QuantumHarvestCoverageShort", "QuantumHarvestStoreErrors", "QuantumHarvestFieldsBad", "QuantumHarvestSightLost"},
			reason: "it names the symbol",
		},
		{
			source: []string{"QuantumHarvestCoverageShort"}, target: []string{"QuantumHarvestSightLost"},
			reason: "the loss itself pages",
		},
		{
			source: []string{"QuantumHarvestTwoWriters"}, target: []string{"QuantumHarvestLeaseFlapping"},
			reason: "the other writer is why",
		},
		{
			source: []string{"QuantumHarvestLeaseUnheld"}, target: []string{"QuantumHarvestLeaseRefused"},
			reason: "the shard without a holder pages",
		},
		{
			source: []string{"QuantumHarvestFreshnessBurnFast"}, target: []string{"QuantumHarvestFreshnessBurnSlow"},
			reason: "the faster burn includes the slower",
		},
	}
}

// Inhibitions are the relations for Alertmanager.
func Inhibitions() []Inhibition {
	var all []Inhibition
	for _, r := range relations() {
		source := matcher(r.source)
		if r.where != "" {
			source += "," + r.where
		}
		all = append(all, Inhibition{SourceMatch: source, TargetMatch: matcher(r.target), Equal: r.equal, Reason: r.reason})
	}
	return all
}

func matcher(names []string) string {
	if len(names) == 1 {
		return `alertname="` + names[0] + `"`
	}
	return `alertname=~"` + strings.Join(names, "|") + `"`
}

// RenderInhibitions makes the part inhibit_rules of a configuration of Alertmanager.
func RenderInhibitions() []byte {
	var b strings.Builder
	b.WriteString("# Part of alertmanager.yml: one cause pages once. Made by 'harvest rules --inhibitions'.\n# Route " + Blind + " to a receiver without integrations: it is there to keep others quiet.\ninhibit_rules:\n")
	for _, in := range Inhibitions() {
		b.WriteString("  # " + in.Reason + "\n")
		b.WriteString("  - source_matchers: [" + quote(in.SourceMatch) + "]\n")
		b.WriteString("    target_matchers: [" + quote(in.TargetMatch) + "]\n")
		if len(in.Equal) > 0 {
			b.WriteString("    equal: [" + strings.Join(in.Equal, ", ") + "]\n")
		}
	}
	return []byte(b.String())
}
