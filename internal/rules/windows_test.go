package rules

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"quantumharvest/internal/realserver"
)

// pair is one choice of the settings that windows depend on.
type pair struct {
	interval, heartbeat, cycle time.Duration
	scale                      int
}

func (p pair) String() string {
	return fmt.Sprintf("scrape %s, heartbeat %s, cycle %s, scale %d", p.interval, p.heartbeat, p.cycle, p.scale)
}

// thresholds are those of a monitor with these settings: at a time scale publisher and cycle stay as they are.
func (p pair) thresholds() Thresholds {
	t, scale := Defaults(), time.Duration(p.scale)
	t.Interval, t.Heartbeat, t.Cycle = p.interval, p.heartbeat, p.cycle*scale
	t.Lost = max(2*p.interval+scale*p.heartbeat, 2*p.interval+p.heartbeat+4*time.Second)
	return t.Scale(p.scale)
}

func allowedPairs() (all []pair) {
	for interval := time.Second; interval <= 15*time.Second; interval += 250 * time.Millisecond {
		for heartbeat := time.Second; heartbeat <= 5*time.Second; heartbeat += time.Second {
			for _, cycle := range []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second, 12 * time.Second, time.Minute, time.Hour} {
				for scale := 1; scale <= 5; scale++ {
					all = append(all, pair{interval, heartbeat, cycle, scale})
				}
			}
		}
	}
	return all
}

// moves is how often a heartbeat is seen to move in n samples, at least.
func moves(n int, interval, heartbeat time.Duration) int {
	if heartbeat < interval {
		return n - 1
	}
	return int(time.Duration(n-1) * interval / heartbeat)
}

// With every allowed pair of settings a window is sure to hold the samples that its rule asks for, and a desk in health
// looks healthy in it.
func TestWindowsFitEverySetting(t *testing.T) {
	for _, p := range allowedPairs() {
		th := p.thresholds()
		if err := th.Validate(); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		d, n := th.durations(), th.numbers()
		holds := func(window string) int { return th.samples(d[window]) }
		check := func(ok bool, format string, args ...any) {
			if !ok {
				t.Errorf("%s: %s", p, fmt.Sprintf(format, args...))
			}
		}
		check(holds("lost") >= int(n["lost_seen"]), "$lost holds %d samples, %v are asked for", holds("lost"), n["lost_seen"])
		check(holds("three") >= int(n["three_seen"]), "$three holds %d samples, %v are asked for", holds("three"), n["three_seen"])
		check(holds("slow") >= int(n["down_seen"]), "$slow holds %d samples, %v are asked for", holds("slow"), n["down_seen"])
		stands := time.Duration(n["three_seen"]-1) * th.Interval
		check(2*stands >= 3*th.Heartbeat, "a heartbeat that stands for %s is called lost", stands)
		check(moves(holds("three"), th.Interval, th.Heartbeat) >= 2, "a heartbeat does not move twice in $three")
		for window, least := range map[string]int{"long": int(math.Ceil(n["warm"])), "minute": holds("minute")} {
			check(holds(window) >= least, "$%s holds %d samples, %d are asked for", window, holds(window), least)
			for seen := least; seen <= holds(window)+1; seen++ {
				is, floor := moves(seen, th.Interval, th.Heartbeat), n["half"]*float64(seen-1)
				check(float64(is) >= floor, "in %d samples of $%s a heartbeat moves %d times, and %.1f are asked for", seen, window, is, floor)
			}
		}
		// What is refused is refused again every 4 s (internal/feed), at every time scale.
		check(d["recent"] >= 4*time.Second+th.Interval, "what goes on flaps in $recent, %s", d["recent"])
		check(d["interval3"] > th.Heartbeat+th.Interval, "$interval3, %s, does not wait for the next heartbeat", d["interval3"])
		check(d["cycle_recent"] >= 3*p.cycle+th.Interval, "$cycle_recent, %s, holds no two audits", d["cycle_recent"])
		check(d["cycle_flap"] >= 8*p.cycle, "$cycle_flap is %s", d["cycle_flap"])
		check(d["recent"] >= d["gap"] && d["memory"] > d["recent"], "windows %v", d)
	}
}

