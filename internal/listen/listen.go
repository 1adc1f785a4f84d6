// Package listen is the one way this program serves HTTP: every port gets the same timeouts, TLS and basic
// authentication from a web config file, the same health pages and the same exposition of metrics.
//
// A Server binds when it is made, so that a taken port is known before anything else starts, and serves in Run. NewMux
// builds the pages every port has, MetricsHandler the /metrics page.
package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"
)

// Limits of every server. They bound what one client can hold on to; an idle or silent connection costs a goroutine
// and never a place in the queue.
const (
	defaultReadHeaderTimeout = 5 * time.Second
	defaultIdleTimeout       = 2 * time.Minute // longer than the usual scrape interval, so that scrapes reuse connections
	defaultWriteTimeout      = 45 * time.Second
	defaultShutdownTimeout   = 5 * time.Second
	maxHeaderBytes           = 64 << 10
	nextFreeTries            = 100
)

// Options say where and how to serve.
type Options struct {
	// Name of the port in logs: "exporter", "publisher".
	Name string
	// Address is host:port. A blank host is loopback: to be reachable from elsewhere an address must be written out,
	// for example 0.0.0.0:8042. Port 0 takes any free port.
	Address string
	// NextFree makes a taken port no error: the next free port above it is used, see Server.Addr.
	NextFree bool
	// WebConfigFile is an exporter-toolkit web config file (TLS, client certificates, basic auth); blank for neither.
	WebConfigFile string
	// Handler answers the requests.
	Handler http.Handler
	// Logger takes what the server has to say; nil is slog.Default.
	Logger *slog.Logger

	// ReadHeaderTimeout, IdleTimeout, WriteTimeout and ShutdownTimeout replace the defaults (5 s, 2 min, 45 s, 5 s)
	// where they are above zero. WriteTimeout covers a request from the end of its headers to the end of its answer.
	ReadHeaderTimeout, IdleTimeout, WriteTimeout, ShutdownTimeout time.Duration
}

// Server is one bound port. Make it with New, serve it with Run or release it with Close.
type Server struct {
	name     string
	listener net.Listener
	scheme   string
	server   *http.Server
	webFlags *web.FlagConfig
	logger   *slog.Logger
	shutdown time.Duration
	readBody time.Duration

	cancelRequests context.CancelFunc

	mu       sync.Mutex
	silent   map[net.Conn]struct{} // accepted, nothing read yet
	stopping bool                  // such connections are not kept any more
	active   int                   // handlers under way
	drained  chan struct{}         // closed when active comes down to 0, where somebody waits for that
}

// New checks the web config file and binds the address. The error of a taken port satisfies
// errors.Is(err, syscall.EADDRINUSE).
func New(o Options) (*Server, error) {
	if o.Handler == nil {
		return nil, fmt.Errorf("listen %s: no handler", o.Name)
	}
	scheme, err := checkWebConfig(o.WebConfigFile)
	if err != nil {
		return nil, err
	}
	listener, err := bind(o.Address, o.NextFree)
	if err != nil {
		return nil, err
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.Default()
	}
	logger = logger.With("server", o.Name)

	requests, cancel := context.WithCancel(context.Background())
	s := &Server{
		name:           o.Name,
		listener:       listener,
		scheme:         scheme,
		webFlags:       &web.FlagConfig{WebConfigFile: &o.WebConfigFile},
		logger:         logger,
		shutdown:       orDefault(o.ShutdownTimeout, defaultShutdownTimeout),
		readBody:       orDefault(o.ReadHeaderTimeout, defaultReadHeaderTimeout),
		cancelRequests: cancel,
		silent:         make(map[net.Conn]struct{}),
	}
	s.server = &http.Server{
		Handler:           s.guard(o.Handler),
		ReadHeaderTimeout: orDefault(o.ReadHeaderTimeout, defaultReadHeaderTimeout),
		IdleTimeout:       orDefault(o.IdleTimeout, defaultIdleTimeout),
		WriteTimeout:      orDefault(o.WriteTimeout, defaultWriteTimeout),
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ConnState:         s.connState,
		// What the server library reports is the doing of clients: broken handshakes, resets. Panics of handlers are
		// logged by guard.
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	if o.WebConfigFile == "" && !isLoopback(listener.Addr()) {
		logger.Warn("serving beyond this host without TLS or authentication",
			"address", listener.Addr().String(), "hint", "set --web.config.file or listen on 127.0.0.1")
	}
	return s, nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// URL is where the server can be reached from this host, without a trailing slash.
func (s *Server) URL() string {
	host, port, err := net.SplitHostPort(s.listener.Addr().String())
	if err != nil {
		return s.scheme + "://" + s.listener.Addr().String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return s.scheme + "://" + net.JoinHostPort(host, port)
}

// Run serves until ctx ends, then stops: it takes no new requests, gives those under way the shutdown timeout and cuts
// off what is left. It returns nil after such a stop. A Server runs once.
func (s *Server) Run(ctx context.Context) error {
	defer s.cancelRequests()
	// The toolkit reports through the handler and returns without serving where the config file went bad in the
	// meantime; the listener must not stay bound then.
	defer s.listener.Close()

	served := make(chan error, 1)
	go func() { served <- web.Serve(s.listener, s.server, s.webFlags, s.logger) }()

	select {
	case err := <-served:
		if err == nil || errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve %s on %s: %w", s.name, s.listener.Addr(), err)
	case <-ctx.Done():
	}

	stop, cancel := context.WithTimeout(context.Background(), s.shutdown)
	defer cancel()
	s.closeSilent()
	if err := s.server.Shutdown(stop); err != nil {
		s.logger.Warn("requests cut off at shutdown", "after", s.shutdown)
		s.cancelRequests()
		_ = s.server.Close()
		s.awaitHandlers(s.shutdown)
	}
	<-served
	return nil
}

// Close releases a server that will not be run.
func (s *Server) Close() error {
	s.cancelRequests()
	return s.listener.Close()
}

// awaitHandlers waits for cut-off handlers to notice, so that nothing outlives Run, but not for ever for one that does
// not look at its context.
func (s *Server) awaitHandlers(limit time.Duration) {
	s.mu.Lock()
	if s.active == 0 {
		s.mu.Unlock()
		return
	}
	s.drained = make(chan struct{})
	drained := s.drained
	s.mu.Unlock()

	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
		s.logger.Error("a request handler does not stop", "waited", limit)
	}
}

func (s *Server) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active++
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	if s.active == 0 && s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
}

// connState keeps the connections on which nothing has arrived yet. The library gives those five seconds at shutdown;
// nobody is owed an answer on them.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	refuse := state == http.StateNew && s.stopping
	if state == http.StateNew && !s.stopping {
		s.silent[c] = struct{}{}
	} else {
		delete(s.silent, c)
	}
	s.mu.Unlock()
	if refuse {
		_ = c.Close()
	}
}

