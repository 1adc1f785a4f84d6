package footprint

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const smaps = `00400000-01f10000 r-xp 00000000 fe:00 10018873                           /usr/bin/harvest
Size:              27712 kB
Rss:               18744 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01f10000-03f99000 r--p 01b10000 fe:00 10018873                           /usr/bin/harvest
Anonymous:             4 kB
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
	if err != nil || !slices.Equal(got, []part{{0x400000, 0x1f10000}}) {
		t.Errorf("%x, %v", got, err)
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
