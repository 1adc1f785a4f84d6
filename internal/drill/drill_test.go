package drill

import (
	"context"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/rules"
	"quantumharvest/internal/store"
)

func TestTheTableIsWhole(t *testing.T) {
	list := numbers()
	for n := 1; n <= 24; n++ {
		if !slices.Contains(list, n) {
			t.Errorf("row %d of the fault table has no drill", n)
		}
	}
	known := map[string]bool{}
	for _, a := range rules.Alerts() {
		known[a.Name] = true
	}
	names := map[string]bool{}
	for _, f := range faults() {
		if names[f.name] {
			t.Errorf("two faults are called %q", f.name)
		}
		names[f.name] = true
		if f.inject == nil || (len(f.seen) == 0 && f.hold == 0) {
			t.Errorf("%d %s: nothing is done, or not looked at for long enough", f.number, f.name)
		}
		for _, alert := range f.overAfter {
			if !known[alert] {
				t.Errorf("%d %s must be over for %s, which is no alert", f.number, f.name, alert)
			}
		}
		for _, s := range f.seen {
			for _, alert := range s.by {
				if !s.deadMan && !known[alert] {
					t.Errorf("%d %s is to be seen by %s, which is no alert", f.number, f.name, alert)
				}
			}
		}
	}
}

func newTestObserver() *observer {
	return &observer{
		s: &stand{}, alerts: map[alertKey]string{}, began: map[alertKey]map[string]time.Time{}, fired: map[alertKey]time.Time{}, values: map[string]map[string]bool{},
		hashes: map[string]map[string]string{}, wholeAt: map[string]time.Time{}, revisions: map[string][2]int64{},
		forgiving: map[string]bool{}, blindFor: map[string]bool{}, claims: map[string][2]string{}, violations: map[string]bool{},
	}
}

// hash is a whole proposal as Redis has it.
func hash(change map[string]string) map[string]string {
	h := map[string]string{}
	for _, name := range store.FieldNames() {
		h[name] = "1"
	}
	h["position_side"], h["position_source"], h["market_source"] = "LONG", "redis_hash", "redis"
	h["last_update_epoch"] = itoa(time.Now().Unix())
	for k, v := range change {
		if v == "" {
			delete(h, k)
		} else {
			h[k] = v
		}
	}
	return h
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func TestTheObserverSeesWhatMustNeverBe(t *testing.T) {
	for name, c := range map[string]struct {
		hashes []map[string]string
		says   string
	}{
		"in order":            {[]map[string]string{hash(nil), hash(map[string]string{"revision": "2"})}, ""},
		"half a hash":         {[]map[string]string{hash(map[string]string{"sigma": ""})}, "fields"},
		"treated as short":    {[]map[string]string{hash(map[string]string{"position_side": "SHORT"})}, "SHORT"},
		"made-up position":    {[]map[string]string{hash(map[string]string{"position_source": "demo"})}, "demo"},
		"revision goes back":  {[]map[string]string{hash(map[string]string{"revision": "9"}), hash(map[string]string{"revision": "8"})}, "went back"},
		"fence goes back":     {[]map[string]string{hash(map[string]string{"fence": "9"}), hash(map[string]string{"fence": "8"})}, "went back"},
		"heartbeat ahead":     {[]map[string]string{hash(map[string]string{"last_update_epoch": "99999999999"})}, "ahead"},
		"heartbeat stands":    {[]map[string]string{hash(map[string]string{"last_update_epoch": "1000"})}, "stood still"},
		"gone and back again": {[]map[string]string{hash(nil), nil, hash(nil)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := newTestObserver()
			for _, h := range c.hashes {
				o.note(faulted, h)
			}
			text := strings.Join(o.problems(), "\n")
			if (c.says == "") != (text == "") || !strings.Contains(text, c.says) {
				t.Errorf("it says %q", text)
			}
		})
	}
}

func TestAPageIsHeldAgainstRedis(t *testing.T) {
	const page = "quantum_harvest_up 1\nquantum_harvest_kill_score{symbol=\"BTCUSDT\"} 0.5\n"
	read := map[string]bool{"BTCUSDT": true}
	for name, c := range map[string]struct {
		page string
		read map[string]bool
		held string
		says string
	}{
		"what Redis holds":            {page, read, "0.50", ""},
		"what it never held":          {page, read, "0.6", "never held"},
		"Redis was out of our reach":  {page, nil, "0.6", ""},
		"a symbol that nobody holds":  {strings.ReplaceAll(page, "BTC", "XRP"), read, "0.5", "nobody holds"},
		"symbols while Redis is away": {strings.ReplaceAll(page, "up 1", "up 0"), read, "0.5", "Redis is away"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newTestObserver()
			o.note("BTCUSDT", hash(map[string]string{"kill_score": c.held}))
			o.judge(c.page, c.read)
			text := strings.Join(o.problems(), "\n")
			if (c.says == "") != (text == "") || !strings.Contains(text, c.says) {
				t.Errorf("it says %q", text)
			}
		})
	}
}

func TestAClaimOfTheExporterIsExcusedOnceRedisHeldIt(t *testing.T) {
	o := newTestObserver()
	o.claims["x"] = [2]string{faulted, "kill_score=0.5"}
	if len(o.problems()) != 1 {
		t.Error("a made-up value is not seen")
	}
	o.note(faulted, hash(map[string]string{"kill_score": "0.50"}))
	if p := o.problems(); len(p) != 0 {
		t.Errorf("a value that Redis held: %v", p)
	}
}

