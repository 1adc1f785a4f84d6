// Package store is the wire contract on Redis and nothing else: the names of the keys, the schema of the proposal hash,
// and the atomic steps by which it is published, beaten and closed. Publish, beat and close are one script each on the
// server, and whatever a step of the engine wants written goes there in one pipelined round trip.
//
// A Store promises: a reader never sees half a hash; a beat never creates one; a write whose writer does not hold the
// lease, or under a lower fence than the one in the hash or than the last to close it, changes nothing; nothing counts as written that the server did
// not confirm.
//
// The Redis user needs the commands EVALSHA, SCRIPT LOAD, HGETALL, HMGET, HGET, HSET, HDEL, DEL, EXISTS, PEXPIRE, SADD,
// SREM, SMEMBERS, XADD and TIME on the keys of the contract; behind Sentinels ROLE, in a Cluster CLUSTER SLOTS and the
// records that lie beside the hashes, whose keys begin with the prefix of the proposals in braces.
package store

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Option changes a Store from its default.
type Option func(*Store)

// WithStreams makes publishes and produced records go to their streams, too, when on.
func WithStreams(on bool) Option { return func(s *Store) { s.streams = on } }

// WithClock sets the clock by which the writer knows until when its lease holds (Lease.Until), time.Now without it.
func WithClock(now func() time.Time) Option { return func(s *Store) { s.now = now } }

// Store reads and writes the wire contract. It is safe for concurrent use.
type Store struct {
	rdb     redis.UniversalClient
	keys    Keys
	streams bool
	addr    string   // for messages
	secrets []string // never to appear in one
	now     func() time.Time
	// perKey tells that the keys lie in several slots of a Cluster: a script then reaches one of them alone.
	perKey bool
	// The streams that a write goes to in the same step; none where streams are off, or appended to by themselves.
	withProposal, withState, withStops []string

	loaded atomic.Bool // the scripts were loaded once; a restart of the server shows as NOSCRIPT
	spares chan *plan  // memory of earlier Writes, for the next ones: two may be under way
}

// New makes a Store on a client that speaks version 2 of the protocol, as those of Dial do: hashes are read as the lists that
// they are there. The Store closes it. A server that is not there yet shows in the first operation, and heals by itself.
func New(rdb redis.UniversalClient, keys Keys, options ...Option) *Store {
	s := &Store{rdb: rdb, keys: keys, now: time.Now, spares: make(chan *plan, 2)}
	s.addr, s.secrets = whereabouts(rdb)
	if _, cluster := rdb.(*redis.ClusterClient); cluster {
		s.perKey = !keys.oneSlot()
	}
	for _, o := range options {
		o(s)
	}
	if s.streams && !s.perKey {
		s.withProposal, s.withState, s.withStops = []string{keys.stream}, []string{keys.marketStream}, []string{keys.riskStream}
	}
	return s
}

// Close releases the connections. Operations under way fail.
func (s *Store) Close() error { return s.rdb.Close() }

// eval runs one script by itself. A server that does not know it is told.
func (s *Store) eval(ctx context.Context, sc *script, keys []string, args []any) ([]any, error) {
	reply, err := s.rdb.EvalSha(ctx, sc.sha, keys, args...).Slice()
	if err != nil && strings.HasPrefix(replied(err), "NOSCRIPT") {
		if err := s.teach(ctx, sc, keys[0]); err != nil {
			return nil, err
		}
		reply, err = s.rdb.EvalSha(ctx, sc.sha, keys, args...).Slice()
	}
	return reply, err
}

// teach loads a script on the server that holds key.
func (s *Store) teach(ctx context.Context, sc *script, key string) error {
	if cluster, ok := s.rdb.(*redis.ClusterClient); ok {
		node, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			return err
		}
		return node.ScriptLoad(ctx, sc.source).Err()
	}
	return s.rdb.ScriptLoad(ctx, sc.source).Err()
}
