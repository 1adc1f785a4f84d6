package proof_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/golden"
	"quantumharvest/internal/position"
	"quantumharvest/internal/proof"
	"quantumharvest/internal/store"
)

func run(t *testing.T, o proof.Options) proof.Pack {
	t.Helper()
	p, err := proof.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Checks) != 12 {
		t.Fatalf("%d checks", len(p.Checks))
	}
	return p
}

func TestADeskInOrderPasses(t *testing.T) {
	d := newDesk(t)
	p := run(t, d.options())
	for _, c := range p.Checks {
		if !c.Passed {
			t.Errorf("%d %s: %v", c.Number, c.Name, c.Failures)
		}
		if len(c.Evidence) == 0 || len(c.ByHand) == 0 || c.Claim == "" {
			t.Errorf("%d %s says too little: %+v", c.Number, c.Name, c)
		}
	}
	if !p.Passed() || len(p.AgesSec) < proof.MinSamples {
		t.Errorf("passed %v with %d samples", p.Passed(), len(p.AgesSec))
	}
	md := p.Markdown(&p)
	for _, want := range []string{
		"12 of 12 checks hold", "## Before and after", "redis-cli -h desk -p 7000 HGETALL desk:harvest:lease", "median",
		"redis-cli -h desk -p 7000 HGET desk:harvest:proposal:BTCUSDT last_update_epoch", "redis-cli -h desk -p 7000 SCARD desk:harvest:expected",
		"redis-cli -h desk -p 7000 TIME", "amtool --http.config.file=amtool.yml --alertmanager.url=",
	} {
		if !strings.Contains(md, want) {
			t.Errorf("the pack does not say %q:\n%s", want, md)
		}
	}
}

// The list of symbols is a filter: one without a position is on it and has no proposal.
func TestASymbolWithoutAPositionIsNotExpected(t *testing.T) {
	d := newDesk(t)
	o := d.options()
	o.Symbols = []position.Symbol{"BTCUSDT", "SOLUSDT"}
	if p := run(t, o); !p.Passed() {
		t.Error(p.Line())
	}
}

// An Alertmanager that does not count by receiver is read with care: messages of a dead man's switch come in between.
func TestAnAlertIsSeenBesideTheDeadMan(t *testing.T) {
	for name, every := range map[string]time.Duration{"steady": 600 * time.Millisecond, "silent": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.alertmanager.byReceiver, d.alertmanager.deadManEvery = false, every
			if p := run(t, d.options()); !p.Passed() {
				t.Error(p.Line())
			}
		})
	}
}

