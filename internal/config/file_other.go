//go:build !unix

package config

// noWait is nothing: here no file waits when it is opened.
const noWait = 0
