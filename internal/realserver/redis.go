//go:build unix

package realserver

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// readyWithin is how long a server may take to start or stop on a loaded machine.
const readyWithin = 30 * time.Second

// RedisServer is one running redis-server: on a free loopback port and on a unix socket, without persistence.
type RedisServer struct {
	t      testing.TB
	binary string
	dir    string
	port   int
	tls    *certificates
	user   string
	pass   string
	acl    string

	// What a server has that is one of several.
	conf     string   // configuration that the server reads and may rewrite; blank: none
	sentinel bool     // a Sentinel, which keeps no data
	bus      int      // port on which the nodes of a Cluster talk; 0: a server of its own
	flags    []string // arguments besides those of every server
	insider  bool     // the ACL has a user for the servers among themselves, and for the harness

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	pid    int // of redis-server itself, which a wrapper may have started
	paused bool
	log    bytes.Buffer
}

// RedisOption changes how a RedisServer is started.
type RedisOption func(*RedisServer)

// WithTLS makes the port speak TLS only, under a certificate for localhost and 127.0.0.1 from an authority of its own.
// A client must show a certificate, too.
func WithTLS() RedisOption {
	return func(r *RedisServer) { r.tls = new(certificates) }
}

// WithUser adds an ACL user with the given rules ("~quantum:* +@all") and switches the default user off.
func WithUser(name, password, rules string) RedisOption {
	return func(r *RedisServer) { r.user, r.pass, r.acl = name, password, rules }
}

// Redis starts a redis-server and waits until it answers. It is stopped when the test ends.
func Redis(t testing.TB, opts ...RedisOption) *RedisServer {
	t.Helper()
	r := newRedis(t, opts)
	if r.tls != nil {
		r.tls = newCertificates(t, r.dir)
	}
	r.launch()
	return r
}

// newRedis is a server that does not run yet.
func newRedis(t testing.TB, opts []RedisOption) *RedisServer {
	t.Helper()
	r := &RedisServer{t: t, binary: Tool(t, "redis-server"), dir: Dir(t)}
	for _, o := range opts {
		o(r)
	}
	return r
}

// launch starts the server for the first time, on ports of its own. Another process may take a free port before
// redis-server does: then the next one is tried.
func (r *RedisServer) launch() {
	r.t.Helper()
	r.t.Cleanup(r.Kill)
	var err error
	for range 5 {
		r.port = FreePort(r.t)
		if r.bus != 0 {
			r.bus = FreePort(r.t)
		}
		if err = r.start(); err == nil {
			return
		}
	}
	r.t.Fatalf("redis-server does not start: %v\n%s", err, r.log.String())
}

// Addr is host:port.
func (r *RedisServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

// Port is the TCP port.
func (r *RedisServer) Port() int { return r.port }

// Socket is the path of the unix socket, which never speaks TLS.
func (r *RedisServer) Socket() string { return filepath.Join(r.dir, "redis.sock") }

// URL is the address with scheme and credentials.
func (r *RedisServer) URL() string {
	u := url.URL{Scheme: "redis", Host: r.Addr(), Path: "/0"}
	if r.tls != nil {
		u.Scheme = "rediss"
	}
	if r.user != "" {
		u.User = url.UserPassword(r.user, r.pass)
	}
	return u.String()
}

// CAFile, CertFile and KeyFile are the PEM files a TLS client needs; blank without WithTLS.
func (r *RedisServer) CAFile() string { return r.tls.file("ca.pem") }

// CertFile is the client certificate.
func (r *RedisServer) CertFile() string { return r.tls.file("client.pem") }

// KeyFile is the key of the client certificate.
func (r *RedisServer) KeyFile() string { return r.tls.file("client.key") }

// Kill ends the server at once, as a crash does. What it held is gone.
func (r *RedisServer) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
		return
	}
	_ = syscall.Kill(r.pid, syscall.SIGKILL)
	_ = r.cmd.Process.Kill()
	<-r.exited
	r.cmd, r.paused = nil, false
}

