package monitortest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"quantumharvest/internal/livetest"
)

// Part is a server of the monitor: what it answers, and what it does all along.
type Part interface {
	Handler() http.Handler
	Run(context.Context) error
}

// Running is a part that runs and is served on loopback.
type Running struct {
	*httptest.Server
	Stop context.CancelFunc // asks it to end
	Done chan error         // what it ended with, once

	t      testing.TB
	folder io.Closer
	once   sync.Once
}

// Serve runs a part on its folder until the test ends, and shows its log if the test has failed.
func Serve(t testing.TB, p Part, folder io.Closer, log *livetest.Buffer) *Running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &Running{Server: httptest.NewServer(p.Handler()), Stop: stop, Done: make(chan error, 1), t: t, folder: folder}
	go func() { r.Done <- p.Run(ctx) }()
	t.Cleanup(func() {
		r.End()
		if t.Failed() {
			t.Logf("log:\n%s", log.String())
		}
	})
	return r
}

// End stops it as a process does, once.
func (r *Running) End() {
	r.t.Helper()
	r.once.Do(func() {
		r.Server.Close()
		r.Stop()
		if err := <-r.Done; err != nil {
			r.t.Errorf("ended with %v", err)
		}
		if err := r.folder.Close(); err != nil {
			r.t.Error(err)
		}
	})
}
