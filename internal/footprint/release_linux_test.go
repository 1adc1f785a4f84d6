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

// One byte of a table brings its neighbourhood and nothing beyond, wherever the table lies, and dividing again changes nothing.
func TestDivide(t *testing.T) {
	if os.Getpagesize() > neighbourhood {
		t.Skip("single pages are larger")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "tables"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const size, around = 256 << 10, 64 << 10
	if _, err := file.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	room, err := unix.Mmap(-1, 0, around+size+around, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(room) }()
	page := os.Getpagesize()
	for shift := 0; shift < around; shift += page {
		place := unsafe.Pointer(&room[shift])
		if _, err := unix.MmapPtr(int(file.Fd()), 0, place, size, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_FIXED); err != nil {
			t.Fatal(err)
		}
		tables := part{from: uintptr(place), to: uintptr(place) + size}
		for _, at := range []int{0, neighbourhood - 1, neighbourhood, size/2 + 5, size - 1} {
			for range 2 {
				if err := divide(tables, usualMappings); err != nil {
					t.Fatal(err)
				}
			}
			if err := tables.advise(unix.MADV_DONTNEED); err != nil {
				t.Fatal(err)
			}
			sum += room[shift+at]
			if got := resident(t, tables); got < page || got > neighbourhood {
				t.Errorf("shifted by %d, byte %d brought %d bytes, want a page to %d", shift, at, got, neighbourhood)
			}
		}
	}
}

// A process that may have few mappings keeps them, and hears which setting is to blame.
func TestDivideLeavesMappings(t *testing.T) {
	if os.Getpagesize() > neighbourhood {
		t.Skip("single pages are larger")
	}
	// Not an address of this process: it would be refused in another way if it came to that.
	err := divide(part{to: 100 * neighbourhood}, 1000)
	if err == nil || !strings.Contains(err.Error(), "vm.max_map_count is 1000, and 100 mappings more") {
		t.Errorf("a tenth of the mappings for one table: %v", err)
	}
}

// Where the setting does not show it is the usual one; where it cannot be read nothing is divided.
func TestMappingsAllowed(t *testing.T) {
	setting := filepath.Join(t.TempDir(), "max_map_count")
	if n, err := mappingsAllowed(setting); n != usualMappings || err != nil {
		t.Errorf("without it: %d, %v", n, err)
	}
	for text, want := range map[string]int{"1000\n": 1000, "many": 0} {
		if err := os.WriteFile(setting, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := mappingsAllowed(setting); n != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, n, err)
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
