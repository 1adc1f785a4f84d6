//go:build linux

package endure

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// How long after a fault its consequences may be seen, and by how much a heartbeat may age.
const (
	faultLasts = 30 * time.Second  // in heartbeats and error lines
	alertLasts = 150 * time.Second // in alerts, which look back and hold on
	// burnLasts is the same of alerts of the error budget: faults every few minutes use up that of a month, and these look back
	// over half an hour.
	burnLasts  = 30*time.Minute + alertLasts
	mostQuiet  = 10.0 // seconds, outside of faults
	mostWithin = 30.0 // seconds, within
	stall      = 9 * time.Second
	between    = 10 * time.Second // of two samples of the figures, and of two scrapes
)

// never are alerts that none of the faults may bring about.
var never = []string{
	"QuantumHarvestTwoWriters", "QuantumHarvestInputRefused", "QuantumHarvestFieldsBad", "QuantumHarvestRulesFailing", "QuantumHarvestCoverageUnknown",
	"QuantumHarvestNotificationsFailing", "QuantumHarvestReceiverFailing", "QuantumHarvestScrapeLimited", "QuantumHarvestHeartbeatLost",
}

// advice are alerts that speak of a position, not of the desk: a position that goes badly is none of its faults.
var advice = []string{"QuantumHarvestKillScoreHigh", "QuantumHarvestKillScoreCritical", "QuantumExitNotActedOn"}

// fault is something that happens to a desk in the course of a year.
type fault struct {
	name       string
	begin, end time.Time
}

// soak is one run.
type soak struct {
	t       *testing.T
	desk    *desk
	market  *market
	begin   time.Time
	warm    time.Duration
	version string

	mu      sync.Mutex
	faults  []fault
	reloads int
	all     []figures
}

// makeEmpty makes a folder for a run. What an earlier run left would count as part of this one.
func makeEmpty(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Fatalf("HARVEST_ENDURE_DIR=%s holds an earlier run (%s): remove it, or name another folder (make endure DIR=...)", dir, left[0].Name())
	}
}

// TestEndure runs the whole desk on a real redis-server for as long as HARVEST_ENDURE says (60m), with positions that open
// and close, and with restarts of Redis, publishers that die and stall, and reloads. HARVEST_ENDURE_DIR keeps figures.jsonl,
// table.md and the logs; both are written while it runs.
func TestEndure(t *testing.T) {
	length, symbols := 3*time.Minute, 30
	switch text := os.Getenv("HARVEST_ENDURE"); {
	case text != "":
		var err error
		if length, err = time.ParseDuration(text); err != nil || length < 2*time.Minute {
			t.Fatalf("HARVEST_ENDURE is %q: write a time of at least 2m, for example 60m", text)
		}
		symbols = 60
	case os.Getenv("HARVEST_LONG") == "":
		t.Skip("runs for minutes: HARVEST_LONG=1 runs three of them, make endure as many as you like")
	}
	dir := os.Getenv("HARVEST_ENDURE_DIR")
	if dir == "" {
		dir = t.TempDir()
	} else {
		makeEmpty(t, dir)
	}
	if text := os.Getenv("HARVEST_ENDURE_SYMBOLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 5 || n > 1000 {
			t.Fatalf("HARVEST_ENDURE_SYMBOLS is %q: write a number from 5 to 1000", text)
		}
		symbols = n
	}
	path := program(t)
	s := &soak{t: t, desk: openDesk(t, dir, path, names(symbols)), warm: min(length/6, 10*time.Minute), version: version(t, path)}
	s.run(dir, length, symbols)
}