func TestAlertsAreTimedFromTheMark(t *testing.T) {
	o := newTestObserver()
	key := alertKey{"QuantumHarvestStoreDown", ""}
	o.began[key] = map[string]time.Time{"firing": time.Now()}
	o.alerts[key] = "firing"
	o.alerts[alertKey{"Watchdog", ""}] = "firing"
	if at, which := o.since([]string{"QuantumHarvestStoreDown"}, "firing"); at.IsZero() || which != key {
		t.Error("a firing alert is not seen")
	}
	if len(o.firing(true)) != 1 || o.quiet() == nil {
		t.Error("it is called quiet")
	}
	o.mark()
	delete(o.alerts, key)
	if at, _ := o.since([]string{"QuantumHarvestStoreDown"}, "firing"); !at.IsZero() || o.quiet() != nil {
		t.Error("what was before the mark still counts")
	}
	clear(o.alerts)
	if o.quiet() == nil {
		t.Error("a Prometheus without its watchdog is called quiet")
	}
}

// A page about what is over already fails the drill that says so, whether it fired again or was only told.
func TestWhatIsToldAfterTheRepair(t *testing.T) {
	lost := alertKey{"QuantumHarvestHeartbeatLost", faulted}
	repaired := time.Now()
	for name, c := range map[string]struct {
		fired, told time.Time
		overAfter   []string
		failures    int
	}{
		"neither":               {overAfter: []string{lost.name}},
		"fired before":          {fired: repaired.Add(-time.Second), overAfter: []string{lost.name}},
		"fires after":           {fired: repaired.Add(time.Second), overAfter: []string{lost.name}, failures: 1},
		"told as well":          {fired: repaired.Add(time.Second), told: repaired.Add(2 * time.Second), overAfter: []string{lost.name}, failures: 2},
		"of no matter to it":    {fired: repaired.Add(time.Second), told: repaired.Add(2 * time.Second)},
		"told during the fault": {told: repaired.Add(-time.Second), overAfter: []string{lost.name}, failures: 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := &drill{s: &stand{receiver: &receiver{told: map[alertKey]time.Time{}}}, o: newTestObserver(), f: fault{overAfter: c.overAfter}}
			d.injected = repaired.Add(-time.Minute)
			if !c.fired.IsZero() {
				d.o.fired[lost] = c.fired
			}
			if !c.told.IsZero() {
				d.s.receiver.told[lost] = c.told
			}
			var r Result
			d.judge(&r, repaired, func(string, ...any) { r.Failures = append(r.Failures, "failed") })
			if len(r.Failures) != c.failures {
				t.Errorf("%d failures, not %d", len(r.Failures), c.failures)
			}
		})
	}
}

func TestTheReportCountsRows(t *testing.T) {
	r := Report{TimeScale: 5, Results: []Result{
		{Number: 3, Fault: "a", Sights: []Sight{{By: "X", BoundSec: 60, FiringSec: 4}}},
		{Number: 22, Fault: "b"},
		{Number: 22, Fault: "c", Failures: []string{"not seen"}},
	}}
	if passed, tried := r.Rows(); passed != 1 || tried != 2 {
		t.Errorf("%d of %d rows", passed, tried)
	}
	text := r.Table()
	for _, want := range []string{"| 3 | a | X | 60.0 | - | 20.0 |", "1 of 2 rows passed", "- 22 c: not seen"} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"no scale": {}, "too fast": {TimeScale: 6}, "no such row": {TimeScale: 1, Only: []int{25}},
	} {
		if _, err := Run(context.Background(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Run(context.Background(), Options{TimeScale: 1}); err == nil || !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("missing servers: %v", err)
	}
}

func TestTheProxyIsLateAndNotNarrow(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		c, err := server.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	p, err := newProxy(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	c, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.delay.Store(int64(100 * time.Millisecond))
	begin := time.Now()
	for range 5 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Errorf("an answer took %v", took)
	}
}

// A copy gets the environment that it is given, not that of the shell from which the drill was started.
func TestTheEnvironmentOfACopy(t *testing.T) {
	t.Setenv("KEY_PREFIX", "mine:")
	s := &stand{dir: t.TempDir(), parts: Parts{Environ: []string{"PATH=" + os.Getenv("PATH"), "LANG=C"}}}
	for name, c := range map[string]*child{
		"given":   newChild(s.dir, "given", "/bin/sh", []string{"sh", "-c", "env"}, s.environ("LOG_LEVEL=INFO")),
		"nothing": newChild(s.dir, "nothing", "/bin/sh", []string{"sh", "-c", "env"}, (&stand{}).environ("LANG=C")),
	} {
		if err := c.start(); err != nil {
			t.Fatal(err)
		}
		<-c.exited
		text, err := os.ReadFile(c.log)
		if err != nil || strings.Contains(string(text), "KEY_PREFIX") || !strings.Contains(string(text), "LANG=C") {
			t.Errorf("%s: %v:\n%s", name, err, text)
		}
	}
}

func TestAChildThatEndsByItselfIsTold(t *testing.T) {
	dir := t.TempDir()
	c := newChild(dir, "short", "/bin/sh", []string{"sh", "-c", "echo panic: boom; exit 3"}, nil)
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	<-c.exited
	if f := strings.Join(c.faults(), "\n"); !strings.Contains(f, "ended by itself") || !strings.Contains(f, "panic: boom") {
		t.Errorf("faults: %s", f)
	}
	long := newChild(dir, "long", "/bin/sh", []string{"sh", "-c", "sleep 60"}, nil)
	if err := long.start(); err != nil {
		t.Fatal(err)
	}
	long.kill()
	if long.cmd != nil || len(long.faults()) != 0 {
		t.Errorf("one that was killed on purpose: %v, %v", long.cmd, long.faults())
	}
	if _, err := os.Stat(long.log); err != nil {
		t.Error(err)
	}
}
