package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/config"
	"quantumharvest/internal/deploy/legacy"
	"quantumharvest/internal/service"
	"quantumharvest/internal/statefile"
)

// How the comparison looks at both.
const (
	lookEvery  = 200 * time.Millisecond
	rememberBy = 5 * time.Second         // of ours, to find the one that rests on the same inputs
	pairWithin = 2500 * time.Millisecond // after the earlier publisher wrote
	// startsWithin is how long ours may take until it writes.
	startsWithin = 30 * time.Second
	// settle is for rate-limited writers, beyond their longest pause.
	settle = 15 * time.Second
)

func (r *run) shadowTime(c config.Config) time.Duration {
	return time.Duration(r.d.Cycles)*c.PublishInterval + c.MaxPublishAge + settle
}

func (r *run) planShadow(context.Context) ([]string, error) {
	all, err := r.carryAll()
	if err != nil {
		return nil, fmt.Errorf("the configuration has to be put right first: %w", err)
	}
	c := all[0].config
	return []string{
		fmt.Sprintf("would run a publisher under a prefix of its own, on the inputs that %s reads, for %d cycles of %s (at most %s)",
			UnitProposal, r.d.Cycles, c.PublishInterval, r.shadowTime(c)+startsWithin),
		"would compare every field of every proposal, and remove everything below that prefix",
	}, nil
}

// ours is a hash of the shadow, and when it was seen.
type ours struct {
	at   time.Time
	hash map[string]string
}

// pending is a proposal that the earlier publisher has just written, and that waits for one of ours on the same inputs.
type pending struct {
	at   time.Time
	hash map[string]string
}

// comparison gathers what comes of looking at both.
type comparison struct {
	seen     map[string]string // computed_at_utc of the earlier publisher, per symbol
	first    map[string]string // the same, at the beginning
	recent   map[string][]ours
	waiting  map[string][]pending
	compared map[string]int
	apart    map[string]int // written on inputs that ours never had at that moment
	all      []legacy.Difference
}

// take looks at one reading of both.
func (c *comparison) take(now time.Time, theirs, shadow map[string]map[string]string) {
	for sym, h := range shadow {
		list := append(c.recent[sym], ours{now, h})
		c.recent[sym] = slices.DeleteFunc(list, func(o ours) bool { return now.Sub(o.at) > rememberBy })
	}
	for sym, h := range theirs {
		stamp := h["computed_at_utc"]
		if last, known := c.seen[sym]; !known {
			c.first[sym] = stamp
		} else if last != stamp {
			c.waiting[sym] = append(c.waiting[sym], pending{now, h})
		}
		c.seen[sym] = stamp
	}
	for sym, list := range c.waiting {
		c.waiting[sym] = slices.DeleteFunc(list, func(p pending) bool { return c.pair(sym, p, now) })
	}
}

// pair looks for the proposal of ours that rests on what p rests on, and where time is up for one of the same moment: prices
// may move faster than ours is written. It is over with p where there is one, or time is up.
func (c *comparison) pair(sym string, p pending, now time.Time) bool {
	written, known := legacy.ComputedAt(p.hash)
	apart := func(o ours) time.Duration {
		if at, ok := legacy.ComputedAt(o.hash); ok && known {
			return at.Sub(written).Abs()
		}
		return rememberBy
	}
	for _, o := range slices.Backward(c.recent[sym]) {
		if legacy.SameInputs(p.hash, o.hash) {
			c.all = append(c.all, legacy.Compare(sym, p.hash, o.hash, nil, apart(o))...)
			c.compared[sym]++
			return true
		}
	}
	if now.Sub(p.at) < pairWithin {
		return false
	}
	if len(c.recent[sym]) == 0 {
		c.apart[sym]++
		return true
	}
	near := slices.DeleteFunc(slices.Clone(c.recent[sym]), func(o ours) bool { return !legacy.SamePosition(p.hash, o.hash) })
	other := len(near) == 0
	if other {
		near = c.recent[sym]
	}
	nearest := slices.MinFunc(near, func(a, b ours) int { return cmp.Compare(apart(a), apart(b)) })
	around := make([]map[string]string, len(near))
	for i, o := range near {
		around[i] = o.hash
	}
	found := legacy.Compare(sym, p.hash, nearest.hash, around, apart(nearest))
	if worst := legacy.Worst(found); len(worst) > 0 && (other || legacy.OnlyInputs(worst)) {
		// A price may jump once, and a position may be added to. Where the two never rest on the same, that is the difference, and
		// it is shown.
		if c.apart[sym]++; c.apart[sym] < 3 || c.compared[sym] > 0 {
			return true
		}
	}
	c.all = append(c.all, found...)
	c.compared[sym]++
	return true
}