func version(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command(path, "version").Output()
	if err != nil {
		t.Fatalf("harvest version: %v", err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

func (s *soak) run(dir string, length time.Duration, symbols int) {
	t := s.t
	s.market = newMarket(s.desk.redis.Addr(), names(symbols), max(length/8, 40*time.Second))
	t.Cleanup(func() { s.market.rdb.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	background.Go(func() { s.market.run(ctx) })
	for _, p := range s.desk.all() {
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		if p == s.desk.first { // it writes at first
			await(t, time.Minute, "nobody takes the lease", func() bool { return s.desk.writer(ctx) == p })
		}
	}
	await(t, 2*time.Minute, "the desk does not come up", func() bool { return s.steady(ctx) })
	s.begin = time.Now()
	background.Go(func() { s.market.gaps.run(ctx, s.market.rdb) })
	background.Go(func() { s.watch(ctx, dir) })

	pause := min(max(length/15, 25*time.Second), 4*time.Minute)
	for n := 0; time.Since(s.begin) < length-2*pause; n++ {
		wait(ctx, pause/2)
		s.reload()
		wait(ctx, pause/2)
		s.pull(ctx, n)
	}
	wait(ctx, length-time.Since(s.begin))
	s.reloaded(ctx)
	cancel()
	background.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.table()
	if err := os.WriteFile(filepath.Join(dir, "table.md"), []byte(text), 0o600); err != nil {
		t.Error(err)
	}
	t.Logf("\n%s", text)
	for _, bad := range s.judge() {
		t.Error(bad)
	}
}

// steady tells whether every part answers and every heartbeat lives.
func (s *soak) steady(ctx context.Context) bool {
	for _, p := range s.desk.all() {
		if _, err := get(ctx, p.page); err != nil {
			return false
		}
	}
	n, err := s.market.rdb.SCard(ctx, "quantum:harvest:expected").Result()
	return err == nil && int(n) >= len(s.market.symbols)/2
}

// watch reads the figures and writes them down until ctx ends.
func (s *soak) watch(ctx context.Context, dir string) {
	every := time.NewTicker(between)
	defer every.Stop()
	for n := 0; ; n++ {
		f := s.desk.figures(ctx, s.market, s.begin)
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.all = append(s.all, f)
		err := keep(filepath.Join(dir, "figures.jsonl"), f)
		if err == nil && n%6 == 0 {
			next := filepath.Join(dir, "table.md.new")
			if err = os.WriteFile(next, []byte(s.table()), 0o600); err == nil {
				err = os.Rename(next, filepath.Join(dir, "table.md"))
			}
		}
		s.mu.Unlock()
		if err != nil {
			s.t.Errorf("figures cannot be kept: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// usualPublishAge is MAX_PUBLISH_AGE_SEC at the start.
const usualPublishAge = 60

// reload changes a setting of publishers and exporter while they run. It is no fault: nothing may be seen of it.
func (s *soak) reload() {
	s.mu.Lock()
	s.reloads++
	n := s.reloads
	s.mu.Unlock()
	if err := s.desk.configure(usualPublishAge - n%2*15); err != nil {
		s.t.Error(err)
	}
}

// reloaded checks that those who lived from begin to end took the settings in.
func (s *soak) reloaded(ctx context.Context) {
	for _, p := range []*process{s.desk.first, s.desk.exporter} {
		page, err := get(ctx, p.page)
		if err != nil {
			s.t.Error(err)
			continue
		}
		ok, _ := sample(page, "quantum_harvest_config_last_reload_successful")
		at, _ := sample(page, "quantum_harvest_config_last_reload_success_timestamp_seconds")
		if ok != 1 || at < float64(s.begin.Unix()) {
			s.t.Errorf("%s did not take the settings in: %v at %v", p.name, ok, at)
		}
	}
}

// pull does the n-th fault.
func (s *soak) pull(ctx context.Context, n int) {
	d := s.desk
	kinds := []struct {
		name string
		do   func()
	}{
		{"Redis restarts empty", func() { d.redis.Restart() }},
		{"the writer stalls and another takes over", func() {
			p := d.writer(ctx)
			if p == nil {
				p = d.first
			}
			_ = p.signal(syscall.SIGSTOP)
			wait(ctx, stall)
			_ = p.signal(syscall.SIGCONT)
		}},
		{"a publisher is killed and started again", func() {
			d.second.end(syscall.SIGKILL)
			s.again(d.second)
		}},
		{"a publisher is stopped and started again", func() {
			d.second.end(syscall.SIGTERM)
			s.again(d.second)
		}},
	}
	f := kinds[n%len(kinds)]
	begin := time.Now()
	s.note(fault{f.name, begin, begin.Add(time.Hour)}) // it lasts until it is over
	f.do()
	s.mu.Lock()
	s.faults[len(s.faults)-1].end = time.Now()
	s.mu.Unlock()
}

func (s *soak) note(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
}

func (s *soak) again(p *process) {
	if err := p.start(); err != nil {
		s.t.Errorf("%v", err)
	}
}

// within tells whether a moment lies in a fault or soon after it.
func (s *soak) within(at time.Time, after time.Duration) bool {
	return slices.ContainsFunc(s.faults, func(f fault) bool {
		return at.After(f.begin.Add(-time.Second)) && at.Before(f.end.Add(after))
	})
}

func (s *soak) faultCounts() string {
	counts := map[string]int{}
	var order []string
	for _, f := range s.faults {
		if counts[f.name]++; counts[f.name] == 1 {
			order = append(order, f.name)
		}
	}
	for i, name := range order {
		order[i] = fmt.Sprintf("%s: %d", name, counts[name])
	}
	return or(strings.Join(order, "; "), "none yet")
}

// ages are those of the oldest heartbeat, outside of faults and within.
func (s *soak) ages() (quiet, within []float64) {
	for _, a := range s.market.gaps.list() {
		if s.within(a.at, faultLasts) {
			within = append(within, a.sec)
		} else {
			quiet = append(quiet, a.sec)
		}
	}
	return quiet, within
}

// judge lists what is not as it should be.
func (s *soak) judge() (bad []string) {
	fail := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	for _, r := range rows(s.all, len(s.market.symbols), s.warm, time.Since(s.begin)) {
		if !r.flat() {
			fail("%s grows from %s to %s %s, allowed are %s", r.what, round(r.first), round(r.last), r.unit, round(r.growth))
		}
	}
	worst := map[bool]aged{}
	for _, a := range s.market.gaps.list() {
		if in := s.within(a.at, faultLasts); a.sec > worst[in].sec {
			worst[in] = a
		}
	}
	if a := worst[false]; a.sec > mostQuiet {
		fail("outside of faults the heartbeat of %s was %.1f s old at %s, allowed are %.0f", a.of, a.sec, a.at.UTC().Format(time.TimeOnly), mostQuiet)
	}
	if a := worst[true]; a.sec > mostWithin {
		fail("after a fault the heartbeat of %s was %.1f s old at %s, allowed are %.0f", a.of, a.sec, a.at.UTC().Format(time.TimeOnly), mostWithin)
	}
	told, silence := s.desk.told.list()
	for _, a := range told {
		switch {
		case slices.Contains(advice, a.name):
		case slices.Contains(never, a.name):
			fail("%s %s was told at %s, which none of the faults may bring about", a.name, a.symbol, a.at.UTC().Format(time.TimeOnly))
		case strings.HasPrefix(a.name, "QuantumHarvestFreshnessBurn") && s.within(a.at, burnLasts):
		case !s.within(a.at, alertLasts):
			fail("%s %s was told at %s, without a fault", a.name, a.symbol, a.at.UTC().Format(time.TimeOnly))
		}
	}
	if silence > 2*time.Minute {
		fail("the watchdog has been silent for %s", silence.Round(time.Second))
	}
	complaints, err := s.desk.complaints()
	if err != nil {
		fail("the logs cannot be read: %v", err)
	}
	for _, c := range complaints {
		if c.Time.After(s.begin) && !s.within(c.Time, faultLasts) {
			fail("%s said at %s, without a fault: %s %s", c.by, c.Time.UTC().Format(time.TimeOnly), c.Msg, c.Err)
		}
	}
	for _, p := range s.desk.all() {
		p.mu.Lock()
		bad = append(bad, p.deaths...)
		p.mu.Unlock()
	}
	return bad
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func await(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s within %s", what, limit)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
