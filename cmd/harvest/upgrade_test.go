//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/freeport"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/monitor/monitortest"
	"quantumharvest/internal/proof"
	"quantumharvest/internal/realserver"
)

// release is one of the two that stand side by side.
type release int

const (
	previous release = iota
	current
)

func (r release) String() string { return [...]string{"previous", "current"}[r] }

// mixedDesk is a desk of processes, each of one of two releases: two publishers, two exporters, a monitor.
type mixedDesk struct {
	*testing.T
	programs [2]string
	redis    string
	rdb      redis.UniversalClient
	data     string // of the monitor
	symbols  []string
	slots    map[string]*slot
	client   *http.Client

	mu     sync.Mutex
	faults []string
	pages  int
	taken  []time.Time // when a new fence of the lease was seen
}

// slot is one process and the place where it is found, whatever release runs there.
type slot struct {
	role   string
	port   int
	second int      // port of Alertmanager
	more   []string // arguments
	cmd    *exec.Cmd
	log    *livetest.Buffer
	runs   release
}

func (d *mixedDesk) fault(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if text := fmt.Sprintf(format, args...); len(d.faults) < 20 && !slices.Contains(d.faults, text) {
		d.faults = append(d.faults, text)
	}
}

func (d *mixedDesk) port() int {
	d.Helper()
	port, err := freeport.Find()
	if err != nil {
		d.Fatal(err)
	}
	return port
}

func loopbackPort(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// start runs a slot in one of the releases.
func (d *mixedDesk) start(name string, r release) {
	d.Helper()
	s := d.slots[name]
	var args []string
	switch s.role {
	case "publish":
		args = []string{"publish", "--redis", d.redis, "--publisher-id", name, "--publisher-port", strconv.Itoa(s.port)}
	case "export":
		args = []string{"export", "--redis", d.redis, "--metrics-port", strconv.Itoa(s.port)}
	case "monitor":
		targets := func(role string) string {
			var list []string
			for _, o := range d.slots {
				if o.role == role {
					list = append(list, loopbackPort(o.port))
				}
			}
			return strings.Join(list, ",")
		}
		args = []string{
			"monitor", "--data", d.data, "--monitor-port", strconv.Itoa(s.port), "--alertmanager-port", strconv.Itoa(s.second),
			"--exporter-targets", targets("export"), "--publisher-targets", targets("publish"), "--scrape-interval-sec", "2",
		}
	}
	s.cmd, s.runs = exec.Command(d.programs[r]), r
	s.cmd.Args = slices.Concat([]string{"harvest"}, args, s.more)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	fmt.Fprintf(s.log, "--- %s\n", r)
	if err := s.cmd.Start(); err != nil {
		d.Fatal(err)
	}
	address := loopbackPort(s.port)
	livetest.Eventually(d.T, time.Minute, func() error {
		_, err := d.get(address, "/-/healthy")
		return err
	})
}

// replace ends what runs in a slot and starts another release there.
func (d *mixedDesk) replace(name string, r release, how syscall.Signal) {
	d.Helper()
	s := d.slots[name]
	if err := s.cmd.Process.Signal(how); err != nil {
		d.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil && how == syscall.SIGTERM {
		d.Errorf("%s (%s) that was told to stop: %v", name, s.runs, err)
	}
	d.start(name, r)
}

func (d *mixedDesk) get(address, path string) (string, error) {
	resp, err := d.client.Get("http://" + address + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s%s: %s", address, path, resp.Status)
	}
	return string(text), err
}

// move brings one part to another release, beside whatever the others are.
func (d *mixedDesk) move(part string, r release, how syscall.Signal) {
	d.Helper()
	switch part {
	case "publish":
		for _, name := range []string{"publisher-1", "publisher-2"} {
			d.replace(name, r, how)
			since, err := d.rdb.Time(d.Context()).Result()
			if err != nil {
				d.Fatal(err)
			}
			livetest.Eventually(d.T, time.Minute, func() error { // both give signs of life from now on, and one of them writes
				lease, err := d.rdb.HGetAll(context.Background(), "quantum:harvest:lease").Result()
				if err != nil || !(heard(lease["0:until_ms"], lease["0:ttl_ms"], since) && memberHeard(lease, "publisher-1", since) && memberHeard(lease, "publisher-2", since)) {
					return fmt.Errorf("the lease key: %v, %v", lease, err)
				}
				return nil
			})
		}
	case "export":
		d.replace("exporter-1", r, how)
		d.replace("exporter-2", r, how)
	case "monitor":
		d.replace("monitor", r, how)
	}
}

// heard tells whether the holder of a lease or a member gave a sign of life after a time of the server.
func heard(until, ttl string, since time.Time) bool {
	u, err := strconv.ParseInt(until, 10, 64)
	t, err2 := strconv.ParseInt(ttl, 10, 64)
	return err == nil && err2 == nil && u-t > since.UnixMilli()
}

// memberHeard does for a publisher, whichever process of it: one that was killed stays a member until its time is up.
func memberHeard(lease map[string]string, publisher string, since time.Time) bool {
	for field, text := range lease {
		until, ttl, _ := strings.Cut(text, " ")
		if strings.HasPrefix(field, "member:"+publisher+"#") && heard(until, ttl, since) {
			return true
		}
	}
	return false
}

// watchLease notes when the lease changes hands.
func (d *mixedDesk) watchLease(ctx context.Context) {
	last := ""
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		fence, err := d.rdb.HGet(ctx, "quantum:harvest:lease", "0:fence").Result()
		if err != nil || fence == last {
			continue
		}
		if last != "" {
			d.mu.Lock()
			d.taken = append(d.taken, time.Now())
			d.mu.Unlock()
		}
		last = fence
	}
}

// takenSince is how often the lease changed hands.
func (d *mixedDesk) takenSince(begin time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.taken) - sort.Search(len(d.taken), func(i int) bool { return !d.taken[i].Before(begin) })
}