// shadow runs a publisher of ours beside the earlier one, and compares what both write.
func (r *run) shadow(ctx context.Context) (facts []string, err error) {
	c, path, err := r.settings(config.Publish)
	if err != nil {
		return nil, err
	}
	for _, old := range r.state.Changes { // of a run that was broken off
		if old.Kind == KindShadow && !old.Undone {
			if err := r.endShadow(ctx, old); err != nil {
				return nil, err
			}
		}
	}
	rdb := r.o.Desk.Connect(c.Redis)
	defer rdb.Close()
	runtime.LockOSThread() // ownGroup goes by the thread that starts the shadow
	defer runtime.UnlockOSThread()
	prefix := fmt.Sprintf("quantum:shadow-%d:", time.Now().Unix())
	change, stop, err := r.startShadow(ctx, c, path, prefix)
	if err != nil {
		return nil, err
	}
	defer stop()
	cmp, err := r.compare(ctx, rdb, c, prefix)
	stop()
	if e := r.endShadow(context.WithoutCancel(ctx), change); e != nil {
		err = errors.Join(err, e)
	}
	if err != nil {
		return nil, err
	}
	for i := range r.state.Changes {
		if r.state.Changes[i].Kind == KindShadow && r.state.Changes[i].What == prefix {
			r.state.Changes[i].Undone = true
		}
	}
	if err := r.save(); err != nil {
		return nil, err
	}
	return r.judge(cmp)
}

// startShadow starts the publisher. It ends by itself where nobody ends it.
func (r *run) startShadow(ctx context.Context, c config.Config, path, prefix string) (Change, func(), error) {
	change := Change{Kind: KindShadow, What: prefix}
	if err := r.record(change); err != nil {
		return change, nil, err
	}
	log, err := os.OpenFile(filepath.Join(r.dir, "shadow.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return change, nil, err
	}
	defer log.Close()
	cmd := exec.Command(r.at(binPath), "publish", "--env-file", path)
	cmd.Env = append(os.Environ(),
		"KEY_PREFIX="+prefix, "HARVEST_PREFIX="+prefix+"harvest:proposal:", "STREAM_NAME="+prefix+"stream", "ENABLE_STREAM=false",
		"PUBLISHER_PORT=0", "PUBLISHER_ID=shadow", "HARVEST_SHARDS=1", "MAX_PUBLISH_AGE_SEC=1", "CHANGE_EPS_PCT=0", "LISTEN_HOST=127.0.0.1",
		fmt.Sprintf("HARVEST_FOR=%s", (r.shadowTime(c)+startsWithin+time.Minute).Round(time.Second)))
	cmd.Stdout, cmd.Stderr = log, log
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return change, nil, fmt.Errorf("start the shadow: %w", err)
	}
	over := make(chan struct{})
	go func() { _ = cmd.Wait(); close(over) }()
	change.PID = cmd.Process.Pid
	for i := range r.state.Changes {
		if r.state.Changes[i].What == prefix {
			r.state.Changes[i].PID = change.PID
		}
	}
	stop := func() {
		terminate(change.PID)
		select {
		case <-over:
		case <-time.After(10 * time.Second):
			killHard(change.PID)
			<-over
		}
	}
	if err := r.save(); err != nil {
		stop()
		return change, nil, err
	}
	return change, stop, nil
}

// endShadow ends a shadow and removes everything that it wrote.
func (r *run) endShadow(ctx context.Context, change Change) error {
	if isShadow(change.PID, change.What) {
		killHard(change.PID)
		for deadline := time.Now().Add(10 * time.Second); isShadow(change.PID, change.What) && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
		}
	}
	c, err := r.settingsOfBefore()
	if err != nil {
		return err
	}
	rdb := r.o.Desk.Connect(c.Redis)
	defer rdb.Close()
	for _, pattern := range []string{change.What + "*", "{" + change.What + "*"} {
		keys, err := scan(ctx, rdb, pattern)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := rdb.Del(ctx, k).Err(); err != nil {
				return fmt.Errorf("remove %s: %w", k, err)
			}
		}
	}
	return nil
}

