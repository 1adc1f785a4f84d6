package embedded

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	maxArguments = 1 << 20
	maxCommand   = 64 << 20 // bytes of one command
	maxLine      = 64 << 10
	readBuffer   = 16 << 10
)

// guard lets only well-formed commands through to the library, which would bring the process down on an empty command
// or a length that no machine has. It also turns inline commands ("PING" typed into a socket) into the usual form.
type guard struct {
	net.Conn
	in      *bufio.Reader
	pending bytes.Buffer
}

func newGuard(c net.Conn) *guard { return &guard{Conn: c, in: bufio.NewReaderSize(c, readBuffer)} }

// Read gives the bytes of checked commands.
func (g *guard) Read(p []byte) (int, error) {
	for g.pending.Len() == 0 {
		g.pending.Reset()
		err := nextCommand(g.in, &g.pending)
		if err == nil {
			continue
		}
		g.pending.Reset()
		var bad protocolError
		if errors.As(err, &bad) {
			_ = g.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = fmt.Fprintf(g.Conn, "-ERR Protocol error: %s\r\n", bad)
			return 0, io.EOF
		}
		return 0, err
	}
	return g.pending.Read(p)
}

type protocolError string

func (e protocolError) Error() string { return string(e) }

// nextCommand copies one command from in to out. An empty command copies nothing.
func nextCommand(in *bufio.Reader, out *bytes.Buffer) error {
	line, err := readLine(in)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "*") {
		words := strings.Fields(line)
		if len(words) > 0 {
			appendCommand(out, words...)
		}
		return nil
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil || n > maxArguments {
		return protocolError("invalid multibulk length")
	}
	if n <= 0 {
		return nil
	}
	fmt.Fprintf(out, "*%d\r\n", n)
	for range n {
		line, err := readLine(in)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, "$") {
			return protocolError("expected '$'")
		}
		size, err := strconv.Atoi(line[1:])
		if err != nil || size < 0 || size > maxCommand-out.Len() {
			return protocolError("invalid bulk length")
		}
		fmt.Fprintf(out, "$%d\r\n", size)
		if _, err := io.CopyN(out, in, int64(size)); err != nil {
			return err
		}
		var end [2]byte
		if _, err := io.ReadFull(in, end[:]); err != nil {
			return err
		}
		if end != [2]byte{'\r', '\n'} {
			return protocolError("bulk does not end where it says")
		}
		out.WriteString("\r\n")
	}
	return nil
}

// readLine reads up to the next line end, without it.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return "", protocolError("too big inline request")
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(line), "\r\n"), nil
	}
}

// appendCommand writes a command as an array of bulk strings.
func appendCommand(out *bytes.Buffer, words ...string) {
	fmt.Fprintf(out, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(out, "$%d\r\n%s\r\n", len(w), w)
	}
}
