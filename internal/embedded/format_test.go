package embedded

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"quantumharvest/internal/statefile"
)

// snapshotOf is a snapshot with one key, of this release, and the same of one that wrote no format.
func snapshotOf(t *testing.T) (now, earlier []byte) {
	t.Helper()
	s := start(t, Options{Dir: t.TempDir()})
	do(t, client(t, s.Addr(), 0), "SET", "a", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(s.snapshotFile())
	if err != nil {
		t.Fatal(err)
	}
	earlier = now[:bytes.LastIndex(now, []byte("*2\r\n$4\r\nECHO"))]
	if formatOf(now) != snapshotFormat || formatOf(earlier) != 0 {
		t.Fatalf("formats %d and %d", formatOf(now), formatOf(earlier))
	}
	return now, earlier
}

func in(t *testing.T, image []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "redis.snapshot"), image, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestASnapshotOfAnEarlierReleaseIsLoadedAndCopied(t *testing.T) {
	now, earlier := snapshotOf(t)
	dir := in(t, earlier)
	for range 2 { // the second time it is one of this release
		s := start(t, Options{Dir: dir})
		if v := do(t, client(t, s.Addr(), 0), "GET", "a"); v != "1" {
			t.Errorf("the key is %v", v)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	copies, _ := filepath.Glob(filepath.Join(dir, "redis.snapshot.format-0-*"))
	if len(copies) != 1 {
		t.Fatalf("copies %v", copies)
	}
	if kept, _ := os.ReadFile(copies[0]); !bytes.Equal(kept, earlier) {
		t.Error("the copy is not what was there")
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "redis.snapshot")); !bytes.Equal(text, now) {
		t.Error("the snapshot was not written in the format of now")
	}
}

// A release without formats reads up to the checksum: what comes behind it must not matter to it.
func TestASnapshotOfNowEndsWhereAnEarlierReleaseStops(t *testing.T) {
	now, earlier := snapshotOf(t)
	if !bytes.HasPrefix(now, earlier) {
		t.Fatal("the snapshot of now does not begin with that of an earlier release")
	}
	if _, err := readImage(now); err != nil {
		t.Error(err)
	}
}

func TestASnapshotOfANewerReleaseIsRefusedAndLeftAlone(t *testing.T) {
	now, _ := snapshotOf(t)
	for _, format := range []string{strconv.Itoa(snapshotFormat + 1), strings.Repeat("9", 30)} {
		mark := []byte("\r\n" + formatMark)
		newer := append(bytes.Clone(now[:bytes.LastIndex(now, mark)+len(mark)]), format+"\r\n"...)
		dir := in(t, newer)
		_, err := Start(Options{Addr: "127.0.0.1:0", Dir: dir, Log: slog.New(slog.DiscardHandler)})
		var refused *statefile.NewerError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), filepath.Join(dir, "redis.snapshot")) {
			t.Errorf("format %s: %v", format, err)
		}
		if files, _ := filepath.Glob(filepath.Join(dir, "redis.snapshot*")); len(files) != 1 {
			t.Errorf("files %v", files)
		}
		if text, _ := os.ReadFile(filepath.Join(dir, "redis.snapshot")); !bytes.Equal(text, newer) {
			t.Error("it was touched")
		}
	}
}
