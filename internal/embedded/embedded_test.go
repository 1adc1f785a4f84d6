package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/realserver"
	"quantumharvest/internal/statefile"
)

func start(t *testing.T, o Options) *Server {
	t.Helper()
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func client(t *testing.T, addr string, db int) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, DB: db, Protocol: 2, DisableIdentity: true, ReadTimeout: time.Minute, WriteTimeout: time.Minute, DialTimeout: time.Minute,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func do(t *testing.T, c *redis.Client, args ...any) any {
	t.Helper()
	v, err := c.Do(t.Context(), args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatalf("%v: %v", args, err)
	}
	return v
}

func TestListensOnTheNextPortWhereOneIsTaken(t *testing.T) {
	first := start(t, Options{})
	second := start(t, Options{Addr: first.Addr()})
	if first.Moved() || !second.Moved() || first.Addr() == second.Addr() {
		t.Fatalf("first on %s (moved %v), second on %s (moved %v)", first.Addr(), first.Moved(), second.Addr(), second.Moved())
	}
	if got := do(t, client(t, second.Addr(), 0), "PING"); got != "PONG" {
		t.Fatalf("PING = %v", got)
	}
}

func TestListensOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.com:0", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:-1"} {
		if s, err := Start(Options{Addr: addr}); err == nil {
			_ = s.Close()
			t.Errorf("it listens on %s", addr)
		}
	}
	for _, o := range []Options{{Addr: "localhost:0"}, {Addr: "127.0.0.1:0"}, {Addr: "0.0.0.0:0", AllowRemote: true}} {
		s, err := Start(o)
		if err != nil {
			t.Errorf("%+v: %v", o, err)
			continue
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseIsIdempotentAndEndsClients(t *testing.T) {
	s := start(t, Options{})
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	blocked := make(chan error, 1)
	go func() {
		_, err := client(t, s.Addr(), 0).XRead(context.Background(), &redis.XReadArgs{Streams: []string{"s", "$"}, Block: 0}).Result()
		blocked <- err
	}()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(s.info(nil), "connected_clients:2") {
		if time.Now().After(deadline) {
			t.Fatal("the clients do not connect")
		}
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("an idle client reads %v", err)
	}
	<-blocked
}

func TestTimePasses(t *testing.T) {
	s := start(t, Options{})
	c := client(t, s.Addr(), 0)
	do(t, c, "SET", "a", "1", "PX", "300")
	do(t, c, "SET", "b", "1", "PX", "600000")
	deadline := time.Now().Add(time.Minute)
	for do(t, c, "EXISTS", "a") != int64(0) {
		if time.Now().After(deadline) {
			t.Fatal("a key outlives its time")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if ttl := do(t, c, "PTTL", "b").(int64); ttl >= 600000 || ttl < 480000 {
		t.Errorf("PTTL = %d", ttl)
	}
}

func TestAnswersWhatClientsAskFirst(t *testing.T) {
	s := start(t, Options{})
	c := client(t, s.Addr(), 0)
	info := do(t, c, "INFO").(string)
	for _, want := range []string{"redis_version:7.0", "embedded:quantum-harvest", "run_id:" + s.runID, "role:master", "tcp_port:" + strconv.Itoa(s.listener.Addr().(*net.TCPAddr).Port)} {
		if !strings.Contains(info, want) {
			t.Errorf("INFO lacks %s:\n%s", want, info)
		}
	}
	if len(s.runID) != 40 {
		t.Errorf("run id %q", s.runID)
	}
	if got := do(t, c, "INFO", "replication").(string); strings.Contains(got, "run_id") || !strings.Contains(got, "role:master") {
		t.Errorf("INFO replication = %q", got)
	}
	if d := cmp.Diff([]any{"maxmemory", "0", "maxmemory-policy", "noeviction"}, do(t, c, "CONFIG", "GET", "maxmemory*")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]any{}, do(t, c, "CONFIG", "GET", "nothing")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]any{}, do(t, c, "COMMAND", "DOCS")); d != "" {
		t.Error(d)
	}
	if other := start(t, Options{}); other.runID == s.runID {
		t.Error("two servers have one run id")
	}
}

func TestRedisCLI(t *testing.T) {
	s := start(t, Options{})
	_, port, _ := net.SplitHostPort(s.Addr())
	cli := realserver.Tool(t, "redis-cli")
	run := func(stdin string, args ...string) string {
		cmd := exec.Command(cli, append([]string{"-p", port}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("redis-cli %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if got := run("", "HSET", "quantum:harvest:proposal:BTCUSDT", "last_update_epoch", "1769129938"); got != "1\n" {
		t.Errorf("HSET = %q", got)
	}
	if got := run("", "HGET", "quantum:harvest:proposal:BTCUSDT", "last_update_epoch"); got != "1769129938\n" {
		t.Errorf("HGET = %q", got)
	}
	if got := run("SET a 1\nGET a\nEXISTS a b\n"); got != "OK\n1\n1\n" {
		t.Errorf("piped = %q", got)
	}
	if got := run("PING\n", "-3"); got != "PONG\n" {
		t.Errorf("piped with RESP3 = %q", got)
	}
}

// fill puts one key of every kind into two databases.
func fill(t *testing.T, addr string) {
	c := client(t, addr, 0)
	do(t, c, "SET", "string", "with \x00 \xff bytes\r\n")
	do(t, c, "SET", "short", "x", "PX", "3600000")
	do(t, c, "HSET", "hash", "b", "2", "a", "1", "empty", "")
	do(t, c, "RPUSH", "list", "c", "a", "b", "a")
	do(t, c, "SADD", "set", "y", "x", "ü")
	do(t, c, "ZADD", "zset", "1.5", "a", "-0.1", "b", "1e-300", "c", "inf", "d")
	for i := range 2500 {
		do(t, c, "HSET", "big", fmt.Sprint("f", i), fmt.Sprint(i))
	}
	for i := range 4 {
		do(t, c, "XADD", "stream", fmt.Sprintf("%d-0", 1000+i), "n", fmt.Sprint(i), "m", "")
	}
	do(t, c, "XGROUP", "CREATE", "stream", "done", "$")
	do(t, c, "XGROUP", "CREATE", "stream", "behind", "0")
	do(t, c, "XREADGROUP", "GROUP", "behind", "me", "COUNT", "3", "STREAMS", "stream", ">")
	do(t, c, "XACK", "stream", "behind", "1000-0")
	do(t, client(t, addr, 3), "SET", "elsewhere", "3")
}

func checkFilled(t *testing.T, addr string) {
	t.Helper()
	c := client(t, addr, 0)
	for _, q := range []struct {
		args []any
		want any
	}{
		{[]any{"GET", "string"}, "with \x00 \xff bytes\r\n"},
		{[]any{"HMGET", "hash", "a", "b", "empty"}, []any{"1", "2", ""}},
		{[]any{"HLEN", "hash"}, int64(3)},
		{[]any{"HLEN", "big"}, int64(2500)},
		{[]any{"LRANGE", "list", 0, -1}, []any{"c", "a", "b", "a"}},
		{[]any{"SCARD", "set"}, int64(3)},
		{[]any{"SISMEMBER", "set", "ü"}, int64(1)},
		{[]any{"ZRANGE", "zset", 0, -1}, []any{"b", "c", "a", "d"}},
		{[]any{"ZSCORE", "zset", "c"}, "1e-300"},
		{[]any{"XLEN", "stream"}, int64(4)},
		{[]any{"XRANGE", "stream", "1003-0", "+"}, []any{[]any{"1003-0", []any{"n", "3", "m", ""}}}},
		{[]any{"DBSIZE"}, int64(8)},
	} {
		if d := cmp.Diff(q.want, do(t, c, q.args...)); d != "" {
			t.Errorf("%v (-want +got):\n%s", q.args, d)
		}
	}
	if ttl := do(t, c, "PTTL", "short").(int64); ttl <= 0 || ttl > 3600000 {
		t.Errorf("PTTL short = %d", ttl)
	}
	if got := do(t, client(t, addr, 3), "GET", "elsewhere"); got != "3" {
		t.Errorf("database 3: %v", got)
	}
	// What was not acknowledged comes again, what was not delivered comes at all, what is done stays done.
	read := func(group string) (ids []string) {
		res, err := c.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: group, Consumer: "you", Streams: []string{"stream", ">"}, Block: -1}).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		for _, s := range res {
			for _, m := range s.Messages {
				ids = append(ids, m.ID)
			}
		}
		return ids
	}
	if d := cmp.Diff([]string{"1001-0", "1002-0", "1003-0"}, read("behind")); d != "" {
		t.Errorf("group behind (-want +got):\n%s", d)
	}
	if ids := read("done"); ids != nil {
		t.Errorf("group done reads %v again", ids)
	}
}

func TestSnapshotBringsEverythingBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, Options{Dir: dir})
	fill(t, s.Addr())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, Options{Dir: dir})
	checkFilled(t, again.Addr())
	// Blocking reads work after a load, too.
	c := client(t, again.Addr(), 0)
	got := make(chan int, 1)
	go func() {
		res, _ := c.BLPop(context.Background(), time.Minute, "queue").Result()
		got <- len(res)
	}()
	time.Sleep(time.Millisecond)
	do(t, client(t, again.Addr(), 0), "RPUSH", "queue", "x")
	if n := <-got; n != 2 {
		t.Errorf("a blocked client got %d values", n)
	}
}

