package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"quantumharvest/internal/store"
)

// observer looks at a copy from outside for as long as it runs, and notes what must never be.
type observer struct {
	s    *stand
	done sync.WaitGroup

	mu         sync.Mutex
	alerts     map[alertKey]string               // as of the last look
	began      map[alertKey]map[string]time.Time // when a state was first seen, since the mark
	fired      map[alertKey]time.Time            // when it last began to fire
	values     map[string]map[string]bool        // by symbol and field: every text that Redis was seen to hold
	hashes     map[string]map[string]string      // the last whole look at a proposal; nil: there was none
	wholeAt    map[string]time.Time              // when it was last whole
	revisions  map[string][2]int64               // highest revision and fence of a symbol
	forgiving  map[string]bool                   // symbols whose hash the drill itself damages
	forgetful  bool                              // Redis lost everything: what it holds begins anew
	clocks     bool                              // the clock of the publisher is off: ages say nothing
	blindFor   map[string]bool                   // symbols whose heartbeat may stand still
	claims     map[string][2]string              // what the exporter showed: text of the claim -> symbol and field=value
	violations map[string]bool
}

func observe(ctx context.Context, s *stand) *observer {
	o := &observer{
		s: s, alerts: map[alertKey]string{}, began: map[alertKey]map[string]time.Time{}, fired: map[alertKey]time.Time{}, values: map[string]map[string]bool{},
		hashes: map[string]map[string]string{}, wholeAt: map[string]time.Time{}, revisions: map[string][2]int64{},
		forgiving: map[string]bool{}, blindFor: map[string]bool{}, claims: map[string][2]string{}, violations: map[string]bool{},
	}
	every := func(d time.Duration, look func(context.Context)) {
		o.done.Go(func() {
			tick := time.NewTicker(d)
			defer tick.Stop()
			for {
				look(ctx)
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	every(150*time.Millisecond, o.lookAtAlerts)
	every(100*time.Millisecond, o.lookAtRedis)
	every(500*time.Millisecond, o.lookAtPage)
	return o
}

func (o *observer) violation(format string, args ...any) {
	o.violations[fmt.Sprintf(format, args...)] = true
}

// change tells the observer what to expect from here on.
func (o *observer) change(f func(*observer)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(o)
}

// mark forgets which alerts came when.
func (o *observer) mark() { o.change(func(o *observer) { clear(o.began) }) }

func (o *observer) lookAtAlerts(ctx context.Context) {
	states, err := o.s.alerts(ctx)
	if err != nil {
		return // it is not there yet, or was killed
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for key, state := range states {
		if o.began[key] == nil {
			o.began[key] = map[string]time.Time{}
		}
		if _, known := o.began[key][state]; !known {
			o.began[key][state] = now
		}
		if state == "firing" && o.alerts[key] != "firing" {
			o.fired[key] = now
		}
	}
	o.alerts = states
}

// since gives when any alert of these names was first in a state since the mark.
func (o *observer) since(names []string, state string) (at time.Time, which alertKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, states := range o.began {
		if t, ok := states[state]; ok && slices.Contains(names, key.name) && (at.IsZero() || t.Before(at)) {
			at, which = t, key
		}
	}
	return at, which
}

// firing lists the alerts that fire or fired since the mark, but for those that may always.
func (o *observer) firing(now bool) []alertKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []alertKey
	for key, states := range o.began {
		if slices.Contains(alwaysAllowed, key.name) {
			continue
		}
		if now && o.alerts[key] == "firing" || !now && !states["firing"].IsZero() {
			list = append(list, key)
		}
	}
	slices.SortFunc(list, func(a, b alertKey) int { return strings.Compare(a.name+a.symbol, b.name+b.symbol) })
	return list
}

// beganAfter lists those of these alerts that began to fire after a moment.
func (o *observer) beganAfter(names []string, at time.Time) []alertKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []alertKey
	for key, began := range o.fired {
		if slices.Contains(names, key.name) && began.After(at) {
			list = append(list, key)
		}
	}
	slices.SortFunc(list, func(a, b alertKey) int { return strings.Compare(a.name+a.symbol, b.name+b.symbol) })
	return list
}

// quiet tells that nothing fires, or is about to.
func (o *observer) quiet() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.alerts) == 0 {
		return errors.New("no alerts at all at Prometheus, not even the watchdog")
	}
	for key, state := range o.alerts {
		if !slices.Contains(alwaysAllowed, key.name) {
			return fmt.Errorf("%s %s is %s", key.name, key.symbol, state)
		}
	}
	return nil
}

// alwaysAllowed are the alerts that may fire in health: what the advice asks for, and the one that always does.
var alwaysAllowed = []string{"QuantumHarvestKillScoreHigh", "QuantumHarvestKillScoreCritical", "QuantumExitNotActedOn", "Watchdog"}

// shown are the fields whose samples must be what Redis holds.
var shown = map[string]string{
	"quantum_harvest_kill_score": "kill_score", "quantum_harvest_r_net": "R_net", "quantum_harvest_new_sl": "new_sl_proposed",
	"quantum_harvest_last_update_epoch": "last_update_epoch",
}

func (o *observer) lookAtRedis(ctx context.Context) { o.readRedis(ctx) }

// readRedis looks at every proposal and tells of which symbols it could.
func (o *observer) readRedis(ctx context.Context) (read map[string]bool) {
	read = map[string]bool{}
	for _, sym := range drillSymbols {
		h, err := o.s.proposal(ctx, sym)
		if err != nil {
			continue // away, or of another type
		}
		o.mu.Lock()
		o.note(sym, h)
		o.mu.Unlock()
		read[sym] = true
	}
	return read
}

func (o *observer) note(sym string, h map[string]string) {
	now := time.Now()
	o.hashes[sym] = h
	if h == nil {
		return
	}
	if len(h) != len(store.FieldNames()) {
		if !o.forgiving[sym] {
			o.violation("the proposal of %s has %d fields, a whole one has %d", sym, len(h), len(store.FieldNames()))
		}
		return
	}
	o.wholeAt[sym] = now
	if o.values[sym] == nil {
		o.values[sym] = map[string]bool{}
	}
	for _, field := range shown {
		o.values[sym][field+"="+canonical(h[field])] = true
	}
	if h["position_side"] != "LONG" {
		o.violation("%s is treated as %q", sym, h["position_side"])
	}
	if h["position_source"] != "redis_hash" || h["market_source"] != "redis" {
		o.violation("the proposal of %s rests on %s and %s", sym, h["market_source"], h["position_source"])
	}
	revision, fence := whole(h["revision"]), whole(h["fence"])
	was := o.revisions[sym]
	if revision < was[0] || fence < was[1] {
		if !o.forgetful {
			o.violation("%s went back: revision %d -> %d, fence %d -> %d", sym, was[0], revision, was[1], fence)
		}
		was = [2]int64{}
	}
	o.revisions[sym] = [2]int64{max(revision, was[0]), max(fence, was[1])}
	if age := now.Unix() - whole(h["last_update_epoch"]); !o.clocks {
		if age < 0 {
			o.violation("the heartbeat of %s lies %d s ahead", sym, -age)
		}
		if age > 4 && !o.blindFor[sym] {
			o.violation("the heartbeat of %s stood still although nothing happened to it", sym)
		}
	}
}

func whole(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

func canonical(text string) string {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return text
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// lookAtPage reads the exporter: every sample must be something that Redis held, of a symbol that has a position.
func (o *observer) lookAtPage(ctx context.Context) {
	body, err := o.s.fetch(ctx, "http://"+loopback(o.s.ports.exporter)+"/metrics")
	if err != nil {
		return
	}
	o.judge(string(body), o.readRedis(ctx))
}

// judge holds a page against what Redis was seen to hold. Values of a symbol that could not be read right after it are not judged:
// our own client may find a Redis that is back a second later than the exporter's, and misses what it held in between.
func (o *observer) judge(page string, read map[string]bool) {
	up, symbols := true, 0
	o.mu.Lock()
	defer o.mu.Unlock()
	for line := range strings.Lines(page) {
		if line == "quantum_harvest_up 0\n" {
			up = false
		}
		name, rest, found := strings.Cut(line, `{symbol="`)
		field := shown[name]
		if !found || field == "" {
			continue
		}
		symbols++
		sym, rest, _ := strings.Cut(rest, `"} `)
		value := strings.TrimSpace(rest)
		switch {
		case !slices.Contains(drillSymbols, sym):
			o.violation("the exporter shows %s, which nobody holds", sym)
		case read[sym] && !o.values[sym][field+"="+canonical(value)] && !o.forgiving[sym]:
			// It may have seen what we have not yet: the last word before Redis went away comes back with it.
			text := fmt.Sprintf("the exporter shows %s %s for %s, which Redis never held", name, value, sym)
			o.claims[text] = [2]string{sym, field + "=" + canonical(value)}
		}
	}
	if !up && symbols > 0 {
		o.violation("the exporter shows symbols while it says that Redis is away")
	}
}

// snapshot is the last whole look at every proposal.
func (o *observer) snapshot() map[string]map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.hashes)
}

func (o *observer) problems() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := maps.Clone(o.violations)
	for text, claim := range o.claims {
		if !o.values[claim[0]][claim[1]] {
			all[text] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
