//go:build !unix

package service

// FreeBytes cannot tell on this system.
func FreeBytes(string) (uint64, error) { return 0, errNotHere }
