package deploy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/config"
	"quantumharvest/internal/deploy/legacy"
	"quantumharvest/internal/position"
	"quantumharvest/internal/statefile"
)

// scan lists the keys of a pattern, sorted.
func scan(ctx context.Context, rdb redis.UniversalClient, pattern string) ([]string, error) {
	var mu sync.Mutex
	seen := map[string]bool{}
	one := func(ctx context.Context, c redis.Cmdable) error {
		it := c.Scan(ctx, 0, pattern, 1000).Iterator()
		for it.Next(ctx) {
			mu.Lock()
			seen[it.Val()] = true
			mu.Unlock()
		}
		return it.Err()
	}
	var err error
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return one(ctx, c) })
	} else {
		err = one(ctx, rdb)
	}
	if err != nil {
		return nil, fmt.Errorf("list the keys %s: %w", pattern, err)
	}
	keys := make([]string, 0, len(seen))
	for k := range seen {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys, nil
}

// snapshot is what Redis held where ours is going to write.
type snapshot struct {
	Patterns []string             `json:"patterns"`
	Keys     map[string]kept      `json:"keys"`
	Streams  map[string]streamEnd `json:"streams"`
	Removed  []string             `json:"removed"` // keys that the switch-over deleted
}

type kept struct {
	Dump   string   `json:"dump"` // as DUMP gives it, in base64
	TTL    int64    `json:"ttl_ms"`
	Fields []string `json:"fields,omitempty"` // of a proposal
}

type streamEnd struct {
	There bool   `json:"there"`
	Last  string `json:"last"`
}

// ownKeys are the keys that a publisher of ours writes beside proposals and records. Others under the same prefix are somebody
// else's.
func (r *run) ownKeys(c config.Config) []string {
	k := r.o.Desk.Keys(c)
	base := strings.TrimSuffix(k.Expected(), "expected")
	return []string{k.Expected(), base + "closed", k.Lease(), base + "stream"}
}

// patterns are the keys that a publisher of ours may write.
func (r *run) patterns(c config.Config) (patterns, streams []string) {
	patterns = append(r.ownKeys(c), c.Keys.Harvest+"*", "{"+c.Keys.Harvest+"*", c.Keys.MarketState+"*", c.Keys.RiskProposal+"*")
	proposals := c.Keys.Stream
	if proposals == "" {
		proposals = c.Keys.Prefix + "stream:harvest.proposal"
	}
	return patterns, []string{proposals, c.Keys.Prefix + "stream:marketstate", c.Keys.Prefix + "stream:risk.proposal"}
}

func (r *run) takeSnapshot(ctx context.Context, rdb redis.UniversalClient, c config.Config) (snapshot, error) {
	s := snapshot{Keys: map[string]kept{}, Streams: map[string]streamEnd{}}
	var streams []string
	s.Patterns, streams = r.patterns(c)
	for _, p := range s.Patterns {
		keys, err := scan(ctx, rdb, p)
		if err != nil {
			return s, err
		}
		for _, k := range keys {
			raw, err := rdb.Dump(ctx, k).Result()
			if errors.Is(err, redis.Nil) {
				continue // gone meanwhile
			}
			if err != nil {
				return s, fmt.Errorf("keep %s: %w", k, err)
			}
			ttl, err := rdb.PTTL(ctx, k).Result()
			if err != nil {
				return s, fmt.Errorf("keep %s: %w", k, err)
			}
			is := kept{Dump: base64.StdEncoding.EncodeToString([]byte(raw)), TTL: max(ttl.Milliseconds(), 0)}
			if strings.HasPrefix(k, c.Keys.Harvest) {
				is.Fields, err = rdb.HKeys(ctx, k).Result()
				if err != nil && !strings.HasPrefix(err.Error(), "WRONGTYPE") {
					return s, fmt.Errorf("keep %s: %w", k, err)
				}
			}
			s.Keys[k] = is
		}
	}
	for _, name := range streams {
		end := streamEnd{Last: "0-0"}
		n, err := rdb.Exists(ctx, name).Result()
		if err == nil && n > 0 {
			var info *redis.XInfoStream
			if info, err = rdb.XInfoStream(ctx, name).Result(); err == nil {
				end = streamEnd{true, info.LastGeneratedID}
			} else if strings.HasPrefix(err.Error(), "WRONGTYPE") {
				end, err = streamEnd{true, end.Last}, nil // ours cannot write there
			}
		}
		if err != nil {
			return s, fmt.Errorf("keep the end of %s: %w", name, err)
		}
		s.Streams[name] = end
	}
	return s, nil
}

func (r *run) snapshotFile() string { return filepath.Join(r.dir, "backups", "redis.json") }

func (r *run) saveSnapshot(s snapshot) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return statefile.Write(r.snapshotFile(), raw)
}

