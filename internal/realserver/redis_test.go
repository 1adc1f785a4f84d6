//go:build unix

package realserver_test

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/realserver"
)

func ask(t *testing.T, addr, command string) (string, error) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte(command + "\r\n")); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

func TestRedisLivesDiesAndComesBackEmpty(t *testing.T) {
	r := realserver.Redis(t)
	if got, err := ask(t, r.Addr(), "SET a 1"); err != nil || got != "+OK" {
		t.Fatalf("SET = %q, %v", got, err)
	}
	r.Kill()
	if got, err := ask(t, r.Addr(), "PING"); err == nil {
		t.Fatalf("a killed server answers %q", got)
	}
	r.Restart()
	if got, err := ask(t, r.Addr(), "EXISTS a"); err != nil || got != ":0" {
		t.Fatalf("after a restart EXISTS = %q, %v", got, err)
	}
}

func TestPausedRedisAnswersOnlyAfterContinue(t *testing.T) {
	r := realserver.Redis(t)
	r.Pause()
	answer := make(chan string, 1)
	go func() {
		got, _ := ask(t, r.Addr(), "PING")
		answer <- got
	}()
	select {
	case got := <-answer:
		t.Fatalf("a paused server answers %q", got)
	case <-time.After(50 * time.Millisecond):
	}
	r.Continue()
	if got := <-answer; got != "+PONG" {
		t.Fatalf("after Continue PING = %q", got)
	}
}

func TestTwoServersDoNotMeet(t *testing.T) {
	a, b := realserver.Redis(t), realserver.Redis(t)
	if a.Addr() == b.Addr() || a.Socket() == b.Socket() {
		t.Fatalf("two servers share %s or %s", a.Addr(), a.Socket())
	}
}
