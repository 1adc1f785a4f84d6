package listen

import (
	"context"
	"html/template"
	"net/http"
	"time"
)

// readyTimeout bounds the question whether the part behind a port is ready.
const readyTimeout = 3 * time.Second

// Pages describe what every port shows about itself.
type Pages struct {
	Title       string // "Quantum Harvest exporter"
	Description string // one sentence
	Version     string // of the build
	// Metrics serves /metrics, see MetricsHandler; nil leaves it out.
	Metrics http.Handler
	// Ready tells whether the part does its work, and if not why, in a few words without secrets. nil is always ready.
	Ready func(context.Context) (ok bool, reason string)
	// Links are shown on the landing page beside the pages of every port.
	Links []Link
	// Lists are shown on the landing page as they are when it is asked for; nil shows none.
	Lists func() []List
}

// List is a part of the landing page.
type List struct {
	Title string
	Lines []Line
	Empty string // said where there are no lines
}

// Line is an entry of a List.
type Line struct {
	Name string
	Path string // where the name leads to; blank: nowhere
	Text string
	Bad  bool // what it says is bad news
}

// Link is an entry of the landing page.
type Link struct {
	Path string // "/api/v1/proposals"
	Text string // what it is
}

// NewMux serves the pages that every port has: / for people, /metrics, /health (answers OK) and /-/healthy while the
// process answers at all, /-/ready with 200 or 503 and the reason. Further handlers may be added to it.
func NewMux(p Pages) *http.ServeMux {
	if p.Ready == nil {
		p.Ready = func(context.Context) (bool, string) { return true, "" }
	}
	links := []Link{
		{"/health", "answers OK while the process runs"},
		{"/-/healthy", "the same, under the name Prometheus uses"},
		{"/-/ready", "whether it does its work, and if not why"},
	}
	mux := http.NewServeMux()
	if p.Metrics != nil {
		mux.Handle("GET /metrics", p.Metrics)
		links = append([]Link{{"/metrics", "metrics for Prometheus"}}, links...)
	}
	links = append(links, p.Links...)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "OK") })
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "Healthy\n") })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		if ok, reason := p.Ready(ctx); !ok {
			plain(w, http.StatusServiceUnavailable, "Not ready: "+reason+"\n")
			return
		}
		plain(w, http.StatusOK, "Ready\n")
	})
	page := template.Must(template.New("landing").Parse(landingPage))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		ok, reason := p.Ready(ctx)
		header := w.Header()
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		var lists []List
		if p.Lists != nil {
			lists = p.Lists()
		}
		_ = page.Execute(w, struct {
			Pages
			IsReady bool
			Reason  string
			Links   []Link
			Lists   []List
		}{p, ok, reason, links, lists}) // fails only where the client went away
	})
	return mux
}

func plain(w http.ResponseWriter, status int, text string) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // a client that went away is nobody's error
}

const landingPage = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; background: #fff; }
h1 { font-size: 1.4rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin: 1.6rem 0 0; }
dl, h2 + p { margin-top: .4rem; }
dt { margin-top: .6rem; }
dd { margin: 0; color: #55606e; }
.ok { color: #11693a; }
.bad { color: #a3261b; }
@media (prefers-color-scheme: dark) {
body { color: #e6e9ee; background: #14181f; }
a { color: #8ab4f8; }
dd { color: #a4adba; }
.ok { color: #6fd19a; }
.bad { color: #ff9388; }
}
</style>
</head>
<body>
<h1>{{.Title}}</h1>
<p>{{.Description}}</p>
{{if .IsReady}}<p class="ok">Status: ready</p>{{else}}<p class="bad">Status: not ready: {{.Reason}}</p>{{end}}
{{range .Lists}}<h2>{{.Title}}</h2>
{{if .Lines}}<dl>
{{range .Lines}}<dt{{if .Bad}} class="bad"{{end}}>{{if .Path}}<a href="{{.Path}}">{{.Name}}</a>{{else}}{{.Name}}{{end}}</dt><dd>{{.Text}}</dd>
{{end}}</dl>
{{else}}<p>{{.Empty}}</p>
{{end}}{{end}}{{if .Lists}}<h2>Pages</h2>
{{end}}<dl>
{{range .Links}}<dt><a href="{{.Path}}">{{.Path}}</a></dt><dd>{{.Text}}</dd>
{{end}}</dl>
<p>Version {{.Version}}</p>
</body>
</html>
`
