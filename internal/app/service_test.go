//go:build linux

package app_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/supervise/supervisetest"
)

// patient bounds a wait for something that comes within seconds.
const patient = 40 * time.Second

// gate is a log that can be held: whoever logs then stands still, as in a deadlock.
type gate struct {
	slog.Handler
	mu   *sync.Mutex
	only string
}

func (g gate) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, g.only) {
		g.mu.Lock()
		defer g.mu.Unlock()
	}
	return g.Handler.Handle(ctx, r)
}

func TestTheWatchdogIsFedWhileRedisIsAway(t *testing.T) {
	srv := realserver.Redis(t)
	c := dial(t, srv.Addr())
	seed(t, c, "BTCUSDT")
	m := supervisetest.New(t, false, 2*time.Second)
	srv.Kill()
	start(t, config.Publish, app.Publish, "--redis", srv.URL())
	m.Await(t, "READY=1", 1, time.Time{}, patient) // although there is no Redis yet
	m.Await(t, "WATCHDOG=1", 4, time.Now(), patient)
	if last := m.Last("STATUS="); !strings.Contains(last, "store") {
		t.Errorf("the status does not say that the store is away: %s", last)
	}
	srv.Restart()
	seed(t, c, "BTCUSDT")
	m.Await(t, "STATUS=1 open, 1 advised; holds the lease; last beat ", 1, time.Time{}, patient)
	srv.Pause()
	since := time.Now()
	m.Await(t, "WATCHDOG=1", 12, since, patient) // as long as the limits of every kind of work
	srv.Continue()
	if got := m.Count("STATUS=hangs", time.Time{}); got != 0 {
		t.Errorf("a Redis that does not answer was called a hang %d times", got)
	}
}

func TestABlockedEngineIsNotFed(t *testing.T) {
	srv := realserver.Redis(t)
	m := supervisetest.New(t, true, 2*time.Second)
	hold := &sync.Mutex{}
	blocked := func(ctx context.Context, env app.Env) error {
		env.Log = slog.New(gate{env.Log.Handler(), hold, "Harvest Proposal Publish Cycle"})
		return app.Publish(ctx, env)
	}
	start(t, config.Publish, blocked, "--redis", srv.URL(), "--publish-interval-sec=1")
	m.Await(t, "WATCHDOG=1", 3, time.Time{}, patient)
	hold.Lock()
	m.Await(t, "STATUS=hangs: the engine has stood still", 1, time.Time{}, patient)
	since := time.Now()
	time.Sleep(3 * time.Second)
	if got := m.Count("WATCHDOG=1", since); got != 0 {
		t.Errorf("the watchdog was fed %d times although the engine stands still", got)
	}
	hold.Unlock()
	m.Await(t, "WATCHDOG=1", 2, time.Now(), patient)
}

func TestExporterAndMonitorTellTheirManager(t *testing.T) {
	srv := realserver.Redis(t)
	c := dial(t, srv.Addr())
	seed(t, c, "BTCUSDT")
	for name, begin := range map[string]func(testing.TB) *process{
		"exporter": func(t testing.TB) *process {
			return start(t, config.Export, app.Export, "--redis", srv.URL(), "--metrics-port=0")
		},
		"monitor": func(t testing.TB) *process { return start(t, config.Monitor, app.Monitor) },
	} {
		t.Run(name, func(t *testing.T) {
			m := supervisetest.New(t, false, time.Second)
			p := begin(t)
			m.Await(t, "READY=1", 1, time.Time{}, patient)
			m.Await(t, "WATCHDOG=1", 4, time.Time{}, patient)
			if m.Last("STATUS=") == "" {
				t.Error("there is no line for people")
			}
			if err := p.end(); err != nil {
				t.Error(err)
			}
			m.Await(t, "STOPPING=1", 1, time.Time{}, patient)
		})
	}
}

// pageOf is where a service has its port, as its log says.
func pageOf(t testing.TB, p *process) string {
	t.Helper()
	var url string
	livetest.Eventually(t, patient, func() error {
		found := regexp.MustCompile(`metrics=(http://[0-9.:]+)/metrics`).FindStringSubmatch(p.log.String())
		if found == nil {
			return errors.New("the log does not say where the port is")
		}
		url = found[1]
		return nil
	})
	return url
}

func TestAPublisherThatStopsDrains(t *testing.T) {
	srv := realserver.Redis(t)
	c := dial(t, srv.Addr())
	seed(t, c, "BTCUSDT")
	p := start(t, config.Publish, app.Publish, "--redis", srv.URL())
	begin := time.Now()
	fresh(t, c, "BTCUSDT", begin)
	url := pageOf(t, p)

	srv.Pause() // what is under way at the stop takes its time
	time.Sleep(1500 * time.Millisecond)
	stopped := make(chan error, 1)
	go func() { stopped <- p.end() }()
	refused := false
	for end := time.Now().Add(patient); !refused && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(url + "/-/ready")
		if err != nil {
			break
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		refused = resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), "it is stopping")
	}
	srv.Continue()
	if !refused {
		t.Error("while it stopped nobody was told that it is not ready")
	}
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the stop has no bound")
	}
}
