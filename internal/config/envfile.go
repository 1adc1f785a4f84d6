package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxEnvFileBytes bounds an env file; real ones have a few kilobytes.
const maxEnvFileBytes = 1 << 20

// fileEntry is one KEY=VALUE of an env file.
type fileEntry struct {
	key, value string
	line       int
	comment    bool // a comment after the value was cut off
}

// lineError is a place in an env file that cannot be read. It never carries the text of the line, which may hold a
// secret.
type lineError struct {
	line int
	text string
}

// parseEnvFile reads an env file the way systemd reads an EnvironmentFile, so that one file serves both: blank lines
// and lines that begin with # or ; are skipped, values may stand in single or double quotes, a backslash escapes, and
// a $ is a $ (nothing is expanded: a password keeps its dollar signs). In three points it differs on purpose: a leading
// "export" is accepted, an unquoted value ends before a blank followed by # (env files of earlier deployments carry
// such comments), and a line that cannot be read is an error instead of being skipped.
func parseEnvFile(src []byte) ([]fileEntry, []lineError) {
	if len(src) > maxEnvFileBytes {
		return nil, []lineError{{1, fmt.Sprintf("the file is larger than %d bytes", maxEnvFileBytes)}}
	}
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	if at := bytes.IndexByte(src, 0); at >= 0 {
		return nil, []lineError{{1 + bytes.Count(src[:at], []byte("\n")), "there is a NUL byte: this is not a text file"}}
	}
	if !utf8.Valid(src) {
		return nil, []lineError{{1, "the file is not UTF-8 text"}}
	}
	s := envScanner{src: string(src), line: 1}
	var entries []fileEntry
	var bad []lineError
	for {
		s.skip(" \t\r\n\v\f")
		if s.at == len(s.src) {
			return entries, bad
		}
		line := s.line
		if c := s.src[s.at]; c == '#' || c == ';' {
			s.rest()
			continue
		}
		key, ok := s.key()
		if !ok {
			bad = append(bad, lineError{line, "this is not KEY=VALUE (a comment begins with #)"})
			s.rest()
			continue
		}
		value, comment, problem := s.value()
		if problem != "" {
			bad = append(bad, lineError{line, problem})
			s.rest()
			continue
		}
		entries = append(entries, fileEntry{key: key, value: value, line: line, comment: comment})
	}
}

type envScanner struct {
	src  string
	at   int
	line int
}

// next returns the current byte and moves past it.
func (s *envScanner) next() byte {
	c := s.src[s.at]
	s.at++
	if c == '\n' {
		s.line++
	}
	return c
}

func (s *envScanner) skip(set string) {
	for s.at < len(s.src) && strings.IndexByte(set, s.src[s.at]) >= 0 {
		s.next()
	}
}

// rest returns what is left of the line and moves to its end.
func (s *envScanner) rest() string {
	end := strings.IndexByte(s.src[s.at:], '\n')
	if end < 0 {
		end = len(s.src) - s.at
	}
	text := s.src[s.at : s.at+end]
	s.at += end
	return text
}

// key reads up to and including the equals sign. Where it fails the scanner has not moved past the line.
func (s *envScanner) key() (string, bool) {
	end := strings.IndexAny(s.src[s.at:], "=\n")
	if end < 0 || s.src[s.at+end] == '\n' {
		return "", false
	}
	key := strings.TrimSpace(s.src[s.at : s.at+end])
	if rest, ok := strings.CutPrefix(key, "export"); ok && rest != strings.TrimLeft(rest, " \t") {
		key = strings.TrimLeft(rest, " \t")
	}
	if !validKey(key) {
		return "", false
	}
	s.at += end + 1
	return key, true
}

func validKey(key string) bool {
	for i, c := range []byte(key) {
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return key != ""
}

func (s *envScanner) value() (value string, comment bool, problem string) {
	start := s.at
	s.skip(" \t\r")
	if s.at < len(s.src) && (s.src[s.at] == '"' || s.src[s.at] == '\'') {
		return s.quoted(s.next())
	}
	var b strings.Builder
	keep := 0             // length without trailing blanks that no backslash protects
	blank := s.at > start // the byte before is a blank that no backslash protects
	for s.at < len(s.src) && s.src[s.at] != '\n' {
		c := s.next()
		switch {
		case c == '\\':
			if s.at == len(s.src) {
				break
			}
			if escaped := s.next(); escaped != '\n' {
				b.WriteByte(escaped)
				keep = b.Len()
			}
			blank = false
		case c == '#' && blank:
			s.rest()
			return b.String()[:keep], true, ""
		default:
			b.WriteByte(c)
			if blank = c == ' ' || c == '\t' || c == '\r'; !blank {
				keep = b.Len()
			}
		}
	}
	return b.String()[:keep], false, ""
}

func (s *envScanner) quoted(quote byte) (value string, comment bool, problem string) {
	var b strings.Builder
	for s.at < len(s.src) {
		c := s.next()
		switch {
		case c == quote:
			tail := strings.TrimSpace(s.rest())
			if tail != "" && tail[0] != '#' {
				return "", false, "there is text after the closing quote"
			}
			return b.String(), false, ""
		case c == '\\' && quote == '"' && s.at < len(s.src):
			switch escaped := s.next(); escaped {
			case '\n':
			case '"', '\\', '`', '$':
				b.WriteByte(escaped)
			default:
				b.WriteByte(c)
				b.WriteByte(escaped)
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", false, "the quote that opens here is never closed"
}
