package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/config"
	"quantumharvest/internal/service"
)

// Bounds of the switch-over.
const (
	// quiet is how long nothing was written after the earlier publisher's cycle: then the whole pause is before us.
	quiet = 400 * time.Millisecond
	// takenWithin is how long ours may take until it has taken every symbol over.
	takenWithin = 30 * time.Second
	// maxGap is the longest pause of a heartbeat that a switch-over may cause.
	maxGap = 12 * time.Second
	// executionsSeen is how far back a position is looked for in the stream of executions.
	executionsSeen = 10000
	// beatsSeen is how often every heartbeat must have moved before the earlier services count as replaced.
	beatsSeen = 3
)

func (r *run) planSwitch(ctx context.Context) ([]string, error) {
	found, err := r.find(ctx)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, s := range found {
		lines = append(lines, fmt.Sprintf("would stop and disable %s (%s), put our unit and env file in its place, and start and enable ours", s.Unit, s.Program))
	}
	if r.prometheusConfig() == "" {
		lines = append(lines, "would start and enable "+UnitMonitor)
	} else {
		lines = append(lines, "would put all of our rules and the scrape job of the publisher into Prometheus once ours beats")
	}
	return append(lines, "would keep every key of Redis that ours may write, measure the pause of every heartbeat, and remove proposals of closed positions"), nil
}

// gaps measures by how much last_update_epoch moves at a time.
type gaps struct {
	mu      sync.Mutex
	last    map[string]int64
	longest map[string]int64
	beats   map[string]int       // since ours writes
	first   map[string]time.Time // when the first of them was seen
	own     map[string]int64     // longest pause between two of them
}

func newGaps() *gaps {
	return &gaps{last: map[string]int64{}, longest: map[string]int64{}, beats: map[string]int{}, first: map[string]time.Time{}, own: map[string]int64{}}
}

// seen are the symbols that had a stamp until now.
func (g *gaps) seen() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.last))
}

// check fails where a heartbeat stood still for too long: from the stop of the earlier publisher to the first of ours, or since.
// begin is that stop; the zero time where this run did not stop it.
func (g *gaps) check(begin time.Time, symbols []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var failed error
	for _, sym := range symbols {
		first, beats := g.first[sym]
		if !beats {
			continue // closed meanwhile, or not covered: leftovers names it
		}
		if took := first.Sub(begin); !begin.IsZero() && took > maxGap {
			failed = errors.Join(failed, fmt.Errorf("%s: the first heartbeat of ours came %.1f s after the earlier publisher was stopped, %s are the most", sym, took.Seconds(), maxGap))
		}
		if own := time.Duration(g.own[sym]) * time.Second; own > maxGap {
			failed = errors.Join(failed, fmt.Errorf("%s: our heartbeat paused for %s, %s are the most", sym, own, maxGap))
		}
	}
	return failed
}

func (g *gaps) look(all map[string]map[string]string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for sym, h := range all {
		v, err := strconv.ParseFloat(h["last_update_epoch"], 64)
		if err != nil {
			continue
		}
		at := int64(v)
		if old, ok := g.last[sym]; ok && at > old {
			g.longest[sym] = max(g.longest[sym], at-old)
			if h["schema_version"] != "" {
				if g.beats[sym] == 0 {
					g.first[sym] = time.Now()
				} else {
					g.own[sym] = max(g.own[sym], at-old)
				}
				g.beats[sym]++
			}
		}
		g.last[sym] = at
	}
}

