package store

import (
	"context"
	"slices"
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
	Err      error     // the key could not be read as a hash: another type, a permission
}

// Read reads the proposals of syms in one round trip. A fault of one key is in its Entry; the error is about all.
func (s *Store) Read(ctx context.Context, syms []position.Symbol) ([]Entry, error) {
	if len(syms) == 0 {
		return nil, nil
	}
	pipe := s.rdb.Pipeline()
	cmds := make([]*redis.MapStringStringCmd, len(syms))
	for i, sym := range syms {
		cmds[i] = pipe.HGetAll(ctx, s.keys.Proposal(sym))
	}
	if _, err := send(ctx, pipe); err != nil {
		return nil, s.fault("read the proposals", err)
	}
	entries := make([]Entry, len(syms))
	failed := 0
	for i, cmd := range cmds {
		e := &entries[i]
		e.Symbol = syms[i]
		hash, err := cmd.Result()
		switch {
		case err != nil:
			e.Err = s.fault("read the proposal of "+string(syms[i]), err)
			if stopsAll(err) {
				failed++
			}
		case len(hash) > 0:
			e.Found = true
			e.Proposal, e.Problems = Decode(syms[i], hash)
		}
	}
	if failed == len(syms) {
		return nil, s.fault("read the proposals", cmds[0].Err())
	}
	return entries, nil
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
	// ServerTime is what the clock of the server said, RTT how long it took to ask.
	ServerTime time.Time
	RTT        time.Duration
	RoundTrips int
}

// Collect reads the expected symbols together with extra, in at most two round trips.
func (s *Store) Collect(ctx context.Context, extra []position.Symbol) (Collection, error) {
	start := time.Now()
	pipe := s.rdb.Pipeline()
	clock := pipe.Time(ctx)
	set := pipe.SMembers(ctx, s.keys.expected)
	lease := pipe.HGetAll(ctx, s.keys.lease)
	_, err := send(ctx, pipe)
	c := Collection{RTT: time.Since(start), RoundTrips: 1}
	if err == nil {
		err = clock.Err()
	}
	if err != nil {
		return Collection{}, s.fault("read the expected set", err)
	}
	c.ServerTime = clock.Val()
	c.Lease = decodeLease(lease.Val(), c.ServerTime) // of another type: no lease, and the next ask makes it one
	if err := set.Err(); err != nil {
		c.ExpectedErr = s.fault("read the expected set", err)
	} else {
		c.Expected, c.Invalid = parseSymbols(set.Val())
	}
	all := slices.Concat(c.Expected, extra)
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) == 0 {
		return c, nil
	}
	entries, err := s.Read(ctx, all)
	if err != nil {
		return Collection{}, err
	}
	c.Entries, c.RoundTrips = entries, 2
	return c, nil
}
