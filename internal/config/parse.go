package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"quantumharvest/internal/position"
)

// minWindow is how many closes the market-state kernel needs with its default windows: the largest one plus one.
const minWindow = 257

var errNotNumber = errors.New("not a number; write digits with a point, for example 0.5")

// parseNumber reads a finite decimal number. Hexadecimal, underscores, NaN and infinities are refused: nobody writes
// them on purpose.
func parseNumber(text string) (float64, error) {
	if strings.Trim(text, "+-.0123456789eE") != "" {
		return 0, errNotNumber
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, errNotNumber
	}
	return v, nil
}

func shortest(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func number(field func(*draft) *float64, low, high float64) func(*draft, string) error {
	return func(d *draft, text string) error {
		v, err := parseNumber(text)
		if err != nil {
			return err
		}
		if v < low || v > high {
			return fmt.Errorf("out of range; write a number from %s to %s", shortest(low), shortest(high))
		}
		*field(d) = v
		return nil
	}
}

func integer(field func(*draft) *int, low, high int) func(*draft, string) error {
	return func(d *draft, text string) error {
		v, err := strconv.Atoi(text)
		if err != nil || v < low || v > high {
			return fmt.Errorf("not a whole number from %d to %d", low, high)
		}
		*field(d) = v
		return nil
	}
}

func setSeed(d *draft, text string) error {
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return errors.New("not a whole number from 0 up")
	}
	d.Seed = v
	return nil
}

func seconds(field func(*draft) *time.Duration, low, high float64) func(*draft, string) error {
	return func(d *draft, text string) error {
		v, err := parseNumber(text)
		if err != nil {
			return errors.New("not a number of seconds; write digits only, for example 10")
		}
		if v < low || v > high {
			return fmt.Errorf("out of range; write a number of seconds from %s to %s", shortest(low), shortest(high))
		}
		*field(d) = time.Duration(math.Round(v * float64(time.Second)))
		return nil
	}
}

func wholeSeconds(field func(*draft) *time.Duration, low, high int) func(*draft, string) error {
	return func(d *draft, text string) error {
		v, err := parseNumber(text)
		if err != nil || v != math.Trunc(v) || v < float64(low) || v > float64(high) {
			return fmt.Errorf("not a whole number of seconds from %d to %d", low, high)
		}
		*field(d) = time.Duration(v) * time.Second
		return nil
	}
}

func duration(field func(*draft) *time.Duration) func(*draft, string) error {
	return func(d *draft, text string) error {
		v, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("not a duration; write a number with its unit, for example 30s, 5m or 1h30m")
		}
		if v < 0 {
			return errors.New("negative; write 0 to run until stopped")
		}
		*field(d) = v
		return nil
	}
}

func boolean(field func(*draft) *bool) func(*draft, string) error {
	return func(d *draft, text string) error {
		switch strings.ToLower(text) {
		case "true", "1", "yes", "on":
			*field(d) = true
		case "false", "0", "no", "off":
			*field(d) = false
		default:
			return errors.New("neither yes nor no; write true or false")
		}
		return nil
	}
}

func choice(field func(*draft) *string, values ...string) func(*draft, string) error {
	return func(d *draft, text string) error {
		v := strings.ToLower(text)
		if !slices.Contains(values, v) {
			return fmt.Errorf("not a choice; write one of %s", strings.Join(values, ", "))
		}
		*field(d) = v
		return nil
	}
}

const maxTokenBytes = 256

// checkToken accepts a short text without blanks, control characters and quotes: quotes in a value are almost always
// those of an env file that reached a program which does not remove them.
func checkToken(text string) error {
	if len(text) > maxTokenBytes {
		return fmt.Errorf("longer than %d bytes", maxTokenBytes)
	}
	for _, r := range text {
		switch {
		case r == '"' || r == '\'' || r == '`':
			return errors.New("has a quote in it; write it without quotes")
		case unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar:
			return errors.New("has a blank or a control character in it")
		}
	}
	return nil
}

func token(field func(*draft) *string) func(*draft, string) error {
	return func(d *draft, text string) error {
		if err := checkToken(text); err != nil {
			return err
		}
		*field(d) = text
		return nil
	}
}