// Whoever scrapes every 10 s or less often has the windows of the interval, as they have always been.
func TestWindowsOfLongIntervals(t *testing.T) {
	for _, p := range allowedPairs() {
		if d := p.thresholds().durations(); p.scale == 1 && p.interval >= usualInterval && d["three"] != 3*p.interval {
			t.Errorf("%s: $three is %s", p, d["three"])
		}
	}
	if d := Defaults().durations(); d["three"] != 30*time.Second || d["recent"] != 45*time.Second || d["cycle_flap"] != 125*time.Second {
		t.Errorf("defaults: %v", d)
	}
}

// scenario is a promtool test of one choice of settings.
type scenario struct {
	t      *testing.T
	th     Thresholds
	series strings.Builder
	asks   strings.Builder
}

// sample adds a series whose values are those of a function of time; ok false leaves one out.
func (s *scenario) sample(name string, until time.Duration, value func(at time.Duration) (v int, ok bool)) {
	var values []string
	for at := time.Duration(0); at <= until; at += s.th.Interval {
		if v, ok := value(at); ok {
			values = append(values, fmt.Sprint(v))
		} else {
			values = append(values, "_")
		}
	}
	fmt.Fprintf(&s.series, "      - {series: '%s', values: '%s'}\n", name, strings.Join(values, " "))
}

// fires says whether an alert fires at the first evaluation after a moment; never, that it has not fired up to the last one
// before it.
func (s *scenario) fires(alert string, at time.Duration, want bool) {
	s.ask(alert, "", (at+s.th.Interval-1)/s.th.Interval*s.th.Interval, want)
}

func (s *scenario) never(alert string, at time.Duration) {
	s.ask(alert, fmt.Sprintf("[%s:%s]", model.Duration(at), model.Duration(s.th.Interval)), at/s.th.Interval*s.th.Interval, false)
}

func (s *scenario) ask(alert, window string, at time.Duration, want bool) {
	expr := fmt.Sprintf(`ALERTS{alertname=~"%s", alertstate="firing"}`, alert)
	if window != "" {
		expr = "max_over_time(" + expr + window + ")"
	}
	answer := 0
	if want {
		answer = 1
	}
	fmt.Fprintf(&s.asks, "      - {expr: 'clamp_max(count(%s), 1) or vector(0)', eval_time: %s, exp_samples: [{labels: '{}', value: %d}]}\n", expr, model.Duration(at), answer)
}

func (s *scenario) run() {
	s.t.Helper()
	dir := s.t.TempDir()
	text, err := Render(s.th)
	if err != nil {
		s.t.Fatal(err)
	}
	interval := model.Duration(s.th.Interval)
	test := fmt.Sprintf("rule_files: [%s]\nevaluation_interval: %s\ntests:\n  - interval: %s\n    input_series:\n%s    promql_expr_test:\n%s",
		FileName, interval, interval, s.series.String(), s.asks.String())
	for name, content := range map[string]string{FileName: string(text), "test.yml": test} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	if out, err := exec.Command(realserver.Tool(s.t, "promtool"), "test", "rules", filepath.Join(dir, "test.yml")).CombinedOutput(); err != nil {
		s.t.Errorf("%v\n%s", err, out)
	}
}

// A heartbeat that is in health, stands still and moves again, with settings at the ends of what is allowed: nothing fires
// before it stands, the loss is seen in time, and is over after the repair.
func TestHeartbeatsAtTheEndsOfTheRange(t *testing.T) {
	t.Parallel()
	const usual = 10 * time.Second
	for _, p := range []pair{
		{time.Second, 5 * time.Second, usual, 1},
		{time.Second, time.Second, usual, 1},
		{2 * time.Second, 5 * time.Second, usual, 5},
		{4 * time.Second, 5 * time.Second, usual, 1},
		{7 * time.Second, 3 * time.Second, usual, 1},
		{15 * time.Second, 5 * time.Second, usual, 1},
	} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			s := &scenario{t: t, th: p.thresholds()}
			const dies, back, end = 300 * time.Second, 400 * time.Second, 600 * time.Second
			beat := func(at time.Duration) time.Duration {
				return max(0, at-370*time.Millisecond) / p.heartbeat * p.heartbeat
			}
			s.sample(`quantum_harvest_last_update_epoch{job="e", instance="i", symbol="BTCUSDT"}`, end, func(at time.Duration) (int, bool) {
				if at > dies && at < back {
					at = dies
				}
				return int(beat(at) / time.Second), true
			})
			s.sample(`quantum_harvest_up{job="e", instance="i"}`, end, func(time.Duration) (int, bool) { return 1, true })
			s.never("QuantumHarvestHeartbeatLost|QuantumHarvestCadenceLow|QuantumHarvestHeartbeatSkewed", dies)
			s.never("QuantumHarvestHeartbeatLost", dies+s.th.Lost-p.heartbeat)
			s.fires("QuantumHarvestHeartbeatLost", beat(dies)+s.th.Lost+s.th.Interval+time.Second, true)
			s.fires("QuantumHarvestHeartbeatLost", back-s.th.Interval, true)
			s.fires("QuantumHarvestHeartbeatLost", back+time.Minute, false)
			if p.interval <= usual && p.scale == 1 {
				s.fires("QuantumHarvestHeartbeatLost", beat(dies)+45*time.Second, true)
			}
			s.run()
		})
	}
}

