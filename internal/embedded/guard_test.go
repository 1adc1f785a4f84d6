package embedded

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestGuardKeepsTheProcessAlive(t *testing.T) {
	s := start(t, Options{})
	for name, c := range map[string]struct{ send, want string }{
		"an empty command":       {"*0\r\n*1\r\n$4\r\nPING\r\n", "+PONG\r\n"},
		"a negative count":       {"*-1\r\n*1\r\n$4\r\nPING\r\n", "+PONG\r\n"},
		"a blank line":           {"\r\nPING\r\n", "+PONG\r\n"},
		"a bare newline":         {"PING\n", "+PONG\r\n"},
		"an inline command":      {"ECHO hello\r\n", "$5\r\nhello\r\n"},
		"an endless bulk":        {"*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
		"a length beyond int":    {"*1\r\n$99999999999999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
		"a negative bulk":        {"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
		"too many arguments":     {"*99999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		"something else inside":  {"*1\r\n:1\r\n", "-ERR Protocol error: expected '$'\r\n"},
		"a bulk of other length": {"*1\r\n$2\r\nPING\r\n", "-ERR Protocol error: bulk does not end where it says\r\n"},
		"an endless line":        {strings.Repeat("x", maxLine+readBuffer), "-ERR Protocol error: too big inline request\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.WriteString(conn, c.send); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(c.want))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != c.want {
				t.Fatalf("answer %q, %v; want %q", got, err, c.want)
			}
		})
	}
	if got := do(t, client(t, s.Addr(), 0), "PING"); got != "PONG" {
		t.Fatalf("PING = %v", got)
	}
}

func FuzzCommand(f *testing.F) {
	f.Add([]byte("*1\r\n$4\r\nPING\r\n"))
	f.Add([]byte("PING\r\n"))
	f.Add([]byte("*0\r\n"))
	f.Add([]byte("*2\r\n$-1\r\n$0\r\n\r\n"))
	f.Add([]byte("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		in := bufio.NewReader(bytes.NewReader(input))
		for {
			var out bytes.Buffer
			err := nextCommand(in, &out)
			if err != nil {
				return
			}
			if out.Len() == 0 {
				continue
			}
			args := words(out.Bytes())
			if len(args) == 0 {
				t.Fatalf("%q came through as %q", input, out.String())
			}
			var again bytes.Buffer
			appendCommand(&again, args...)
			if again.String() != out.String() {
				t.Fatalf("%q became %q", out.String(), again.String())
			}
		}
	})
}

func FuzzReadImage(f *testing.F) {
	var good bytes.Buffer
	appendCommand(&good, "SELECT", "0")
	appendCommand(&good, "HSET", "a", "b", "c")
	appendCommand(&good, "ECHO", seal(good.Bytes()))
	f.Add(good.Bytes())
	f.Add([]byte(""))
	f.Add([]byte("*1\r\n$4\r\nECHO\r\n"))
	f.Fuzz(func(t *testing.T, image []byte) {
		commands, err := readImage(image)
		if err != nil {
			return
		}
		for _, c := range commands {
			if !loadable[c[0]] {
				t.Fatalf("%v came out of a snapshot", c)
			}
		}
	})
}
