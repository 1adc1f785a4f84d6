package prom

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// errStopped ends deliveries that a stop does not wait for.
var errStopped = errors.New("the monitor stops")

// postman carries alerts to the Alertmanager: into a handler of this process where there is one, so that neither TLS
// nor the token of the port stands in the way, else over the network.
type postman struct {
	handler http.Handler
	stop    context.Context
	cancel  context.CancelCauseFunc

	mu     sync.Mutex
	client *http.Client
}

func newPostman(h http.Handler) *postman {
	p := &postman{handler: h}
	p.stop, p.cancel = context.WithCancelCause(context.Background())
	return p
}

// stopWithin ends deliveries under way, and those to come, after the time given.
func (p *postman) stopWithin(d time.Duration) { time.AfterFunc(d, func() { p.cancel(errStopped) }) }

// close ends every delivery and the connections that are kept for the next one.
func (p *postman) close() {
	p.cancel(errStopped)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		p.client.CloseIdleConnections()
	}
}

// send has the shape of notifier.Options.Do.
func (p *postman) send(ctx context.Context, client *http.Client, req *http.Request) (*http.Response, error) {
	if p.stop.Err() != nil {
		return nil, errStopped
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(p.stop, func() { cancel(errStopped) })()
	req = req.WithContext(ctx)
	if p.handler != nil {
		w := &reply{header: http.Header{}, status: http.StatusOK}
		p.handler.ServeHTTP(w, req)
		return &http.Response{
			StatusCode: w.status, Status: http.StatusText(w.status), Header: w.header, Body: io.NopCloser(&w.body), Request: req,
		}, nil
	}
	p.mu.Lock()
	p.client = client
	p.mu.Unlock()
	return client.Do(req)
}

// reply keeps what a handler answers.
type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *reply) Header() http.Header         { return r.header }
func (r *reply) WriteHeader(status int)      { r.status = status }
func (r *reply) Write(b []byte) (int, error) { return r.body.Write(b) }
