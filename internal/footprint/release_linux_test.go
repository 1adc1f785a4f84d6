package footprint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const smaps = `00400000-01f10000 r-xp 00000000 fe:00 10018873                           /usr/bin/harvest
Size:              27712 kB
Rss:               18744 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01f10000-03f99000 r--p 01b10000 fe:00 10018873                           /usr/bin/harvest
Anonymous:             4 kB
03f90000-03f99000 r--p 03b90000 fe:00 10018873                           /usr/bin/harvest
Anonymous:             0 kB
03f99000-0414a000 rw-p 03b99000 fe:00 10018873                           /usr/bin/harvest
Anonymous:             0 kB
0414a000-0514a000 r--s 03b99000 fe:00 10018873                           /usr/bin/harvest
Anonymous:             0 kB
0514a000-063ea000 rw-p 00000000 00:00 0
Anonymous:             0 kB
27921c00000-27922400000 r--p 00000000 00:00 17                           /opt/usr/bin/harvest
Anonymous:             0 kB
`

// Only what holds nothing but the file goes: no page that a debugger or a loader has changed, nothing that can be written.
func TestUnchanged(t *testing.T) {
	got, err := unchanged(strings.NewReader(smaps), "/usr/bin/harvest")
	if err != nil || !slices.Equal(got, []part{{0x400000, 0x1f10000, false}, {0x3f90000, 0x3f99000, true}}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReleaseProgram(t *testing.T) {
	before := residentFile(t)
	if err := ReleaseProgram(); err != nil {
		t.Fatal(err)
	}
	if after := residentFile(t); after >= before {
		t.Errorf("resident of files: %d kB before, %d kB after", before, after)
	}
}

// One byte of a table brings its neighbourhood and nothing beyond, wherever the part begins, and dividing again changes nothing.
func TestDivide(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "tables"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const size = 1 << 20
	if _, err := file.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	page := os.Getpagesize()
	from := uintptr(unsafe.Pointer(unsafe.SliceData(memory)))
	all := part{from: from, to: from + size}
	inner := part{from: from + uintptr(page), to: from + size - uintptr(page)}
	for _, at := range []int{page, neighbourhood - 1, neighbourhood, size/2 + 5, size - page - 1} {
		for range 2 {
			if err := divide(inner); err != nil {
				t.Fatal(err)
			}
		}
		if err := all.advise(unix.MADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		sum += memory[at]
		if got := resident(t, all); got < page || got > neighbourhood {
			t.Errorf("byte %d brought %d bytes, want a page to %d", at, got, neighbourhood)
		}
	}
}

var sum byte // so that reading is not optimised away

// resident is how many bytes of a range are in the process.
func resident(t *testing.T, p part) (bytes int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	within := false
	for line := range strings.Lines(string(text)) {
		var from, to uintptr
		var kb int
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			within = from >= p.from && to <= p.to
		} else if n, _ := fmt.Sscanf(line, "Rss: %d kB", &kb); n == 1 && within {
			bytes += kb << 10
		}
	}
	return bytes
}

func residentFile(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "RssFile:"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("no RssFile")
	return 0
}
