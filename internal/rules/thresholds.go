package rules

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// Thresholds are the numbers in the rules. A rule names them by placeholders such as $lost: in brackets, where
// PromQL wants a duration, and in annotations they become one (25s), elsewhere a number of seconds (25).
type Thresholds struct {
	// Interval is how often Prometheus scrapes, and evaluates the rules.
	Interval time.Duration
	// Heartbeat is how often the publisher beats.
	Heartbeat time.Duration
	// Cycle is how often the publisher reads its proposals back.
	Cycle time.Duration

	StaleFor     time.Duration // how long QuantumHarvestMetricsStale waits
	Lost         time.Duration // age at which a heartbeat counts as lost
	MarketStale  time.Duration // age at which market input is stale
	PositionAge  time.Duration // age at which position input is stale
	PublishAge   time.Duration // the publisher renews content at the latest after this
	Skew         time.Duration // by how much a clock may be off
	RoundTrip    time.Duration // a slower Redis is slow; the same at every time scale
	ExitUnacted  time.Duration // how long an asked-for close may stay undone
	ResendDelay  time.Duration // how often Prometheus sends a firing alert again (--rules.alert.resend-delay)
	FreshnessSLO float64       // share of time for which advice must be fresh, 0.5 to 0.99999

	// RunbookURL is where the runbooks are, DashboardURL where Grafana is; without a slash at the end.
	RunbookURL, DashboardURL string

	scale int // 0 and 1: real time
}

// usualInterval is the interval that the windows are made for: what fails, restarts or is taken over needs its seconds,
// however often it is looked at.
const usualInterval = 10 * time.Second

// Defaults are the thresholds of the default configuration.
func Defaults() Thresholds {
	return Thresholds{
		Interval: usualInterval, Heartbeat: time.Second, Cycle: 10 * time.Second,
		StaleFor: 2 * time.Minute, Lost: 25 * time.Second, MarketStale: 2 * time.Minute, PositionAge: 30 * time.Second,
		PublishAge: time.Minute, Skew: 5 * time.Second, RoundTrip: 500 * time.Millisecond, ExitUnacted: 5 * time.Minute,
		ResendDelay: 10 * time.Second, FreshnessSLO: 0.999,
		RunbookURL: "docs/runbooks",
	}
}

// Validate says which threshold cannot be used, and why. Its error names the field.
func (t Thresholds) Validate() error {
	positive := []struct {
		name string
		d    time.Duration
	}{
		{"Interval", t.Interval},
		{"Heartbeat", t.Heartbeat},
		{"Cycle", t.Cycle},
		{"StaleFor", t.StaleFor},
		{"Lost", t.Lost},
		{"MarketStale", t.MarketStale},
		{"PositionAge", t.PositionAge},
		{"Skew", t.Skew},
		{"RoundTrip", t.RoundTrip},
		{"ExitUnacted", t.ExitUnacted},
		{"ResendDelay", t.ResendDelay},
	}
	for _, p := range positive {
		if p.d <= 0 {
			return fmt.Errorf("rules: %s is %s: it must be longer than 0", p.name, p.d)
		}
	}
	if t.PublishAge < 0 {
		return fmt.Errorf("rules: PublishAge is %s: it must not be negative", t.PublishAge)
	}
	if least := t.leastLost(); t.Lost < least {
		return fmt.Errorf("rules: Lost is %s: with a scrape every %s and a heartbeat every %s a living publisher looks up to %s old",
			t.Lost, t.Interval, t.Heartbeat, least)
	}
	if t.FreshnessSLO < 0.5 || t.FreshnessSLO > 0.99999 {
		return fmt.Errorf("rules: FreshnessSLO is %v: it is a share from 0.5 to 0.99999", t.FreshnessSLO)
	}
	return nil
}

// leastLost is how old the heartbeat of a living publisher may look, with a scrape that took as long as it may.
func (t Thresholds) leastLost() time.Duration { return 2*t.Interval + t.Heartbeat }

// Scale gives the thresholds of a clock that runs n times as fast, for drills: intervals, durations and ages shrink
// together, by 5 at most because the stamps on the wire are whole seconds.
func (t Thresholds) Scale(n int) Thresholds {
	d := time.Duration(n)
	for _, p := range []*time.Duration{
		&t.Interval, &t.Cycle, &t.StaleFor, &t.Lost, &t.MarketStale, &t.PositionAge, &t.PublishAge, &t.Skew, &t.ExitUnacted, &t.ResendDelay,
	} {
		*p = (*p / d).Truncate(time.Millisecond) // as Prometheus does
	}
	t.scale = max(t.scale, 1) * n
	return t
}

// times is a duration of the rules that no setting changes, at this time scale.
func (t Thresholds) times(d time.Duration) time.Duration {
	return (d / time.Duration(max(t.scale, 1))).Truncate(time.Millisecond)
}

// pace is the unit of the windows: the interval, but no shorter than the usual one, and long enough for two heartbeats. Who
// scrapes more often sees more samples in the same windows, and not less of what happens.
func (t Thresholds) pace() time.Duration {
	return max(t.Interval, t.times(usualInterval), 2*t.Heartbeat)
}

// samples is how many samples lie in a stretch of time, at least.
func (t Thresholds) samples(d time.Duration) int { return int(d / t.Interval) }

