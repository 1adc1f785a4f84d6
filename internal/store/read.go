package store

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

// Entry is what the store holds for one symbol.
type Entry struct {
	Symbol   position.Symbol
	Found    bool // there is a hash
	Proposal Proposal
	Problems []Problem // fields of the hash that could not be read
	Unknown  []string  // fields that this version does not know, sorted; of many the first few
	Err      error     // the key could not be read as a hash: another type, a permission, or Lost
	// Lost: the node of a Cluster that holds the key did not answer, so nothing is known of it.
	Lost bool
}

// Newer tells that the hash is of a release whose fields of ours this one cannot be sure of (MaxSchema).
func (e *Entry) Newer() bool {
	return slices.ContainsFunc(e.Problems, func(p Problem) bool { return p.Kind == FieldNewer })
}

// Read reads the proposals of syms in one round trip. A fault of one key, or of one node of a Cluster, is in its Entry;
// the error is about all.
func (s *Store) Read(ctx context.Context, syms []position.Symbol) ([]Entry, error) {
	entries, err := s.Entries(ctx, syms)
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if !entries[i].Lost {
			return entries, nil
		}
	}
	if len(entries) == 0 {
		return nil, nil
	}
	return nil, entries[0].Err
}

// Entries is Read where something else is known to answer, as it is after Head: that the nodes of all these symbols are away is
// then in the entries alone.
func (s *Store) Entries(ctx context.Context, syms []position.Symbol) ([]Entry, error) {
	if len(syms) == 0 {
		return nil, nil
	}
	pipe := s.rdb.Pipeline()
	// As a list: the client's own command would make a map of each hash, in which every field is then looked up.
	cmds := make([]*redis.StringSliceCmd, len(syms))
	for i, sym := range syms {
		cmds[i] = redis.NewStringSliceCmd(ctx, "hgetall", s.keys.Proposal(sym))
		_ = pipe.Process(ctx, cmds[i])
	}
	hasty := brief(ctx)
	_, err := s.sendAll(ctx, pipe)
	if err != nil && (hasty || ctx.Err() != nil || !s.lost(err)) {
		return nil, s.fault("read the proposals", err)
	}
	entries := make([]Entry, len(syms))
	inParts(len(entries), func(from, to int) {
		var v values
		for i := from; i < to; i++ {
			e := &entries[i]
			e.Symbol = syms[i]
			if pairs, err := cmds[i].Result(); err == nil && len(pairs) > 0 {
				v.take(pairs)
				e.Found, e.Proposal.Symbol = true, e.Symbol
				e.Problems, e.Unknown = v.decode(&e.Proposal), v.strangers()
			}
		}
	})
	failed := 0
	var refused error // by a node that is there
	for i, cmd := range cmds {
		err := cmd.Err()
		if err == nil {
			continue
		}
		e := &entries[i]
		e.Err = s.fault("read the proposal of "+string(syms[i]), err)
		e.Lost = s.lost(err)
		if e.Lost || stopsAll(err) {
			failed++
		}
		if !e.Lost {
			refused = err
		}
	}
	if failed == len(syms) && refused != nil {
		return nil, s.fault("read the proposals", refused)
	}
	return entries, nil
}

// smallPart is how many hashes are not worth another goroutine.
const smallPart = 64

// inParts has every processor do a part of 0 to n.
func inParts(n int, do func(from, to int)) {
	parts := min(runtime.GOMAXPROCS(0), max(1, n/smallPart))
	var wg sync.WaitGroup
	for i := 1; i < parts; i++ {
		wg.Go(func() { do(n*i/parts, n*(i+1)/parts) })
	}
	do(0, n/parts)
	wg.Wait()
}

// parseSymbols sorts the members of the expected set; those that are no symbols are left out and counted.
func parseSymbols(members []string) (symbols []position.Symbol, invalid int) {
	for _, m := range members {
		sym, err := position.ParseSymbol(m)
		if err != nil || string(sym) != m {
			invalid++
			continue
		}
		symbols = append(symbols, sym)
	}
	slices.Sort(symbols)
	return symbols, invalid
}

// Collection is everything the store holds, as of one reading.
type Collection struct {
	Expected []position.Symbol // sorted
	Invalid  int               // members of the expected set that are no symbols
	// ExpectedErr is set where the expected set could not be read as a set; the entries are then those of the symbols
	// asked for alone.
	ExpectedErr error
	Entries     []Entry // of the expected symbols and those asked for, sorted by symbol
	// Lease says who may write. Without a layout nobody ever took one: no publisher of ours, or an earlier one.
	Lease LeaseView
	// LeaseErr is set where the node of a Cluster that holds the lease key did not answer: then Lease says nothing.
	LeaseErr error
	// ServerTime is what the clock of the server said half of RTT, the time it took to ask, after the reading began. Of a
	// Cluster it is that of the node with the lease key, by which leases run out; the zero time while that one does not
	// answer.
	ServerTime time.Time
	RTT        time.Duration
	RoundTrips int
}

// Collect reads the expected symbols together with extra, in at most two round trips. It fails where the expected set is
// out of reach: what there should be is then not known. In a Cluster the entries of a node that does not answer are Lost,
// also where these are all.
func (s *Store) Collect(ctx context.Context, extra []position.Symbol) (Collection, error) {
	c, err := s.Head(ctx)
	if err != nil {
		return Collection{}, err
	}
	all := slices.Concat(c.Expected, extra)
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) == 0 {
		return c, nil
	}
	entries, err := s.Entries(ctx, all)
	if err != nil {
		return Collection{}, err
	}
	c.Entries, c.RoundTrips = entries, c.RoundTrips+1
	return c, nil
}

// Head is Collect without the entries.
func (s *Store) Head(ctx context.Context) (Collection, error) {
	c, err := s.collectHead(ctx)
	if err != nil {
		return Collection{}, s.fault("read the expected set", err)
	}
	return c, nil
}

func (s *Store) collectHead(ctx context.Context) (Collection, error) {
	c := Collection{RoundTrips: 1}
	clock := redis.NewTimeCmd(ctx, "time")
	pipe := s.rdb.Pipeline()
	cluster, many := s.rdb.(*redis.ClusterClient)
	start := time.Now()
	told := make(chan time.Duration, 1)
	if many {
		// A question without a key goes to any node. Leases run out by the clock of the one that keeps them.
		go func() {
			node, err := cluster.MasterForKey(ctx, s.keys.lease)
			if err == nil {
				_ = node.Process(ctx, clock)
			} else {
				clock.SetErr(err)
			}
			told <- time.Since(start)
		}()
		c.RoundTrips++
	} else {
		_ = pipe.Process(ctx, clock)
	}
	set := pipe.SMembers(ctx, s.keys.expected)
	lease := pipe.HGetAll(ctx, s.keys.lease)
	_, err := s.sendAll(ctx, pipe)
	if !many {
		told <- time.Since(start)
	}
	c.RTT = <-told
	if err == nil && s.lost(set.Err()) {
		err = set.Err()
	}
	if err != nil {
		return c, err
	}
	if err := set.Err(); err != nil {
		c.ExpectedErr = s.fault("read the expected set", err)
	} else {
		c.Expected, c.Invalid = parseSymbols(set.Val())
	}
	for _, err := range [...]error{clock.Err(), lease.Err()} {
		if s.lost(err) {
			c.LeaseErr = s.fault("read the lease", err)
			return c, nil
		}
	}
	if err := clock.Err(); err != nil {
		return c, err
	}
	c.ServerTime = clock.Val()
	c.Lease = decodeLease(lease.Val(), c.ServerTime) // of another type: no lease, and the next ask makes it one
	return c, nil
}
