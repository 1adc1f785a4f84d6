//go:build unix

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/config"
	"quantumharvest/internal/deploy/legacy"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
)

// links is a service manager that removes links as systemd does: those of targets, and a unit that is one itself.
type links struct {
	root     string
	stuck    bool // it cannot stop anything
	started  []string
	disabled int
}

func (*links) Name() string                                 { return "links" }
func (*links) Active(context.Context, string) (bool, error) { return true, nil }
func (m *links) Enabled(context.Context, string) (bool, error) {
	return true, nil
}

func (m *links) Start(_ context.Context, unit string) error {
	m.started = append(m.started, unit)
	return nil
}

func (m *links) Stop(context.Context, string) error {
	if m.stuck {
		return errors.New("timed out")
	}
	return nil
}
func (m *links) Enable(context.Context, string) error { return nil }

func (m *links) Disable(_ context.Context, unit string) error {
	m.disabled++
	found, _ := filepath.Glob(filepath.Join(m.root, "etc/systemd/system/*/"+unit))
	for _, f := range append(found, filepath.Join(m.root, "etc/systemd/system", unit)) {
		if info, err := os.Lstat(f); err == nil && info.Mode()&os.ModeSymlink != 0 {
			_ = os.Remove(f)
			_ = os.Remove(filepath.Dir(f)) // where it has become empty
		}
	}
	return nil
}
func (*links) Signal(context.Context, string) error { return nil }
func (*links) Reread(context.Context) error         { return nil }
func (*links) ByHand(string, string) string         { return "" }

