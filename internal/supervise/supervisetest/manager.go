//go:build linux

// Package supervisetest is a service manager for tests: it takes down what a process of ours tells it.
package supervisetest

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Manager listens on a notification socket.
type Manager struct {
	Socket string

	mu    sync.Mutex
	heard []Message
}

// Message is one datagram.
type Message struct {
	At    time.Time
	Lines []string
}

// New opens a socket in a folder of the test, or with abstract one without a file, and puts it with the time of the watchdog
// (0: none) into the environment.
func New(t testing.TB, abstract bool, watchdog time.Duration) *Manager {
	t.Helper()
	m := &Manager{Socket: filepath.Join(t.TempDir(), "notify")}
	if abstract {
		m.Socket = "@" + strings.ReplaceAll(m.Socket, "/", "-")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.Socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.heard = append(m.heard, Message{time.Now(), strings.Split(string(buf[:n]), "\n")})
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	if s, ok := t.(interface{ Setenv(key, value string) }); ok {
		s.Setenv("NOTIFY_SOCKET", m.Socket)
		if watchdog > 0 {
			s.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
		}
	}
	return m
}

// Heard is what was told so far.
func (m *Manager) Heard() []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Message(nil), m.heard...)
}

// Count counts the lines that begin so, of messages after a moment.
func (m *Manager) Count(prefix string, after time.Time) int {
	n := 0
	for _, msg := range m.Heard() {
		for _, line := range msg.Lines {
			if msg.At.After(after) && strings.HasPrefix(line, prefix) {
				n++
			}
		}
	}
	return n
}

// Last is the last line that begins so; blank where there is none.
func (m *Manager) Last(prefix string) string {
	last := ""
	for _, msg := range m.Heard() {
		for _, line := range msg.Lines {
			if strings.HasPrefix(line, prefix) {
				last = line
			}
		}
	}
	return last
}

// Await waits until that many lines that begin so were told after a moment.
func (m *Manager) Await(t testing.TB, prefix string, n int, after time.Time, limit time.Duration) {
	t.Helper()
	for end := time.Now().Add(limit); m.Count(prefix, after) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q was told %d times within %s, want %d; heard %v", prefix, m.Count(prefix, after), limit, n, m.Heard())
		}
	}
}
