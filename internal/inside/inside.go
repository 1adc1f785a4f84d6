// Package inside serves what a process shows of itself to whoever repairs it: profiles, the settings in force, its inner
// state. It is for this host alone: never on a port that others reach, never under a name that leads here from elsewhere.
package inside

import (
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"quantumharvest/internal/listen"
)

// writeTimeout is long enough for a profile of two minutes.
const writeTimeout = 3 * time.Minute

// Options say what is shown, and where.
type Options struct {
	Role          string // as the title says it
	Port          int    // of 127.0.0.1; 0: any
	NextFree      bool   // a taken port is replaced by the next free one
	WebConfigFile string // TLS and passwords, as of every other port
	Build         any    // which build this is
	Settings      func() any
	State         func() any // of the role; nil: it has none to show
	// Flight writes an execution trace of the last seconds; nil: none is recorded.
	Flight func(io.Writer) (int64, error)
	Log    *slog.Logger
}

// Open binds the port.
func Open(o Options) (*listen.Server, error) {
	srv, err := listen.New(listen.Options{
		Name: "debug", Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port)), NextFree: o.NextFree, WebConfigFile: o.WebConfigFile,
		Handler: newHandler(o, time.Now()), Logger: o.Log, WriteTimeout: writeTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("debug port (DEBUG_PORT): %w", err)
	}
	return srv, nil
}

// newHandler makes the pages. Those of net/http/pprof are named one by one on a mux of ours: that importing it fills
// http.DefaultServeMux does no harm, because no port of ours serves that.
func newHandler(o Options, started time.Time) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound) // flags may hold what the settings do not show
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/vars", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(vars(o, started)); err != nil {
			o.Log.Debug("a debug page was not written", "err", err)
		}
	})
	mux.HandleFunc("GET /debug/flight", func(w http.ResponseWriter, _ *http.Request) {
		if o.Flight == nil {
			http.Error(w, "no flight is recorded here: publish and up do where DEBUG_DIR is set; /debug/pprof/trace?seconds=5 traces from now on", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", `attachment; filename="flight.trace"`)
		if n, err := o.Flight(w); err != nil && n == 0 {
			w.Header().Del("Content-Disposition")
			http.Error(w, "the window cannot be read at this moment: "+err.Error(), http.StatusServiceUnavailable)
		}
	})
	page := template.Must(template.New("debug").Parse(indexPage))
	index := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_ = page.Execute(w, o) // fails only where the client went away
	}
	mux.HandleFunc("GET /debug", index)
	mux.HandleFunc("GET /debug/{$}", index)
	mux.Handle("GET /{$}", http.RedirectHandler("/debug", http.StatusFound))
	return guard(mux)
}

// guard answers only this host, only under its own names, and no page of another origin.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case !ok || !local.IP.IsLoopback():
			http.Error(w, "this is for the host itself: connect to 127.0.0.1", http.StatusForbidden)
		case !listen.Named(r):
			http.Error(w, fmt.Sprintf("this server is not called %q: ask for localhost or 127.0.0.1", r.Host), http.StatusMisdirectedRequest)
		case site != "" && site != "none" && site != "same-origin":
			http.Error(w, "a page of another origin may not ask for this", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

const indexPage = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Role}}: inside</title>
<style>body{font:15px/1.5 sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}code{background:#8882;padding:.1em .3em}</style></head>
<body><h1>{{.Role}}: inside</h1><ul>
<li><a href="/debug/vars">/debug/vars</a>: build, settings in force, state, memory</li>
<li><a href="/debug/pprof/">/debug/pprof/</a>: profiles, for <code>go tool pprof</code></li>
<li><a href="/debug/flight">/debug/flight</a>: {{if .Flight}}the last seconds, for <code>go tool trace</code>{{else}}not recorded here{{end}}</li>
</ul></body></html>
`

// memory is what the garbage collector has to say.
type memory struct {
	HeapMB       float64   `json:"heap_mb"`       // objects that live, or died since the last collection
	HeapInUseMB  float64   `json:"heap_inuse_mb"` // spans that hold them
	ReleasedMB   float64   `json:"released_mb"`   // given back to the system
	NextGCMB     float64   `json:"next_gc_mb"`
	Collections  uint32    `json:"collections"`
	LastGC       time.Time `json:"last_gc"`
	PauseTotalMs float64   `json:"pause_total_ms"`
	LastPauseMs  float64   `json:"last_pause_ms"`
	CPUFraction  float64   `json:"cpu_fraction"`
	GOGC         string    `json:"gogc"`
	GOMEMLIMIT   string    `json:"gomemlimit"`
}

func vars(o Options, started time.Time) map[string]any {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	const mb = 1e6
	gc := memory{
		HeapMB: float64(m.HeapAlloc) / mb, HeapInUseMB: float64(m.HeapInuse) / mb, ReleasedMB: float64(m.HeapReleased) / mb, NextGCMB: float64(m.NextGC) / mb,
		Collections: m.NumGC, PauseTotalMs: float64(m.PauseTotalNs) / 1e6, LastPauseMs: float64(m.PauseNs[(m.NumGC+255)%256]) / 1e6,
		CPUFraction: m.GCCPUFraction, GOGC: os.Getenv("GOGC"), GOMEMLIMIT: os.Getenv("GOMEMLIMIT"),
	}
	if m.LastGC != 0 {
		gc.LastGC = time.Unix(0, int64(m.LastGC)).UTC()
	}
	all := map[string]any{
		"role": o.Role, "build": o.Build, "pid": os.Getpid(), "started": started.UTC(), "up_sec": time.Since(started).Seconds(),
		"goroutines": runtime.NumGoroutine(), "cpus": runtime.NumCPU(), "gomaxprocs": runtime.GOMAXPROCS(0), "gc": gc,
	}
	if o.Settings != nil {
		all["settings"] = o.Settings()
	}
	if o.State != nil {
		all["state"] = o.State()
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		all["go_module"], all["go_build"] = build.Main.Path, build.Settings
	}
	return all
}
