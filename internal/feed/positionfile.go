package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"quantumharvest/internal/position"
)

const (
	positionFileName = "file"
	// positionFileBytes is the largest file that is read.
	positionFileBytes = 16 << 20
)

// PositionFileOptions say where a position file lies.
type PositionFileOptions struct {
	Path string
	Poll time.Duration    // between reads; 0: one second
	Log  *slog.Logger     // nil: nothing is logged
	Now  func() time.Time // nil: time.Now
}

// PositionFile reads open positions from a JSON file: an array of records that name their symbol, or an object of
// records by symbol, with the fields of the wire contract.
//
// The file is read anew with every poll, and every reading that makes sense as a whole is evidence, an empty list too.
// A file that is missing or makes no sense is an outage, and what was read before stands. Times in it are strategy
// time.
type PositionFile struct {
	opts    PositionFileOptions
	defects *defectBook

	content []byte
	known   bool // content was read, and makes sense as a whole
	result  filePositions
	away    outage
}

// filePositions is what a file says.
type filePositions struct {
	records []position.Record
	refused []position.Symbol
	flaws   map[string]fileFlaws // by place in the file
	// nameless: some record does not even name its symbol, so that nothing can be said to be absent.
	nameless bool
}

type fileFlaws struct {
	symbol position.Symbol
	flaws  []flaw
}

