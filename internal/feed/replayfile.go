package feed

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"quantumharvest/internal/position"
)

// replayLineBytes bounds one line of a file; a real one has about a hundred bytes.
const replayLineBytes = 4096

// Where the fields of a candle are in a row.
const (
	replayTime = iota
	replayOpen
	replayHigh
	replayLow
	replayClose
	replayFields
)

var replayFieldNames = [replayFields]string{"time", "open", "high", "low", "close"}

// replayColumns are the columns of the five fields.
type replayColumns [replayFields]int

// replayRow is a row that is a candle by itself, not yet judged against its neighbours.
type replayRow struct {
	candle Candle
	line   int
}

// replayReader reads the candles of one file one by one. Rows that are no candle, or cannot follow the candle before
// them, are refused and skipped.
type replayReader struct {
	file     ReplayFile
	interval time.Duration
	refuse   func(Refusal)

	closer  io.Closer
	in      *bufio.Reader
	line    int
	columns replayColumns
	first   string // a first line that is no header: the first row
	ahead   *replayRow
	last    Candle // the last candle given out
	began   bool
}

// openReplay opens the file and reads its header. Without an interval rows are only checked one by one.
func openReplay(file ReplayFile, interval time.Duration, refuse func(Refusal)) (*replayReader, error) {
	f, err := openRegular(file.Path)
	if err != nil {
		return nil, fmt.Errorf("open recording of %s: %w", file.Symbol, err)
	}
	r, err := newReplayReader(f, file, interval, refuse)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.closer = f
	return r, nil
}

// openRegular opens a file that can be read from its beginning more than once. Anything else is refused unopened: the
// opening of a pipe waits for its other end, for ever if need be.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: check the path", err)
	case info.IsDir():
		return nil, fmt.Errorf("%s is a folder: name a file", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file, and it is read more than once: write its content to a file", path)
	}
	return os.Open(path)
}

func newReplayReader(in io.Reader, file ReplayFile, interval time.Duration, refuse func(Refusal)) (*replayReader, error) {
	r := &replayReader{
		file: file, interval: interval, refuse: refuse,
		in: bufio.NewReaderSize(in, 1<<16),
	}
	for {
		text, err := r.readLine()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("recording %s is empty: it needs a header time,open,high,low,close,volume and rows", file.Path)
		}
		if err != nil {
			return nil, err
		}
		text = strings.TrimPrefix(text, "\uFEFF")
		if strings.TrimSpace(text) == "" {
			continue
		}
		fields := splitRow(text)
		if _, reason := parseTime(fields[0]); reason == "" && len(fields) > replayFields {
			// No header: the layout of an exchange's candle archive.
			r.columns, r.first = replayColumns{0, 1, 2, 3, 4}, text
			return r, nil
		}
		if what := foreignText(text); what != "" {
			return nil, fmt.Errorf("recording %s is %s", file.Path, what)
		}
		r.columns, err = headerColumns(fields)
		if err != nil {
			return nil, fmt.Errorf("recording %s:%d: %w", file.Path, r.line, err)
		}
		return r, nil
	}
}

// foreignText says what a first line that is no row of a CSV file looks like, and what to do; blank: it may be a header.
func foreignText(line string) string {
	switch {
	case strings.HasPrefix(line, "\x1f\x8b"), strings.HasPrefix(line, "PK\x03\x04"):
		return "compressed: unpack it first"
	case !utf8.ValidString(line), strings.ContainsRune(line, 0):
		return "not text in UTF-8: give a CSV file"
	case !strings.Contains(line, ",") && strings.ContainsAny(line, ";\t|"):
		return "not separated by commas: write time,open,high,low,close,volume"
	}
	return ""
}

// headerColumns finds the fields by their names, in any order and case.
func headerColumns(header []string) (replayColumns, error) {
	columns := replayColumns{-1, -1, -1, -1, -1}
	for i, name := range header {
		name = strings.NewReplacer("_", "", " ", "").Replace(strings.ToLower(name))
		field := -1
		switch name {
		case "time", "timestamp", "opentime", "date", "datetime":
			field = replayTime
		case "open":
			field = replayOpen
		case "high":
			field = replayHigh
		case "low":
			field = replayLow
		case "close":
			field = replayClose
		default:
			continue
		}
		if columns[field] >= 0 {
			return columns, fmt.Errorf("header names %s twice: remove or rename one column", replayFieldNames[field])
		}
		columns[field] = i
	}
	for field, column := range columns {
		if column < 0 {
			return columns, fmt.Errorf("first line is neither a header with time,open,high,low,close (no %s: got %q) nor a row of at least six numbers",
				replayFieldNames[field], shorten(strings.Join(header, ",")))
		}
	}
	return columns, nil
}

func splitRow(text string) []string {
	fields := strings.Split(text, ",")
	for i, f := range fields {
		f = strings.TrimSpace(f)
		if len(f) >= 2 && f[0] == '"' && f[len(f)-1] == '"' {
			f = f[1 : len(f)-1]
		}
		fields[i] = f
	}
	return fields
}

