package golden

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"quantumharvest/kernel"
)

// maxLineBytes bounds one case: a million prices, far beyond any window.
const maxLineBytes = 16 << 20

// Stats counts what Run has done.
type Stats struct {
	Cases   int // lines that were not blank
	Refused int // of those, answered with an error
}

// Run evaluates cases of one kind, a JSON object a line, and writes one answer a line as Eval makes them, each as soon
// as its case has been read. Blank lines are skipped. A case that is refused does not end the run: the error is about
// reading, writing, or an unknown kind.
func Run(kind Kind, r io.Reader, w io.Writer) (Stats, error) {
	var st Stats
	if _, err := ParseKind(string(kind)); err != nil {
		return st, err
	}
	in := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	for {
		var tooLong bool
		var err error
		line, tooLong, err = readLine(in, line[:0])
		if err != nil && !errors.Is(err, io.EOF) {
			return st, fmt.Errorf("read cases: %w", err)
		}
		if text := bytes.TrimSpace(line); len(text) > 0 || tooLong {
			out, refused := evalLine(kind, text, tooLong)
			st.Cases++
			if refused {
				st.Refused++
			}
			if _, werr := w.Write(append(out, '\n')); werr != nil {
				return st, fmt.Errorf("write answer: %w", werr)
			}
		}
		if err != nil {
			return st, nil
		}
	}
}

func evalLine(kind Kind, text []byte, tooLong bool) (out []byte, refused bool) {
	if !tooLong {
		return Eval(kind, text)
	}
	a := answer{ID: []byte("null"), Error: &kernel.FieldError{
		Field: "line", Reason: "is longer than " + strconv.Itoa(maxLineBytes) + " bytes",
	}}
	return a.encode(), true
}

// readLine appends the next line to buf. Of a line that is too long the rest is read and dropped.
func readLine(in *bufio.Reader, buf []byte) (line []byte, tooLong bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(buf)+len(part) > maxLineBytes {
			tooLong = true
			buf = buf[:0]
		}
		if !tooLong {
			buf = append(buf, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return buf, tooLong, err
		}
	}
}
