package drill

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy stands between the desk and its Redis, and makes it slow.
type proxy struct {
	listener net.Listener
	target   string
	delay    atomic.Int64 // of every answer, nanoseconds
	most     atomic.Int64 // connections at a time
	open     atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	done  sync.WaitGroup
}

func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, conns: make(map[net.Conn]struct{})}
	p.done.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	p.most.Store(max(p.most.Load(), p.open.Add(1)))
	defer p.open.Add(-1)
	var d net.Dialer
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	s, err := d.DialContext(ctx, "tcp", p.target)
	cancel()
	if err != nil {
		return // as if refused
	}
	defer s.Close()
	if !p.keep(c, s) {
		return
	}
	defer p.forget(c, s)
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(s, c); s.Close() })
	both.Go(func() { p.answer(c, s); c.Close() })
	both.Wait()
}

// answer copies what the server says, each piece late by as much as it is to be late: a long way, not a narrow one.
func (p *proxy) answer(c, s net.Conn) {
	type piece struct {
		due  time.Time
		text []byte
	}
	pieces := make(chan piece, 1024)
	var writing sync.WaitGroup
	writing.Go(func() {
		for piece := range pieces {
			time.Sleep(time.Until(piece.due))
			if _, err := c.Write(piece.text); err != nil {
				break
			}
		}
		for range pieces { // nobody listens any more
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := s.Read(buf)
		if n > 0 {
			pieces <- piece{time.Now().Add(time.Duration(p.delay.Load())), append([]byte(nil), buf[:n]...)}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	writing.Wait()
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return true
}

func (p *proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

func (p *proxy) close() {
	if err := p.listener.Close(); errors.Is(err, net.ErrClosed) {
		return
	}
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.done.Wait()
}
