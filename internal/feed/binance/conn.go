package binance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// A connection may carry 200 streams and send 10 messages a second, pongs included.
	connStreams     = 200
	requestEvery    = 250 * time.Millisecond
	requestStreams  = 50 // named in one request
	messageBytes    = 1 << 20
	requestsWaiting = 256
)

// request is one SUBSCRIBE or UNSUBSCRIBE.
type request struct {
	Method string   `json:"method"`
	Params []string `json:"params"`
	ID     int64    `json:"id"`
	at     time.Time
}

// conn is one WebSocket connection. It ends with the first error; done is closed then.
type conn struct {
	line   *line
	ws     *websocket.Conn
	born   time.Time
	cancel context.CancelFunc
	done   chan struct{}
	wait   sync.WaitGroup
	once   sync.Once
	err    error

	requests chan request

	mu      sync.Mutex
	last    time.Time            // of the newest message
	subs    map[string]time.Time // by stream: since when it was confirmed, zero while it is not
	pending map[int64]request
	nextID  int64
	marks   map[*track]*markSeen
}

// markSeen is what a connection brought of one mark price. It is alive where it was news to the track, or where its own event
// times move: beside a connection that is always a little faster nothing is ever news. Repeating the same is no sign of life.
type markSeen struct {
	first int64 // event time
	alive bool
}

// connect opens a connection that asks for the given streams: the first ones by its address, in the documented form,
// the others by requests.
func (l *line) connect(ctx context.Context, streams []string) (*conn, error) {
	f := l.f
	first := streams[:min(len(streams), requestStreams)]
	names := make([]string, len(first))
	for i, s := range first {
		names[i] = url.PathEscape(s)
	}
	dialCtx, cancelDial := context.WithTimeout(ctx, f.opts.Timing.Dial)
	defer cancelDial()
	address := f.opts.StreamURL + l.route.path + "?streams=" + strings.Join(names, "/")
	ws, res, err := websocket.Dial(dialCtx, address, &websocket.DialOptions{HTTPClient: f.rest.http})
	if err != nil {
		if res != nil {
			_ = f.rest.budget.observe(res.StatusCode, res.Header)
			err = fmt.Errorf("%w (status %s)", err, res.Status)
		}
		return nil, fmt.Errorf("connect to %s%s: %w", f.opts.StreamURL, l.route.path, err)
	}
	ws.SetReadLimit(messageBytes)
	connCtx, cancel := context.WithCancel(ctx)
	now := time.Now()
	c := &conn{
		line: l, ws: ws, born: now, last: now, cancel: cancel, done: make(chan struct{}),
		requests: make(chan request, requestsWaiting), subs: make(map[string]time.Time),
		pending: make(map[int64]request), marks: make(map[*track]*markSeen),
	}
	for _, s := range first {
		c.subs[s] = now
	}
	f.counts.connects.Add(1)
	f.counts.connections.Add(1)
	c.wait.Go(func() { c.read(connCtx) })
	c.wait.Go(func() { c.write(connCtx) })
	c.wait.Go(func() { c.ping(connCtx) })
	c.subscribe(streams)
	return c, nil
}

// fail ends the connection; the first reason stands.
func (c *conn) fail(err error) {
	c.once.Do(func() {
		c.err = err
		c.cancel()
		_ = c.ws.CloseNow()
		close(c.done)
	})
}

// close ends the connection and waits for what it started. There is no closing handshake: nothing that could still come
// is wanted, and a server in trouble would not answer.
func (c *conn) close() {
	c.fail(errors.New("closed"))
	c.wait.Wait()
	c.line.f.counts.connections.Add(-1)
}

func (c *conn) read(ctx context.Context) {
	var buf bytes.Buffer
	for {
		_, r, err := c.ws.Reader(ctx)
		if err == nil {
			buf.Reset()
			_, err = buf.ReadFrom(r)
		}
		if err != nil {
			c.fail(fmt.Errorf("connection %s: %w", c.line.route.path, err))
			return
		}
		c.mu.Lock()
		c.last = time.Now()
		c.mu.Unlock()
		c.take(buf.Bytes())
	}
}

// write sends requests, slowly enough for the exchange.
func (c *conn) write(ctx context.Context) {
	for {
		var r request
		select {
		case <-ctx.Done():
			return
		case r = <-c.requests:
		}
		raw, err := json.Marshal(r)
		if err == nil {
			writeCtx, cancel := context.WithTimeout(ctx, c.line.f.opts.Timing.Dial)
			err = c.ws.Write(writeCtx, websocket.MessageText, raw)
			cancel()
		}
		if err != nil {
			c.fail(fmt.Errorf("send %s: %w", r.Method, err))
			return
		}
		if !sleep(ctx, requestEvery) {
			return
		}
	}
}

