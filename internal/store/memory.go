package store

import (
	"context"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

// Memory is what a writer must know before it writes for symbols that another one wrote before.
type Memory struct {
	Collection
	// Closed is the last episode of a symbol whose closing record was left.
	Closed map[position.Symbol]Ended
	// Pending are closes of which the hash is gone and the record may not have been left: to be repeated.
	Pending []Close
}

// Ended is an episode that is over, and the revision that the key of its proposal had come to: the next one goes on from
// there.
type Ended struct {
	Episode  string
	Revision int64
}

func (e Ended) text() string { return e.Episode + " " + strconv.FormatInt(e.Revision, 10) }

func parseEnded(text string) Ended {
	i := strings.LastIndexByte(text, ' ')
	if i < 0 {
		return Ended{}
	}
	e := Ended{Episode: text[:i]}
	e.Revision, _ = parseCount(text[i+1:])
	return e
}

// Remember reads the expected symbols together with extra, and what is known of episodes that ended.
func (s *Store) Remember(ctx context.Context, extra []position.Symbol) (Memory, error) {
	c, err := s.Collect(ctx, extra)
	if err != nil {
		return Memory{}, err
	}
	m := Memory{Collection: c, Closed: make(map[position.Symbol]Ended)}
	closed, err := s.rdb.HGetAll(ctx, s.keys.closed).Result()
	m.RoundTrips++
	if err != nil && stopsAll(err) || err != nil && replied(err) == "" {
		return Memory{}, s.fault("read the closed episodes", err)
	}
	for sym, text := range closed { // none where the key is of another type: the next close makes it anew
		m.Closed[position.Symbol(sym)] = parseEnded(text)
	}
	if s.perKey {
		if err := s.pending(ctx, &m); err != nil {
			return Memory{}, err
		}
	}
	return m, nil
}

// pending reads the closing records that still lie beside their hashes. Where one is out of reach, so is the memory of its
// symbol.
func (s *Store) pending(ctx context.Context, m *Memory) error {
	if len(m.Entries) == 0 {
		return nil
	}
	pipe := s.rdb.Pipeline()
	records := make([]*redis.MapStringStringCmd, len(m.Entries))
	for i := range m.Entries {
		records[i] = pipe.HGetAll(ctx, beside(s.keys.Proposal(m.Entries[i].Symbol)))
	}
	m.RoundTrips++
	hasty := brief(ctx)
	if _, err := s.sendAll(ctx, pipe); err != nil && (hasty || ctx.Err() != nil || !s.lost(err)) {
		return s.fault("read the pending closes", err)
	}
	for i, cmd := range records {
		hash, err := cmd.Result()
		if e := &m.Entries[i]; s.lost(err) && !e.Lost {
			e.Lost, e.Found, e.Err = true, false, s.fault("read the pending close of "+string(e.Symbol), err)
		}
		if err != nil || hash["event"] != "closed" {
			continue
		}
		c := Close{Symbol: m.Entries[i].Symbol, Episode: hash["episode"], Reason: hash["close_reason"]}
		if at, ok := parseEpoch(hash["closed_at_epoch"]); ok {
			c.At = at
		}
		hash["harvest_action"] = hash["last_action"]
		c.Last, _ = Decode(c.Symbol, hash)
		m.Pending = append(m.Pending, c)
	}
	return nil
}
