//go:build !linux

package footprint

import "errors"

// ReleaseProgram is for Linux only.
func ReleaseProgram() error { return errors.ErrUnsupported }