// setPublisherID reads a name that is also the first part of a lease holder's.
func setPublisherID(d *draft, text string) error {
	if strings.Contains(text, "#") {
		return errors.New("has a # in it, which parts the name of a publisher from its process; leave it out")
	}
	return token(func(d *draft) *string { return &d.PublisherID })(d, text)
}

func prefix(env string, field func(*draft) *string) func(*draft, string) error {
	return func(d *draft, text string) error {
		if err := checkToken(text); err != nil {
			return err
		}
		if strings.ContainsAny(text, `*?[]\`) {
			return errors.New(`has one of * ? [ ] \ in it, which Redis reads as a pattern; write a plain prefix, quantum: for example`)
		}
		if strings.Count(text, "{") != strings.Count(text, "}") {
			return errors.New("has a brace that is not closed; a hash tag is written {tag}")
		}
		if last := text[len(text)-1]; last != ':' && last != '.' && last != '/' && last != '-' && last != '_' {
			text += ":"
			d.notes = append(d.notes, Note{Setting: env, Text: fmt.Sprintf("read as %q, so that prefix and symbol stay apart", text)})
		}
		*field(d) = text
		return nil
	}
}

func symbols(env string, field func(*draft) *[]position.Symbol) func(*draft, string) error {
	return func(d *draft, text string) error {
		list, doubled, err := parseSymbols(text)
		if err != nil {
			return err
		}
		if len(doubled) > 0 {
			d.notes = append(d.notes, Note{Setting: env, Text: strings.Join(doubled, ", ") + " is listed more than once: taken once"})
		}
		*field(d) = list
		return nil
	}
}

// parseSymbols reads a comma-separated list: blanks around a name are trimmed, empty places dropped, repetitions
// merged and reported.
func parseSymbols(text string) (list []position.Symbol, doubled []string, err error) {
	if strings.ContainsAny(text, "\"'`") {
		return nil, nil, errors.New("has a quote in it; write the names without quotes, for example BTCUSDT,ETHUSDT")
	}
	var bad []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		symbol, err := position.ParseSymbol(part)
		switch {
		case err != nil:
			bad = append(bad, err.Error())
		case !slices.Contains(list, symbol):
			list = append(list, symbol)
		case !slices.Contains(doubled, part):
			doubled = append(doubled, part)
		}
	}
	if len(bad) > 0 {
		return nil, nil, errors.New(strings.Join(bad, "; "))
	}
	if len(list) == 0 {
		return nil, nil, errors.New("names no symbol; write for example BTCUSDT,ETHUSDT, or leave it out")
	}
	return list, doubled, nil
}

func file(field func(*draft) *string) func(*draft, string) error {
	return func(d *draft, text string) error {
		if err := readable(text); err != nil {
			return err
		}
		*field(d) = text
		return nil
	}
}

// link takes what a link may begin with, a URL or a path, and drops a slash at its end.
func link(field func(*draft) *string) func(*draft, string) error {
	return func(d *draft, text string) error {
		if err := checkToken(text); err != nil {
			return err
		}
		if strings.ContainsAny(text, "{}$") {
			return errors.New("has one of { } $ in it, which Prometheus reads as a template; write %7B, %7D and %24")
		}
		*field(d) = strings.TrimRight(text, "/")
		return nil
	}
}

// baseURL takes a URL with one of two schemes, a host and nothing behind them.
func baseURL(field func(*draft) *string, plain, secure string) func(*draft, string) error {
	return func(d *draft, text string) error {
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != plain && u.Scheme != secure) || u.Host == "" || u.User != nil ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("not a base URL; write %s://HOST or %s://HOST:PORT, without a path", secure, plain)
		}
		*field(d) = strings.TrimSuffix(text, "/")
		return nil
	}
}

func directory(field func(*draft) *string) func(*draft, string) error {
	return func(d *draft, text string) error {
		if info, err := os.Stat(text); err == nil && !info.IsDir() {
			return errors.New("is not a folder")
		}
		*field(d) = text
		return nil
	}
}

