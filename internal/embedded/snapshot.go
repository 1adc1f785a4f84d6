package embedded

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"quantumharvest/internal/statefile"
)

// A snapshot is a list of Redis commands that make the keys again, in the protocol that Redis itself speaks, so that it
// can be carried over to a real one: redis-cli --pipe < redis.snapshot. The last command is an ECHO of the checksum of
// all before it; a file without it was not written to its end. Behind it stands the format, where releases that know none do
// not look any more.

// snapshotFormat is raised by a release whose snapshots the one before cannot load.
const snapshotFormat = 1

const formatMark = "quantum-harvest snapshot format "

var formatAtEnd = regexp.MustCompile(`\r\n` + formatMark + `([0-9]+)\r\n$`)

// databases is how many numbered databases are kept.
const databases = 16

// snapshotState remembers what is on disk.
type snapshotState struct {
	written bool
	sum     uint32
	size    int
}

// dumpScript lists every key of the selected database with type, time to live in ms and content; for a stream also its
// groups with the oldest entry not yet acknowledged. As a script it sees one moment.
const dumpScript = `
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key)['ok']
  local content, groups = {}, {}
  if kind == 'string' then content = {redis.call('GET', key)}
  elseif kind == 'hash' then content = redis.call('HGETALL', key)
  elseif kind == 'list' then content = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'set' then content = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then content = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'stream' then
    content = redis.call('XRANGE', key, '-', '+')
    for _, g in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      local f = {}
      for i = 1, #g, 2 do f[g[i]] = g[i + 1] end
      local oldest = redis.call('XPENDING', key, f['name'])[2]
      groups[#groups + 1] = {f['name'], f['last-delivered-id'], oldest or ''}
    end
  end
  out[#out + 1] = {key, kind, redis.call('PTTL', key), content, groups}
end
return out
`

// dispatch runs one command as an internal client of the database that sess selected.
func (s *Server) dispatch(sess *session, args ...string) (any, error) {
	sess.buf.Reset()
	s.srv.Dispatch(sess.peer, args)
	sess.peer.Flush()
	return server.ParseReply(bufio.NewReader(&sess.buf))
}

// session is an internal client.
type session struct {
	peer *server.Peer
	buf  bytes.Buffer
}

func newSession() *session {
	s := &session{}
	s.peer = server.NewPeer(bufio.NewWriter(&s.buf))
	return s
}

// save writes a snapshot unless the one on disk is the same.
func (s *Server) save() error {
	image, err := s.image()
	if err != nil {
		return fmt.Errorf("embedded redis: take a snapshot: %w", err)
	}
	sum := crc32.ChecksumIEEE(image)
	if s.saving.written && s.saving.sum == sum && s.saving.size == len(image) {
		return nil
	}
	if err := statefile.Write(s.snapshotFile(), image); err != nil {
		return fmt.Errorf("embedded redis: write the snapshot: %w", err)
	}
	s.saving = snapshotState{written: true, sum: sum, size: len(image)}
	return nil
}

// image is the content of a snapshot file.
func (s *Server) image() ([]byte, error) {
	var out bytes.Buffer
	sess := newSession()
	for db := range databases {
		if _, err := s.dispatch(sess, "SELECT", strconv.Itoa(db)); err != nil {
			return nil, err
		}
		now := time.Now()
		reply, err := s.dispatch(sess, "EVAL", dumpScript, "0")
		if err != nil {
			return nil, err
		}
		keys, _ := reply.([]any)
		if len(keys) == 0 {
			continue
		}
		appendCommand(&out, "SELECT", strconv.Itoa(db))
		for _, k := range keys {
			if err := appendKey(&out, k, now); err != nil {
				return nil, err
			}
		}
	}
	appendCommand(&out, "ECHO", seal(out.Bytes()))
	appendCommand(&out, "ECHO", formatMark+strconv.Itoa(snapshotFormat))
	return out.Bytes(), nil
}

// formatOf is the format of a snapshot: 0 of one that does not say.
func formatOf(image []byte) int {
	found := formatAtEnd.FindSubmatch(image[max(0, len(image)-128):])
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		return math.MaxInt // more digits than a number has: newer than anything
	}
	return n
}

func seal(body []byte) string { return fmt.Sprintf("end crc32=%08x", crc32.ChecksumIEEE(body)) }

// portion bounds the arguments of one command.
const portion = 1000

func appendKey(out *bytes.Buffer, entry any, now time.Time) error {
	e, _ := entry.([]any)
	if len(e) != 5 {
		return fmt.Errorf("unexpected dump %v", entry)
	}
	key, kind, content := asString(e[0]), asString(e[1]), asList(e[3])
	switch kind {
	case "string":
		appendCommand(out, "SET", key, asString(content[0]))
	case "hash":
		appendPortions(out, "HSET", key, asStrings(content))
	case "list":
		appendPortions(out, "RPUSH", key, asStrings(content))
	case "set":
		appendPortions(out, "SADD", key, asStrings(content))
	case "zset":
		pairs := asStrings(content)
		for i := 0; i+1 < len(pairs); i += 2 {
			pairs[i], pairs[i+1] = pairs[i+1], pairs[i] // ZADD wants the score first
		}
		appendPortions(out, "ZADD", key, pairs)
	case "stream":
		appendStream(out, key, content, asList(e[4]))
	default:
		return nil // a HyperLogLog cannot be read back out
	}
	if ttl, ok := e[2].(int); ok && ttl > 0 {
		appendCommand(out, "PEXPIREAT", key, strconv.FormatInt(now.UnixMilli()+int64(ttl), 10))
	}
	return nil
}

