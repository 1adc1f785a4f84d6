package inside

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/listen"
)

func serve(t *testing.T, o Options) *listen.Server {
	t.Helper()
	o.Role, o.Log = "Test", slog.New(slog.DiscardHandler)
	srv, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return srv
}

// ask gets a page; edit changes the request.
func ask(t *testing.T, url string, edit ...func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range edit {
		f(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestPages(t *testing.T) {
	srv := serve(t, Options{
		Build:    map[string]string{"version": "v1"},
		Settings: func() any { return []string{"DEBUG_PORT"} },
		State:    func() any { return map[string]int{"open": 3} },
		Flight:   func(w io.Writer) (int64, error) { n, err := io.WriteString(w, "go 1.26 trace"); return int64(n), err },
	})
	if !strings.HasPrefix(srv.URL(), "http://127.0.0.1:") {
		t.Fatalf("it listens on %s", srv.URL())
	}
	for page, want := range map[string]string{
		"/debug": "/debug/pprof/", "/debug/": "/debug/vars", "/": "/debug/vars", "/debug/pprof/": "goroutine", "/debug/pprof/heap?debug=1": "heap profile",
		"/debug/pprof/goroutine?debug=2": "goroutine ", "/debug/flight": "go 1.26 trace",
	} {
		if code, body := ask(t, srv.URL()+page); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.100s", page, code, body)
		}
	}
	if code, body := ask(t, srv.URL()+"/debug/pprof/profile?seconds=1"); code != 200 || len(body) < 100 {
		t.Errorf("a profile: %d, %d bytes", code, len(body))
	}
	if code, _ := ask(t, srv.URL()+"/debug/pprof/cmdline"); code != 404 {
		t.Errorf("the command line, which may hold a password, is shown: %d", code)
	}
	code, body := ask(t, srv.URL()+"/debug/vars")
	var vars struct {
		Role       string
		Build      map[string]string
		Settings   []string
		State      map[string]int
		Goroutines int
		GC         struct {
			Heap float64 `json:"heap_mb"`
			Next float64 `json:"next_gc_mb"`
		}
	}
	if err := json.Unmarshal([]byte(body), &vars); code != 200 || err != nil {
		t.Fatalf("%d %v: %s", code, err, body)
	}
	if vars.Role != "Test" || vars.Build["version"] != "v1" || vars.Settings[0] != "DEBUG_PORT" || vars.State["open"] != 3 || vars.Goroutines < 2 ||
		vars.GC.Heap <= 0 || vars.GC.Next <= 0 {
		t.Errorf("got %+v", vars)
	}
}

// Whoever comes under another name, or from a page of elsewhere, gets nothing.
func TestGuard(t *testing.T) {
	srv := serve(t, Options{})
	for name, c := range map[string]struct {
		edit func(*http.Request)
		want int
	}{
		"localhost":           {func(r *http.Request) { r.Host = "localhost" }, 200},
		"a name made to lead": {func(r *http.Request) { r.Host = "evil.example" }, 421},
		"with a port":         {func(r *http.Request) { r.Host = "evil.example:80" }, 421},
		"no name":             {func(r *http.Request) { r.Host = "127.0.0.1.evil.example" }, 421},
		"another address":     {func(r *http.Request) { r.Host = "192.0.2.1" }, 421},
		"a page of elsewhere": {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"a page beside it":    {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		"our own page":        {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, 200},
		"post":                {func(r *http.Request) { r.Method = http.MethodPost }, 405},
	} {
		if code, body := ask(t, srv.URL()+"/debug/vars", c.edit); code != c.want {
			t.Errorf("%s: %d, want %d: %s", name, code, c.want, body)
		}
	}
	// A request that did not come in on loopback, however that was brought about, gets nothing either.
	rec := httptest.NewRecorder()
	newHandler(Options{}, time.Now()).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/debug/vars", nil))
	if rec.Code != 403 {
		t.Errorf("without a loopback address: %d", rec.Code)
	}
}

func TestNoFlight(t *testing.T) {
	if code, body := ask(t, serve(t, Options{}).URL()+"/debug/flight"); code != 404 || !strings.Contains(body, "DEBUG_DIR") {
		t.Errorf("none is recorded: %d %s", code, body)
	}
	busy := serve(t, Options{Flight: func(io.Writer) (int64, error) { return 0, errors.New("busy") }})
	if code, body := ask(t, busy.URL()+"/debug/flight"); code != 503 || !strings.Contains(body, "busy") {
		t.Errorf("it cannot be read: %d %s", code, body)
	}
}

func TestTakenPort(t *testing.T) {
	first := serve(t, Options{})
	var port int
	if _, err := fmt.Sscanf(first.URL(), "http://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Port: port, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "DEBUG_PORT") {
		t.Errorf("a taken port: %v", err)
	}
	next, err := Open(Options{Port: port, NextFree: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	next.Close()
}
