package app_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/realserver"
)

// TestLookingInside runs a publisher with all that looks into it: the debug port shows what is in force without its secrets,
// a Redis that stands still leaves a flight record, and the proposals are traced.
func TestLookingInside(t *testing.T) {
	t.Parallel()
	var traced atomic.Pointer[string]
	otlp := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return
		}
		if body, err := io.ReadAll(unzipped); err == nil && bytes.Contains(body, []byte("harvest.symbol")) {
			text := string(body)
			traced.Store(&text)
		}
	}))
	defer otlp.Close()
	srv := realserver.Redis(t, realserver.WithUser("desk", "s3cret-word", "~* &* +@all"))
	opts, err := redis.ParseURL(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opts)
	defer c.Close()
	seed(t, c, "BTCUSDT")
	dir, port := t.TempDir(), realserver.FreePort(t)
	pub := start(t, config.Publish, app.Publish, "--redis="+srv.URL(), fmt.Sprintf("--debug-port=%d", port), "--debug-dir="+dir, "--otlp-endpoint="+otlp.URL)
	base := fmt.Sprintf("http://127.0.0.1:%d", port)

	var vars struct {
		Role     string
		Settings []config.Value
		State    struct {
			Open     int
			LastBeat time.Time `json:"last_beat"`
			Held     int       `json:"leases_held"`
		}
	}
	livetest.Eventually(t, 30*time.Second, func() error {
		code, body := get(t, base+"/debug/vars")
		if code != 200 {
			return fmt.Errorf("%d %s", code, body)
		}
		if strings.Contains(body, "s3cret-word") {
			t.Fatal("the password of Redis is shown")
		}
		if err := json.Unmarshal([]byte(body), &vars); err != nil {
			return err
		}
		if vars.State.Open != 1 || vars.State.Held != 1 || time.Since(vars.State.LastBeat) > 5*time.Second {
			return fmt.Errorf("state %+v", vars.State)
		}
		return nil
	})
	shown := map[string]config.Value{}
	for _, v := range vars.Settings {
		shown[v.Name] = v
	}
	if shown["REDIS_URL"] != (config.Value{Name: "REDIS_URL", Value: "[secret]", Origin: "flag"}) || shown["DEBUG_DIR"].Value != dir || shown["HEARTBEAT_INTERVAL_SEC"].Origin != "default" {
		t.Errorf("settings in force: %v", vars.Settings)
	}
	livetest.Eventually(t, 30*time.Second, func() error {
		if text := traced.Load(); text == nil || !strings.Contains(*text, "BTCUSDT") || !strings.Contains(*text, "round trip") {
			return fmt.Errorf("the receiver of traces has no proposal")
		}
		return nil
	})
	if code, body := get(t, base+"/debug/flight"); code != 200 || !strings.HasPrefix(body, "go 1.") {
		t.Errorf("the window: %d, %d bytes", code, len(body))
	}

	// Right after the start nothing is saved. From then on a batch that hangs is.
	livetest.Eventually(t, 60*time.Second, func() error {
		srv.Pause()
		time.Sleep(2500 * time.Millisecond)
		srv.Continue()
		time.Sleep(time.Second)
		if files, _ := filepath.Glob(filepath.Join(dir, "flight-*.trace")); len(files) > 0 {
			if info, err := os.Stat(files[0]); err != nil || info.Size() == 0 || info.Mode().Perm() != 0o600 {
				t.Errorf("the record: %v %v", info, err)
			}
			return nil
		}
		return fmt.Errorf("no flight record")
	})
	if err := pub.end(); err != nil {
		t.Errorf("the publisher ended with %v", err)
	}
}

// A debug port that is taken stops the start and says which setting it is.
func TestDebugPortTaken(t *testing.T) {
	t.Parallel()
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	port := taken.URL[strings.LastIndexByte(taken.URL, ':')+1:]
	srv := realserver.Redis(t)
	for _, role := range []struct {
		role config.Role
		run  func(context.Context, app.Env) error
	}{{config.Publish, app.Publish}, {config.Export, app.Export}, {config.Monitor, app.Monitor}} {
		args := []string{"--debug-port=" + port}
		if role.role != config.Monitor {
			args = append(args, "--redis="+srv.URL())
		}
		if role.role == config.Export {
			args = append(args, "--metrics-port=0")
		}
		if err := start(t, role.role, role.run, args...).wait(30 * time.Second); err == nil || !strings.Contains(err.Error(), "DEBUG_PORT") {
			t.Errorf("%s: %v", role.role, err)
		}
	}
}
