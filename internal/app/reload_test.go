//go:build unix

package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/monitor/monitortest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
)

// says waits until the log of a process has a text that many times.
func says(t testing.TB, p *process, text string, times int) {
	t.Helper()
	livetest.Eventually(t, patient, func() error {
		if got := strings.Count(p.log.String(), text); got < times {
			return fmt.Errorf("the log says %q %d times, want %d", text, got, times)
		}
		return nil
	})
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace puts a file in the place of another in one step.
func replace(t testing.TB, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func hup(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// shows waits for a line of a page.
func shows(t testing.TB, page, line string) {
	t.Helper()
	livetest.Eventually(t, patient, func() error {
		if _, body := get(t, page+"/metrics"); !strings.Contains(body, "\n"+line+"\n") {
			return fmt.Errorf("the page does not show %q", line)
		}
		return nil
	})
}

const goodNow = "quantum_harvest_config_last_reload_successful 1"

func TestReload(t *testing.T) {
	srv := realserver.Redis(t)
	c := dial(t, srv.Addr())
	symbols := []position.Symbol{"BTCUSDT", "ETHUSDT", "SOLUSDT"}
	seed(t, c, symbols...)
	trade(t, c, symbols...)
	file := filepath.Join(t.TempDir(), "harvest.env")
	const base = "SYMBOLS=BTCUSDT,ETHUSDT\nMAX_PUBLISH_AGE_SEC=3600\nCHANGE_EPS_PCT=1\n"
	write(t, file, base)
	p := start(t, config.Publish, app.Publish, "--redis", srv.URL(), "--env-file="+file)
	page := pageOf(t, p)
	begin := fresh(t, c, "BTCUSDT", time.Time{})
	fresh(t, c, "ETHUSDT", time.Time{})

	beats := watchBeats(t, srv.Addr(), "BTCUSDT")

	t.Log("a symbol is added, by a rename")
	replace(t, file, base+"SYMBOLS=BTCUSDT,ETHUSDT\n") // the same, said twice
	time.Sleep(100 * time.Millisecond)
	replace(t, file, strings.Replace(base, "ETHUSDT", "ETHUSDT,SOLUSDT", 1))
	fresh(t, c, "SOLUSDT", time.Time{})
	says(t, p, "settings reloaded", 1)

	t.Log("a symbol is removed")
	replace(t, file, strings.Replace(base, "BTCUSDT,ETHUSDT", "BTCUSDT,SOLUSDT", 1))
	livetest.Eventually(t, patient, func() error {
		if is, err := c.SIsMember(context.Background(), "quantum:harvest:expected", "ETHUSDT").Result(); err != nil || is {
			return fmt.Errorf("ETHUSDT is still expected (%v)", err)
		}
		return nil
	})
	livetest.Eventually(t, patient, func() error {
		was, err := proposal(c, "ETHUSDT")
		if err != nil {
			return fmt.Errorf("its hash is gone: %w", err)
		}
		time.Sleep(2500 * time.Millisecond)
		if is, err := proposal(c, "ETHUSDT"); err != nil || !is.LastUpdate.Equal(was.LastUpdate) {
			return fmt.Errorf("ETHUSDT is still beaten (%v)", err)
		}
		return nil
	})
	shows(t, page, goodNow)

	t.Log("a bad file changes nothing")
	reloads := strings.Count(p.log.String(), "settings reloaded")
	replace(t, file, base+"MARKET_STALE_SEC=soon\nPOSITION_STALE_SEC=-1\nMARKET_STALE=3\n")
	says(t, p, "the old settings stay in force", 1)
	for _, problem := range []string{"MARKET_STALE_SEC (--market-stale-sec) is", "POSITION_STALE_SEC (--position-stale-sec) is", "unknown setting MARKET_STALE"} {
		says(t, p, problem, 1)
	}
	shows(t, page, "quantum_harvest_config_last_reload_successful 0")

	t.Log("nor does one that is gone")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	says(t, p, "the old settings stay in force", 2)
	if got := strings.Count(p.log.String(), "settings reloaded"); got != reloads {
		t.Errorf("a bad file was put in force")
	}

	t.Log("a link that leads elsewhere, as in a ConfigMap: a threshold shows in Redis")
	dir := filepath.Dir(file)
	for name, text := range map[string]string{"1": "SYMBOLS=BTCUSDT\nMAX_PUBLISH_AGE_SEC=3600\nCHANGE_EPS_PCT=1\n", "2": "SYMBOLS=BTCUSDT\nMAX_PUBLISH_AGE_SEC=1\nCHANGE_EPS_PCT=1\nPUBLISHER_PORT=1\nLOG_LEVEL=DEBUG\n"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "harvest.env"), text)
	}
	link := func(name string) {
		if err := os.Symlink(name, filepath.Join(dir, "data.new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "data.new"), filepath.Join(dir, "data")); err != nil {
			t.Fatal(err)
		}
	}
	link("1")
	if err := os.Symlink(filepath.Join("data", "harvest.env"), file); err != nil {
		t.Fatal(err)
	}
	says(t, p, "settings reloaded", reloads+1)
	shows(t, page, goodNow)
	was := fresh(t, c, "BTCUSDT", time.Now())
	time.Sleep(3 * time.Second)
	if is := fresh(t, c, "BTCUSDT", time.Now()); is.Revision > was.Revision+1 {
		t.Errorf("content is published %d times in 3 s although an hour may pass", is.Revision-was.Revision)
	}
	link("2")
	says(t, p, "settings reloaded", reloads+2)
	was = fresh(t, c, "BTCUSDT", time.Now())
	livetest.Eventually(t, patient, func() error {
		if is, err := proposal(c, "BTCUSDT"); err != nil || is.Revision < was.Revision+3 {
			return fmt.Errorf("MAX_PUBLISH_AGE_SEC=1 does not show (%v)", err)
		}
		return nil
	})

	t.Log("fifty reloads, some at the same time")
	var wg sync.WaitGroup
	for i := range 50 {
		replace(t, filepath.Join(dir, "2", "harvest.env"), fmt.Sprintf("SYMBOLS=BTCUSDT\nMAX_PUBLISH_AGE_SEC=%d\n", 5+i%2))
		for range 3 {
			wg.Go(func() { hup(t) })
		}
		time.Sleep(60 * time.Millisecond)
	}
	wg.Wait()
	says(t, p, "settings reloaded", reloads+40)
	if end := fresh(t, c, "BTCUSDT", time.Now()); end.Episode != begin.Episode {
		t.Errorf("the episode changed from %s to %s", begin.Episode, end.Episode)
	}
	// A beat a second, and what a busy machine may be late.
	if gap := beats(); gap > 5*time.Second {
		t.Errorf("the heartbeat stood still for %s", gap)
	}
}

// watchBeats looks at the heartbeat of a symbol and gives the longest time for which it stood still.
func watchBeats(t *testing.T, addr string, sym position.Symbol) (longest func() time.Duration) {
	c := redis.NewClient(&redis.Options{Addr: addr})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	var worst time.Duration
	go func() {
		defer close(done)
		defer c.Close()
		var last time.Time
		moved := time.Now()
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			p, err := proposal(c, sym)
			if err == nil && !p.LastUpdate.Equal(last) {
				last, moved = p.LastUpdate, time.Now()
			}
			worst = max(worst, time.Since(moved))
		}
	}()
	t.Cleanup(func() { stop(); <-done })
	return func() time.Duration {
		stop()
		<-done
		t.Logf("the heartbeat stood still for %s at most", worst)
		return worst
	}
}

// Both read the same file, and the holder of the lease may see its change first or last.
func TestAStandbyReloadsWithItsHolder(t *testing.T) {
	srv := realserver.Redis(t)
	c := dial(t, srv.Addr())
	symbols := []position.Symbol{"BTCUSDT", "ETHUSDT"}
	seed(t, c, symbols...)
	trade(t, c, symbols...)
	file := filepath.Join(t.TempDir(), "harvest.env")
	write(t, file, "SYMBOLS=BTCUSDT\n")
	var both []*process
	for i := range 2 {
		both = append(both, start(t, config.Publish, app.Publish, "--redis", srv.URL(), "--env-file="+file, fmt.Sprintf("--publisher-id=p%d", i)))
	}
	fresh(t, c, "BTCUSDT", time.Time{})
	for i, list := range []string{"BTCUSDT,ETHUSDT", "BTCUSDT", "BTCUSDT,ETHUSDT"} {
		beats := watchBeats(t, srv.Addr(), "BTCUSDT")
		replace(t, file, "SYMBOLS="+list+"\n")
		for _, p := range both {
			says(t, p, "settings reloaded", i+1)
		}
		fresh(t, c, "BTCUSDT", time.Now().Add(2*time.Second))
		// A lease that had to run out first would cost 6 s and more.
		if gap := beats(); gap > 5*time.Second {
			t.Errorf("reload %d: the heartbeat stood still for %s", i, gap)
		}
	}
	fresh(t, c, "ETHUSDT", time.Now())
}

func TestTheDebugLogIsASignalAway(t *testing.T) {
	srv := realserver.Redis(t)
	file := filepath.Join(t.TempDir(), "harvest.env")
	write(t, file, "LOG_LEVEL=WARNING\n")
	p := start(t, config.Export, app.Export, "--redis", srv.URL(), "--metrics-port=0", "--env-file="+file)
	time.Sleep(2 * time.Second) // it logs nothing of its start
	for _, step := range []string{"to=DEBUG", "to=WARN"} {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		says(t, p, `log level changed by signal" `+step, 1)
	}
	write(t, file, "LOG_LEVEL=DEBUG\n")
	says(t, p, "settings reloaded", 1)
	says(t, p, "setting changed", 1)
}

// Who looks inside after a reload sees what holds now, and still no secret.
func TestTheDebugPageFollowsAReload(t *testing.T) {
	srv := realserver.Redis(t)
	file := filepath.Join(t.TempDir(), "harvest.env")
	write(t, file, "SYMBOLS=BTCUSDT\n")
	port := realserver.FreePort(t)
	p := start(t, config.Export, app.Export, "--redis", srv.URL(), "--metrics-port=0", "--env-file="+file, fmt.Sprintf("--debug-port=%d", port))
	shown := func(symbols string) {
		t.Helper()
		livetest.Eventually(t, patient, func() error {
			_, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/debug/vars", port))
			var vars struct{ Settings []config.Value }
			if err := json.Unmarshal([]byte(body), &vars); err != nil {
				return err
			}
			for _, v := range vars.Settings {
				if v.Name == "SYMBOLS" && v.Value != symbols {
					return fmt.Errorf("SYMBOLS is shown as %q, want %q", v.Value, symbols)
				}
			}
			if strings.Contains(body, srv.URL()) {
				t.Error("the URL of Redis is shown")
			}
			return nil
		})
	}
	shown("BTCUSDT")
	write(t, file, "SYMBOLS=BTCUSDT,ETHUSDT\n")
	says(t, p, "settings reloaded", 1)
	shown("BTCUSDT,ETHUSDT")
	write(t, file, "SYMBOLS=SOLUSDT\nMETRICS_PROT=1\n")
	says(t, p, "the old settings stay in force", 1)
	shown("BTCUSDT,ETHUSDT")
}

// A monitor takes thresholds, targets and receivers over from its env file; a bad file keeps all that it has.
func TestReloadOfTheMonitor(t *testing.T) {
	hook := monitortest.NewReceiver(t, "")
	file := filepath.Join(t.TempDir(), "monitor.env")
	const base = "MONITOR_SCRAPE_INTERVAL_SEC=1\nMONITOR_EXPORTER_TARGETS=127.0.0.1:1\nMONITOR_PUBLISHER_TARGETS=127.0.0.1:1\n"
	write(t, file, base)
	p := start(t, config.Monitor, app.Monitor, "--env-file="+file)
	says(t, p, "monitor started", 1)
	at := regexp.MustCompile(`prometheus=(http://\S+)`).FindStringSubmatch(p.log.String())[1]
	am := regexp.MustCompile(`alertmanager=(http://\S+)`).FindStringSubmatch(p.log.String())[1]
	holds := func(page, text string) {
		t.Helper()
		livetest.Eventually(t, patient, func() error {
			if _, body := get(t, page); !strings.Contains(body, text) {
				return fmt.Errorf("%s does not show %q", page, text)
			}
			return nil
		})
	}
	replace(t, file, strings.Replace(base, "PUBLISHER_TARGETS=127.0.0.1:1", "PUBLISHER_TARGETS=127.0.0.1:2", 1)+
		"ALERT_CLOCK_SKEW_SEC=47\nNOTIFY_WATCHDOG_URL="+hook.URL()+"/sesame\n")
	says(t, p, "wait_for_restart=0", 1)
	holds(at+"/api/v1/rules", `\u003e 47`)
	holds(at+"/api/v1/targets", "http://127.0.0.1:2/metrics")
	holds(am+"/api/v2/receivers", "dead-man")
	hook.Told(patient, "the dead-man switch", func(monitortest.Message) bool { return true })
	shows(t, at, goodNow)

	bad := filepath.Join(t.TempDir(), "bad.yml")
	write(t, bad, "groups: [{name: x, rules: [{alert: A, expr: 'sum('}]}]\n")
	replace(t, file, base+"ALERT_CLOCK_SKEW_SEC=59\nMONITOR_RULE_FILES="+bad+"\n")
	says(t, p, "the old ones stay", 1)
	says(t, p, bad, 1)
	for _, metric := range []string{"quantum_harvest", "prometheus"} {
		shows(t, at, metric+"_config_last_reload_successful 0")
	}
	holds(at+"/api/v1/rules", `\u003e 47`)
	holds(at+"/api/v1/targets", "http://127.0.0.1:2/metrics")
	holds(am+"/api/v2/receivers", "dead-man")
	if strings.Contains(p.log.String(), "sesame") {
		t.Error("the log shows a secret")
	}
	hup(t)
	says(t, p, "the old ones stay", 2)
}

// A pipe in place of the file has no content that could be read, and whoever opens it waits.
func TestAPipeInPlaceOfTheEnvFile(t *testing.T) {
	srv := realserver.Redis(t)
	file := filepath.Join(t.TempDir(), "harvest.env")
	write(t, file, "SYMBOLS=BTCUSDT\n")
	p := start(t, config.Export, app.Export, "--redis", srv.URL(), "--metrics-port=0", "--env-file="+file)
	if err := syscall.Mkfifo(file+".pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".pipe", file); err != nil {
		t.Fatal(err)
	}
	says(t, p, `harvest.env\": is a pipe, a socket or a device; put a regular file in its place`, 1)
	hup(t)
	replace(t, file, "SYMBOLS=ETHUSDT\n")
	says(t, p, "setting changed", 1)
	says(t, p, "settings reloaded", 1)
}

// What failed although nothing is written wrong is tried again, without a change of the env file and without a word each time.
func TestAReloadThatFailedForAPassingReasonIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	file, rules := filepath.Join(dir, "monitor.env"), filepath.Join(dir, "rules.yml")
	const rule = "groups: [{name: x, rules: [{alert: Mine, expr: vector(%d)}]}]\n"
	write(t, rules, fmt.Sprintf(rule, 1))
	write(t, file, "MONITOR_SCRAPE_INTERVAL_SEC=1\nMONITOR_RULE_FILES="+rules+"\n")
	p := start(t, config.Monitor, app.Monitor, "--env-file="+file)
	says(t, p, "monitor started", 1)
	at := regexp.MustCompile(`prometheus=(http://\S+)`).FindStringSubmatch(p.log.String())[1]
	if err := os.Remove(rules); err != nil {
		t.Fatal(err)
	}
	hup(t)
	says(t, p, "tried_again=true", 1)
	shows(t, at, "quantum_harvest_config_last_reload_successful 0")
	time.Sleep(4 * time.Second) // some tries
	write(t, rules, fmt.Sprintf(rule, 7))
	says(t, p, `msg="settings reloaded" by="another try"`, 1)
	shows(t, at, goodNow)
	if n := strings.Count(p.log.String(), "the old settings stay in force"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
	t.Log("who asks by a signal is answered, also where nothing has changed")
	if err := os.Remove(rules); err != nil {
		t.Fatal(err)
	}
	for n := 2; n <= 3; n++ {
		hup(t)
		says(t, p, "the old settings stay in force", n)
	}
	write(t, rules, "groups: [{name: x, rules: [{alert: Mine, expr: 'sum('}]}]\n")
	hup(t)
	says(t, p, "tried_again=false", 1)
}

// A reload right after a start waits for the alerts of before, and says so. To stop meanwhile is no error.
func TestAReloadThatWaitsAndAStop(t *testing.T) {
	for role, run := range map[config.Role]func(context.Context, app.Env) error{config.Monitor: app.Monitor, config.Up: app.Up} {
		t.Run(string(role), func(t *testing.T) {
			file, rules := filepath.Join(t.TempDir(), "a.env"), filepath.Join(t.TempDir(), "slow.yml")
			// A group is evaluated for the first time at any moment of its interval: of an hour, not while this test runs.
			write(t, rules, "groups:\n- name: slow\n  interval: 1h\n  rules:\n  - alert: Slow\n    expr: vector(0) > 1\n    for: 1h\n")
			base := "MONITOR_SCRAPE_INTERVAL_SEC=15\nMONITOR_RULE_FILES=" + rules + "\n"
			write(t, file, base)
			args := []string{"--env-file=" + file}
			if role == config.Up {
				args = append(args, "--feed=synthetic", "--monitor")
			}
			p := start(t, role, run, args...)
			says(t, p, "rometheus", 1)
			replace(t, file, base+"ALERT_CLOCK_SKEW_SEC=47\n")
			says(t, p, "waits until the alerts of before the start are restored", 1)
			says(t, p, "at_most=1m15s", 1)
			if err := p.end(); err != nil {
				t.Error(err)
			}
			log := p.log.String()
			if !strings.Contains(log, "the process stops before the new settings are in force") || strings.Contains(log, "level=ERROR") {
				t.Errorf("the log of the stop:\n%s", log)
			}
		})
	}
}

// One file of harvest up is for publisher and monitor alike.
func TestReloadOfUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "up.env")
	const base = "MONITOR_SCRAPE_INTERVAL_SEC=1\nMARKET_STALE_SEC=90\n"
	write(t, file, base)
	p := start(t, config.Up, app.Up, "--feed=synthetic", "--monitor", "--env-file="+file)
	at, _ := monitorURLs(t, p)
	replace(t, file, base+"ALERT_CLOCK_SKEW_SEC=47\nCHANGE_EPS_PCT=0.5\n")
	says(t, p, "changed=2 wait_for_restart=0", 1)
	if _, body := get(t, at+"/api/v1/rules"); !strings.Contains(body, `\u003e 47`) {
		t.Error("the new threshold is not in force")
	}
	replace(t, file, base+"MONITOR_RULE_FILES=/nonexistent/rules.yml\nCHANGE_EPS_PCT=0.7\n")
	says(t, p, "the old settings stay in force", 1)
}
