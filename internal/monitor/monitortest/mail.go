package monitortest

import (
	"bufio"
	"encoding/base64"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Mail is one message that a mail server took.
type Mail struct {
	From     string
	To       []string
	Login    string // user and password, as user:password
	Contents string
}

// MailServer speaks as much SMTP as a client needs to hand over a message, and keeps the messages.
type MailServer struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu   sync.Mutex
	kept []Mail
}

// NewMailServer starts a mail server on a loopback port. It offers no encryption.
func NewMailServer(t testing.TB) *MailServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("mail server: %v", err)
	}
	s := &MailServer{listener: l}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.wg.Wait()
	})
	return s
}

// Addr is host:port.
func (s *MailServer) Addr() string { return s.listener.Addr().String() }

// Kept are the messages so far.
func (s *MailServer) Kept() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.kept)
}

func (s *MailServer) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	say := func(line string) { _, _ = c.Write([]byte(line + "\r\n")) }
	say("220 stand-in")
	var m Mail
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-stand-in\r\n250 AUTH PLAIN")
		case "AUTH":
			raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			m.Login = strings.ReplaceAll(strings.TrimPrefix(string(raw), "\x00"), "\x00", ":")
			say("235 welcome")
		case "MAIL":
			m.From = rest
			say("250 ok")
		case "RCPT":
			m.To = append(m.To, rest)
			say("250 ok")
		case "DATA":
			say("354 go on")
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				m.Contents += line
			}
			s.mu.Lock()
			s.kept = append(s.kept, m)
			s.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}
