//go:build unix

package config

import "syscall"

// noWait opens a pipe without waiting for its other end. Of a regular file it changes nothing.
const noWait = syscall.O_NONBLOCK