// watch looks until the returned function is called.
func (r *run) watch(ctx context.Context, rdb redis.UniversalClient, prefix string) (*gaps, func()) {
	g := newGaps()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if all, err := proposals(ctx, rdb, prefix); err == nil {
				g.look(all)
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return g, func() { cancel(); wg.Wait() }
}

// switchOver stops the earlier services and starts ours in their place.
func (r *run) switchOver(ctx context.Context) (facts []string, err error) {
	c, _, err := r.settings(config.Publish)
	if err != nil {
		return nil, err
	}
	rdb := r.o.Desk.Connect(c.Redis)
	defer rdb.Close()
	if !r.switched() {
		s, err := r.takeSnapshot(ctx, rdb, c)
		if err != nil {
			return nil, err
		}
		if err := r.saveSnapshot(s); err != nil {
			return nil, err
		}
		if err := r.record(Change{Kind: KindRedis, What: c.Keys.Harvest}); err != nil {
			return nil, err
		}
	}
	if err := r.recordServices(ctx); err != nil {
		return nil, err
	}
	g, stop := r.watch(ctx, rdb, c.Keys.Harvest)
	defer stop()
	on, err := r.earlierRuns(ctx, UnitProposal)
	if err != nil {
		return nil, err
	}
	if on {
		if err := r.awaitCycle(ctx, rdb, c); err != nil {
			return nil, err
		}
	}
	begin, before := time.Now(), g.seen()
	if err := r.exchange(ctx, UnitProposal); err != nil {
		return nil, err
	}
	if err := r.awaitBeats(ctx, rdb, c, g); err != nil {
		return nil, err
	}
	stopped := begin
	if !on {
		stopped = time.Time{} // a run that was broken off stopped it: to go back now would only lengthen the pause
	}
	if err := g.check(stopped, before); err != nil {
		return nil, err
	}
	facts = append(facts, fmt.Sprintf("%s: every open position was taken over within %.1f s", UnitProposal, time.Since(begin).Seconds()))
	for _, s := range r.state.Services {
		if s.Unit == UnitExporter {
			if err := r.exchangeExporter(ctx); err != nil {
				return facts, err
			}
			facts = append(facts, UnitExporter+": its page has every metric of the earlier one")
		}
	}
	stop()
	facts = append(facts, g.facts()...)
	if err := g.check(stopped, before); err != nil {
		return facts, err
	}
	more, err := r.leftovers(ctx, rdb, c)
	facts = append(facts, more...)
	if err != nil {
		return facts, err
	}
	more, err = r.watchOurs(ctx)
	return append(facts, more...), err
}

// recordServices writes down what runs, before anything of it is stopped.
func (r *run) recordServices(ctx context.Context) error {
	for _, s := range r.state.Services {
		if err := r.record(Change{Kind: KindService, What: s.Unit, Active: s.Active, Enabled: s.Enabled}); err != nil {
			return err
		}
	}
	if r.prometheusConfig() != "" {
		return nil
	}
	c := Change{Kind: KindService, What: UnitMonitor}
	if _, err := service.Find(r.d.Root, UnitMonitor); err == nil {
		if c.Active, err = r.o.Manager.Active(ctx, UnitMonitor); err != nil {
			return err
		}
		if c.Enabled, err = r.o.Manager.Enabled(ctx, UnitMonitor); err != nil {
			return err
		}
	}
	return r.record(c)
}

// earlierRuns tells whether a service runs that is not yet ours.
func (r *run) earlierRuns(ctx context.Context, unit string) (bool, error) {
	u, err := service.Read(r.d.Root, unit)
	if err != nil || filepath.Base(u.Exec[0]) == "harvest" {
		return false, err
	}
	return r.o.Manager.Active(ctx, unit)
}

// awaitCycle waits until the earlier publisher has just written. Stopped then, it leaves as short a pause as can be.
func (r *run) awaitCycle(ctx context.Context, rdb redis.UniversalClient, c config.Config) error {
	stamps := func() (string, error) {
		all, err := proposals(ctx, rdb, c.Keys.Harvest)
		var b strings.Builder
		for _, sym := range slices.Sorted(maps.Keys(all)) {
			b.WriteString(sym + all[sym]["computed_at_utc"] + all[sym]["last_update_epoch"] + "\n")
		}
		return b.String(), err
	}
	was, err := stamps()
	if err != nil {
		return err
	}
	wrote := false
	changed := time.Now()
	for deadline := time.Now().Add(c.PublishInterval*3/2 + time.Second); time.Now().Before(deadline); {
		is, err := stamps()
		if err != nil {
			return err
		}
		if is != was {
			was, wrote, changed = is, true, time.Now()
		}
		if wrote && time.Since(changed) > quiet {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil // it writes rarely, or all the time: no moment is better than this
}

// exchange stops the earlier service and starts ours of the same name.
func (r *run) exchange(ctx context.Context, unit string) error {
	m := r.o.Manager
	earlier, err := r.earlierRuns(ctx, unit)
	if err != nil && !errors.Is(err, service.ErrNoUnit) {
		return err
	}
	if earlier {
		if err := m.Stop(ctx, unit); err != nil {
			return err
		}
	}
	if _, err := service.Find(r.d.Root, unit); err == nil {
		if err := r.rememberLinks(unit); err != nil {
			return err
		}
		if err := m.Disable(ctx, unit); err != nil {
			return err
		}
	}
	if err := r.placeFiles(unit); err != nil {
		return err
	}
	if err := m.Reread(ctx); err != nil {
		return err
	}
	if err := m.Start(ctx, unit); err != nil {
		return err
	}
	return m.Enable(ctx, unit)
}

// rememberLinks keeps what a service manager removes with the enabling of a unit: links of any target that starts it, and the
// unit itself where that is a link to where it really is.
func (r *run) rememberLinks(unit string) error {
	links := []string{r.at(filepath.Join(service.AdminDir, unit))}
	for _, dir := range []string{"*.wants", "*.requires", "*.upholds"} {
		more, err := filepath.Glob(r.at(filepath.Join(service.AdminDir, dir, unit)))
		if err != nil {
			return err
		}
		links = append(links, more...)
	}
	for _, l := range links {
		if info, err := os.Lstat(l); err != nil || info.Mode()&os.ModeSymlink == 0 {
			continue // a unit that is a file stays
		}
		if err := r.remember(l); err != nil {
			return err
		}
	}
	return nil
}

// placeFiles puts our unit and env file where they count.
func (r *run) placeFiles(unit string) error {
	for _, x := range roles {
		if x.unit != unit {
			continue
		}
		path := r.at(x.env)
		text, err := os.ReadFile(path + next)
		if err == nil {
			// Its owner and mode change even where its text does not.
			if err := r.remember(path); err != nil {
				return err
			}
			// What a link leads to is somebody else's, and keeps its owner and mode.
			if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
				if err := os.Remove(path); err != nil {
					return err
				}
			}
			if _, err := r.put(path, text, 0o640); err != nil {
				return err
			}
			if err := os.Chmod(path, 0o640); err != nil {
				return err
			}
			if err := r.readableByService(path); err != nil {
				return err
			}
			if err := r.remove(path + next); err != nil {
				return err
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	text, err := r.unit(unit)
	if err != nil {
		return err
	}
	admin := r.at(filepath.Join(service.AdminDir, unit))
	// Drop-ins of the earlier service say how that one runs.
	extra, _ := filepath.Glob(r.at(filepath.Join(service.AdminDir, unit+".d", "*.conf")))
	for _, f := range extra {
		if err := r.remove(f); err != nil {
			return err
		}
	}
	if r.packaged(unit, text) {
		return r.remove(admin)
	}
	_, err = r.put(admin, text, 0o644)
	return err
}

// awaitBeats waits until ours holds every symbol and every one of them beats.
func (r *run) awaitBeats(ctx context.Context, rdb redis.UniversalClient, c config.Config, g *gaps) error {
	keys := r.o.Desk.Keys(c)
	why := ""
	for deadline := time.Now().Add(takenWithin); time.Now().Before(deadline); {
		expected, err := rdb.SMembers(ctx, keys.Expected()).Result()
		switch {
		case err != nil:
			return fmt.Errorf("look at what ours writes: %w", err)
		case len(expected) == 0:
			why = "it expects no symbol yet"
		default:
			why = ""
			g.mu.Lock()
			for _, sym := range expected {
				if g.beats[sym] < beatsSeen {
					why = fmt.Sprintf("%s has moved %d times", sym, g.beats[sym])
				}
			}
			g.mu.Unlock()
			if why == "" {
				return nil
			}
		}
		if on, err := r.o.Manager.Active(ctx, UnitProposal); err != nil || !on {
			why = "it does not run (" + r.o.Manager.ByHand("status", UnitProposal) + ")"
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("ours has not taken every symbol over within %s: %s", takenWithin, why)
}

// legacyMetrics are what a dashboard of the earlier deployment asks for.
var legacyMetrics = []string{
	"quantum_harvest_kill_score", "quantum_harvest_k_regime_flip", "quantum_harvest_k_sigma_spike", "quantum_harvest_k_ts_drop",
	"quantum_harvest_k_age_penalty", "quantum_harvest_r_net", "quantum_harvest_last_update_epoch", "quantum_harvest_action",
	"quantum_harvest_exporter_cache_age_seconds",
}

// exchangeExporter does the same with the exporter, whose page is what shows that it works.
func (r *run) exchangeExporter(ctx context.Context) error {
	if err := r.exchange(ctx, UnitExporter); err != nil {
		return err
	}
	exp, _, err := r.settings(config.Export)
	if err != nil {
		return err
	}
	page := fmt.Sprintf("http://127.0.0.1:%d/metrics", exp.MetricsPort)
	return r.await(ctx, takenWithin, func() error {
		text, err := r.get(ctx, page)
		if err != nil {
			return err
		}
		if !strings.Contains(text, "\nquantum_harvest_up 1") {
			return fmt.Errorf("%s does not say quantum_harvest_up 1: it is not our page, or it cannot read Redis", page)
		}
		for _, m := range legacyMetrics {
			if !strings.Contains(text, "\n"+m) {
				return fmt.Errorf("%s lacks %s", page, m)
			}
		}
		return nil
	})
}

func (g *gaps) facts() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var facts []string
	var long []string
	for _, sym := range slices.Sorted(maps.Keys(g.longest)) {
		if g.beats[sym] == 0 {
			continue
		}
		facts = append(facts, fmt.Sprintf("%s: longest pause of last_update_epoch %d s", sym, g.longest[sym]))
		if time.Duration(g.longest[sym])*time.Second > maxGap {
			long = append(long, sym)
		}
	}
	if len(long) > 0 {
		// The earlier publisher stamps full publishes alone: a pause that began before the switch-over is its own.
		facts = append(facts, fmt.Sprintf("longer than %s: %s (the earlier publisher had not written them for a while)", maxGap, strings.Join(long, ", ")))
	}
	return facts
}

// leftovers removes proposals of the earlier publisher whose positions are closed, and shows those whose are not.
func (r *run) leftovers(ctx context.Context, rdb redis.UniversalClient, c config.Config) (facts []string, err error) {
	all, err := proposals(ctx, rdb, c.Keys.Harvest)
	if err != nil {
		return nil, err
	}
	s, err := r.loadSnapshot()
	if err != nil {
		return nil, err
	}
	for _, sym := range slices.Sorted(maps.Keys(all)) {
		if all[sym]["schema_version"] != "" {
			continue
		}
		open, err := positionThere(ctx, rdb, c, sym)
		if err != nil {
			return facts, err
		}
		if open {
			facts = append(facts, fmt.Sprintf("%s: the earlier publisher's proposal stays, and nobody writes it now: there is, or may be, a record of its position, which ours does not cover (SYMBOLS) or refuses (its log says why)", sym))
			continue
		}
		key := c.Keys.Harvest + sym
		s.Removed = append(s.Removed, key)
		if err := r.saveSnapshot(s); err != nil {
			return facts, err
		}
		if err := rdb.Del(ctx, key).Err(); err != nil {
			return facts, err
		}
		facts = append(facts, sym+": its position is closed, so the earlier publisher's proposal was removed (a rollback brings it back)")
	}
	return facts, nil
}

// positionThere tells whether one of the sources has a record of a position. Where that cannot be told, it may be there.
func positionThere(ctx context.Context, rdb redis.UniversalClient, c config.Config, sym string) (bool, error) {
	if c.Positions.Kind == config.PositionsFile || c.Positions.Kind == config.PositionsDemo {
		return true, nil
	}
	key := "quantum:state:positions" // inputs have names of their own, whatever the prefix of what is written
	n, err := rdb.Exists(ctx, key+":"+sym).Result()
	if err != nil || n > 0 {
		return n > 0, err
	}
	there, err := rdb.HExists(ctx, key, sym).Result()
	if err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") {
		err = nil
	}
	if err != nil || there || c.Positions.Kind == config.PositionsRedisHash {
		return there, err
	}
	entries, err := rdb.XRevRangeN(ctx, "quantum:stream:execution", "+", "-", executionsSeen).Result()
	if err != nil {
		if strings.HasPrefix(err.Error(), "WRONGTYPE") {
			return false, nil
		}
		return false, err
	}
	return slices.ContainsFunc(entries, func(e redis.XMessage) bool { return e.Values["symbol"] == sym }), nil
}

// await tries until it works or time is up.
func (r *run) await(ctx context.Context, within time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s long: %w", within, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// get reads a page that must be there.
func (r *run) get(ctx context.Context, url string) (string, error) {
	return r.ask(ctx, http.MethodGet, url)
}
