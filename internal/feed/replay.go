package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"quantumharvest/internal/position"
)

const (
	replayName = "replay"
	// defaultHistory is the window of the market-state kernel with room to spare.
	defaultHistory = 300
	// replayPause is the shortest sleep: at high speed the bars that fall due within it go out in one batch.
	replayPause = 2 * time.Millisecond
)

// ReplayFile is one recording: the candles of one symbol.
type ReplayFile struct {
	Symbol position.Symbol
	Path   string
}

// ReplayOptions say what is replayed and how fast.
type ReplayOptions struct {
	Files       []ReplayFile // one for each symbol
	Speed       float64      // virtual seconds a second, above 0 and at most 1e6; 0: 1
	HistoryBars int          // bars a symbol starts with; 0: 300
	Now         func() time.Time
}

// Replay plays recorded candles as if they happened now. The first bars of each file are its history, given out at
// once; a virtual clock, shared by all symbols, maps the rest to wall time, and a bar goes out when that clock passes
// its close. Bars due at the same virtual time go out together, in order, and none is ever skipped: a consumer that
// cannot keep up slows the replay, not thins it.
//
// A recording holds no prices within a bar, so none are made up: the price moves once per bar. Where the files start at
// different times, the clock starts when the last of them has its history, and the others start with newer history.
//
// Replay is also the Clock in which the recording passes. It stands still until Run begins, and again once the
// recordings have ended.
type Replay struct {
	*virtualClock
	files       []ReplayFile
	intervals   []time.Duration
	historyBars int
	now         func() time.Time
}

// Name is "replay".
func (*Replay) Name() string { return replayName }

// ParseReplayFiles reads the argument of a file feed: paths of CSV files, separated by commas, each either SYM=path or
// a path whose file name holds the symbol, such as binance_um_BTCUSDT_1m.csv.
func ParseReplayFiles(arg string) ([]ReplayFile, error) {
	var files []ReplayFile
	var errs []error
	for _, item := range strings.Split(arg, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		file, err := parseReplayFile(item)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		files = append(files, file)
	}
	if len(files) == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("no recording named: give CSV files, as in file:BTCUSDT.csv,ETHUSDT=path.csv"))
	}
	errs = append(errs, doubledSymbols(files)...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return files, nil
}

func doubledSymbols(files []ReplayFile) []error {
	var errs []error
	seen := make(map[position.Symbol]string, len(files))
	for _, f := range files {
		if first, ok := seen[f.Symbol]; ok {
			errs = append(errs, fmt.Errorf("recordings %s and %s are both for %s: name them apart, as in SYM=%s",
				first, f.Path, f.Symbol, f.Path))
			continue
		}
		seen[f.Symbol] = f.Path
	}
	return errs
}

