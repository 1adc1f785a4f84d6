package monitor

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"quantumharvest/internal/listen"
)

// TokenHeader carries the token where Authorization is taken by the password of a web config file.
const TokenHeader = "X-Harvest-Token"

// maxBody bounds what a client may send: a long query, a batch of alerts.
const maxBody = 4 << 20

// guard stands before a port. It answers only those who name this server (a page of another origin whose name was made
// to lead here does not), lets everyone read and asks for the token where something would change, and gives no page of
// another origin leave to read.
type guard struct {
	next  http.Handler
	hosts []string // names allowed beside this host's own
	token [sha256.Size]byte
	// reads tells which requests change nothing though they are posts.
	reads func(path string) bool
	// off are the beginnings of paths that are never served.
	off []string
}

func newGuard(next http.Handler, hosts []string, token string, reads func(string) bool, off ...string) *guard {
	return &guard{next: next, hosts: hosts, token: sha256.Sum256([]byte(token)), reads: reads, off: off}
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	if !listen.Named(r, g.hosts...) {
		http.Error(w, fmt.Sprintf("this server is not called %q: ask for localhost, its address, or a name in MONITOR_ALLOWED_HOSTS", r.Host),
			http.StatusMisdirectedRequest)
		return
	}
	if slices.ContainsFunc(g.off, func(p string) bool { return r.URL.Path == p || strings.HasPrefix(r.URL.Path, p+"/") }) {
		http.Error(w, r.URL.Path+" is switched off here", http.StatusForbidden)
		return
	}
	if g.writes(r) && !g.authorized(r) {
		header.Set("WWW-Authenticate", `Bearer realm="harvest monitor"`)
		http.Error(w, "this changes something and needs the token: Authorization: Bearer TOKEN, with the content of MONITOR_TOKEN_FILE; reading is free",
			http.StatusUnauthorized)
		return
	}
	// The libraries answer an Origin with CORS headers, whether it may or not.
	r.Header.Del("Origin")
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	g.next.ServeHTTP(w, r)
}

func (g *guard) writes(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	case http.MethodPost:
		return !g.reads(r.URL.Path)
	}
	return true
}

func (g *guard) authorized(r *http.Request) bool {
	given := r.Header.Get(TokenHeader)
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); given == "" && ok && strings.EqualFold(scheme, "Bearer") {
		given = strings.TrimSpace(token)
	}
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1
}

// queries are the paths of Prometheus' API that read with a post, because a question can be long.
func queries(path string) bool {
	switch path {
	case "/api/v1/query", "/api/v1/query_range", "/api/v1/query_exemplars", "/api/v1/format_query", "/api/v1/parse_query",
		"/api/v1/labels", "/api/v1/series":
		return true
	}
	return false
}

func noReads(string) bool { return false }
