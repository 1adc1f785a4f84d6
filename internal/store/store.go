// Package store is the wire contract on Redis and nothing else: the names of the keys, the schema of the proposal hash,
// and the atomic steps by which it is published, beaten and closed. Publish, beat and close are one script each on the
// server, and whatever a step of the engine wants written goes there in one pipelined round trip.
//
// A Store promises: a reader never sees half a hash; a beat never creates one; a write under a lower fence than the one
// in the hash changes nothing; nothing counts as written that the server did not confirm.
//
// The Redis user needs the commands EVALSHA, SCRIPT LOAD, HGETALL, HMGET, HGET, HSET, HLEN, DEL, EXISTS, PEXPIRE, SADD,
// SREM, SMEMBERS, XADD and TIME on the keys of the contract.
package store

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Option changes a Store from its default.
type Option func(*Store)

// WithStreams makes publishes and produced records go to their streams, too, when on.
func WithStreams(on bool) Option { return func(s *Store) { s.streams = on } }

// Store reads and writes the wire contract. It is safe for concurrent use. It writes for one writer at a time: beats
// and closes that name no fence go under the highest this Store has issued or written.
type Store struct {
	rdb     redis.UniversalClient
	keys    Keys
	streams bool
	addr    string // for messages
	secret  string // never to appear in one

	loaded atomic.Bool          // the scripts were loaded once; a restart of the server shows as NOSCRIPT
	spare  atomic.Pointer[plan] // memory of an earlier Write, for the next one
	mu     sync.Mutex
	fence  int64
}

// New makes a Store on a client (see Dial; Sentinel and Cluster have others). The Store closes it. A server that is not
// there yet shows in the first operation, and heals by itself.
func New(rdb redis.UniversalClient, keys Keys, options ...Option) *Store {
	s := &Store{rdb: rdb, keys: keys, addr: "redis"}
	if c, ok := rdb.(*redis.Client); ok {
		s.addr, s.secret = c.Options().Addr, c.Options().Password
	}
	for _, o := range options {
		o(s)
	}
	return s
}

// Close releases the connections. Operations under way fail.
func (s *Store) Close() error { return s.rdb.Close() }

// NewFence issues a fence: the clock of the server in microseconds, and never one at or below what this Store has issued
// or written before.
func (s *Store) NewFence(ctx context.Context) (int64, error) {
	t, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return 0, s.fault("take a fence", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fence = max(s.fence+1, t.UnixMicro())
	return s.fence, nil
}

// seenFence remembers a fence that was written under, and gives the one for an operation that names f.
func (s *Store) seenFence(f int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fence = max(s.fence, f)
	return s.fence
}