// durations are the placeholders that stand for a time. Most windows are odd numbers of half intervals, so that the number
// of samples in them does not depend on which end of a window a version of Prometheus counts in.
func (t Thresholds) durations() map[string]time.Duration {
	pace := t.pace()
	cycle := max(pace, t.Cycle)
	halves := func(n time.Duration) time.Duration { return n * pace / 2 }
	return map[string]time.Duration{
		"interval":  pace,
		"gap":       halves(5), // bridges one missed scrape
		"three":     halves(6), // holds three samples
		"recent":    halves(9), // what happened just now; short enough for an alert to clear within a minute
		"minute":    halves(11),
		"long":      halves(35),
		"flap":      halves(25),
		"slow":      halves(7),  // holds two samples even of a target that hangs, whose samples come an interval late
		"memory":    halves(19), // longer than any other loss takes to fire
		"interval2": 2 * pace,
		"interval3": 3 * pace,

		// The same for what a publisher finds out once a cycle.
		"cycle":        cycle,
		"cycle_recent": 9 * cycle / 2,
		"cycle_flap":   25 * cycle / 2,
		"cycle_memory": 19 * cycle / 2,

		"stale":     t.times(30 * time.Second),
		"stale_for": t.StaleFor,
		"two":       t.times(2 * time.Minute),
		"one":       t.times(time.Minute),
		"lost":      t.Lost,
		"market":    t.MarketStale,
		"position":  t.PositionAge,
		"content":   t.PublishAge + t.times(time.Minute),
		"skew":      t.Skew,
		"behind":    4 * t.Skew,
		"round":     t.RoundTrip,
		"unacted":   t.ExitUnacted,
		"attention": max(t.times(time.Hour), 2*t.ExitUnacted),
		"hour":      t.times(time.Hour),
		"resend":    t.ResendDelay + halves(7), // it sends at the first evaluation after the delay; bridges one missed scrape

		"reload": t.ResendDelay + halves(7) + 10*time.Second, // from a reload until what was dropped because of it is out of sight

		// A notification that failed is tried anew with its group, every minute where the routes are ours.
		"retry": t.times(2*time.Minute) + halves(5),

		"w5m": t.times(5 * time.Minute), "w30m": t.times(30 * time.Minute), "w1h": t.times(time.Hour), "w2h": t.times(2 * time.Hour),
		"w6h": t.times(6 * time.Hour), "w1d": t.times(24 * time.Hour), "w3d": t.times(72 * time.Hour),
	}
}

// numbers are the placeholders that stand for a plain number.
func (t Thresholds) numbers() map[string]float64 {
	budget := 1 - t.FreshnessSLO
	// A window counts once three quarters of it were seen.
	samples := func(window time.Duration) float64 {
		return 0.75 * float64(t.times(window)) / float64(t.evaluationInterval(GroupSLO))
	}
	pace := t.pace()
	return map[string]float64{
		// The heartbeat moves once an interval at most, and once a pace at least.
		"half": 0.5 * float64(t.Interval) / float64(pace),
		"warm": 10 * float64(pace) / float64(t.Interval),
		// How many samples show that something lasts: for two paces, for one, and for as much of the time after which a
		// heartbeat is lost as is sure to hold them, one missed.
		"three_seen": float64(t.samples(2*pace) + 1),
		"down_seen":  float64(t.samples(pace) + 1),
		"lost_seen":  float64(max(2, min(t.samples(pace)+1, t.samples(t.Lost)-1))),

		"burn14": 14.4 * budget, "burn6": 6 * budget, "burn3": 3 * budget, "burn1": budget,
		"seen1h": samples(time.Hour), "seen6h": samples(6 * time.Hour), "seen1d": samples(24 * time.Hour), "seen3d": samples(72 * time.Hour),
		"slo": 100 * t.FreshnessSLO,
	}
}

var placeholder = regexp.MustCompile(`([\[:]?)\$([a-z][a-z0-9_]*)`)

// expression fills the placeholders of an expression, text those of an annotation, where a time always carries its unit.
func (t Thresholds) expression(s string) (string, error) { return t.fill(s, false) }
func (t Thresholds) text(s string) (string, error)       { return t.fill(s, true) }

// fill replaces the placeholders. What Prometheus' own templates call $labels and $value stays.
func (t Thresholds) fill(text string, units bool) (string, error) {
	durations, numbers := t.durations(), t.numbers()
	var unknown []string
	filled := placeholder.ReplaceAllStringFunc(text, func(found string) string {
		bracket, name, _ := strings.Cut(found, "$")
		if name == "labels" || name == "value" {
			return found
		}
		if d, ok := durations[name]; ok {
			if bracket != "" || units {
				return bracket + promDuration(d)
			}
			return number(d.Seconds())
		}
		if n, ok := numbers[name]; ok && bracket == "" {
			return number(n)
		}
		unknown = append(unknown, found)
		return found
	})
	if len(unknown) > 0 {
		return "", fmt.Errorf("no threshold is called %s", strings.Join(unknown, ", "))
	}
	return filled, nil
}

// duration is the duration that a For or KeepFiringFor names; 0 for a blank.
func (t Thresholds) duration(name string) (time.Duration, error) {
	if name == "" {
		return 0, nil
	}
	d, ok := t.durations()[name]
	if !ok {
		return 0, fmt.Errorf("no threshold is called %s", name)
	}
	return d, nil
}

// number writes a number without noise: 0.0144, not 0.014400000000000012.
func number(v float64) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

func promDuration(d time.Duration) string { return model.Duration(d).String() }