// Every check fails where what it claims is not so, and says why. Others may fail with it, where one thing breaks several.
func TestSabotageIsSeen(t *testing.T) {
	for _, s := range []struct {
		check int
		name  string
		alone bool // no other check fails
		spoil func(d *fakeDesk, o *proof.Options)
		says  string
	}{
		{1, "a heartbeat stands still", true, func(d *fakeDesk, _ *proof.Options) {
			d.proposal = func(sym position.Symbol, p *store.Proposal) {
				if sym == "ETHUSDT" {
					p.LastUpdate = d.begin
				}
			}
		}, "ETHUSDT stood still"},
		{1, "a heartbeat is missing", false, func(d *fakeDesk, _ *proof.Options) {
			d.proposal = func(sym position.Symbol, p *store.Proposal) {
				if sym == "ETHUSDT" {
					p.LastUpdateDerived = true
				}
			}
		}, "no last_update_epoch"},
		{2, "the exporter serves old values", true, func(d *fakeDesk, _ *proof.Options) {
			old := ""
			d.page = func(text string) string {
				if old == "" {
					old = text
				}
				return old
			}
		}, "the same heartbeat"},
		{2, "the exporter is gone", false, func(d *fakeDesk, _ *proof.Options) { d.answers["/exporter/metrics"] = http.StatusBadGateway }, "was read 0 times"},
		{3, "the heartbeat is old", true, func(d *fakeDesk, _ *proof.Options) { d.stale = 31 }, "31.5 s old"},
		{3, "Prometheus has no heartbeat", true, func(d *fakeDesk, _ *proof.Options) { d.stale = -1 }, "has no heartbeat"},
		{4, "an alert fires", true, func(d *fakeDesk, _ *proof.Options) {
			d.alerts = append(d.alerts, map[string]any{"labels": map[string]string{"alertname": "QuantumHarvestStoreDown"}, "state": "firing"})
		}, "QuantumHarvestStoreDown"},
		{4, "no watchdog", true, func(d *fakeDesk, _ *proof.Options) { d.alerts = nil }, "watchdog"},
		{5, "a part is not ready", true, func(d *fakeDesk, _ *proof.Options) { d.answers["/publisher/-/ready"] = http.StatusServiceUnavailable }, "503"},
		{5, "a target is down", true, func(d *fakeDesk, _ *proof.Options) { d.up["quantum-harvest-publisher"] = 0 }, "does not reach"},
		{5, "a job is not scraped", true, func(d *fakeDesk, _ *proof.Options) { delete(d.up, "quantum-harvest-publisher") }, "no target"},
		{6, "content is stamped with every beat", true, func(d *fakeDesk, _ *proof.Options) {
			d.proposal = func(_ position.Symbol, p *store.Proposal) { p.ComputedAt = p.LastUpdate }
		}, "without a revision"},
		{6, "every beat is a publish", true, func(d *fakeDesk, _ *proof.Options) {
			d.proposal = func(_ position.Symbol, p *store.Proposal) { p.Revision, p.ComputedAt = int64(d.lookups), p.LastUpdate }
		}, "one clock"},
		{6, "content is newer than its inputs", true, func(d *fakeDesk, _ *proof.Options) {
			d.proposal = func(_ position.Symbol, p *store.Proposal) { p.ContentMarketAt = p.MarketAt.Add(time.Second) }
		}, "newer than the newest"},
		{6, "a revision goes back", true, func(d *fakeDesk, _ *proof.Options) {
			d.proposal = func(_ position.Symbol, p *store.Proposal) { p.Revision = int64(1000 - d.lookups/4) }
		}, "became"},
		{7, "a rule is not loaded", true, func(d *fakeDesk, _ *proof.Options) { d.rules = d.rules[1:] }, "QuantumHarvestStoreDown is not loaded"},
		{7, "a rule was changed", true, func(d *fakeDesk, _ *proof.Options) { d.rules[0]["query"] = "up == 2" }, "asks for something else"},
		{7, "a rule waits longer", true, func(d *fakeDesk, _ *proof.Options) { d.rules[0]["duration"] = 3600 }, "waits 1h0m0s"},
		{7, "a rule has another severity", true, func(d *fakeDesk, _ *proof.Options) { d.rules[0]["labels"] = map[string]string{"severity": "none"} }, "labels"},
		{7, "a rule cannot be evaluated", true, func(d *fakeDesk, _ *proof.Options) { d.rules[0]["health"], d.rules[0]["lastError"] = "err", "boom" }, "boom"},
		{8, "the alert is refused", true, func(d *fakeDesk, _ *proof.Options) { d.alertmanager.refuse = true }, "401"},
		{8, "the alert goes nowhere", true, func(d *fakeDesk, _ *proof.Options) { d.alertmanager.swallow = true }, "nothing was sent within 2s: notice by slack, notice by webhook"},
		{8, "one of two is not told", true, func(d *fakeDesk, _ *proof.Options) { d.alertmanager.hangs = "slack" }, "nothing was sent within 2s: notice by slack"},
		{8, "an attempt fails", true, func(d *fakeDesk, _ *proof.Options) { d.alertmanager.fails = "webhook" }, "notice was not told by webhook"},
		{8, "the alert is silenced", true, func(d *fakeDesk, _ *proof.Options) {
			d.alertmanager.status = map[string]any{"state": "suppressed", "silencedBy": []string{"5f1"}}
		}, "silenced by 5f1"},
		{8, "the alert is inhibited", true, func(d *fakeDesk, _ *proof.Options) {
			d.alertmanager.status = map[string]any{"state": "suppressed", "inhibitedBy": []string{"77"}}
		}, "inhibited by 77"},
		{8, "nobody is configured", true, func(d *fakeDesk, _ *proof.Options) { d.alertmanager.leadsTo = "log" }, "NOTIFY_SLACK_URL_FILE"},
		{8, "only the dead man is told", true, func(d *fakeDesk, _ *proof.Options) {
			d.alertmanager.deadManEvery, d.alertmanager.swallow = 100*time.Millisecond, true
		}, "notice by webhook"},
		{8, "only the dead man is told, and counted with the others", true, func(d *fakeDesk, _ *proof.Options) {
			d.alertmanager.byReceiver, d.alertmanager.hangs, d.alertmanager.deadManEvery = false, "webhook", 700*time.Millisecond
		}, "nothing was sent within 2s: notice by webhook"},
		{8, "Alertmanager is gone", false, func(_ *fakeDesk, o *proof.Options) { o.Alertmanager = "http://127.0.0.1:1" }, "cannot be read"},
		{9, "a vector differs", true, func(_ *fakeDesk, o *proof.Options) {
			o.Verify = func() (golden.Verdict, error) {
				return golden.Verdict{Strict: 943, Failures: []string{"hk-1: R_net: got 1, want 2"}}, nil
			}
		}, "hk-1"},
		{9, "no vectors", true, func(_ *fakeDesk, o *proof.Options) {
			o.Verify = func() (golden.Verdict, error) { return golden.Verdict{}, errors.New("no file") }
		}, "no file"},
		{10, "a position is not covered", true, func(d *fakeDesk, _ *proof.Options) {
			d.page = func(text string) string { return strings.Replace(text, "redis_hash\"} 2", "redis_hash\"} 3", 1) }
		}, "open positions 3"},
		{10, "a proposal is missing", false, func(d *fakeDesk, _ *proof.Options) {
			d.proposal = func(sym position.Symbol, p *store.Proposal) {
				if sym == "ETHUSDT" {
					p.Revision = 0
				}
			}
		}, "ETHUSDT"},
		{10, "a proposal without a position", false, func(d *fakeDesk, o *proof.Options) {
			o.Symbols = []position.Symbol{"SOLUSDT"}
			d.reading = func(c *store.Collection) {
				c.Entries[2].Found, c.Entries[2].Proposal = true, c.Entries[0].Proposal
			}
		}, "expected 3, proposals 3"},
		{11, "nobody holds the lease", true, func(d *fakeDesk, _ *proof.Options) {
			d.reading = func(c *store.Collection) { c.Lease.Shards[0].Until = c.Lease.Now }
		}, "nobody holds shard 0"},
		{11, "somebody else writes", true, func(d *fakeDesk, _ *proof.Options) {
			d.proposal = func(_ position.Symbol, p *store.Proposal) { p.Publisher = "intruder" }
		}, "intruder"},
		{11, "the lease wanders", true, func(d *fakeDesk, _ *proof.Options) {
			d.reading = func(c *store.Collection) { c.Lease.Shards[0].Fence = int64(d.lookups) }
		}, "while we looked"},
		{12, "the clock of Redis is off", true, func(d *fakeDesk, _ *proof.Options) {
			d.reading = func(c *store.Collection) { c.ServerTime = c.ServerTime.Add(-10 * time.Second) }
		}, "Redis is off"},
		{12, "the clock of Prometheus is off", true, func(d *fakeDesk, _ *proof.Options) { d.clock = time.Minute }, "Prometheus is off"},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			o := d.options()
			s.spoil(d, &o)
			p := run(t, o)
			c := p.Checks[s.check-1]
			if c.Passed || p.Passed() {
				t.Fatalf("check %d %s passes", s.check, c.Name)
			}
			if text := strings.Join(c.Failures, "\n"); !strings.Contains(text, s.says) {
				t.Errorf("it does not say %q:\n%s", s.says, text)
			}
			if !strings.Contains(p.Line(), "FAILED") || !strings.Contains(p.Markdown(nil), "**") {
				t.Error("the pack does not show it")
			}
			for _, other := range p.Checks {
				if s.alone && other.Number != s.check && !other.Passed {
					t.Errorf("check %d %s fails as well: %v", other.Number, other.Name, other.Failures)
				}
			}
		})
	}
}

