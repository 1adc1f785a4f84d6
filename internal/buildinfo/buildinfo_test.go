package buildinfo

import (
	"runtime/debug"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFill(t *testing.T) {
	recorded := &debug.BuildInfo{
		Main: debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "abc"},
			{Key: "vcs.modified", Value: "true"},
		},
	}
	cases := []struct {
		name  string
		build *debug.BuildInfo
		in    Info
		want  Info
	}{
		{"the toolchain's record", recorded, Info{}, Info{Version: "v1.2.3", Commit: "abc+dirty"}},
		{"the linker wins", recorded, Info{Version: "v9", Commit: "def"}, Info{Version: "v9", Commit: "def"}},
		{"a build from a tree", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, Info{}, Info{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.in.fill(c.build)
			if diff := cmp.Diff(c.want, c.in); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestReadFillsEveryField(t *testing.T) {
	got := Read()
	for _, text := range []string{got.Version, got.Commit, got.GoVersion, got.OS, got.Arch} {
		if text == "" {
			t.Errorf("a field is blank: %+v", got)
		}
	}
}
