//go:build !linux

package footprint

// ReleaseProgram is for Linux only.
func ReleaseProgram() error { return errElsewhere }
