package engine

import (
	"log/slog"
	"maps"
	"slices"

	"quantumharvest/internal/store"
)

// newerRelease collects what a publisher that takes over finds of a newer release. It is not locked out: a full publish
// replaces the hash by what this release knows, so that content of two moments never stands side by side, and revision and
// fence go on. What goes with that is said.
type newerRelease struct {
	unknown, refused int // hashes
	fields           map[string]bool
	schema           string // of one that was refused
	version          string // of one of the writers
	symbol           string // the first
}

func (n *newerRelease) see(en *store.Entry) {
	if en == nil || !en.Found {
		return
	}
	switch {
	case en.Newer():
		n.refused++
		for _, p := range en.Problems {
			if p.Kind == store.FieldNewer {
				n.schema = p.Value
			}
		}
	case len(en.Unknown) > 0:
		n.unknown++
	default:
		return
	}
	if n.symbol == "" {
		n.symbol = string(en.Symbol)
	}
	if en.Proposal.PublisherVersion != "" {
		n.version = en.Proposal.PublisherVersion
	}
	if n.fields == nil {
		n.fields = map[string]bool{}
	}
	for _, name := range en.Unknown {
		n.fields[name] = true
	}
}

// report says it, once for all symbols.
func (n *newerRelease) report(log *slog.Logger) {
	names := slices.Sorted(maps.Keys(n.fields))
	if n.refused > 0 {
		log.Error("proposals of a release that is more than one step ahead are taken over: what only they remember (episode, extremes) begins anew",
			"proposals", n.refused, "first", n.symbol, "schema_version", n.schema, "read_up_to", store.MaxSchema,
			"hint", "upgrade this publisher, or go down one release at a time (docs/UPGRADE.md)")
	}
	if n.unknown > 0 {
		log.Warn("proposals with fields that this release does not know are taken over: a full publish leaves those fields out",
			"proposals", n.unknown, "first", n.symbol, "fields", names, "written_by", n.version)
	}
}
