package binancetest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// memory is a network of pipes in this process.
type memory struct {
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newMemory() *memory {
	return &memory{accept: make(chan net.Conn), closed: make(chan struct{})}
}

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	client, server := newBuffered(a), newBuffered(b)
	err := errors.New("connection refused")
	select {
	case m.accept <- server:
		return client, nil
	case <-m.closed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	_, _ = client.Close(), server.Close()
	return nil, err
}

// buffered is one end of a pipe to which writing never waits for the reader, as with a real network: two ends that both
// answer a ping would wait for each other otherwise.
type buffered struct {
	net.Conn
	mu     sync.Mutex
	wake   *sync.Cond
	queue  [][]byte
	closed bool
}

// flushIn is how long what was written before Close may take to be read.
const flushIn = time.Second

func newBuffered(c net.Conn) *buffered {
	b := &buffered{Conn: c}
	b.wake = sync.NewCond(&b.mu)
	go b.pump()
	return b
}

// Write takes everything at once.
func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, net.ErrClosed
	}
	b.queue = append(b.queue, bytes.Clone(p))
	b.wake.Signal()
	return len(p), nil
}

// SetDeadline concerns reading: writing does not wait.
func (b *buffered) SetDeadline(t time.Time) error { return b.SetReadDeadline(t) }

// SetWriteDeadline does nothing.
func (b *buffered) SetWriteDeadline(time.Time) error { return nil }

// Close ends both directions, after what was written.
func (b *buffered) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		_ = b.Conn.SetDeadline(time.Now().Add(flushIn))
		b.wake.Signal()
	}
	return nil
}

func (b *buffered) pump() {
	defer func() {
		b.mu.Lock()
		b.closed = true
		b.mu.Unlock()
		_ = b.Conn.Close()
	}()
	for {
		b.mu.Lock()
		for len(b.queue) == 0 && !b.closed {
			b.wake.Wait()
		}
		queue := b.queue
		b.queue = nil
		b.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, p := range queue {
			if _, err := b.Conn.Write(p); err != nil {
				return
			}
		}
	}
}

// Accept waits for the next dial.
func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.accept:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; connections go on.
func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

// Addr names the listener.
func (m *memory) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

// Network is "memory".
func (memoryAddr) Network() string { return "memory" }

// String is the host that URLs of the server have.
func (memoryAddr) String() string { return "exchange.test" }
