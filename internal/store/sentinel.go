package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// sentinelTimeout bounds one question to one Sentinel. All are asked at once, so a dead one costs this once.
	sentinelTimeout = time.Second
	// sentinelEvery is how often the Sentinels are asked while the client is in use. A primary that was replaced without
	// having died goes on answering: until it has been told, what is written to it is lost.
	sentinelEvery = 500 * time.Millisecond
)

// failover is a client of the server that Sentinels name as primary.
type failover struct {
	*redis.Client
	sentinels *sentinels
}

func dialSentinels(o ClientOptions) *failover {
	s := &sentinels{
		addrs: slices.Clone(o.Sentinels), name: o.Primary, password: o.SentinelPassword, tls: o.TLS,
		dialer: net.Dialer{Timeout: o.DialTimeout, KeepAlive: 15 * time.Second}, conns: make(map[*primaryConn]struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	for _, addr := range s.addrs {
		so := o.server()
		so.Addr, so.DB, so.Username, so.Password, so.PoolSize = addr, 0, o.SentinelUsername, o.SentinelPassword, 2
		so.DialTimeout, so.ReadTimeout, so.WriteTimeout = sentinelTimeout, sentinelTimeout, sentinelTimeout
		s.clients = append(s.clients, redis.NewSentinelClient(so))
	}
	ro := o.server()
	ro.Addr, ro.TLSConfig = s.String(), nil // the dialer does both
	ro.Dialer, ro.OnConnect = s.dial, mustBePrimary
	ro.DialTimeout += sentinelTimeout
	return &failover{redis.NewClient(ro), s}
}

// Close releases the connections. Operations under way fail.
func (f *failover) Close() error {
	err := f.sentinels.close()
	return errors.Join(f.Client.Close(), err)
}

// errNotPrimary is said of a server that Sentinels name and that is a replica: they have not heard yet.
var errNotPrimary = errors.New("the Sentinels name a server that is a replica")

// mustBePrimary asks a new connection what is at its other end. A user that may not ask takes the Sentinels' word.
func mustBePrimary(ctx context.Context, c *redis.Conn) error {
	role := redis.NewSliceCmd(ctx, "role")
	_ = c.Process(ctx, role)
	answer, err := role.Result()
	switch {
	case redis.HasErrorPrefix(err, "NOPERM"):
		return nil
	case err != nil:
		return err
	case len(answer) > 0 && answer[0] != "master":
		return errNotPrimary
	}
	return nil
}

// sentinels find the primary, by the word of most Sentinels, and watch whether it still is.
type sentinels struct {
	addrs    []string
	name     string
	password string // never to appear in a message
	clients  []*redis.SentinelClient
	dialer   net.Dialer
	tls      *tls.Config

	life context.Context // ends with close
	end  context.CancelFunc

	mu       sync.Mutex
	primary  string // the last one named
	conns    map[*primaryConn]struct{}
	watching bool
	watch    sync.WaitGroup
}

// String says in words where the primary is looked for.
func (s *sentinels) String() string {
	return fmt.Sprintf("primary %q of the Sentinels %s", s.name, strings.Join(s.addrs, ", "))
}

func (s *sentinels) close() error {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	errs := make([]error, 0, len(s.clients))
	for _, c := range s.clients {
		errs = append(errs, c.Close())
	}
	s.watch.Wait()
	return errors.Join(errs...)
}

// sentinelError says that the Sentinels did not name a primary. An error reply of theirs is none of the primary's, so it
// cannot be unwrapped.
type sentinelError struct {
	said, hint string
	network    error // why one of them cannot be reached; nil where all of them answer
}

// Error says what the Sentinels did instead.
func (e *sentinelError) Error() string { return "the primary " + e.said }

// Unwrap gives what the network did.
func (e *sentinelError) Unwrap() error { return e.network }

// noPrimary makes one error of what every Sentinel said or did.
func (s *sentinels) noPrimary(errs []error) error {
	e := &sentinelError{}
	unknown := false
	var texts []string
	for i, err := range errs {
		switch {
		case errors.Is(err, redis.Nil):
			unknown = true
			continue
		case redis.IsAuthError(err), redis.IsPermissionError(err):
			e.hint = "check REDIS_SENTINEL_USERNAME and REDIS_SENTINEL_PASSWORD"
		case !answered(err):
			e.network = err
		}
		texts = append(texts, s.addrs[i]+": "+err.Error())
	}
	if unknown {
		e.said, e.network = "is not known: its Sentinels watch none of that name", nil
		e.hint = "check REDIS_SENTINEL_MASTER"
		return e
	}
	e.said = "cannot be found: no Sentinel names it (" + strings.Join(texts, "; ") + ")"
	if e.hint == "" {
		e.hint = "are they running? check REDIS_SENTINELS"
	}
	return e
}

// ask asks all Sentinels at once and returns as soon as most of them agree. Where they never do, what most of those say
// that answered in time counts, and for the rest the primary so far: one Sentinel that was away, with an old primary
// beside it on the same machine, must not lead anybody back there.
func (s *sentinels) ask(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sentinelTimeout)
	defer cancel()
	type answer struct {
		sentinel int
		addr     string
		err      error
	}
	answers := make(chan answer, len(s.clients)) // nobody is waited for who is not needed
	for i, c := range s.clients {
		go func() {
			addr, err := c.GetMasterAddrByName(ctx, s.name).Result()
			if err == nil && len(addr) != 2 {
				err = fmt.Errorf("it names %q", addr)
			}
			if err != nil {
				answers <- answer{sentinel: i, err: err}
				return
			}
			answers <- answer{sentinel: i, addr: net.JoinHostPort(addr[0], addr[1])}
		}()
	}
	votes := make(map[string]int)
	errs := make([]error, len(s.clients))
	for range s.clients {
		a := <-answers
		if errs[a.sentinel] = a.err; a.err != nil {
			continue
		}
		votes[a.addr]++
		if 2*votes[a.addr] > len(s.clients) {
			return a.addr, nil
		}
	}
	s.mu.Lock()
	best := s.primary
	s.mu.Unlock()
	for addr, n := range votes {
		if n > votes[best] {
			best = addr
		}
	}
	if votes[best] > 0 {
		return best, nil
	}
	return "", s.noPrimary(errs)
}

// dial connects to the primary of this moment.
func (s *sentinels) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	addr, err := s.ask(ctx)
	if err != nil {
		return nil, err
	}
	s.use(addr)
	conn, err := s.connect(ctx, addr)
	if err != nil {
		return nil, &nodeError{addr, err}
	}
	return conn, nil
}

