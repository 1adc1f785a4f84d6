// Package embedded is the Redis that comes with the program: in the same process, on a loopback port, so that redis-cli
// and every client work on it without anything installed. It keeps a snapshot of its keys in a directory where it is
// given one, which belongs to one process at a time.
//
// It is made for one machine and a few hundred symbols. What a real Redis has and this has not: ACLs, CONFIG SET,
// keyspace notifications, replication. Between two snapshots a crash loses a few seconds; the proposals are written anew
// by the publisher anyway.
package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/gofrs/flock"
)

// Options says where the server listens and what it keeps.
type Options struct {
	Addr string // host:port, default 127.0.0.1:6379; port 0 is any free one
	// AllowRemote lets Addr be other than loopback. The server asks nobody for a password.
	AllowRemote bool
	// Dir keeps a snapshot of all keys across restarts; blank keeps nothing. One server at a time may have it.
	Dir       string
	SaveEvery time.Duration // how often a changed snapshot is written, default 5 s
	Log       *slog.Logger  // default: none
}

const (
	defaultAddr = "127.0.0.1:6379"
	// tick is how often time passes for keys that expire. The server's own clock mode walks every key at every
	// command, which costs far more.
	tick = 250 * time.Millisecond
	// triedPorts is how many ports are tried from the wanted one on before any free one is taken.
	triedPorts = 20
)

// Server is one running embedded Redis.
type Server struct {
	opts     Options
	db       *miniredis.Miniredis
	srv      *server.Server
	listener net.Listener
	moved    bool
	lock     *flock.Flock // of the data directory, nil without one
	started  time.Time
	runID    string
	log      *slog.Logger

	stop      chan struct{}
	wg        sync.WaitGroup
	closeOnce sync.Once
	closeErr  error

	saving snapshotState
}

// Start loads the snapshot, if there is one, and listens. A port that is taken makes it listen on the next free one;
// Moved tells. A data directory that is taken is an error: two servers would overwrite each other's snapshot. A snapshot
// that is damaged is set aside and the server starts empty.
func Start(o Options) (*Server, error) {
	if o.Addr == "" {
		o.Addr = defaultAddr
	}
	if o.SaveEvery <= 0 {
		o.SaveEvery = 5 * time.Second
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := checkAddr(o); err != nil {
		return nil, err
	}
	s := &Server{opts: o, log: log, started: time.Now(), stop: make(chan struct{})}
	id := make([]byte, 20)
	_, _ = rand.Read(id) // never fails
	s.runID = hex.EncodeToString(id)

	if err := s.lockDir(); err != nil {
		return nil, err
	}
	s.reset()
	err := s.load()
	if err == nil {
		err = s.listen()
	}
	if err != nil {
		s.db.Close()
		s.unlockDir()
		return nil, err
	}
	s.srv.SetPreHook(s.answer)
	s.wg.Add(2)
	go s.accept()
	go s.passTime()
	if o.Dir != "" {
		s.wg.Add(1)
		go s.saveRegularly()
	}
	return s, nil
}

// reset makes a fresh, empty database that serves connections handed to it.
func (s *Server) reset() {
	if s.db != nil {
		s.db.Close()
	}
	s.db = miniredis.NewMiniRedis()
	s.serveHanded()
}

// serveHanded starts the server without a listener: connections come from accept, which guards them.
func (s *Server) serveHanded() {
	c, err := s.db.Dial() // in memory; it cannot fail, and starts the server as a side effect
	if err == nil {
		_ = c.Close()
	}
	s.srv = s.db.Server()
}

func checkAddr(o Options) error {
	host, port, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return fmt.Errorf("embedded redis: address %q: write host:port, for example %s", o.Addr, defaultAddr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("embedded redis: address %q: the port is a number from 0 to 65535", o.Addr)
	}
	if o.AllowRemote || host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return fmt.Errorf("embedded redis: address %q is not loopback: it asks for no password, so it listens on 127.0.0.1 only; "+
			"use a Redis of your own (--redis URL) to share it between machines", o.Addr)
	}
	return nil
}

func (s *Server) listen() error {
	host, portText, _ := net.SplitHostPort(s.opts.Addr)
	port, _ := strconv.Atoi(portText)
	tries := []int{port}
	if port != 0 {
		for p := port + 1; p <= min(port+triedPorts, 65535); p++ {
			tries = append(tries, p)
		}
		tries = append(tries, 0)
	}
	var err error
	for i, p := range tries {
		s.listener, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
		if err == nil {
			s.moved = i > 0
			return nil
		}
		if !inUse(err) {
			break
		}
	}
	return fmt.Errorf("embedded redis: listen on %s: %w", s.opts.Addr, err)
}

// inUse tells whether another program has the port. Windows has a number of its own for that.
func inUse(err error) bool {
	const windowsAddressInUse = syscall.Errno(10048)
	return errors.Is(err, syscall.EADDRINUSE) || (runtime.GOOS == "windows" && errors.Is(err, windowsAddressInUse))
}

// Addr is host:port where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Moved tells that the wanted port was taken and the server listens on another one.
func (s *Server) Moved() bool { return s.moved }

// Close ends all connections, writes the last snapshot and returns its error. It may be called more than once.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		close(s.stop)
		_ = s.listener.Close()
		s.wg.Wait()
		s.db.Close()
		if s.opts.Dir == "" {
			return
		}
		defer s.unlockDir()
		// With every client gone, what is saved now is what the last of them saw.
		s.serveHanded()
		s.closeErr = s.save()
		s.db.Close()
	})
	return s.closeErr
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		c, err := s.listener.Accept()
		switch {
		case err == nil:
			s.srv.ServeConn(newGuard(c))
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of file descriptors, most likely: it passes
			s.log.Warn("embedded redis cannot accept a connection", "err", err)
			select {
			case <-s.stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

func (s *Server) passTime() {
	defer s.wg.Done()
	t := time.NewTicker(tick)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			now := time.Now()
			s.db.FastForward(now.Sub(last))
			last = now
		}
	}
}

func (s *Server) saveRegularly() {
	defer s.wg.Done()
	t := time.NewTicker(s.opts.SaveEvery)
	defer t.Stop()
	failing := false
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			err := s.save()
			if err != nil && !failing {
				s.log.Warn("embedded redis cannot write its snapshot", "dir", s.opts.Dir, "err", err)
			}
			if err == nil && failing {
				s.log.Info("embedded redis writes its snapshot again", "dir", s.opts.Dir)
			}
			failing = err != nil
		}
	}
}

func (s *Server) snapshotFile() string { return filepath.Join(s.opts.Dir, "redis.snapshot") }
