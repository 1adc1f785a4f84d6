package proof

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"quantumharvest/internal/store"
)

// allowed are the alerts that may fire on a desk that is in order.
var allowed = []string{"QuantumHarvestKillScoreHigh", "QuantumHarvestKillScoreCritical", "QuantumExitNotActedOn", "Watchdog"}

func alertState(ctx context.Context, o Options, _ *sights) Check {
	c := Check{
		Name: "alerts", Claim: "no alert says that the desk is not in order, and the watchdog fires",
		ByHand: []string{"curl -s " + o.Prometheus + "/api/v1/alerts"},
	}
	text, err := get(ctx, o, o.Prometheus+"/api/v1/alerts")
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels map[string]string `json:"labels"`
				State  string            `json:"state"`
			} `json:"alerts"`
		} `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		c.fail("Prometheus cannot be asked: %v", err)
		return c
	}
	watchdog := false
	for _, a := range answer.Data.Alerts {
		name := a.Labels["alertname"]
		watchdog = watchdog || (name == "Watchdog" && a.State == "firing")
		if a.State == "firing" {
			c.saw("%s %s is firing", name, a.Labels["symbol"])
		}
		if a.State == "firing" && strings.Contains(name, "Harvest") && !slices.Contains(allowed, name) {
			c.fail("%s %s is firing", name, a.Labels["symbol"])
		}
	}
	if !watchdog {
		c.fail("the watchdog does not fire: the rules are not loaded, or not evaluated")
	}
	return c
}

func health(ctx context.Context, o Options, _ *sights) Check {
	c := Check{Name: "health", Claim: "every part says that it is healthy and ready, and Prometheus reaches every target"}
	for _, part := range slices.Concat([]string{o.Exporter}, o.Publishers, []string{o.Prometheus, o.Alertmanager}) {
		for _, path := range []string{"/-/healthy", "/-/ready"} {
			c.ByHand = append(c.ByHand, "curl -si "+part+path)
			if text, err := get(ctx, o, part+path); err != nil {
				c.fail("%v: %s", err, strings.TrimSpace(string(text)))
			} else {
				c.saw("%s%s answers 200", part, path)
			}
		}
	}
	up, err := query(ctx, o, `up`)
	if err != nil {
		c.fail("Prometheus cannot be asked: %v", err)
	}
	jobs := map[string]bool{}
	for _, r := range up {
		jobs[r.labels["job"]] = true
		c.saw("up{job=%q, instance=%q} is %v", r.labels["job"], r.labels["instance"], r.value)
		if r.value != 1 {
			c.fail("Prometheus does not reach %s of %s", r.labels["instance"], r.labels["job"])
		}
	}
	for _, job := range []string{"quantum-harvest-exporter", "quantum-harvest-publisher"} {
		if !jobs[job] {
			c.fail("Prometheus has no target of the job %s", job)
		}
	}
	return c
}

func vectors(_ context.Context, o Options, _ *sights) Check {
	c := Check{
		Name: "golden vectors", Claim: "this binary computes what the reference implementation computes",
		ByHand: []string{"harvest eval chain < cases.jsonl    # cases from testdata/vectors/chain.json, one a line"},
	}
	v, err := o.Verify()
	if err != nil {
		c.fail("the vectors cannot be read: %v", err)
		return c
	}
	c.saw("%d strict cases, %d differ", v.Strict, len(v.Failures))
	c.figure("cases", float64(v.Strict))
	for _, f := range v.Failures[:min(5, len(v.Failures))] {
		c.fail("%s", f)
	}
	if v.Strict == 0 {
		c.fail("there are no cases")
	}
	return c
}

// oneHolder holds the leases against who wrote the proposals.
func oneHolder(_ context.Context, o Options, s *sights) Check {
	c := Check{
		Name: "one lease holder", Claim: "every shard has one living holder, which wrote its proposals, and it stays the same",
		ByHand: []string{o.RedisCommand + " HGETALL " + o.Keys.Lease(), s.byHand(o, "HMGET", "publisher fence")},
	}
	if c.blind(o, s) {
		return c
	}
	first, last := s.readings[0].c.Lease, s.readings[len(s.readings)-1].c.Lease
	if last.Layout == "" {
		c.fail("nobody holds a lease: an earlier publisher writes, or none")
		return c
	}
	for i, l := range last.Shards {
		if !l.Live(last.Now) {
			c.fail("nobody holds shard %d", l.Shard)
			continue
		}
		c.saw("shard %d: %s under fence %d since %s", l.Shard, store.HolderName(l.Holder), l.Fence, clock(l.Since))
		if i < len(first.Shards) && first.Shards[i].Fence != l.Fence {
			c.fail("shard %d went from %s to %s while we looked", l.Shard, store.HolderName(first.Shards[i].Holder), store.HolderName(l.Holder))
		}
	}
	c.saw("%d publishers live", len(last.Members))
	for _, sym := range s.symbols(o) {
		list := s.entriesOf(sym)
		if len(list) == 0 {
			continue
		}
		p := list[len(list)-1].Proposal
		if shard := store.ShardOf(sym, len(last.Shards)); shard < len(last.Shards) && store.HolderName(last.Shards[shard].Holder) != p.Publisher {
			c.fail("%s was written by %q, the lease is of %q", sym, p.Publisher, store.HolderName(last.Shards[shard].Holder))
		}
	}
	return c
}

func clockOffsets(ctx context.Context, o Options, s *sights) Check {
	c := Check{
		Name: "clocks agree", Claim: fmt.Sprintf("the clocks of Redis, Prometheus, the publisher and this host differ by no more than %s", o.Skew),
		ByHand: []string{o.RedisCommand + " TIME; date +%s", "curl -s '" + o.Prometheus + "/api/v1/query?query=time()'; date +%s"},
	}
	if c.blind(o, s) {
		return c
	}
	add := func(name string, offset, doubt time.Duration) {
		c.saw("%s: %+.3f s, to within %.3f s", name, offset.Seconds(), doubt.Seconds())
		c.figure(name, offset.Seconds())
		if offset.Abs() > o.Skew+doubt {
			c.fail("%s is off by %+.3f s", name, offset.Seconds())
		}
	}
	r := s.readings[len(s.readings)-1]
	// When Redis said its time we were between the beginning and the end of the reading.
	add("Redis", r.c.ServerTime.Sub(r.at.Add(-r.c.RTT/2)), r.c.RTT+50*time.Millisecond)
	begin := time.Now()
	now, err := query(ctx, o, "vector(time())")
	took := time.Since(begin)
	if err != nil || len(now) != 1 {
		c.fail("Prometheus does not tell its time: %v", err)
	} else {
		add("Prometheus", time.UnixMicro(int64(now[0].value*1e6)).Sub(begin.Add(took/2)), took)
	}
	for _, address := range o.Publishers {
		p, err := readPage(ctx, o, address+"/metrics")
		if err != nil {
			c.fail("%v", err)
			continue
		}
		if offset, ok := p.value("quantum_harvest_publisher_clock_offset_seconds"); ok {
			add("publisher at "+address+" from Redis", time.Duration(offset*float64(time.Second)), 50*time.Millisecond)
		} else {
			c.fail("the publisher at %s does not tell its clock", address)
		}
	}
	return c
}