// ping finds connections that are dead without saying so. Pings of the exchange are answered while reading.
func (c *conn) ping(ctx context.Context) {
	for sleep(ctx, c.line.f.opts.Timing.Ping) {
		pingCtx, cancel := context.WithTimeout(ctx, c.line.f.opts.Timing.Dial)
		err := c.ws.Ping(pingCtx)
		cancel()
		if err != nil {
			c.fail(fmt.Errorf("connection %s does not answer: %w", c.line.route.path, err))
			return
		}
	}
}

// subscribe brings the streams of the connection in line with those wanted.
func (c *conn) subscribe(wanted []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	want := make(map[string]bool, len(wanted))
	var more, less []string
	for _, s := range wanted {
		want[s] = true
		if _, ok := c.subs[s]; !ok {
			more = append(more, s)
			c.subs[s] = time.Time{}
		}
	}
	for s := range c.subs {
		if !want[s] {
			less = append(less, s)
			delete(c.subs, s)
		}
	}
	// Room first: the limit of streams counts at every moment.
	c.send("UNSUBSCRIBE", less)
	c.send("SUBSCRIBE", more)
}

func (c *conn) send(method string, streams []string) {
	for len(streams) > 0 {
		n := min(len(streams), requestStreams)
		c.nextID++
		r := request{Method: method, Params: streams[:n:n], ID: c.nextID, at: time.Now()}
		streams = streams[n:]
		select {
		case c.requests <- r:
			c.pending[r.ID] = r
		default:
			c.fail(errors.New("too many requests wait to be sent"))
			return
		}
	}
}

// answer takes the exchange's answer to a request.
func (c *conn) answer(env *envelope) {
	c.mu.Lock()
	r, ok := c.pending[*env.ID]
	delete(c.pending, *env.ID)
	refused := len(env.Error) > 0 && !bytes.Equal(env.Error, []byte("null")) || env.Code != nil
	now := time.Now()
	if ok && !refused && r.Method == "SUBSCRIBE" {
		for _, s := range r.Params {
			if _, still := c.subs[s]; still {
				c.subs[s] = now
			}
		}
	}
	c.mu.Unlock()
	switch {
	case !ok:
		c.line.f.counts.unknown.Add(1)
	case refused:
		c.fail(fmt.Errorf("the exchange refuses %s: %s", r.Method, printable(string(env.Error)+env.Msg)))
	}
}

// take routes one message. What cannot be understood is counted and dropped.
func (c *conn) take(message []byte) {
	f := c.line.f
	if name := streamName(message); name != nil {
		if data := wrappedData(message, name); data != nil {
			c.route(name, data)
			return
		}
	}
	var env envelope
	if err := json.Unmarshal(message, &env); err != nil {
		f.counts.unknown.Add(1)
		return
	}
	switch {
	case env.Stream != "":
		c.route([]byte(env.Stream), env.Data)
	case env.ID != nil:
		c.answer(&env)
	default:
		f.counts.unknown.Add(1)
	}
}

func (c *conn) route(name, data []byte) {
	f := c.line.f
	lower, kind, _ := bytes.Cut(name, []byte("@"))
	t := f.byStreamName(lower)
	switch {
	case t == nil:
		// Of a symbol just removed, or of nobody.
		f.counts.unknown.Add(1)
	case bytes.HasPrefix(kind, []byte("kline_")):
		t.takeKline(data)
	case bytes.HasPrefix(kind, []byte("markPrice")):
		event, fresh := t.takeMark(data)
		c.sawMark(t, event, fresh)
	case bytes.Equal(kind, []byte("bookTicker")):
		t.holdBook(data)
	default:
		f.counts.unknown.Add(1)
	}
}

// overdue tells whether a request was not answered in time.
func (c *conn) overdue(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.pending {
		// Requests queue up behind each other.
		queued := time.Duration(len(c.pending)) * requestEvery
		if now.Sub(r.at) > c.line.f.opts.Timing.Dial+queued {
			return true
		}
	}
	return false
}

// confirmed tells whether every request was answered.
func (c *conn) confirmed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) == 0
}

func (c *conn) since(stream string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subs[stream]
}

func (c *conn) lastMessage() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// sawMark notes a mark price that came on this connection; event is 0 where it could not be used.
func (c *conn) sawMark(t *track, event int64, fresh bool) {
	if event == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.marks[t]
	if seen == nil {
		seen = &markSeen{first: event}
		c.marks[t] = seen
	}
	seen.alive = seen.alive || fresh || event > seen.first
}

// markCount is the number of symbols whose mark price is alive on this connection.
func (c *conn) markCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, seen := range c.marks {
		if seen.alive {
			n++
		}
	}
	return n
}