// Restart ends the server and starts it again, empty, on the same port.
func (r *RedisServer) Restart() {
	r.t.Helper()
	r.Kill()
	if err := r.start(); err != nil {
		r.t.Fatalf("redis-server does not start again: %v\n%s", err, r.log.String())
	}
}

// Pause stops the process as SIGSTOP does: connections stay open and nothing is answered.
func (r *RedisServer) Pause() { r.signal(syscall.SIGSTOP) }

// Continue lets a paused process go on.
func (r *RedisServer) Continue() { r.signal(syscall.SIGCONT) }

func (r *RedisServer) signal(sig syscall.Signal) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
		r.t.Fatalf("redis-server is not running")
	}
	if err := syscall.Kill(r.pid, sig); err != nil {
		r.t.Fatalf("signal redis-server: %v", err)
	}
	r.paused = sig == syscall.SIGSTOP
}

// answering tells whether the server can be expected to answer: it runs and is not paused.
func (r *RedisServer) answering() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cmd != nil && !r.paused
}

func (r *RedisServer) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	pidFile := filepath.Join(r.dir, "redis.pid")
	_ = os.Remove(pidFile)
	_ = os.Remove(r.Socket())
	args, err := r.arguments(pidFile)
	if err != nil {
		return err
	}
	cmd := exec.Command(r.binary, args...)
	r.log.Reset()
	cmd.Stdout, cmd.Stderr = &r.log, &r.log
	cmd.WaitDelay = readyWithin
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	r.cmd, r.exited, r.pid = cmd, exited, cmd.Process.Pid
	deadline := time.Now().Add(readyWithin)
	for time.Now().Before(deadline) {
		if answers(r.Socket()) {
			return r.findPID(pidFile)
		}
		select {
		case <-exited:
			r.cmd = nil
			return fmt.Errorf("it ended by itself: %v", cmd.ProcessState)
		case <-time.After(5 * time.Millisecond):
		}
	}
	_ = cmd.Process.Kill()
	<-exited
	r.cmd = nil
	return fmt.Errorf("no answer within %s", readyWithin)
}

// arguments are those of the command line; users go into a file beside it.
func (r *RedisServer) arguments(pidFile string) ([]string, error) {
	var args []string
	if r.conf != "" {
		args = append(args, r.conf)
	}
	if r.sentinel {
		args = append(args, "--sentinel")
	}
	args = append(args,
		"--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", r.dir,
		"--unixsocket", r.Socket(), "--pidfile", pidFile, "--loglevel", "warning", "--logfile", "")
	if r.tls != nil {
		args = append(args, "--port", "0", "--tls-port", strconv.Itoa(r.port), "--tls-cert-file", r.tls.file("server.pem"),
			"--tls-key-file", r.tls.file("server.key"), "--tls-ca-cert-file", r.tls.file("ca.pem"),
			"--tls-replication", "yes", "--tls-cluster", "yes")
	} else {
		args = append(args, "--port", strconv.Itoa(r.port))
	}
	if r.bus != 0 {
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(r.bus))
	}
	args = append(args, r.flags...)
	if r.user == "" {
		return args, nil
	}
	file := filepath.Join(r.dir, "users.acl")
	rules := fmt.Sprintf("user default off\nuser %s on >%s %s\n", r.user, r.pass, r.acl)
	if r.insider {
		rules += fmt.Sprintf("user %s on >%s ~* &* +@all\n", insiderName, insiderPassword)
	}
	return append(args, "--aclfile", file), os.WriteFile(file, []byte(rules), 0o600)
}

// findPID reads the process id that redis-server itself wrote: the process started may be a wrapper around it.
func (r *RedisServer) findPID(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	r.pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	return err
}

// answers asks for a PONG; a refusal for lack of a password is an answer, too.
func answers(socket string) bool {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return err == nil && (strings.HasPrefix(line, "+PONG") || strings.HasPrefix(line, "-NOAUTH"))
}
