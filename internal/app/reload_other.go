//go:build !unix

package app

import "os"

// listenForReload has nothing to listen to: there are no such signals here. The env file is looked at all the same.
func listenForReload(_, _ chan<- os.Signal) {}