func appendPortions(out *bytes.Buffer, command, key string, values []string) {
	for part := range slices.Chunk(values, portion) {
		appendCommand(out, append([]string{command, key}, part...)...)
	}
}

func appendStream(out *bytes.Buffer, key string, entries, groups []any) {
	for _, en := range entries {
		pair := asList(en)
		if len(pair) != 2 {
			continue
		}
		appendCommand(out, append([]string{"XADD", key, asString(pair[0])}, asStrings(asList(pair[1]))...)...)
	}
	var commands [][]string
	for _, g := range groups {
		f := asStrings(asList(g))
		if len(f) != 3 {
			continue
		}
		// What was delivered and not acknowledged is delivered again: at least once, never lost.
		from := f[1]
		if f[2] != "" {
			from = idBefore(f[2])
		}
		commands = append(commands, []string{"XGROUP", "CREATE", key, f[0], from, "MKSTREAM"})
	}
	slices.SortFunc(commands, func(a, b []string) int { return strings.Compare(a[3], b[3]) })
	for _, c := range commands {
		appendCommand(out, c...)
	}
}

// idBefore is the greatest stream id below id.
func idBefore(id string) string {
	ms, seq, _ := strings.Cut(id, "-")
	if n, err := strconv.ParseUint(seq, 10, 64); err == nil && n > 0 {
		return ms + "-" + strconv.FormatUint(n-1, 10)
	}
	if n, err := strconv.ParseUint(ms, 10, 64); err == nil && n > 0 {
		return strconv.FormatUint(n-1, 10) + "-18446744073709551615"
	}
	return "0-0"
}

func asString(v any) string {
	s, _ := v.(string)
	return s
}

func asList(v any) []any {
	l, _ := v.([]any)
	return l
}

func asStrings(l []any) []string {
	out := make([]string, len(l))
	for i, v := range l {
		out[i] = asString(v)
	}
	return out
}

// damaged follows the name of a snapshot that was set aside.
const damaged = ".damaged-"

// tidy removes what killed processes left half written, and the oldest snapshots that were set aside.
func (s *Server) tidy() {
	file := s.snapshotFile()
	if err := errors.Join(statefile.Sweep(filepath.Dir(file), filepath.Base(file)), statefile.KeepNewest(file+damaged+"*")); err != nil {
		s.log.Warn("an old file of the embedded redis cannot be removed", "err", err)
	}
}

// load fills the empty database from the snapshot, where there is one.
func (s *Server) load() error {
	if s.opts.Dir == "" {
		return nil
	}
	defer s.tidy()
	image, err := os.ReadFile(s.snapshotFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("embedded redis: read the snapshot: %w", err)
	}
	format := formatOf(image)
	if err := statefile.Refuse(s.snapshotFile(), format, snapshotFormat); err != nil {
		return fmt.Errorf("embedded redis: %w", err)
	}
	if err = s.replay(image); err == nil {
		return s.keepEarlier(format)
	}
	aside, asideErr := statefile.SetAside(s.snapshotFile())
	if asideErr != nil {
		return fmt.Errorf("embedded redis: the snapshot is damaged (%w) and cannot be set aside: %w", err, asideErr)
	}
	s.log.Warn("embedded redis found its snapshot damaged, set it aside and starts empty", "kept_as", aside, "err", err)
	s.reset()
	return nil
}

// keepEarlier keeps a copy of a snapshot of an earlier format: the next save replaces it by one of this.
func (s *Server) keepEarlier(format int) error {
	if format == snapshotFormat {
		return nil
	}
	kept, err := statefile.Backup(s.snapshotFile(), format)
	if err != nil {
		return fmt.Errorf("embedded redis: copy the snapshot of an earlier release before it is replaced: %w", err)
	}
	s.log.Info("embedded redis loaded the snapshot of an earlier release and keeps a copy of it", "kept_as", kept)
	return nil
}

// replay runs the commands of a snapshot.
func (s *Server) replay(image []byte) error {
	commands, err := readImage(image)
	if err != nil {
		return err
	}
	sess := newSession()
	for i, args := range commands {
		if _, err := s.dispatch(sess, args...); err != nil {
			return fmt.Errorf("command %d (%s): %w", i+1, args[0], err)
		}
	}
	return nil
}

// loadable are the commands a snapshot consists of.
var loadable = map[string]bool{
	"SELECT": true, "SET": true, "HSET": true, "RPUSH": true, "SADD": true, "ZADD": true, "XADD": true,
	"XGROUP": true, "PEXPIREAT": true, "ECHO": true,
}

// readImage checks that a snapshot is whole and gives its commands.
func readImage(image []byte) ([][]string, error) {
	var commands [][]string
	in := bufio.NewReader(bytes.NewReader(image))
	offset := 0
	for {
		var one bytes.Buffer
		err := nextCommand(in, &one)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("it ends in the middle")
		}
		if err != nil {
			return nil, err
		}
		args := words(one.Bytes())
		if len(args) == 0 || !loadable[args[0]] {
			return nil, errors.New("it holds something else than keys")
		}
		if args[0] == "ECHO" {
			if len(args) != 2 || args[1] != seal(image[:offset]) {
				return nil, errors.New("its checksum is wrong")
			}
			return commands, nil
		}
		commands = append(commands, args)
		offset += one.Len()
	}
}

// words takes a checked command apart.
func words(command []byte) []string {
	reply, err := server.ParseReply(bufio.NewReader(bytes.NewReader(command)))
	if err != nil {
		return nil
	}
	return asStrings(asList(reply))
}
