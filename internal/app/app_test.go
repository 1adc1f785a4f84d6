package app_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"quantumharvest/internal/app"
	"quantumharvest/internal/buildinfo"
	"quantumharvest/internal/config"
	"quantumharvest/internal/feed/feedtest"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// process is one role under test, started from settings as a user would give them.
type process struct {
	t    testing.TB
	out  livetest.Buffer
	log  livetest.Buffer
	stop context.CancelFunc
	done chan struct{}
	err  error
}

func start(t testing.TB, role config.Role, run func(context.Context, app.Env) error, args ...string) *process {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.Register(flags, role)
	// Every port is a free one, so that tests can run beside each other and beside a running desk.
	free := []string{"--log-level=DEBUG"}
	if role != config.Export {
		free = append(free, "--publisher-port=0")
	}
	if role == config.Monitor {
		free = []string{"--log-level=DEBUG", "--monitor-port=0", "--alertmanager-port=0"}
	}
	if role == config.Up {
		// The monitor is left out where it is not the subject.
		free = append(free, "--embedded-redis-port=0", "--metrics-port=0", "--monitor-port=0", "--alertmanager-port=0", "--monitor=false")
	}
	if slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--env-file") }) {
		free = free[1:] // the file is to say how much is logged
	}
	if err := flags.Parse(append(free, args...)); err != nil {
		t.Fatal(err)
	}
	c, _, again, err := config.LoadAgain(flags, role, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &process{t: t, stop: stop, done: make(chan struct{})}
	level := &slog.LevelVar{}
	level.Set(c.LogLevel)
	log := slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: level}))
	go func() {
		defer close(p.done)
		p.err = run(ctx, app.Env{Config: c, Build: buildinfo.Read(), Out: &p.out, Log: log, Settings: again, Level: level})
	}()
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("output:\n%s\nlog:\n%s", p.out.String(), tail(p.log.String(), 80))
		}
	})
	return p
}

// end stops the role and returns its error.
func (p *process) end() error {
	p.stop()
	<-p.done
	return p.err
}

// wait blocks until the role ends by itself.
func (p *process) wait(limit time.Duration) error {
	p.t.Helper()
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		p.t.Fatalf("still running after %s", limit)
		return nil
	}
}

