package binancetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	connStreams  = 200
	connMessages = 10 // from the client, in a second
	connQueue    = 8192
)

// conn is one client's connection.
type conn struct {
	s      *Server
	ws     *websocket.Conn
	path   string
	born   time.Time
	cancel context.CancelFunc
	out    chan string

	// Guarded by the server's lock.
	streams map[string]bool
	held    map[string]string // by stream: to be sent after its next one
}

// serveConn lives as long as the connection.
func (s *Server) serveConn(ws *websocket.Conn, path, streams string) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	c := &conn{
		s: s, ws: ws, path: path, born: time.Now(), cancel: cancel, out: make(chan string, connQueue),
		streams: make(map[string]bool), held: make(map[string]string),
	}
	s.mu.Lock()
	for name := range strings.SplitSeq(streams, "/") {
		if name != "" {
			c.streams[name] = true
		}
	}
	c.checkStreams()
	s.conns[c] = true
	s.stats.Connections++
	s.mu.Unlock()
	var parts sync.WaitGroup
	parts.Go(func() { defer cancel(); c.write(ctx) })
	parts.Go(func() { defer cancel(); c.ping(ctx) })
	c.read(ctx)
	cancel()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	_ = ws.CloseNow()
	parts.Wait()
}

func (c *conn) write(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-c.out:
			if c.ws.Write(ctx, websocket.MessageText, []byte(m)) != nil {
				return
			}
		}
	}
}

func (c *conn) ping(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.s.cfg.PingEvery):
		}
		pingCtx, cancel := context.WithTimeout(ctx, c.s.cfg.PongIn)
		err := c.ws.Ping(pingCtx)
		late := errors.Is(pingCtx.Err(), context.DeadlineExceeded)
		cancel()
		if err != nil {
			if late {
				c.s.mu.Lock()
				c.s.violation("no pong within %v", c.s.cfg.PongIn)
				c.s.mu.Unlock()
			}
			return
		}
	}
}

// read takes requests until the connection ends.
func (c *conn) read(ctx context.Context) {
	var recent []time.Time
	for {
		_, raw, err := c.ws.Read(ctx)
		if err != nil {
			return
		}
		now := time.Now()
		recent = append(recent, now)
		for now.Sub(recent[0]) > time.Second {
			recent = recent[1:]
		}
		c.s.mu.Lock()
		if len(recent) > connMessages {
			c.s.violation("%d messages in a second on one connection", len(recent))
			c.s.mu.Unlock()
			return
		}
		c.put(c.obey(raw))
		c.s.mu.Unlock()
	}
}

func (c *conn) obey(raw []byte) string {
	var r struct {
		Method string   `json:"method"`
		Params []string `json:"params"`
		ID     int64    `json:"id"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return `{"error":{"code":3,"msg":"Invalid JSON"}}`
	}
	switch r.Method {
	case "SUBSCRIBE":
		for _, p := range r.Params {
			c.streams[p] = true
		}
		if !c.checkStreams() {
			return fmt.Sprintf(`{"error":{"code":2,"msg":"Too many streams"},"id":%d}`, r.ID)
		}
	case "UNSUBSCRIBE":
		for _, p := range r.Params {
			delete(c.streams, p)
		}
	default:
		return fmt.Sprintf(`{"error":{"code":2,"msg":"Unknown method"},"id":%d}`, r.ID)
	}
	return fmt.Sprintf(`{"result":null,"id":%d}`, r.ID)
}

func (c *conn) checkStreams() bool {
	if len(c.streams) <= connStreams {
		return true
	}
	c.s.violation("%d streams on one connection", len(c.streams))
	return false
}

// put queues a message; a client that does not read is cut off.
func (c *conn) put(message string) {
	select {
	case c.out <- message:
		c.s.stats.Messages++
	default:
		c.s.violation("a client does not read: %d messages wait", connQueue)
		c.cancel()
	}
}

// carries tells whether the path delivers a kind of stream: on any other one it is silent, without an error.
func (c *conn) carries(kind string) bool {
	if kind == streamBook {
		return c.path != "/market/stream"
	}
	return c.path == "/market/stream"
}

// publish sends a message to all who subscribed to it, with the faults in force.
func (s *Server) publish(m *market, kind, message string) {
	stream := m.stream(kind)
	now := time.Now()
	for _, f := range s.faults.silences {
		if now.Before(f.until) && f.match(stream) {
			return
		}
	}
	for c := range s.conns {
		if c.streams[stream] && c.carries(kind) {
			c.publish(m, kind, message)
		}
	}
}

func (c *conn) publish(m *market, kind, message string) {
	n, rng := &c.s.faults.noise, c.s.rng
	hit := func(share float64) bool { return share > 0 && rng.Float64() < share }
	if hit(n.Drop) {
		return
	}
	if hit(n.Garbage) {
		c.put(m.garbage(kind, message, rng))
	}
	stream := m.stream(kind)
	held, holds := c.held[stream]
	if !holds && hit(n.Reorder) {
		c.held[stream] = message
		return
	}
	c.put(message)
	if hit(n.Duplicate) {
		c.put(message)
	}
	if holds {
		delete(c.held, stream)
		c.put(held)
	}
}