func parseReplayFile(item string) (ReplayFile, error) {
	if name, path, ok := strings.Cut(item, "="); ok {
		symbol, err := position.ParseSymbol(name)
		switch {
		// An equals sign may also be part of a path.
		case strings.HasPrefix(name, "/"), strings.HasPrefix(name, "."), err != nil && strings.ContainsAny(name, `/\`):
		case err != nil:
			return ReplayFile{}, fmt.Errorf("recording %q: %w", item, err)
		case strings.TrimSpace(path) == "":
			return ReplayFile{}, fmt.Errorf("recording %q names no file: write %s=path.csv", item, symbol)
		default:
			return ReplayFile{Symbol: symbol, Path: strings.TrimSpace(path)}, nil
		}
	}
	symbol, err := symbolOfFile(filepath.Base(item))
	if err != nil {
		return ReplayFile{}, fmt.Errorf("recording %s: %w: write SYM=%s", item, err, item)
	}
	return ReplayFile{Symbol: symbol, Path: item}, nil
}

// Quote assets by which a symbol in a file name is known; the first group is asked first, because the second holds
// names that end other words too.
var quoteAssets = [][]string{
	{"FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD"},
	{"BTC", "ETH", "BNB", "EUR", "PERP"},
}

// symbolOfFile finds the one symbol in a file name.
func symbolOfFile(name string) (position.Symbol, error) {
	words := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for _, quotes := range quoteAssets {
		var found position.Symbol
		for _, word := range words {
			word = strings.ToUpper(word)
			if !endsInQuote(word, quotes) {
				continue
			}
			symbol, err := position.ParseSymbol(word)
			if err != nil || symbol == found {
				continue
			}
			if found != "" {
				return "", fmt.Errorf("file name holds both %s and %s", found, symbol)
			}
			found = symbol
		}
		if found != "" {
			return found, nil
		}
	}
	return "", errors.New("file name holds no symbol such as BTCUSDT")
}

func endsInQuote(word string, quotes []string) bool {
	for _, group := range quoteAssets {
		for _, quote := range group {
			if word == quote {
				return false // the quote asset alone is no pair
			}
		}
	}
	for _, quote := range quotes {
		if strings.HasSuffix(word, quote) {
			return true
		}
	}
	return false
}

// NewReplay looks through the recordings and sets the clock. Every file must be readable, hold more candles than the
// history takes, and overlap in time with the others; the error names each file that does not, and what to do.
func NewReplay(opts ReplayOptions) (*Replay, error) {
	if len(opts.Files) == 0 {
		return nil, errors.New("replay: no recordings")
	}
	r := &Replay{
		files: opts.Files, intervals: make([]time.Duration, len(opts.Files)),
		historyBars: opts.HistoryBars, now: opts.Now,
	}
	if r.historyBars == 0 {
		r.historyBars = defaultHistory
	}
	if r.now == nil {
		r.now = time.Now
	}
	var errs []error
	if r.historyBars < 0 {
		errs = append(errs, fmt.Errorf("history is %d bars: it must be positive", opts.HistoryBars))
	}
	if _, err := checkSpeed(opts.Speed); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, doubledSymbols(opts.Files)...)
	if len(errs) > 0 {
		return nil, fmt.Errorf("replay: %w", errors.Join(errs...))
	}
	var start time.Time
	latest := 0
	for i, file := range r.files {
		interval, ready, err := r.survey(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.intervals[i] = interval
		if ready.After(start) {
			start, latest = ready, i
		}
	}
	if len(errs) == 0 {
		for i, file := range r.files {
			if err := r.reaches(file, r.intervals[i], start, r.files[latest]); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("replay: %w", errors.Join(errs...))
	}
	var err error
	if r.virtualClock, err = newVirtualClock(start, opts.Speed); err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return r, nil
}

// survey finds the interval of a recording and the time at which its history is complete.
func (r *Replay) survey(file ReplayFile) (interval time.Duration, ready time.Time, err error) {
	var refused int
	var first Refusal
	count := func(f Refusal) {
		if refused++; refused == 1 {
			first = f
		}
	}
	// why is what is said of those that were refused, if any.
	why := func() string {
		if refused == 0 {
			return ""
		}
		return fmt.Sprintf(" (%d refused, first: %v)", refused, first)
	}
	rows, err := openReplay(file, 0, count)
	if err != nil {
		return 0, ready, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var times []time.Time
	for len(times) <= r.historyBars {
		row, err := rows.readRow()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, ready, err
		}
		times = append(times, row.candle.OpenTime)
	}
	if len(times) == 0 {
		if refused > 0 {
			return 0, ready, fmt.Errorf("recording %s has no valid row%s", file.Path, why())
		}
		return 0, ready, fmt.Errorf("recording %s has a header and no rows", file.Path)
	}
	if interval = commonInterval(times); interval == 0 {
		return 0, ready, fmt.Errorf("recording %s has no two rows in rising order of time: sort it, oldest first", file.Path)
	}
	refused = 0
	candles, err := openReplay(file, interval, count)
	if err != nil {
		return 0, ready, err
	}
	defer func() { err = errors.Join(err, candles.Close()) }()
	for n := 0; n <= r.historyBars; n++ {
		c, err := candles.next()
		if errors.Is(err, io.EOF) {
			return 0, ready, fmt.Errorf("recording %s has %d valid candles%s: it needs more than the %d of the history",
				file.Path, n, why(), r.historyBars)
		}
		if err != nil {
			return 0, ready, err
		}
		if n < r.historyBars {
			ready = closeTime(c)
		}
	}
	return interval, ready, nil
}

// reaches checks that a recording has candles left when the clock starts.
func (r *Replay) reaches(file ReplayFile, interval time.Duration, start time.Time, latest ReplayFile) (err error) {
	candles, err := openReplay(file, interval, func(Refusal) {})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, candles.Close()) }()
	for {
		c, err := candles.next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("recording %s ends before %s has its history at %s: give recordings of the same period",
				file.Path, latest.Path, start.Format(time.RFC3339))
		}
		if err != nil {
			return err
		}
		if closeTime(c).After(start) {
			return nil
		}
	}
}

func closeTime(c Candle) time.Time { return c.OpenTime.Add(c.Interval) }

// replayTrack is one recording while it plays.
type replayTrack struct {
	reader *replayReader
	next   Candle
	ended  bool
	err    error
}

func (t *replayTrack) advance() {
	c, err := t.reader.next()
	if t.next = c; err != nil {
		t.ended = true
		if !errors.Is(err, io.EOF) {
			t.err = err
		}
	}
}

// Run plays the recordings to their end, once: a second call is an error. A recording that becomes unreadable on the
// way is reported as an Outage, the others play on, and its error is returned at the end.
func (r *Replay) Run(ctx context.Context, sink Sink) (err error) {
	refuse := func(f Refusal) {
		f.At = r.now()
		sink(f)
	}
	tracks := make([]*replayTrack, 0, len(r.files))
	defer func() {
		for _, t := range tracks {
			err = errors.Join(err, t.err, t.reader.Close())
		}
	}()
	var histories []History
	for i, file := range r.files {
		reader, err := openReplay(file, r.intervals[i], refuse)
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		t := &replayTrack{reader: reader}
		tracks = append(tracks, t)
		histories = append(histories, History{Symbol: file.Symbol, Candles: r.history(ctx, t)})
		if t.err != nil {
			sink(Outage{Source: replayName, Err: t.err, At: r.now()})
		}
	}
	if !r.release(r.now()) {
		return errors.New("replay: it has already run")
	}
	at := r.now()
	for _, h := range histories {
		for i := range h.Candles {
			h.Candles[i].At = at
		}
		h.At = at
		sink(h)
	}
	if !r.play(ctx, tracks, sink) {
		return nil
	}
	at = r.now()
	r.stop(at)
	sink(End{Source: replayName, At: at})
	return nil
}

// history reads up to the start of the clock and keeps the newest bars.
func (r *Replay) history(ctx context.Context, t *replayTrack) []Candle {
	var newest []Candle
	for t.advance(); !t.ended && !closeTime(t.next).After(r.start) && ctx.Err() == nil; t.advance() {
		if len(newest) == 2*r.historyBars {
			newest = append(newest[:0], newest[r.historyBars:]...)
		}
		newest = append(newest, t.next)
	}
	return newest[max(0, len(newest)-r.historyBars):]
}

// play gives out every candle at its time. It tells whether it came to the end, not cut short by ctx.
func (r *Replay) play(ctx context.Context, tracks []*replayTrack, sink Sink) bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		due, any := nextDue(tracks)
		if !any {
			return true
		}
		now := r.now()
		if wait := r.wait(now, due); wait > 0 {
			timer.Reset(max(wait, replayPause))
			select {
			case <-ctx.Done():
				return false
			case <-timer.C:
			}
			continue
		}
		for _, t := range tracks {
			if t.ended || !closeTime(t.next).Equal(due) {
				continue
			}
			candle := t.next
			candle.At = now
			sink(candle)
			if t.advance(); t.err != nil {
				sink(Outage{Source: replayName, Err: t.err, At: now})
			}
		}
	}
	return false
}

// nextDue is the earliest close among the candles to come.
func nextDue(tracks []*replayTrack) (due time.Time, any bool) {
	for _, t := range tracks {
		if at := closeTime(t.next); !t.ended && (!any || at.Before(due)) {
			due, any = at, true
		}
	}
	return due, any
}