func newRun(t *testing.T, m *links) *run {
	t.Helper()
	m.root = t.TempDir()
	dir := filepath.Join(m.root, "var/lib/state")
	if err := os.MkdirAll(filepath.Join(dir, "backups"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := config.Config{}
	c.Deploy.Root, c.Deploy.StateDir = m.root, dir
	return &run{
		o: Options{Config: c, Manager: m, Out: io.Discard, Desk: Desk{
			Unit: func(string) ([]byte, error) { return []byte("[Service]\nExecStart=/usr/bin/harvest publish\n"), nil },
			Keys: func(c config.Config) store.Keys {
				return store.NewKeys(store.KeysOptions{Prefix: c.Keys.Prefix, Harvest: c.Keys.Harvest})
			},
		}},
		d: c.Deploy, dir: dir, state: &State{Status: Running}, client: http.DefaultClient,
	}
}

func place(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// A unit that is a link to where it really is, and links of other targets, go when it is disabled: a rollback brings them back.
func TestLinksOfUnitsComeBack(t *testing.T) {
	m := &links{}
	r := newRun(t, m)
	real := filepath.Join(m.root, "opt/quantum/p.service")
	place(t, real, "[Service]\nExecStart=/usr/bin/python3 x\n", 0o644)
	units := filepath.Join(m.root, "etc/systemd/system")
	kept := []string{filepath.Join(units, UnitProposal), filepath.Join(units, "trading.target.wants", UnitProposal)}
	for _, l := range kept {
		if err := os.MkdirAll(filepath.Dir(l), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(real, l); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.record(Change{Kind: KindService, What: UnitProposal, Active: true, Enabled: true}); err != nil {
		t.Fatal(err)
	}
	if err := r.exchange(t.Context(), UnitProposal); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(kept[0]); !strings.Contains(string(text), "harvest publish") || m.disabled == 0 {
		t.Fatalf("ours is not in its place: %s", text)
	}
	if err := r.rollback(t.Context(), "a test"); err != nil {
		t.Fatal(err)
	}
	for _, l := range kept {
		if target, err := os.Readlink(l); err != nil || target != real {
			t.Errorf("%s leads to %q (%v)", l, target, err)
		}
	}
}

// One of ours that cannot be stopped keeps the earlier one from being started, and is tried again.
func TestRollbackNeverStartsASecondWriter(t *testing.T) {
	m := &links{stuck: true}
	r := newRun(t, m)
	place(t, filepath.Join(m.root, "etc/systemd/system", UnitProposal), "[Service]\nExecStart=/usr/bin/harvest publish\n", 0o644)
	if err := r.record(Change{Kind: KindService, What: UnitProposal, Active: true}); err != nil {
		t.Fatal(err)
	}
	if err := r.rollback(t.Context(), "a test"); err == nil || len(m.started) > 0 || r.state.Changes[0].Undone {
		t.Errorf("%v; started: %v; counts as taken back: %t", err, m.started, r.state.Changes[0].Undone)
	}
	m.stuck = false
	if err := r.rollback(t.Context(), "a test"); err != nil || len(m.started) != 1 {
		t.Errorf("%v; started: %v", err, m.started)
	}
}

// Where progress cannot be written down, the earlier services come back all the same.
func TestRollbackOnAFullDisk(t *testing.T) {
	m := &links{}
	r := newRun(t, m)
	if err := r.record(Change{Kind: KindService, What: UnitProposal, Active: true}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(r.dir); err != nil {
		t.Fatal(err)
	}
	if err := r.rollback(t.Context(), "a test"); err == nil || len(m.started) != 1 {
		t.Errorf("%v; started: %v", err, m.started)
	}
}

// full lets no file be opened, so that nothing can be written, as where there is no room; what is there can still be renamed and removed.
func full(t *testing.T) (room func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	room = sync.OnceFunc(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(room)
	return room
}

// A step that was done and cannot be written down is taken back, and the next run knows that, although nothing could be written.
func TestAStepThatCannotBeWrittenDown(t *testing.T) {
	for name, fillAt := range map[string]int{"in the middle": 2, "at the end": 3} {
		t.Run(name, func(t *testing.T) {
			m := &links{}
			r := newRun(t, m)
			r.state = nil
			ours := filepath.Join(r.d.Root, "etc/ours.conf")
			room := func() {}
			var taken []int
			for n := 1; n <= 3; n++ {
				r.stages = append(r.stages, stage{name: fmt.Sprint(n), do: func(r *run, _ context.Context) ([]string, error) {
					taken = append(taken, n)
					if n == 1 {
						if _, err := r.put(ours, []byte("x"), 0o644); err != nil {
							return nil, err
						}
						return nil, r.record(Change{Kind: KindService, What: UnitProposal, Active: true})
					}
					if n == fillAt {
						room = full(t)
					}
					return nil, nil
				}})
			}
			err := r.forward(t.Context())
			room()
			if err == nil || !strings.Contains(err.Error(), "write down how far") {
				t.Fatalf("a step that cannot be written down: %v", err)
			}
			if _, err := os.Lstat(ours); !errors.Is(err, os.ErrNotExist) || len(m.started) != 1 {
				t.Errorf("it was not taken back: %v, started %v", err, m.started)
			}
			if r.state, err = loadState(r.dir); err != nil || r.state == nil || r.state.Status != RollingBack {
				t.Fatalf("the next run does not know that it was taken back: %+v, %v", r.state, err)
			}
			if err := r.forward(t.Context()); !errors.Is(err, errRolledBack) || r.state.Status != RolledBack {
				t.Errorf("the rollback does not end: %v", err)
			}
			if r.state, err = loadState(r.dir); err != nil || r.state.Status != RolledBack {
				t.Fatalf("%+v, %v", r.state, err)
			}
			fillAt, taken = 0, nil
			if err := r.forward(t.Context()); err != nil || len(taken) != 3 || r.state.Status != Done {
				t.Errorf("another deployment: %v, steps %v, %s", err, taken, r.state.Status)
			}
		})
	}
}

// Mode and owner come back where the text stayed the same, too.
func TestRestoreOwnerAndMode(t *testing.T) {
	r := newRun(t, &links{})
	path := filepath.Join(r.d.Root, "etc/quantum/a.env")
	place(t, path, "A=1\n", 0o600)
	if err := os.Chmod(path, 0o600|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.remember(path); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 0, 12345); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := r.restore(r.state.Changes[0]); err != nil {
		t.Fatal(err)
	}
	after, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	_, was := ownerOf(before)
	if _, is := ownerOf(after); is != was || after.Mode() != before.Mode() {
		t.Errorf("group %d and mode %s, not %d and %s", is, after.Mode(), was, before.Mode())
	}
}

// A file that is replaced is never there with another owner or more permissions than it has in the end.
func TestPutKeepsOwnerAndMode(t *testing.T) {
	r := newRun(t, &links{})
	path := filepath.Join(r.d.Root, "etc/quantum/a.env")
	place(t, path, "A=1\n", 0o640)
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 12345, 12346); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	same := func(when string) {
		t.Helper()
		after, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		uid, gid := ownerOf(before)
		if u, g := ownerOf(after); u != uid || g != gid || after.Mode() != before.Mode() {
			t.Errorf("%s: %d:%d %s, not %d:%d %s", when, u, g, after.Mode(), uid, gid, before.Mode())
		}
	}
	if wrote, err := r.put(path, []byte("A=2\n"), 0o644); err != nil || !wrote {
		t.Fatal(wrote, err)
	}
	same("replaced")
	if err := r.restore(r.state.Changes[len(r.state.Changes)-1]); err != nil {
		t.Fatal(err)
	}
	same("restored")
}

// What a killed run left half written goes, beside the files that it was to change, too; whatever an operator keeps stays.
func TestSweep(t *testing.T) {
	r := newRun(t, &links{})
	path := filepath.Join(r.d.Root, "etc/prometheus/prometheus.yml")
	place(t, path, "a: 1\n", 0o644)
	if err := r.remember(path); err != nil {
		t.Fatal(err)
	}
	half := []string{path + ".tmp1", stateFile(r.dir) + ".tmp22", filepath.Join(r.dir, "backups/000-x.tmp3"), filepath.Join(r.dir, "units/u.service.tmp4")}
	kept := []string{path, path + ".tmp", path + ".tmp-old", filepath.Join(filepath.Dir(path), "mine.yml.tmp1")}
	for _, p := range append(half, kept[1:]...) {
		place(t, p, "x", 0o600)
	}
	r.sweep()
	for i, p := range append(half, kept...) {
		if _, err := os.Lstat(p); (err == nil) != (i >= len(half)) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// A rule file that has an alert of the operator's beside one of ours is not set aside, whatever that alert is called.
func TestRulesOfTheOperatorStay(t *testing.T) {
	r := newRun(t, &links{})
	r.d.PrometheusConfig = filepath.Join(r.d.Root, "prometheus.yml")
	place(t, r.d.PrometheusConfig, "rule_files: [a.yml, b.yml]\n", 0o644)
	rule := func(name string) string { return "      - alert: " + name + "\n        expr: up\n" }
	head := "groups:\n  - name: a\n    rules:\n"
	place(t, filepath.Join(r.d.Root, "a.yml"), head+rule("QuantumHarvestMetricsStale")+rule("HarvestOfMyOwn"), 0o644)
	place(t, filepath.Join(r.d.Root, "b.yml"), head+rule("QuantumHarvestMetricsStale"), 0o644)
	aside, notes, err := r.earlierRules()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{filepath.Join(r.d.Root, "b.yml")}, aside); diff != "" || len(notes) != 1 {
		t.Errorf("set aside (-want +got), notes %q:\n%s", notes, diff)
	}
}

func TestLongPauseFails(t *testing.T) {
	begin := time.Now()
	g := newGaps()
	for _, sym := range []string{"A", "B", "C"} {
		g.first[sym], g.beats[sym] = begin.Add(3*time.Second), 3
	}
	if err := g.check(begin, []string{"A", "B", "C", "CLOSED"}); err != nil {
		t.Error(err)
	}
	g.first["A"], g.own["B"] = begin.Add(13*time.Second), 14
	err := g.check(begin, []string{"A", "B", "C"})
	if err == nil || !strings.Contains(err.Error(), "A: the first heartbeat of ours came 13.0 s") || !strings.Contains(err.Error(), "B: our heartbeat paused for 14s") {
		t.Errorf("a pause beyond 12 s: %v", err)
	}
	if err := g.check(time.Time{}, []string{"A", "C"}); err != nil {
		t.Errorf("a run that goes on does not know since when: %v", err)
	}
	// The first of ours counts from where the earlier publisher's ended, the others among themselves.
	g = newGaps()
	g.look(map[string]map[string]string{"A": {"last_update_epoch": "100"}})
	g.look(map[string]map[string]string{"A": {"last_update_epoch": "150", "schema_version": "1"}})
	g.look(map[string]map[string]string{"A": {"last_update_epoch": "152", "schema_version": "1"}})
	if g.own["A"] != 2 || g.longest["A"] != 50 || g.first["A"].IsZero() {
		t.Errorf("%+v", g)
	}
}

// Keys and fields that are nobody's of ours stay in a rollback, whenever they came.
func TestRollbackLeavesWhatIsNotOurs(t *testing.T) {
	server := realserver.Redis(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	r := newRun(t, &links{})
	c := config.Config{Keys: config.Keys{Prefix: "quantum:", Harvest: "quantum:harvest:proposal:", MarketState: "quantum:marketstate:", RiskProposal: "quantum:risk:proposal:"}}
	r.o.Desk.Connect = func(config.Redis) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: server.Addr(), Protocol: 2})
	}
	ctx := t.Context()
	rdb.HSet(ctx, "quantum:harvest:proposal:BTCUSDT", "harvest_action", "NONE", "operator_note", "hands off")
	s, err := r.takeSnapshot(ctx, rdb, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.saveSnapshot(s); err != nil {
		t.Fatal(err)
	}
	rdb.HSet(ctx, "quantum:harvest:proposal:BTCUSDT", "schema_version", "1", "revision", "7")
	rdb.HSet(ctx, "quantum:harvest:proposal:ETHUSDT", "schema_version", "1")
	rdb.SAdd(ctx, "quantum:harvest:expected", "BTCUSDT")
	rdb.HSet(ctx, "quantum:harvest:lease", "a", "b")
	rdb.HSet(ctx, "quantum:harvest:closed", "a", "b")
	rdb.Set(ctx, "quantum:harvest:apply:last", "of another program", 0)
	rdb.Set(ctx, "quantum:harvest:proposal:notes", "of another program", 0)
	// The earlier env file is back already, with keys that ours refuses: what was kept says where Redis is.
	place(t, filepath.Join(r.d.Root, "etc/quantum/harvest-proposal.env"), "PYTHONPATH=/opt\nNOBODY_KNOWS=1\n", 0o644)
	place(t, r.settingsCopy(), "REDIS_HOST=127.0.0.1\n", 0o600)
	if err := r.cleanRedis(ctx, Change{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"harvest_action": "NONE", "operator_note": "hands off"}, rdb.HGetAll(ctx, "quantum:harvest:proposal:BTCUSDT").Val()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	keys, err := scan(ctx, rdb, "*")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"quantum:harvest:apply:last", "quantum:harvest:proposal:BTCUSDT", "quantum:harvest:proposal:notes"}, keys); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What an open position is, goes by the settings.
func TestPositionThere(t *testing.T) {
	server := realserver.Redis(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	ctx := t.Context()
	rdb.HSet(ctx, "quantum:state:positions:BTCUSDT", "side", "LONG")
	rdb.HSet(ctx, "quantum:state:positions", "ETHUSDT", "{}")
	rdb.XAdd(ctx, &redis.XAddArgs{Stream: "quantum:stream:execution", Values: []string{"symbol", "SOLUSDT"}})
	c := config.Config{Keys: config.Keys{Prefix: "desk:"}, Positions: config.Positions{Kind: config.PositionsAuto}}
	for sym, want := range map[string]bool{"BTCUSDT": true, "ETHUSDT": true, "SOLUSDT": true, "DOGEUSDT": false} {
		if got, err := positionThere(ctx, rdb, c, sym); err != nil || got != want {
			t.Errorf("%s: %t, %v", sym, got, err)
		}
	}
	c.Positions.Kind = config.PositionsFile
	if got, err := positionThere(ctx, rdb, c, "DOGEUSDT"); err != nil || !got {
		t.Errorf("it cannot be told of a file, and counts as %t, %v", got, err)
	}
}

// A position that is added to while the shadow runs, and a stop that moved with the market, are no differences.
func TestComparisonOfAPositionThatChanged(t *testing.T) {
	hash := func(entry, price, unit, stamp string) map[string]string {
		return map[string]string{
			"position_side": "LONG", "position_entry_price": entry, "position_current_price": price, "position_unrealized_pnl": "0",
			"position_age_sec": "60", "sigma": "0.01", "ts": "0.4", "p_trend": "0.4", "p_mr": "0.3", "p_chop": "0.3", "risk_unit": unit,
			"cost_est": entry, "computed_at_utc": stamp,
		}
	}
	now := time.Now()
	stamp := func(sec int) string {
		return now.Add(time.Duration(sec) * time.Second).UTC().Format("2006-01-02T15:04:05")
	}
	c := &comparison{
		seen: map[string]string{}, first: map[string]string{}, recent: map[string][]ours{}, waiting: map[string][]pending{},
		compared: map[string]int{"BTCUSDT": 1}, apart: map[string]int{},
	}
	look := func(p map[string]string, of ...map[string]string) {
		c.recent["BTCUSDT"] = nil
		for _, o := range of {
			c.recent["BTCUSDT"] = append(c.recent["BTCUSDT"], ours{now, o})
		}
		if !c.pair("BTCUSDT", pending{now, p}, now.Add(2*pairWithin)) {
			t.Fatal("it waits although time is up")
		}
	}
	look(hash("100", "100", "2", stamp(0)), hash("101", "101", "2.02", stamp(0)))
	if len(c.all) > 0 || c.apart["BTCUSDT"] != 1 {
		t.Errorf("a position that was added to counts as differences:\n%s", legacy.Table(c.all))
	}
	// Of the two that ours had meanwhile that of the same position counts, although the other one is nearer.
	look(hash("100", "100", "2", stamp(0)), hash("100", "100.5", "2", stamp(1)), hash("101", "101", "2.02", stamp(0)))
	if len(c.all) > 0 {
		t.Errorf("another position is compared with:\n%s", legacy.Table(c.all))
	}
	moved := hash("100", "100.02", "2.01", stamp(0))
	for _, d := range legacy.Compare("BTCUSDT", moved, hash("100", "100", "2", stamp(0)), []map[string]string{hash("100", "100", "2", ""), hash("100", "100.03", "2.02", "")}, 0) {
		if d.Field == "risk_unit" && d.Verdict != legacy.Explained {
			t.Errorf("a stop that moved with the market: %+v", d)
		}
	}
	look(hash("100", "100", "3", stamp(0)), hash("100", "100", "2", stamp(0)))
	if worst := legacy.Worst(c.all); len(worst) != 1 || worst[0].Field != "risk_unit" {
		t.Errorf("another stop on the same inputs is not seen: %v", worst)
	}
}