func (r *run) loadSnapshot() (snapshot, error) {
	var s snapshot
	raw, err := os.ReadFile(r.snapshotFile())
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read what Redis held before: %w", err)
	}
	return s, nil
}

// cleanRedis takes out of Redis what we added: keys that were not there, fields that the earlier publisher does not write, and
// entries of streams. The advice itself stays, fresh as it is, for those who read until the earlier publisher writes its own.
func (r *run) cleanRedis(ctx context.Context, _ Change) error {
	s, err := r.loadSnapshot()
	if err != nil {
		return err
	}
	c, err := r.settingsOfBefore()
	if err != nil {
		return err
	}
	rdb := r.o.Desk.Connect(c.Redis)
	defer rdb.Close()
	for _, p := range s.Patterns {
		keys, err := scan(ctx, rdb, p)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := r.cleanKey(ctx, rdb, c, s, k); err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
		}
	}
	for _, k := range s.Removed {
		if err := s.put(ctx, rdb, k); err != nil {
			return err
		}
	}
	for name, end := range s.Streams {
		if err := cleanStream(ctx, rdb, name, end); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// put writes a key back as it was, where it is not there.
func (s snapshot) put(ctx context.Context, rdb redis.UniversalClient, key string) error {
	k, ok := s.Keys[key]
	if !ok {
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(k.Dump)
	if err != nil {
		return err
	}
	err = rdb.Restore(ctx, key, time.Duration(k.TTL)*time.Millisecond, string(raw)).Err()
	if err != nil && strings.HasPrefix(err.Error(), "BUSYKEY") {
		return nil
	}
	return err
}

func (r *run) cleanKey(ctx context.Context, rdb redis.UniversalClient, c config.Config, s snapshot, key string) error {
	was, before := s.Keys[key]
	if name, ok := strings.CutPrefix(key, c.Keys.Harvest); ok {
		if _, err := position.ParseSymbol(name); err == nil {
			hash, err := rdb.HGetAll(ctx, key).Result()
			if err != nil || hash["schema_version"] == "" {
				return err // the earlier publisher wrote it
			}
			if !before {
				return rdb.Del(ctx, key).Err()
			}
			var added []string
			for field := range hash {
				if !slices.Contains(legacy.Fields, field) && !slices.Contains(was.Fields, field) {
					added = append(added, field)
				}
			}
			return rdb.HDel(ctx, key, added...).Err()
		}
	}
	if strings.HasPrefix(key, c.Keys.MarketState) || strings.HasPrefix(key, c.Keys.RiskProposal) {
		who, err := rdb.HGet(ctx, key, "publisher").Result()
		if errors.Is(err, redis.Nil) || err == nil && !strings.HasPrefix(who, "quantum-harvest") {
			return nil // another service wrote it
		}
		if err == nil {
			err = rdb.Del(ctx, key).Err()
		}
		if err == nil && before {
			err = s.put(ctx, rdb, key)
		}
		return err
	}
	closing := strings.HasPrefix(key, "{"+c.Keys.Harvest) && strings.HasSuffix(key, "}:closing")
	if before || !closing && !slices.Contains(r.ownKeys(c), key) {
		return nil
	}
	return rdb.Del(ctx, key).Err()
}

// cleanStream takes our entries out of a stream, and the stream away where it is ours altogether.
func cleanStream(ctx context.Context, rdb redis.UniversalClient, name string, end streamEnd) error {
	entries, err := rdb.XRange(ctx, name, "("+end.Last, "+").Result()
	if err != nil {
		if strings.HasPrefix(err.Error(), "WRONGTYPE") {
			return nil
		}
		return err
	}
	var ids []string
	for _, e := range entries {
		if _, ours := e.Values["publisher"]; ours {
			ids = append(ids, e.ID)
		}
	}
	if len(ids) > 0 {
		if err := rdb.XDel(ctx, name, ids...).Err(); err != nil {
			return err
		}
	}
	if n, err := rdb.XLen(ctx, name).Result(); err == nil && n == 0 && !end.There {
		return rdb.Del(ctx, name).Err()
	}
	return nil
}

// proposals reads every hash below the prefix of proposals that belongs to a symbol.
func proposals(ctx context.Context, rdb redis.UniversalClient, prefix string) (map[string]map[string]string, error) {
	keys, err := scan(ctx, rdb, prefix+"*")
	if err != nil {
		return nil, err
	}
	all := map[string]map[string]string{}
	pipe := rdb.Pipeline()
	cmds := map[string]*redis.MapStringStringCmd{}
	for _, k := range keys {
		name := strings.TrimPrefix(k, prefix)
		if _, err := position.ParseSymbol(name); err == nil {
			cmds[name] = pipe.HGetAll(ctx, k)
		}
	}
	if len(cmds) == 0 {
		return all, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the proposals: %w", err)
	}
	for name, cmd := range cmds {
		if len(cmd.Val()) > 0 {
			all[name] = cmd.Val()
		}
	}
	return all, nil
}
