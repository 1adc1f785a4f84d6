// Package buildinfo says which build is running: what the linker was told, else what the Go toolchain recorded.
package buildinfo

import (
	"cmp"
	"runtime"
	"runtime/debug"
)

// Set with -ldflags "-X quantumharvest/internal/buildinfo.version=..." and never written by the program.
var (
	version string
	commit  string
)

// Info identifies a build. Every field is filled.
type Info struct {
	Version   string // a release such as v0.2.0, or "devel"
	Commit    string // revision of the source, "+dirty" where it had changes; "unknown" outside a repository
	GoVersion string
	OS, Arch  string
}

// Read returns the identity of the running binary.
func Read() Info {
	info := Info{Version: version, Commit: commit, GoVersion: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if build, ok := debug.ReadBuildInfo(); ok {
		info.fill(build)
	}
	info.Version = cmp.Or(info.Version, "devel")
	info.Commit = cmp.Or(info.Commit, "unknown")
	return info
}

// fill takes from the toolchain's record what the linker was not told.
func (i *Info) fill(build *debug.BuildInfo) {
	if i.Version == "" && build.Main.Version != "(devel)" {
		i.Version = build.Main.Version
	}
	if i.Commit != "" {
		return
	}
	dirty := false
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Commit = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty && i.Commit != "" {
		i.Commit += "+dirty"
	}
}
