package listen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"quantumharvest/internal/livetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves o until the test ends and returns the server and a function that stops it and tells what Run said.
func start(t *testing.T, o Options) (*Server, func() error) {
	t.Helper()
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.Logger == nil {
		o.Logger = quiet
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return s, stop
}

func client(t *testing.T, config *tls.Config) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func get(t *testing.T, c *http.Client, url string) (int, string, http.Header) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestBind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	handler := http.NotFoundHandler()

	if _, err := New(Options{Address: address, Handler: handler, Logger: quiet}); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), address) {
		t.Errorf("taken port: got %v, want EADDRINUSE that names %s", err, address)
	}
	s, err := New(Options{Address: address, NextFree: true, Handler: handler, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, want := s.listener.Addr().(*net.TCPAddr).Port, taken.Addr().(*net.TCPAddr).Port
	if got <= want || got >= want+nextFreeTries {
		t.Errorf("next free port is %d, want one just above %d", got, want)
	}
	if want := fmt.Sprintf("http://127.0.0.1:%d", got); s.URL() != want {
		t.Errorf("URL is %s, want %s", s.URL(), want)
	}

	blank, err := New(Options{Address: ":0", Handler: handler, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer blank.Close()
	if !isLoopback(blank.listener.Addr()) {
		t.Errorf("a blank host bound %s, want loopback", blank.listener.Addr())
	}
	for _, bad := range []string{"", "8042", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:-1", "no such host:1"} {
		if s, err := New(Options{Address: bad, Handler: handler, Logger: quiet}); err == nil {
			t.Errorf("address %q was bound to %s", bad, s.listener.Addr())
			s.Close()
		}
	}
	if _, err := New(Options{Address: "127.0.0.1:0"}); err == nil {
		t.Error("a server without a handler was made")
	}
}

func TestServingBeyondTheHostIsSaidLoudly(t *testing.T) {
	var log bytes.Buffer
	s, err := New(Options{Name: "exporter", Address: "0.0.0.0:0", Handler: http.NotFoundHandler(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "--web.config.file") {
		t.Errorf("log: %s", log.String())
	}
	if !strings.HasPrefix(s.URL(), "http://127.0.0.1:") {
		t.Errorf("URL %s cannot be opened", s.URL())
	}
}

// The connections of fault 21: silent ones, ones that were used and kept, and ones that stopped amid their headers.
func TestScrapesAnswerBeside1000IdleConnections(t *testing.T) {
	mux := NewMux(Pages{Metrics: MetricsHandler(testRegistry(), MetricsOptions{Logger: quiet})})
	s, stop := start(t, Options{Handler: mux, ReadHeaderTimeout: time.Hour, IdleTimeout: time.Hour, ShutdownTimeout: 2 * time.Second})

	for i := range 1000 {
		conn, err := net.Dial("tcp", s.listener.Addr().String())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer conn.Close()
		switch i % 3 {
		case 1:
			fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		case 2:
			fmt.Fprint(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		}
	}
	c := client(t, nil)
	for range 20 {
		if code, body, _ := get(t, c, s.URL()+"/metrics"); code != http.StatusOK || !strings.Contains(body, "epoch{") {
			t.Fatalf("scrape: %d %q", code, body)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("stop with idle connections held: %v", err)
	}
}

func TestSilentConnectionsAreClosed(t *testing.T) {
	s, _ := start(t, Options{Handler: http.NotFoundHandler(), ReadHeaderTimeout: 20 * time.Millisecond})
	conn, err := net.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read on a silent connection: %v, want it closed", err)
	}
}

func TestSlowBodyIsCutOff(t *testing.T) {
	s, _ := start(t, Options{Handler: NewMux(Pages{}), ReadHeaderTimeout: 20 * time.Millisecond})
	conn, err := net.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("connection with a body that never comes: %v, want it closed", err)
	}
}

func TestRunWaitsForRequestsUnderWay(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s, stop := start(t, Options{ShutdownTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		fmt.Fprint(w, "whole")
	})})
	body := make(chan string)
	go func() {
		_, b, _ := get(t, client(t, nil), s.URL())
		body <- b
	}()
	<-entered
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		t.Fatalf("stopped with a request under way: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(leave)
	if got := <-body; got != "whole" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestRunCutsOffAtTheShutdownTimeout(t *testing.T) {
	entered := make(chan struct{})
	left := make(chan struct{})
	s, stop := start(t, Options{ShutdownTimeout: 20 * time.Millisecond, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	})})
	conn, err := net.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	if err := stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	select {
	case <-left:
	default:
		t.Error("the handler outlives Run")
	}
}

func TestPanicStaysWithItsRequest(t *testing.T) {
	var log livetest.Buffer
	mux := NewMux(Pages{})
	mux.HandleFunc("/boom", func(http.ResponseWriter, *http.Request) { panic("boom") })
	s, _ := start(t, Options{Handler: mux, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	c := client(t, nil)
	if resp, err := c.Get(s.URL() + "/boom"); err == nil {
		resp.Body.Close()
		t.Errorf("a request whose handler panicked got %s", resp.Status)
	}
	if code, _, _ := get(t, c, s.URL()+"/health"); code != http.StatusOK {
		t.Errorf("after a panic: %d", code)
	}
	if !strings.Contains(log.String(), "panic=boom") {
		t.Errorf("the panic is not in the log: %s", log.String())
	}
}

func TestTLSAndBasicAuth(t *testing.T) {
	dir := t.TempDir()
	pool := writeCertificate(t, dir)
	hash, err := bcrypt.GenerateFromPassword([]byte("opens"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "web.yml")
	writeFile(t, config, fmt.Sprintf("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\nbasic_auth_users:\n  desk: %s\n", hash))
	s, stop := start(t, Options{
		WebConfigFile: config,
		Handler:       NewMux(Pages{Metrics: MetricsHandler(testRegistry(), MetricsOptions{Logger: quiet})}),
	})
	if !strings.HasPrefix(s.URL(), "https://") {
		t.Fatalf("URL is %s, want https", s.URL())
	}
	silent, err := net.Dial("tcp", s.listener.Addr().String()) // never begins its handshake
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	c := client(t, &tls.Config{RootCAs: pool})
	for _, tt := range []struct {
		user, password string
		want           int
	}{{"", "", 401}, {"desk", "wrong", 401}, {"other", "opens", 401}, {"desk", "opens", 200}} {
		r, err := http.NewRequest(http.MethodGet, s.URL()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.user != "" {
			r.SetBasicAuth(tt.user, tt.password)
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%q with %q: got %d, want %d", tt.user, tt.password, resp.StatusCode, tt.want)
		}
	}
	if resp, err := client(t, nil).Get(s.URL() + "/health"); err == nil {
		resp.Body.Close()
		t.Error("a client that does not know the certificate was served")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestBadWebConfig(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"absent.yml":  "",
		"unknown.yml": "tls_config: {}\n",
		"nokey.yml":   "tls_server_config:\n  cert_file: cert.pem\n",
		"nocert.yml":  "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n",
		"hash.yml":    "basic_auth_users:\n  desk: plaintext\n",
	} {
		path := filepath.Join(dir, name)
		if text != "" {
			writeFile(t, path, text)
		}
		s, err := New(Options{Address: "127.0.0.1:0", WebConfigFile: path, Handler: http.NotFoundHandler(), Logger: quiet})
		if err == nil {
			s.Close()
			t.Errorf("%s was accepted", name)
		} else if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "plaintext") {
			t.Errorf("%s: error %q does not name the file, or shows a secret", name, err)
		}
	}
}

// A config file that goes bad between New and Run is an error of Run, and the port is free again.
func TestWebConfigGoneAtRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.yml")
	writeFile(t, path, "http_server_config:\n  http2: false\n")
	s, err := New(Options{Name: "exporter", Address: "127.0.0.1:0", WebConfigFile: path, Handler: http.NotFoundHandler(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "serve exporter") {
		t.Errorf("run: %v, want an error that says what was served", err)
	}
	l, err := net.Listen("tcp", s.listener.Addr().String())
	if err != nil {
		t.Fatalf("the port is still bound: %v", err)
	}
	l.Close()
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeCertificate makes cert.pem and key.pem for 127.0.0.1 in dir and returns the pool that trusts them.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	writeFile(t, filepath.Join(dir, "cert.pem"), string(certPEM))
	writeFile(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return pool
}