// watchPages scrapes both exporters: one of them answers at any time, and whichever does shows every symbol whole.
func (d *mixedDesk) watchPages(ctx context.Context) {
	for tick := time.NewTicker(250 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		answered := false
		for _, name := range []string{"exporter-1", "exporter-2"} {
			page, err := d.get(loopbackPort(d.slots[name].port), "/metrics")
			if err != nil {
				continue
			}
			answered = true
			for _, sym := range d.symbols {
				for _, want := range []string{"quantum_harvest_kill_score{symbol=%q} ", "quantum_harvest_last_update_epoch{symbol=%q} ", "quantum_harvest_proposal_bad_fields{symbol=%q} 0\n", "quantum_harvest_revision{symbol=%q} "} {
					if text := fmt.Sprintf(want, sym); !strings.Contains(page, text) {
						d.fault("a page of an exporter lacks %s", strings.TrimSpace(text))
					}
				}
			}
		}
		d.mu.Lock()
		d.pages++
		d.mu.Unlock()
		if !answered && ctx.Err() == nil {
			d.fault("no exporter answered")
		}
	}
}

// watchAlerts looks at what fires. In this desk the kill score may, because the market is what it is; and that the lease flaps is
// true when it changed hands three times within the window of that rule: an upgrade makes it do so twice, this desk sees one
// after the other.
func (d *mixedDesk) watchAlerts(ctx context.Context) {
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		text, err := d.get(loopbackPort(d.slots["monitor"].port), "/api/v1/query?query="+url.QueryEscape(`ALERTS{alertstate="firing"}`))
		if err != nil {
			continue // it is being replaced
		}
		var reply struct {
			Data struct {
				Result []struct {
					Metric map[string]string `json:"metric"`
				} `json:"result"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(text), &reply); err != nil {
			d.fault("ALERTS: %v", err)
			continue
		}
		for _, r := range reply.Data.Result {
			switch name := r.Metric["alertname"]; {
			case strings.Contains(name, "KillScore"), strings.Contains(name, "Watchdog"):
			case name == "QuantumHarvestLeaseFlapping" && d.takenSince(time.Now().Add(-150*time.Second)) >= 3: // 125 s, a scrape and a load
			default:
				d.fault("%s fires: %v", name, r.Metric)
			}
		}
	}
}

// walk is a way that exchanges every part, upwards and downwards, beside every combination of the releases of the others, and
// ends where it began: each edge of the cube of three parts once in each direction.
func walk(parts int) []int {
	taken := make([][]bool, 1<<parts)
	for i := range taken {
		taken[i] = make([]bool, parts)
	}
	var way []int
	var from func(state int)
	from = func(state int) {
		for part := range parts {
			if !taken[state][part] {
				taken[state][part] = true
				from(state ^ 1<<part)
				way = append(way, part)
			}
		}
	}
	from(0)
	slices.Reverse(way)
	return way
}

func TestTheWalkMeetsEveryCombination(t *testing.T) {
	way, state := walk(3), 0
	met := map[[2]int]bool{}
	for _, part := range way {
		met[[2]int{state, part}] = true
		state ^= 1 << part
	}
	if len(way) != 24 || len(met) != 24 || state != 0 {
		t.Errorf("%d exchanges, %d different ones, the end is at %d", len(way), len(met), state)
	}
}

// Two releases of the program as processes on a real redis-server: every part is upgraded and taken back in every order.
func TestReleasesSideBySide(t *testing.T) {
	if os.Getenv("HARVEST_LONG") == "" {
		t.Skip("a long suite: make long, or HARVEST_LONG=1")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	srv := realserver.Redis(t)
	d := &mixedDesk{
		T: t, programs: [2]string{previousHarvest(t), self}, redis: srv.URL(), data: filepath.Join(t.TempDir(), "data"),
		symbols: []string{"BTCUSDT", "ETHUSDT", "SOLUSDT"}, slots: map[string]*slot{}, client: &http.Client{Timeout: 5 * time.Second},
	}
	d.rdb = redis.NewClient(&redis.Options{Addr: srv.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = d.rdb.Close() })
	for name, role := range map[string]string{
		"publisher-1": "publish", "publisher-2": "publish", "exporter-1": "export", "exporter-2": "export", "monitor": "monitor",
	} {
		d.slots[name] = &slot{role: role, port: d.port(), second: d.port(), log: &livetest.Buffer{}}
	}
	alerts, deadMan := monitortest.NewReceiver(t, ""), monitortest.NewReceiver(t, "")
	d.slots["monitor"].more = []string{"--notify-webhook-url", alerts.URL(), "--notify-watchdog-url", deadMan.URL()}
	t.Cleanup(func() {
		for name, s := range d.slots {
			if s.cmd != nil && s.cmd.ProcessState == nil {
				_ = s.cmd.Process.Kill()
				_ = s.cmd.Wait()
			}
			if t.Failed() {
				t.Logf("log of %s:\n%s", name, s.log)
			}
		}
	})
	seededRedis(t, d.rdb, d.symbols...)
	for _, name := range []string{"publisher-1", "publisher-2"} {
		d.start(name, previous)
	}
	looks := map[string]*onlooker{}
	episodes := map[string]string{}
	for _, sym := range d.symbols {
		looks[sym] = watchProposal(t, d.rdb, sym)
		looks[sym].await(t)
		episodes[sym] = d.rdb.HGet(t.Context(), "quantum:harvest:proposal:"+sym, "episode").Val()
	}
	for _, name := range []string{"exporter-1", "exporter-2", "monitor"} {
		d.start(name, previous)
	}
	watching, stop := context.WithCancel(t.Context())
	var watchers sync.WaitGroup
	t.Cleanup(func() { stop(); watchers.Wait() })
	watchers.Go(func() { d.watchPages(watching) })
	watchers.Go(func() { d.watchAlerts(watching) })
	watchers.Go(func() { d.watchLease(watching) })

	parts := []string{"publish", "export", "monitor"}
	runs := [3]release{}
	times := [3]int{}
	upgrades := 0 // of the publishers
	exchange := func(part int) {
		if parts[part] == "publish" {
			upgrades++
		}
		how := syscall.SIGTERM
		if times[part]++; times[part]%2 == 0 { // every other one has no time for its goodbyes
			how = syscall.SIGKILL
		}
		runs[part] = 1 - runs[part]
		t.Logf("%s becomes %s (%v); now %v", parts[part], runs[part], how, runs)
		d.move(parts[part], runs[part], how)
		for _, sym := range d.symbols {
			looks[sym].await(t)
			if e := d.rdb.HGet(t.Context(), "quantum:harvest:proposal:"+sym, "episode").Val(); e != episodes[sym] {
				t.Errorf("%s: episode %s became %s", sym, episodes[sym], e)
			}
		}
	}
	for _, part := range walk(len(parts)) {
		exchange(part)
	}
	for part := range parts { // and at last everything is of this release
		exchange(part)
	}
	for _, sym := range d.symbols {
		o := looks[sym]
		o.mu.Lock()
		if o.longest > 12*time.Second {
			t.Errorf("%s was without a heartbeat for %v", sym, o.longest)
		}
		o.mu.Unlock()
		o.check(t)
	}
	if n := d.takenSince(time.Time{}); n > 2*upgrades {
		t.Errorf("the lease changed hands %d times in %d upgrades of two publishers", n, upgrades)
	} else {
		t.Logf("the lease changed hands %d times in %d upgrades of two publishers", n, upgrades)
	}
	d.prove()
	stop()
	watchers.Wait()
	for _, f := range d.faults {
		t.Error(f)
	}
	t.Logf("%d looks at the pages of the exporters", d.pages)
	for pattern, want := range map[string]bool{"token": true, "*.damaged-*": false} {
		if found, _ := filepath.Glob(filepath.Join(d.data, "monitor", pattern)); (len(found) > 0) != want {
			t.Errorf("%s in the folder of the monitor: %v", pattern, found)
		}
	}
}

// prove runs the proof of this release against the desk until it holds: what was exchanged a moment ago has no past yet.
func (d *mixedDesk) prove() {
	d.Helper()
	out := d.TempDir()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		cmd := exec.Command(d.programs[current])
		cmd.Args = []string{
			"harvest", "proof", "--redis", d.redis, "--exporter-targets", loopbackPort(d.slots["exporter-1"].port),
			"--publisher-targets", loopbackPort(d.slots["publisher-1"].port) + "," + loopbackPort(d.slots["publisher-2"].port),
			"--prometheus-url", "http://" + loopbackPort(d.slots["monitor"].port), "--alertmanager-url", "http://" + loopbackPort(d.slots["monitor"].second),
			"--monitor-token-file", filepath.Join(d.data, "monitor", "token"), "--scrape-interval-sec", "2", "--window-sec", "10", "--out", out,
		}
		text, err := cmd.CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().Before(deadline) {
			continue
		}
		raw, _ := os.ReadFile(filepath.Join(out, "proof.json"))
		var pack proof.Pack
		_ = json.Unmarshal(raw, &pack)
		for _, c := range pack.Checks {
			if !c.Passed {
				d.Errorf("the proof: %s: %v", c.Name, c.Failures)
			}
		}
		if len(pack.Checks) == 0 {
			d.Errorf("the proof: %v: %s", err, text)
		}
		return
	}
}