// Close releases the file.
func (r *replayReader) Close() error {
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}

func (r *replayReader) key(line int) string { return r.file.Path + ":" + strconv.Itoa(line) }

func (r *replayReader) refuseLine(line int, f flaw) {
	r.refuse(f.refusal(replayName, r.key(line), r.file.Symbol, time.Time{}))
}

// readLine gives the next line without its end. Lines beyond the limit are refused and skipped.
func (r *replayReader) readLine() (string, error) {
	var line []byte
	tooLong := false
	for {
		part, err := r.in.ReadSlice('\n')
		if len(line)+len(part) > replayLineBytes {
			if !tooLong {
				line, tooLong = append(line, part[:min(len(part), shortenBytes)]...), true
			}
		} else if !tooLong {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) == 0:
			return "", io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return "", fmt.Errorf("read recording %s after line %d: %w", r.file.Path, r.line, err)
		}
		r.line++
		if tooLong {
			r.refuseLine(r.line, flaw{"row", ReasonTooLarge, string(line[:min(len(line), shortenBytes)])})
			if err != nil {
				return "", io.EOF
			}
			line, tooLong = line[:0], false
			continue
		}
		return string(bytes.TrimRight(line, "\r\n")), nil
	}
}

// readRow gives the next row that is a candle by itself; io.EOF at the end.
func (r *replayReader) readRow() (*replayRow, error) {
	for {
		text := r.first
		if r.first = ""; text == "" {
			var err error
			if text, err = r.readLine(); err != nil {
				return nil, err
			}
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		candle, bad, ok := decodeReplayRow(r.file.Symbol, text, r.columns)
		if !ok {
			r.refuseLine(r.line, bad)
			continue
		}
		candle.Interval = r.interval
		return &replayRow{candle: candle, line: r.line}, nil
	}
}

// decodeReplayRow checks one row field by field.
func decodeReplayRow(symbol position.Symbol, text string, columns replayColumns) (Candle, flaw, bool) {
	c := Candle{Symbol: symbol, Closed: true}
	fields := splitRow(text)
	get := func(field int) string {
		if columns[field] < len(fields) {
			return fields[columns[field]]
		}
		return ""
	}
	at, reason := parseTime(get(replayTime))
	if reason != "" {
		return c, flaw{replayFieldNames[replayTime], reason, get(replayTime)}, false
	}
	c.OpenTime = at
	for i, into := range [...]*float64{&c.Open, &c.High, &c.Low, &c.Close} {
		field := replayOpen + i
		price, reason := parseNumber(get(field))
		if reason != "" {
			return c, flaw{replayFieldNames[field], reason, get(field)}, false
		}
		*into = price
	}
	bad, is := candleFlaw(c)
	return c, bad, !is
}

// next gives the next candle in order; io.EOF at the end. A row is only judged when the one behind it is known: a
// single stray time far ahead must not make all that follow look old.
func (r *replayReader) next() (Candle, error) {
	for {
		row := r.ahead
		if r.ahead = nil; row == nil {
			var err error
			if row, err = r.readRow(); err != nil {
				return Candle{}, err
			}
		}
		if r.began && !r.follows(row) {
			continue
		}
		gap := r.began && row.candle.OpenTime.Sub(r.last.OpenTime) > r.interval
		if gap || !r.began {
			after, err := r.readRow()
			if err != nil && !errors.Is(err, io.EOF) {
				return Candle{}, err
			}
			r.ahead = after
			if after != nil && after.candle.OpenTime.Before(row.candle.OpenTime) &&
				(!r.began || after.candle.OpenTime.After(r.last.OpenTime)) {
				r.refuseLine(row.line, flaw{"time", ReasonOutOfOrder, row.candle.OpenTime.Format(time.RFC3339)})
				continue
			}
		}
		if gap {
			r.refuseLine(row.line, flaw{"time", ReasonGap, fmt.Sprintf("%s after %s",
				row.candle.OpenTime.Format(time.RFC3339), r.last.OpenTime.Format(time.RFC3339))})
		}
		r.last, r.began = row.candle, true
		return row.candle, nil
	}
}

// follows judges a row against the candle before it.
func (r *replayReader) follows(row *replayRow) bool {
	text := row.candle.OpenTime.Format(time.RFC3339)
	switch distance := row.candle.OpenTime.Sub(r.last.OpenTime); {
	case distance == 0 && samePrices(row.candle, r.last):
		return false // the same row twice says nothing new
	case distance == 0:
		r.refuseLine(row.line, flaw{"time", ReasonDuplicate, text})
		return false
	case distance < 0:
		r.refuseLine(row.line, flaw{"time", ReasonOutOfOrder, text})
		return false
	case distance < r.interval:
		r.refuseLine(row.line, flaw{"time", ReasonDomain, text}) // it overlaps the candle before it
		return false
	}
	return true
}