// NewPositionFile checks the options; it does not read the file.
func NewPositionFile(opts PositionFileOptions) (*PositionFile, error) {
	if opts.Path == "" {
		return nil, errors.New("position file: no path")
	}
	if opts.Poll <= 0 {
		opts.Poll = time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &PositionFile{opts: opts, defects: newDefectBook(positionFileName)}, nil
}

// Name is "file".
func (*PositionFile) Name() string { return positionFileName }

// Run polls until ctx ends. An outage is reported at first and then every ten seconds.
func (f *PositionFile) Run(ctx context.Context, sink Sink) error {
	ticker := time.NewTicker(f.opts.Poll)
	defer ticker.Stop()
	for {
		f.poll(sink)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (f *PositionFile) poll(sink Sink) {
	at := f.opts.Now()
	bad, err := f.read()
	if err != nil {
		var flaws []flaw
		if bad != (flaw{}) {
			flaws = append(flaws, bad)
		}
		f.defects.set(f.opts.Path, "", flaws, at, sink)
		f.defects.repeat(at, sink)
		f.away.note(positionFileName, fmt.Errorf("read position file: %w", err), at, f.opts.Log, sink)
		return
	}
	f.away.note(positionFileName, nil, at, f.opts.Log, sink)
	for key := range f.defects.standing {
		if _, still := f.result.flaws[key]; !still {
			f.defects.set(key, "", nil, at, sink)
		}
	}
	for key, bad := range f.result.flaws {
		f.defects.set(key, bad.symbol, bad.flaws, at, sink)
	}
	f.defects.repeat(at, sink)
	sink(Snapshot{Snapshot: position.Snapshot{
		Source: positionFileName, At: at, Complete: !f.result.nameless, Alive: true, Strategy: true,
		Records: f.result.records, Refused: f.result.refused,
	}})
}

// read brings result up to date with the file. Where it returns an error the result is of no use; the flaw says what is
// wrong with the content, if that is it.
func (f *PositionFile) read() (flaw, error) {
	file, err := openRegular(f.opts.Path)
	if err != nil {
		return flaw{}, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, positionFileBytes+1))
	if err != nil {
		return flaw{}, err
	}
	if len(content) > positionFileBytes {
		return flaw{reason: ReasonTooLarge}, fmt.Errorf("%s is larger than %d bytes", f.opts.Path, positionFileBytes)
	}
	if f.known && bytes.Equal(content, f.content) {
		return flaw{}, nil
	}
	f.known = false
	result, err := decodePositionFile(f.opts.Path, content)
	if err != nil {
		var at *fileError
		if errors.As(err, &at) {
			return flaw{reason: ReasonUnreadable, value: at.place()}, err
		}
		return flaw{reason: ReasonUnreadable}, err
	}
	f.content, f.result, f.known = content, result, true
	return flaw{}, nil
}

// fileError is content that is not what a position file holds.
type fileError struct {
	path         string
	line, offset int
	err          error
}

func (e *fileError) place() string { return fmt.Sprintf("line %d, byte %d", e.line, e.offset) }

func (e *fileError) Error() string {
	return fmt.Sprintf("%s, %s: %v (want a JSON array of position records, or an object of them by symbol)", e.path, e.place(), e.err)
}

// decodePositionFile reads a whole file. Records stand for themselves: one that is wrong is among the flaws and takes
// no other with it. The error is a *fileError.
func decodePositionFile(path string, content []byte) (filePositions, error) {
	result := filePositions{flaws: make(map[string]fileFlaws)}
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	fail := func(err error) (filePositions, error) {
		offset := int(dec.InputOffset())
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			offset = int(syntax.Offset)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err, offset = errors.New("the file ends too early"), len(content)
		}
		offset = min(offset, len(content))
		return filePositions{}, &fileError{path, lineAt(content, offset), offset, err}
	}
	open, err := dec.Token()
	if err != nil {
		return fail(err)
	}
	keyed := open == json.Delim('{')
	if !keyed && open != json.Delim('[') {
		return fail(errors.New("neither an array nor an object"))
	}
	seen := make(map[position.Symbol]bool)
	for dec.More() {
		place := int(dec.InputOffset())
		name := ""
		if keyed {
			token, err := dec.Token()
			if err != nil {
				return fail(err)
			}
			name, _ = token.(string)
		}
		var text json.RawMessage
		if err := dec.Decode(&text); err != nil {
			return fail(err)
		}
		result.take(path+":"+strconv.Itoa(lineOfNext(content, place)), keyed, name, text, seen)
	}
	if _, err := dec.Token(); err != nil {
		return fail(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fail(errors.New("something follows the end of the list"))
	}
	return result, nil
}

// take takes one record; name is its key where the file is an object.
func (r *filePositions) take(place string, keyed bool, name string, text []byte, seen map[position.Symbol]bool) {
	var sym position.Symbol
	refuse := func(flaws ...flaw) {
		// Several records may stand in one line.
		for i := 1; ; i++ {
			key := place
			if i > 1 {
				key += "#" + strconv.Itoa(i)
			}
			if _, taken := r.flaws[key]; !taken {
				r.flaws[key] = fileFlaws{sym, flaws}
				return
			}
		}
	}
	if keyed {
		var err error
		if sym, err = position.ParseSymbol(name); err != nil || string(sym) != name {
			sym = ""
			refuse(flaw{"key", ReasonSymbol, name})
			return // nothing that could ever have been a position
		}
	}
	raw, bad, ok := parseRecordJSON(text)
	flaws := []flaw{bad}
	var rec position.Record
	if ok {
		rec, flaws, ok = decodeRecord(sym, raw, time.Time{})
		sym = rec.Symbol
	}
	switch {
	case sym == "":
		r.nameless = true
		refuse(flaws...)
	case seen[sym]:
		refuse(flaw{"symbol", ReasonDuplicate, string(sym)})
	case !ok:
		seen[sym] = true
		r.refused = append(r.refused, sym)
		refuse(flaws...)
	default:
		seen[sym] = true
		r.records = append(r.records, rec)
	}
}

func lineAt(content []byte, offset int) int { return 1 + bytes.Count(content[:offset], []byte("\n")) }

// lineOfNext is the line of the first thing that begins at or after offset.
func lineOfNext(content []byte, offset int) int {
	for offset < len(content) && bytes.IndexByte([]byte(" \t\r\n,"), content[offset]) >= 0 {
		offset++
	}
	return lineAt(content, min(offset, len(content)))
}
