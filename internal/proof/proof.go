package proof

import (
	"context"
	"net/http"
	"slices"
	"time"

	"quantumharvest/internal/golden"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// Reader reads what Redis holds.
type Reader interface {
	Collect(ctx context.Context, extra []position.Symbol) (store.Collection, error)
}

// Options say what is to be proved, and where its parts are.
type Options struct {
	Reader  Reader
	Redis   string            // how Redis is called in texts, without a password
	Symbols []position.Symbol // looked for beside those that Redis names: none of them must be there

	Exporter, Prometheus, Alertmanager string   // base addresses, without a slash at the end
	Publishers                         []string // the same, of every publisher that must run
	// Token allows a test alert to be posted to Alertmanager; blank: none is needed.
	Token string

	// What the commands begin with that show the same by hand, as a shell takes it, and the keys in them.
	RedisCommand, Amtool string
	Keys                 store.Keys

	Rules     []Rule                       // those that must be loaded
	Normalize func(string) (string, error) // writes a PromQL expression in its one canonical form
	Verify    func() (golden.Verdict, error)

	Window  time.Duration // for how long is looked
	Samples int           // of the age of the heartbeat, taken at random moments; at least MinSamples
	Stale   time.Duration // age up to which a heartbeat is fresh
	Skew    time.Duration // by which clocks may differ
	// AlertWithin is how long a test alert may take to reach the receivers.
	AlertWithin time.Duration
	// Beat is the interval of the heartbeat.
	Beat time.Duration

	// Quiet only looks: no test alert is sent, and this binary is not put to the test.
	Quiet bool

	Client *http.Client
}

// MinSamples is how many samples the age of the heartbeat needs to say anything.
const MinSamples = 30

// Check is one claim and what became of it.
type Check struct {
	Number   int      `json:"number"`
	Name     string   `json:"name"`
	Claim    string   `json:"claim"`
	Passed   bool     `json:"passed"`
	Evidence []string `json:"evidence"`
	Failures []string `json:"failures,omitempty"`
	// ByHand are commands that show the same.
	ByHand []string `json:"by_hand"`
	// Figures are compared with those of an earlier pack.
	Figures map[string]float64 `json:"figures,omitempty"`
}

// Pack is a whole proof.
type Pack struct {
	Begun   time.Time `json:"begun"`
	TookSec float64   `json:"took_seconds"`
	Version string    `json:"version"`
	Redis   string    `json:"redis"`
	Checks  []Check   `json:"checks"`
	// AgesSec are the sampled ages of the heartbeats, the oldest symbol of each sample.
	AgesSec []float64 `json:"heartbeat_ages_seconds"`
}

// Passed tells whether everything holds.
func (p Pack) Passed() bool {
	for _, c := range p.Checks {
		if !c.Passed {
			return false
		}
	}
	return len(p.Checks) > 0
}

// Run looks for the window and gives the pack. The error is only about a run that was broken off.
func Run(ctx context.Context, o Options) (Pack, error) {
	pack := Pack{Begun: time.Now().UTC(), Redis: o.Redis}
	seen := look(ctx, o)
	if err := ctx.Err(); err != nil {
		return pack, err
	}
	checks := []func(context.Context, Options, *sights) Check{
		heartbeat, exporterMoves, staleness, alertState, health, clocksApart, rulesLoaded, alertArrives, vectors, coverage, oneHolder, clockOffsets,
	}
	if o.Quiet {
		checks = slices.Concat(checks[:7], checks[9:])
	}
	for i, check := range checks {
		c := check(ctx, o, seen)
		c.Number = i + 1
		c.Passed = len(c.Failures) == 0
		pack.Checks = append(pack.Checks, c)
		if err := ctx.Err(); err != nil {
			return pack, err
		}
	}
	pack.AgesSec = seen.ages
	pack.TookSec = time.Since(pack.Begun).Seconds()
	return pack, nil
}