// An earlier publisher writes over ours from 60 s on, and every audit finds it: seen after the second one however often it
// is scraped, held until it ends, and over a little later.
func TestTwoWritersHoweverOftenItIsScraped(t *testing.T) {
	t.Parallel()
	for _, p := range []pair{
		{time.Second, time.Second, 10 * time.Second, 1},
		{time.Second, 5 * time.Second, 10 * time.Second, 5},
		{3 * time.Second, time.Second, 10 * time.Second, 1},
		{time.Second, time.Second, 40 * time.Second, 1},
		{10 * time.Second, time.Second, 60 * time.Second, 1},
		{10 * time.Second, time.Second, 100 * time.Millisecond, 1},
	} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			s := &scenario{t: t, th: p.thresholds()}
			from, audit := 60*time.Second, max(p.cycle, p.interval/time.Duration(p.scale))
			to := from + 8*audit
			recent := s.th.durations()["cycle_recent"]
			s.sample(`quantum_harvest_audit_mismatches_total{job="p", instance="i"}`, to+2*recent, func(at time.Duration) (int, bool) {
				return 3 * max(0, int((min(at, to)-from)/audit)), true
			})
			s.never("QuantumHarvestTwoWriters", from+2*audit-s.th.Interval)
			for at := from + 2*audit + s.th.Interval; at <= to; at += audit {
				s.fires("QuantumHarvestTwoWriters", at, true)
			}
			s.fires("QuantumHarvestTwoWriters", to+recent+s.th.Interval, false)
			s.run()
		})
	}
}

// A new symbol whose first heartbeats are seen at a short interval has not lost any, and a takeover that takes some
// seconds leaves no shard without a holder.
func TestWhatTakesSecondsAtAShortInterval(t *testing.T) {
	t.Parallel()
	s := &scenario{t: t, th: pair{time.Second, 5 * time.Second, 10 * time.Second, 1}.thresholds()}
	const begins, end = 60 * time.Second, 120 * time.Second
	s.sample(`quantum_harvest_last_update_epoch{job="e", instance="i", symbol="BTCUSDT"}`, end, func(at time.Duration) (int, bool) {
		return int(at / (5 * time.Second) * 5), at >= begins
	})
	s.sample(`quantum_harvest_lease_held{job="e", instance="i", shard="0"}`, end, func(at time.Duration) (int, bool) {
		if at > begins && at < begins+8*time.Second {
			return 0, true
		}
		return 1, true
	})
	s.sample(`quantum_harvest_open_positions{job="e", instance="i", source="redis_hash"}`, end, func(at time.Duration) (int, bool) {
		return int(min(1, at/begins)), true
	})
	s.sample(`quantum_harvest_proposal_present{job="e", instance="i", symbol="BTCUSDT"}`, end, func(at time.Duration) (int, bool) {
		return 1, at > begins+5*time.Second
	})
	s.sample(`quantum_harvest_expected{job="e", instance="i", symbol="BTCUSDT"}`, end, func(at time.Duration) (int, bool) { return 1, at >= begins })
	s.sample(`quantum_harvest_up{job="e", instance="i"}`, end, func(time.Duration) (int, bool) { return 1, true })
	for _, alert := range []string{
		"QuantumHarvestHeartbeatLost", "QuantumHarvestCadenceLow", "QuantumHarvestLeaseUnheld", "QuantumHarvestProposalMissing", "QuantumHarvestCoverageShort",
	} {
		s.never(alert, end)
	}
	s.run()
}
