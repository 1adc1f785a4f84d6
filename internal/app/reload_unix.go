//go:build unix

package app

import (
	"os"
	"os/signal"
	"syscall"
)

// listenForReload takes the signals of a reload and of the debug log from now on, to the end of the process: one that comes
// while it stops must not end it in the middle of that.
func listenForReload(again, louder chan<- os.Signal) {
	signal.Notify(again, syscall.SIGHUP)
	signal.Notify(louder, syscall.SIGUSR1)
}