func tail(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func dial(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	t.Cleanup(func() { c.Close() })
	return c
}

// seed puts candles and one position for each symbol into Redis, under the legacy keys.
func seed(t testing.TB, c redis.UniversalClient, symbols ...position.Symbol) {
	t.Helper()
	ctx := context.Background()
	pipe := c.Pipeline()
	for i, sym := range symbols {
		candles := feedtest.Candles(uint64(i+1), sym, 300)
		start := time.Now().Truncate(time.Minute).Add(-299 * time.Minute)
		key := "candles:" + string(sym) + ":1m"
		pipe.Del(ctx, key)
		for j, k := range candles {
			open := start.Add(time.Duration(j) * time.Minute).UnixMilli()
			pipe.ZAdd(ctx, key, redis.Z{
				Score:  float64(open),
				Member: fmt.Sprintf(`{"t":%d,"o":%v,"h":%v,"l":%v,"c":%v}`, open, k.Open, k.High, k.Low, k.Close),
			})
		}
		last := candles[len(candles)-1].Close
		pipe.Del(ctx, "quantum:state:positions:"+string(sym))
		pipe.HSet(ctx, "quantum:state:positions:"+string(sym),
			"symbol", string(sym), "side", "LONG", "entry_price", last*0.97, "current_price", last,
			"age_sec", 3600, "unrealized_pnl", last*0.03)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
}

// proposal reads one proposal and says why it is not whole.
func proposal(c *redis.Client, sym position.Symbol) (store.Proposal, error) {
	h, err := c.HGetAll(context.Background(), "quantum:harvest:proposal:"+string(sym)).Result()
	if err != nil {
		return store.Proposal{}, err
	}
	if len(h) == 0 {
		return store.Proposal{}, fmt.Errorf("no proposal of %s", sym)
	}
	p, problems := store.Decode(sym, h)
	if len(problems) > 0 {
		return p, fmt.Errorf("proposal of %s is not whole: %v", sym, problems)
	}
	return p, nil
}

// fresh waits until the proposal is whole and its heartbeat is newer than since.
func fresh(t testing.TB, c *redis.Client, sym position.Symbol, since time.Time) store.Proposal {
	t.Helper()
	var p store.Proposal
	livetest.Eventually(t, 30*time.Second, func() (err error) {
		if p, err = proposal(c, sym); err == nil && !p.LastUpdate.After(since) {
			err = fmt.Errorf("heartbeat of %s stands at %v", sym, p.LastUpdate)
		}
		return err
	})
	return p
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	http.DefaultClient.CloseIdleConnections()
	return resp.StatusCode, string(b)
}

var bannerURL = regexp.MustCompile(`exporter +(http://\S+)/metrics`)

func TestUpOnItsOwn(t *testing.T) {
	t.Parallel()
	p := start(t, config.Up, app.Up, "--feed=synthetic")
	var addr, exporter string
	livetest.Eventually(t, 30*time.Second, func() error {
		out := p.out.String()
		m := bannerURL.FindStringSubmatch(out)
		r := regexp.MustCompile(`redis +(\S+)  \(embedded\)`).FindStringSubmatch(out)
		if m == nil || r == nil {
			return fmt.Errorf("no banner yet: %q", out)
		}
		exporter, addr = m[1], r[1]
		return nil
	})
	if out := p.out.String(); !strings.Contains(out, "NOT REAL: market data is generated (synthetic), positions are made up (demo)") {
		t.Errorf("the banner does not say what is not real:\n%s", out)
	}
	c := dial(t, addr)
	before := fresh(t, c, "BTCUSDT", time.Time{})
	after := fresh(t, c, "BTCUSDT", before.LastUpdate)
	if after.MarketSource != "synthetic" || after.PositionSource != "demo" {
		t.Errorf("sources %q and %q are not labelled", after.MarketSource, after.PositionSource)
	}
	livetest.Eventually(t, 10*time.Second, func() error {
		_, body := get(t, exporter+"/metrics")
		for _, sym := range []string{"BTCUSDT", "ETHUSDT", "SOLUSDT"} {
			if !regexp.MustCompile(`(?m)^quantum_harvest_last_update_epoch\{symbol="` + sym + `"\} \d{10}$`).MatchString(body) {
				return fmt.Errorf("no plain decimal heartbeat of %s", sym)
			}
		}
		return nil
	})
	if _, page := get(t, exporter+"/"); !strings.Contains(page, "NOT REAL") {
		t.Errorf("the page does not say what is not real:\n%s", page)
	}
	for path, want := range map[string]int{"/": 200, "/health": 200, "/-/healthy": 200, "/-/ready": 200} {
		if code, body := get(t, exporter+path); code != want {
			t.Errorf("%s answers %d: %s", path, code, body)
		}
	}
	if out := p.out.String(); !strings.Contains(out, "monitor    off") {
		t.Errorf("the banner does not say that nobody watches:\n%s", out)
	}
	if err := p.end(); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if out := p.out.String(); !strings.Contains(out, "evaluations") || !strings.Contains(out, "BTCUSDT") {
		t.Errorf("no summary at the end:\n%s", out)
	}
}

// writeCSV makes a recording in the shape of the real ones.
func writeCSV(t testing.TB, dir string, sym position.Symbol, bars int) string {
	t.Helper()
	path := filepath.Join(dir, string(sym)+".csv")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := feedtest.WriteCSV(f, feedtest.Candles(7, sym, bars)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUpReplaysRecordings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := writeCSV(t, dir, "BTCUSDT", 4000) + "," + writeCSV(t, dir, "ETHUSDT", 4000)
	p := start(t, config.Up, app.Up, "--feed=file:"+files, "--speed=600", "--for=6s")
	if err := p.wait(60 * time.Second); err != nil {
		t.Fatalf("ended with %v", err)
	}
	out := p.out.String()
	for _, sym := range []string{"BTCUSDT", "ETHUSDT"} {
		m := regexp.MustCompile(sym + `\s+(LONG|SHORT)\s+\S+\s+\S+\s+\S+\s+(\d+)\s+(\d+)`).FindStringSubmatch(out)
		if m == nil || m[2] == "0" || m[3] == "0" {
			t.Errorf("%s has no publish or no beat in the summary:\n%s", sym, out)
		}
	}
	if !strings.Contains(out, "market data is a recording, replayed") {
		t.Errorf("the banner does not say that this is a replay:\n%s", out)
	}
}

func TestUpEndsWhenTheRecordingDoes(t *testing.T) {
	t.Parallel()
	path := writeCSV(t, t.TempDir(), "BTCUSDT", 700)
	p := start(t, config.Up, app.Up, "--feed=file:"+path, "--speed=6000")
	if err := p.wait(60 * time.Second); err != nil {
		t.Fatalf("ended with %v", err)
	}
}

func TestUpFailsWhereAPositionNeverGotAProposal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	positions := filepath.Join(dir, "positions.json")
	if err := os.WriteFile(positions, []byte(`[{"symbol":"XRPUSDT","side":"LONG","entry_price":0.5}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, config.Up, app.Up, "--positions=file:"+positions, "--feed=synthetic", "--for=4s")
	err := p.wait(60 * time.Second)
	if err == nil || !strings.Contains(err.Error(), "XRPUSDT") {
		t.Fatalf("error %v does not name the position without a proposal", err)
	}
}

func TestEmbeddedRedisKeepsIdentityAcrossRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	positions := filepath.Join(dir, "positions.json")
	if err := os.WriteFile(positions, []byte(`[{"symbol":"BTCUSDT","side":"LONG","entry_price":60000}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	// The embedded Redis brings the hash of the run before back: only a newer heartbeat is this run's.
	episode := func(since time.Time) store.Proposal {
		p := start(t, config.Up, app.Up, "--feed=synthetic", "--positions=file:"+positions, "--data="+filepath.Join(dir, "data"))
		var addr string
		livetest.Eventually(t, 30*time.Second, func() error {
			r := regexp.MustCompile(`redis +(\S+)  \(embedded\)`).FindStringSubmatch(p.out.String())
			if r == nil {
				return fmt.Errorf("no banner yet")
			}
			addr = r[1]
			return nil
		})
		got := fresh(t, dial(t, addr), "BTCUSDT", since)
		if err := p.end(); err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := episode(time.Time{})
	second := episode(first.LastUpdate)
	if second.Episode != first.Episode || second.Revision <= first.Revision || second.Peak < first.Peak {
		t.Errorf("episode %s revision %d peak %v; first run %s %d %v",
			second.Episode, second.Revision, second.Peak, first.Episode, first.Revision, first.Peak)
	}
}

func TestPublishOnce(t *testing.T) {
	t.Parallel()
	srv := realserver.Redis(t)
	c := dial(t, srv.Addr())
	seed(t, c, "BTCUSDT", "ETHUSDT")
	p := start(t, config.Publish, app.Publish, "--redis="+srv.URL(), "--once")
	if err := p.wait(60 * time.Second); err != nil {
		t.Fatal(err)
	}
	for _, sym := range []position.Symbol{"BTCUSDT", "ETHUSDT"} {
		if _, err := proposal(c, sym); err != nil {
			t.Error(err)
		}
	}
}

func TestStartOrderNeverMatters(t *testing.T) {
	t.Parallel()
	srv := realserver.Redis(t)
	srv.Kill()
	port := realserver.FreePort(t)
	pub := start(t, config.Publish, app.Publish, "--redis="+srv.URL())
	start(t, config.Export, app.Export, "--redis="+srv.URL(), fmt.Sprintf("--metrics-port=%d", port))
	page := fmt.Sprintf("http://127.0.0.1:%d/metrics", port)
	livetest.Eventually(t, 20*time.Second, func() error {
		code, body := get(t, page)
		if code != 200 || !strings.Contains(body, "\nquantum_harvest_up 0\n") {
			return fmt.Errorf("exporter without Redis answers %d", code)
		}
		return nil
	})
	srv.Restart()
	c := dial(t, srv.Addr())
	seed(t, c, "BTCUSDT")
	p := fresh(t, c, "BTCUSDT", time.Time{})

	// Killed and back empty, with the inputs rewritten by their own writers.
	srv.Kill()
	livetest.Eventually(t, 20*time.Second, func() error {
		_, body := get(t, page)
		if !strings.Contains(body, "\nquantum_harvest_up 0\n") || strings.Contains(body, "quantum_harvest_kill_score{") {
			return fmt.Errorf("the exporter still shows what it cannot see")
		}
		return nil
	})
	srv.Restart()
	seed(t, c, "BTCUSDT")
	back := fresh(t, c, "BTCUSDT", p.LastUpdate)
	if back.Episode != p.Episode || back.Revision <= p.Revision {
		t.Errorf("after the loss: episode %s revision %d, before %s %d", back.Episode, back.Revision, p.Episode, p.Revision)
	}
	livetest.Eventually(t, 20*time.Second, func() error {
		if _, body := get(t, page); !strings.Contains(body, "\nquantum_harvest_up 1\n") {
			return fmt.Errorf("the exporter does not recover")
		}
		return nil
	})
	if err := pub.end(); err != nil {
		t.Errorf("publisher ended with %v", err)
	}
}

func TestARunWithoutAStoreFails(t *testing.T) {
	t.Parallel()
	p := start(t, config.Publish, app.Publish, "--redis="+fmt.Sprintf("redis://127.0.0.1:%d/0", realserver.FreePort(t)), "--for=2s")
	if err := p.wait(60 * time.Second); err == nil || !strings.Contains(err.Error(), "never reached") {
		t.Fatalf("error %v does not say that the store was never reached", err)
	}
}

func TestAServiceThatIsToldToStopHasNotFailed(t *testing.T) {
	t.Parallel()
	p := start(t, config.Publish, app.Publish, "--redis="+fmt.Sprintf("redis://127.0.0.1:%d/0", realserver.FreePort(t)))
	livetest.Eventually(t, 20*time.Second, func() error {
		if !strings.Contains(p.log.String(), "store cannot be reached") {
			return fmt.Errorf("nothing is said about the store")
		}
		return nil
	})
	if err := p.end(); err != nil {
		t.Fatalf("stopped with %v", err)
	}
}

func TestPublishOnceFailsWhereAPositionIsRefused(t *testing.T) {
	t.Parallel()
	srv := realserver.Redis(t)
	c := dial(t, srv.Addr())
	seed(t, c, "BTCUSDT", "ETHUSDT")
	c.HSet(t.Context(), "quantum:state:positions:ETHUSDT", "entry_price", "0")
	p := start(t, config.Publish, app.Publish, "--redis="+srv.URL(), "--once")
	err := p.wait(60 * time.Second)
	if err == nil || !strings.Contains(err.Error(), "ETHUSDT") || strings.Contains(err.Error(), "BTCUSDT") {
		t.Fatalf("error %v does not name the refused position, and it alone", err)
	}
	if _, err := proposal(c, "BTCUSDT"); err != nil {
		t.Error(err)
	}
}

func TestAnInstanceBesideAnotherTouchesNothingOfIt(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"another prefix for everything":    {"--key-prefix=beside:"},
		"another prefix for the proposals": {"--harvest-prefix=beside:harvest:proposal:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := realserver.Redis(t)
			c := dial(t, srv.Addr())
			seed(t, c, "BTCUSDT")
			before := c.Keys(t.Context(), "quantum:*").Val()
			start(t, config.Publish, app.Publish, append([]string{"--redis=" + srv.URL(), "--enable-stream"}, args...)...)
			livetest.Eventually(t, 30*time.Second, func() error {
				if c.HGet(t.Context(), "beside:harvest:proposal:BTCUSDT", "last_update_epoch").Val() == "" {
					return fmt.Errorf("nothing is published")
				}
				return nil
			})
			c.HSet(t.Context(), "quantum:state:positions:BTCUSDT", "quantity", "0") // a closing record, too
			livetest.Eventually(t, 30*time.Second, func() error {
				if c.Exists(t.Context(), "beside:harvest:proposal:BTCUSDT").Val() != 0 {
					return fmt.Errorf("the position is still there")
				}
				return nil
			})
			if after := c.Keys(t.Context(), "quantum:*").Val(); len(after) != len(before) {
				t.Errorf("keys of the first instance: %v before, %v after", before, after)
			}
		})
	}
}