func TestSnapshotIsWrittenWithoutAnyGoodbye(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir, SaveEvery: 5 * time.Millisecond})
	do(t, client(t, s.Addr(), 0), "SET", "a", "1")
	deadline := time.Now().Add(time.Minute)
	for {
		image, err := os.ReadFile(s.snapshotFile())
		if err == nil && bytes.Contains(image, []byte("SET\r\n$1\r\na\r\n$1\r\n1\r\n")) {
			if commands, err := readImage(image); err != nil || len(commands) != 2 {
				t.Fatalf("%d commands, %v", len(commands), err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no snapshot: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp*")); len(left) > 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSnapshotLoadsIntoRedisServer(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	fill(t, s.Addr())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r := realserver.Redis(t)
	image, err := os.Open(s.snapshotFile())
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	cmd := exec.Command(realserver.Tool(t, "redis-cli"), "-p", strconv.Itoa(r.Port()), "--pipe")
	cmd.Stdin = image
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("errors: 0")) {
		t.Fatalf("%v\n%s", err, out)
	}
	checkFilled(t, r.Addr())
}

// Whatever happens to it again and again, the folder of the snapshot does not fill.
func TestSnapshotFolderIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 6 {
		s := start(t, Options{Dir: dir})
		name := s.snapshotFile()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for path, text := range map[string]string{name: "damaged", name + ".tmp" + fmt.Sprint(i): "half"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := start(t, Options{Dir: dir})
	defer s.Close()
	for pattern, most := range map[string]int{"*.tmp*": 0, "*" + damaged + "*": statefile.Kept} {
		if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > most {
			t.Errorf("%v %v, allowed are %d", left, err, most)
		}
	}
}

func TestDamagedSnapshotIsSetAside(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	fill(t, s.Addr())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(s.snapshotFile())
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	evil := []byte("*1\r\n$8\r\nFLUSHALL\r\n")
	evil = append(evil, func() []byte {
		var b bytes.Buffer
		appendCommand(&b, "ECHO", seal(evil))
		return b.Bytes()
	}()...)
	var wrong bytes.Buffer
	appendCommand(&wrong, "SET", "a", "1")
	appendCommand(&wrong, "HSET", "a", "b", "c")
	appendCommand(&wrong, "ECHO", seal(wrong.Bytes()))
	for name, image := range map[string][]byte{
		"empty": {}, "cut in half": good[:len(good)/2], "without its end": good[:bytes.LastIndex(good, []byte("*2\r\n$4\r\nECHO"))-1], "one bit": flipped, "text": []byte("hello\n"),
		"another command": evil, "a command that fails": wrong.Bytes(), "an endless length": []byte("*1\r\n$99999999999999\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var log bytes.Buffer
			if err := os.WriteFile(filepath.Join(dir, "redis.snapshot"), image, 0o600); err != nil {
				t.Fatal(err)
			}
			s := start(t, Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if n := do(t, client(t, s.Addr(), 0), "DBSIZE"); n != int64(0) {
				t.Errorf("%v keys from a damaged snapshot", n)
			}
			aside, _ := filepath.Glob(filepath.Join(dir, "redis.snapshot.damaged-*"))
			if len(aside) != 1 {
				t.Fatalf("set aside: %v", aside)
			}
			if kept, _ := os.ReadFile(aside[0]); !bytes.Equal(kept, image) {
				t.Error("what was set aside is not what was there")
			}
			if !strings.Contains(log.String(), "damaged") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

func TestDataDirectoryThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Start(Options{Addr: "127.0.0.1:0", Dir: file}); err == nil {
		_ = s.Close()
		t.Error("a file was taken for a directory")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "redis.snapshot"), 0o700); err != nil {
		t.Fatal(err)
	}
	if s, err := Start(Options{Addr: "127.0.0.1:0", Dir: dir}); err == nil {
		_ = s.Close()
		t.Error("a snapshot that cannot be read was ignored")
	}
	// A directory that goes away: Close says that the last snapshot is lost.
	gone := filepath.Join(t.TempDir(), "gone")
	s := start(t, Options{Dir: gone, SaveEvery: time.Hour})
	do(t, client(t, s.Addr(), 0), "SET", "a", "1")
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err == nil {
		t.Error("a lost snapshot is no error")
	}
}
