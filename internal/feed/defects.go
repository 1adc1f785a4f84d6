package feed

import (
	"time"

	"quantumharvest/internal/position"
)

// defectRepeat is how often a defect that stays is reported again, so that counters keep moving while it lasts: often
// enough for an alert on them to fire and to clear within a minute, and in a drill at five times the speed.
const defectRepeat = 4 * time.Second

// orderRecheck is how often a window is read in full again for the sake of gaps, repeats and disorder alone: they stay for
// as long as the window reaches back, hours of it, and nobody is paged for them.
const orderRecheck = time.Minute

// defectBook remembers which defects stand under which key, so that a record that stays bad is reported once and not
// with every poll.
type defectBook struct {
	source   string
	standing map[string]map[defectKind]*defect // by key
}

type defectKind struct {
	field  string
	reason Reason
}

type defect struct {
	refusal Refusal
	said    time.Time
}

func newDefectBook(source string) *defectBook {
	return &defectBook{source: source, standing: make(map[string]map[defectKind]*defect)}
}

// set says that exactly these flaws stand under the key now. New ones, and those whose value has changed, go to sink.
func (b *defectBook) set(key string, symbol position.Symbol, flaws []flaw, now time.Time, sink Sink) {
	old := b.standing[key]
	if len(flaws) == 0 {
		delete(b.standing, key)
		return
	}
	fresh := make(map[defectKind]*defect, len(flaws))
	for _, f := range flaws {
		kind := defectKind{f.field, f.reason}
		if fresh[kind] != nil {
			continue // one of a kind is enough
		}
		refusal := f.refusal(b.source, key, symbol, now)
		if was := old[kind]; was != nil && was.refusal.Value == refusal.Value {
			fresh[kind] = was
			continue
		}
		fresh[kind] = &defect{refusal: refusal, said: now}
		sink(refusal)
	}
	b.standing[key] = fresh
}

// repeat reports again what still stands a while after it was last said.
func (b *defectBook) repeat(now time.Time, sink Sink) {
	for _, kinds := range b.standing {
		for _, d := range kinds {
			if now.Sub(d.said) < defectRepeat && !now.Before(d.said) {
				continue
			}
			d.said, d.refusal.At = now, now
			sink(d.refusal)
		}
	}
}

// due tells whether what is wrong under the key should be looked at again, when it was last looked at then.
func (b *defectBook) due(key string, then, now time.Time) bool {
	for kind := range b.standing[key] {
		after := defectRepeat
		switch kind.reason {
		case ReasonGap, ReasonDuplicate, ReasonOutOfOrder:
			after = orderRecheck
		}
		if now.Sub(then) >= after {
			return true
		}
	}
	return false
}