func setFeed(d *draft, text string) error {
	if paths, ok := strings.CutPrefix(text, "file:"); ok {
		files, err := feedFiles(paths)
		d.feed = Feed{Kind: FeedFile, Files: files}
		return err
	}
	switch kind := FeedKind(strings.ToLower(text)); kind {
	case FeedSynthetic, FeedRedis, FeedBinance, FeedAuto:
		d.feed = Feed{Kind: kind}
		return nil
	}
	return errors.New("not a feed; write redis, binance, synthetic, auto or file:PATH[,PATH...]")
}

func feedFiles(paths string) ([]string, error) {
	var files []string
	for path := range strings.SplitSeq(paths, ",") {
		path = strings.TrimPrefix(strings.TrimSpace(path), "file:")
		if path == "" {
			continue
		}
		file := path
		if _, named, ok := strings.Cut(path, "="); ok && readable(path) != nil {
			file = named // SYMBOL=PATH
		}
		if err := readable(file); err != nil {
			return nil, fmt.Errorf("%s %w", file, err)
		}
		if slices.Contains(files, path) {
			return nil, fmt.Errorf("%s is named twice", path)
		}
		files = append(files, path)
	}
	if len(files) == 0 {
		return nil, errors.New("names no file; write file:PATH[,PATH...], each PATH or SYMBOL=PATH")
	}
	return files, nil
}

func setPositions(d *draft, text string) error {
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		d.positions = Positions{Kind: PositionsFile, File: path}
		if path == "" {
			return errors.New("names no file; write file:PATH")
		}
		return readable(path)
	}
	switch kind := PositionsKind(strings.ToLower(text)); kind {
	case PositionsAuto, PositionsRedisHash, PositionsRedisStream, PositionsDemo:
		d.positions = Positions{Kind: kind}
		return nil
	}
	return errors.New("not a source of positions; write auto, redis_hash, redis_stream, file:PATH or demo")
}

// checkHost takes a host name or address, bare or in the brackets of a URL, and refuses a port that came along.
func checkHost(text string) (string, error) {
	if err := checkToken(text); err != nil {
		return "", err
	}
	host := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if net.ParseIP(host) != nil {
		return host, nil
	}
	if strings.ContainsAny(host, ":/@[]") {
		return "", errors.New("not a host; write a name or an address, without scheme and port")
	}
	return host, nil
}

func setListenHost(d *draft, text string) (err error) {
	d.ListenHost, err = checkHost(text)
	return err
}

// WatchEvents names the events that a watch can tell, as --on takes them.
func WatchEvents() []string {
	return []string{"action", "state", "stale", "live", "appeared", "missing", "closed", "store_lost", "store_back"}
}

func setWatchOn(d *draft, text string) error {
	d.WatchOn = nil
	for part := range strings.SplitSeq(strings.ToLower(text), ",") {
		if part = strings.TrimSpace(part); part == "" || slices.Contains(d.WatchOn, part) {
			continue
		}
		if !slices.Contains(WatchEvents(), part) {
			return fmt.Errorf("has something that is not an event; write one or more of %s", strings.Join(WatchEvents(), ", "))
		}
		d.WatchOn = append(d.WatchOn, part)
	}
	if len(d.WatchOn) == 0 {
		return errors.New("names no event; leave it out for all of them")
	}
	return nil
}

// setExec takes a command as it is: what it means is the shell's business.
func setExec(d *draft, text string) error {
	if strings.ContainsRune(text, 0) {
		return errors.New("has a zero byte in it")
	}
	d.WatchExec = text
	return nil
}

func setLogLevel(d *draft, text string) error {
	switch strings.ToUpper(text) {
	case "DEBUG":
		d.LogLevel = slog.LevelDebug
	case "INFO":
		d.LogLevel = slog.LevelInfo
	case "WARN", "WARNING":
		d.LogLevel = slog.LevelWarn
	case "ERROR", "CRITICAL", "FATAL":
		d.LogLevel = slog.LevelError
	default:
		return errors.New("not a level; write DEBUG, INFO, WARNING or ERROR")
	}
	return nil
}