// closeSilent closes the connections on which nothing has arrived yet, and those to come.
func (s *Server) closeSilent() {
	s.mu.Lock()
	s.stopping = true
	conns := slices.Collect(maps.Keys(s.silent))
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// guard bounds the time for a request body, keeps a panic of one request from passing unseen, and counts the handlers
// under way.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.begin()
		defer s.end()
		defer func() {
			p := recover()
			switch p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				s.logger.Error("request handler panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				// Whether anything was sent is not known here: an aborted answer is never taken for a whole one.
				panic(http.ErrAbortHandler)
			}
		}()
		if r.ContentLength != 0 {
			// Only requests with a body: for the others the deadline would end the request itself.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.readBody))
		}
		next.ServeHTTP(w, r)
	})
}

// bind listens on address, or with nextFree on the first free port from there on.
func bind(address string, nextFree bool) (net.Listener, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %w (write host:port, for example 127.0.0.1:8042)", address, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: port %q is not a number from 0 to 65535", address, portText)
	}
	var taken error
	for try := 0; try < nextFreeTries && int(port)+try <= 65535; try++ {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(port)+try)))
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listen on %s: %w", net.JoinHostPort(host, portText), err)
		}
		if taken == nil {
			taken = err
		}
		if !nextFree {
			return nil, fmt.Errorf("listen on %s: %w (another program has the port: stop it or choose another)",
				net.JoinHostPort(host, portText), taken)
		}
	}
	return nil, fmt.Errorf("listen on %s: no free port among the %d from there on: %w",
		net.JoinHostPort(host, portText), nextFreeTries, taken)
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// checkWebConfig validates the file with everything it names and tells the scheme it makes the server speak.
func checkWebConfig(path string) (scheme string, err error) {
	if path == "" {
		return "http", nil
	}
	if err := web.Validate(path); err != nil {
		return "", fmt.Errorf("web config file %s: %w", path, err)
	}
	c, err := readWebConfig(path)
	if err != nil {
		return "", err
	}
	if c.TLSConfig.IsEnabled() {
		return "https", nil
	}
	return "http", nil
}

// Demands tells what a server with this web config file demands of its clients, in words: "a password", "a client
// certificate", or nothing.
func Demands(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	c, err := readWebConfig(path)
	switch {
	case err != nil:
		return "", err
	case len(c.Users) > 0:
		return "a password", nil
	case strings.HasPrefix(c.TLSConfig.ClientAuth, "Require"):
		return "a client certificate", nil
	}
	return "", nil
}

func readWebConfig(path string) (web.Config, error) {
	var c web.Config
	content, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("web config file: %w", err)
	}
	if err := yaml.Unmarshal(content, &c); err != nil {
		return c, fmt.Errorf("web config file %s: %w", path, err)
	}
	return c, nil
}