func (s *sentinels) connect(ctx context.Context, addr string) (net.Conn, error) {
	raw, err := s.dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn := &primaryConn{TCPConn: raw.(*net.TCPConn), addr: addr, of: s}
	if err := s.keep(conn); err != nil {
		_ = raw.Close()
		return nil, err
	}
	if s.tls == nil {
		return conn, nil
	}
	config := s.tls.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(addr)
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// use takes addr for the primary and closes every connection to another one.
func (s *sentinels) use(addr string) {
	s.mu.Lock()
	s.primary = addr
	var old []*primaryConn
	for c := range s.conns {
		if c.addr != addr {
			old = append(old, c)
		}
	}
	if !s.watching && s.life.Err() == nil {
		s.watching = true
		s.watch.Go(s.look)
	}
	s.mu.Unlock()
	for _, c := range old {
		_ = c.Close()
	}
}

// look asks the Sentinels as long as the client is open.
func (s *sentinels) look() {
	ticker := time.NewTicker(sentinelEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-ticker.C:
		}
		if addr, err := s.ask(s.life); err == nil {
			s.use(addr)
		}
	}
}

// keep remembers a connection, unless its server was replaced while it was made.
func (s *sentinels) keep(c *primaryConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary != c.addr {
		return errNotPrimary
	}
	s.conns[c] = struct{}{}
	return nil
}

// primaryConn is a connection that is closed as soon as another server is primary. It is a TCP connection to the client,
// which looks at those before it uses them again.
type primaryConn struct {
	*net.TCPConn
	addr string
	of   *sentinels
}

// Close ends the connection.
func (c *primaryConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.TCPConn.Close()
}

// Primary is the server that is used now, blank before the first operation. Where it changes it was replaced.
func (f *failover) Primary() string {
	f.sentinels.mu.Lock()
	defer f.sentinels.mu.Unlock()
	return f.sentinels.primary
}