func TestRedisThatIsAwayIsNoProof(t *testing.T) {
	d := newDesk(t)
	o := d.options()
	o.Reader = away{}
	p := run(t, o)
	for _, n := range []int{1, 2, 6, 10, 11, 12} {
		if p.Checks[n-1].Passed {
			t.Errorf("check %d passes without Redis", n)
		}
	}
}

type away struct{}

func (away) Collect(context.Context, []position.Symbol) (store.Collection, error) {
	return store.Collection{}, errors.New("refused the connection")
}

func TestRulesAreRead(t *testing.T) {
	rules, err := proof.ParseRules([]byte("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up\n    for: 2m\n    keep_firing_for: 10s\n    labels: {severity: x}\n  - record: a:b:c\n    expr: |-\n      sum(\n      up)\n"))
	if err != nil || len(rules) != 2 || rules[0].For != 2*time.Minute || rules[0].Keep != 10*time.Second || rules[1].Name != "a:b:c" {
		t.Errorf("%+v, %v", rules, err)
	}
	if _, err := proof.ParseRules([]byte("groups: [{name: g, rules: [{alert: A, expr: up, for: soon}]}]")); err == nil {
		t.Error("a duration that is none is read")
	}
	if _, err := proof.ParseRules([]byte(":\t")); err == nil {
		t.Error("what is no YAML is read")
	}
}