// isShadow tells whether a process is the shadow of that prefix, and not another one that got its number since.
func isShadow(pid int, prefix string) bool {
	return service.Carries(pid, "KEY_PREFIX="+prefix)
}

// compare looks at both until every open symbol was compared, for as many cycles as were asked for.
func (r *run) compare(ctx context.Context, rdb redis.UniversalClient, c config.Config, prefix string) (*comparison, error) {
	cmp := &comparison{
		seen: map[string]string{}, first: map[string]string{}, recent: map[string][]ours{}, waiting: map[string][]pending{},
		compared: map[string]int{}, apart: map[string]int{},
	}
	keys := r.o.Desk.Keys(config.Config{Keys: config.Keys{Prefix: prefix}})
	begin := time.Now()
	var began time.Time // when ours wrote for the first time
	for {
		expected, err := rdb.SMembers(ctx, keys.Expected()).Result()
		if err != nil {
			return nil, fmt.Errorf("look at the shadow: %w", err)
		}
		theirs, err := proposals(ctx, rdb, c.Keys.Harvest)
		if err != nil {
			return nil, err
		}
		shadow, err := proposals(ctx, rdb, prefix+"harvest:proposal:")
		if err != nil {
			return nil, err
		}
		now := time.Now()
		if began.IsZero() && len(expected) > 0 && len(shadow) >= len(expected) {
			began = now
		}
		if began.IsZero() && now.Sub(begin) > startsWithin {
			return nil, fmt.Errorf("the shadow wrote no proposals within %s: see %s (are there open positions at all?)", startsWithin, filepath.Join(r.dir, "shadow.log"))
		}
		cmp.take(now, theirs, shadow)
		if !began.IsZero() {
			missing := slices.DeleteFunc(slices.Clone(expected), func(sym string) bool { return cmp.compared[sym] > 0 || theirs[sym] == nil })
			long := now.Sub(began)
			if len(missing) == 0 && long >= time.Duration(r.d.Cycles)*c.PublishInterval || long >= r.shadowTime(c) {
				cmp.finish(expected, theirs, missing)
				return cmp, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

// finish says what can be said of symbols that only one of the two has, and of those that were never compared.
func (c *comparison) finish(expected []string, theirs map[string]map[string]string, missing []string) {
	for sym := range theirs {
		if slices.Contains(expected, sym) {
			continue
		}
		d := legacy.Difference{
			Symbol: sym, Field: "harvest_action", Theirs: theirs[sym]["harvest_action"], Ours: "", Verdict: legacy.Explained,
			Why: "its position is closed: the earlier publisher never removes a hash",
		}
		if c.first[sym] != c.seen[sym] {
			d.Verdict, d.Why = legacy.Unexplained, "" // it goes on being written
		}
		c.all = append(c.all, d)
	}
	for _, sym := range expected {
		if theirs[sym] == nil {
			c.all = append(c.all, legacy.Difference{
				Symbol: sym, Field: "harvest_action", Verdict: legacy.Explained,
				Why: "the earlier publisher has no proposal for this open position",
			})
		}
	}
	for _, sym := range missing {
		c.all = append(c.all, legacy.Difference{
			Symbol: sym, Field: "computed_at_utc", Theirs: theirs[sym]["computed_at_utc"],
			Ours: "nothing on the same inputs", Verdict: legacy.Unexplained,
		})
	}
}

func (r *run) judge(c *comparison) ([]string, error) {
	n := 0
	for _, k := range c.compared {
		n += k
	}
	table := legacy.Table(c.all)
	facts := []string{fmt.Sprintf("%d proposals of %d symbols compared", n, len(c.compared)), table}
	if err := statefile.Write(filepath.Join(r.dir, "shadow.md"), []byte(table), statefile.Mode(0o644)); err != nil {
		return facts, err
	}
	worst := legacy.Worst(c.all)
	if len(worst) == 0 {
		return append(facts, "everything below the prefix of the shadow was removed"), nil
	}
	if r.d.AcceptDifferences {
		return append(facts, fmt.Sprintf("%d differences that nobody can explain are accepted (--accept-differences)", len(worst))), nil
	}
	w := worst[0]
	return facts, fmt.Errorf("%d differences that nobody can explain, the first: %s of %s is %q, ours says %q; find out why, or go on with --accept-differences",
		len(worst), w.Field, w.Symbol, w.Theirs, w.Ours)
}
