package feed

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

const (
	positionScanCount = 1000
	// positionBadKeys bounds how many keys without a symbol in their name are reported.
	positionBadKeys = 1000
)

// scan walks through the keys when it is time: at the start, at every interval, and as soon as a key has gone, because
// what else is there decides what that means.
func (p *RedisPositions) scan(ctx context.Context) error {
	now := p.opts.Now()
	if !p.nextScan.IsZero() && now.Before(p.nextScan) && p.nextScan.Sub(now) <= p.opts.Discover {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, positionScanDeadline)
	defer cancel()
	prefix := p.opts.Key + ":"
	p.badKeys = p.badKeys[:0]
	keys, err := p.walk(ctx, globEscape(prefix)+"*")
	if err != nil {
		return err
	}
	for _, key := range keys {
		name := strings.TrimPrefix(key, prefix)
		if sym, err := position.ParseSymbol(name); err == nil && string(sym) == name {
			p.discover(sym).seenAt = now
		} else if len(p.badKeys) < positionBadKeys && !slices.Contains(p.badKeys, key) {
			p.badKeys = append(p.badKeys, key)
		}
	}
	p.order = slices.DeleteFunc(p.order, func(h *positionHash) bool {
		retired := !h.probed && !h.present && now.Sub(h.seenAt) > positionKeyRetire
		if retired {
			delete(p.hashes, h.symbol)
		}
		return retired
	})
	p.nextScan = now.Add(p.opts.Discover)
	return nil
}

// walk gives the keys that match a pattern, of a Cluster those of all nodes that answer.
func (p *RedisPositions) walk(ctx context.Context, pattern string) ([]string, error) {
	if p.nodes == nil {
		return walkOne(ctx, p.opts.Client, pattern)
	}
	var mu sync.Mutex
	var all []string
	away, err := p.nodes.each(ctx, func(ctx context.Context, node *redis.Client) error {
		keys, err := walkOne(ctx, node, pattern)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, keys...)
		return err
	})
	if away != nil {
		p.missed = away
	}
	return all, err
}

func walkOne(ctx context.Context, server redis.Cmdable, pattern string) (all []string, err error) {
	for cursor := uint64(0); ; {
		keys, next, err := server.Scan(ctx, cursor, pattern, positionScanCount).Result()
		if err != nil {
			return all, err
		}
		all = append(all, keys...)
		if cursor = next; cursor == 0 {
			return all, nil
		}
	}
}

// globEscape makes text match itself in a pattern of Redis.
func globEscape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}

// takeHashes makes a snapshot of both kinds of hash.
func (p *RedisPositions) takeHashes(ctx context.Context, r *positionReplies, at time.Time, sink Sink) Snapshot {
	snap := Snapshot{Snapshot: position.Snapshot{Source: redisHashName, At: at, Complete: true}}
	for _, key := range p.badKeys {
		p.flaw(key, "", []flaw{{field: "key", reason: ReasonSymbol, value: key}}, at, sink)
	}
	snap.Alive = p.heartbeat(r.beat, at, sink)

	snap.Records = make([]position.Record, 0, len(p.order))
	var own []position.Symbol
	emptied := p.emptied(ctx, r, snap.Alive)
	for i, h := range p.order {
		if emptied[h] {
			snap.Lost = append(snap.Lost, h.symbol)
			if h.present {
				own = append(own, h.symbol)
			}
			continue
		}
		present := p.takeHash(h, r.kinds[i], r.fields[i], &snap, sink)
		if h.present && !present {
			p.nextScan = time.Time{}
		}
		if h.present = present; present {
			h.seenAt = at // not to be retired while it is out of reach
			own = append(own, h.symbol)
		}
	}
	json, readable := p.takeJSON(ctx, r.json, own, &snap, sink)
	if len(own)+len(json) > 0 {
		if !p.seen && p.opts.Mode == PositionsAuto {
			p.opts.Log.Info("positions are read from hashes; the execution stream no longer counts", "stream", p.opts.StreamKey)
		}
		p.seen = true
	}

	snap.Complete = readable
	p.own.note(own, snap.Alive, at)
	if readable {
		p.json.note(json, snap.Alive, at)
	}
	for _, lost := range [...]([]position.Symbol){p.own.lost, p.json.lost} {
		for _, sym := range lost {
			_, mine := slices.BinarySearch(own, sym)
			_, there := slices.BinarySearch(json, sym)
			if !mine && !there {
				snap.Complete = false
			}
		}
	}
	return snap
}

// emptied are hashes that went with everything else on their node when that was replaced or restarted, and those of which
// it is not known whether it was. A node that holds no position at all any more is no evidence of anything, however well
// the others live. Those that are there are noted with the incarnation of their node.
func (p *RedisPositions) emptied(ctx context.Context, r *positionReplies, alive bool) map[*positionHash]bool {
	if p.nodes == nil {
		return nil
	}
	gone := make(map[*positionHash]bool)
	runs := make([]string, len(p.order))
	lives := make(map[string]bool)
	for i, h := range p.order {
		switch runs[i] = p.nodes.runOf(ctx, h.key); {
		case p.nodes.lost(r.fields[i].Err()) || p.nodes.lost(r.kinds[i].Err()):
		case runs[i] == "":
			gone[h] = true
		case r.kinds[i].Val() != "none":
			lives[runs[i]] = true
			h.run = runs[i]
		}
	}
	for i, h := range p.order {
		if run := runs[i]; run != "" && h.present && h.run != "" && run != h.run && !lives[run] && !alive {
			gone[h] = true
		}
	}
	return gone
}

// heartbeat tells whether whoever writes the positions says that it lives.
func (p *RedisPositions) heartbeat(cmd *redis.StringCmd, at time.Time, sink Sink) bool {
	text, err := cmd.Result()
	if p.lost(err) {
		return false
	}
	if bad, is := replyFlaw(err); is {
		p.flaw(p.opts.HeartbeatKey, "", []flaw{bad}, at, sink)
		return false
	}
	if err != nil || strings.TrimSpace(text) == "" {
		return false
	}
	beat, reason := parseTime(text)
	if reason == "" && beat.Sub(at) > recordFuture {
		reason = ReasonFuture
	}
	if reason != "" {
		p.flaw(p.opts.HeartbeatKey, "", []flaw{{"heartbeat", reason, text}}, at, sink)
		return false
	}
	return at.Sub(beat) <= heartbeatFresh
}

// takeHash takes one symbol's own hash and tells whether the key is there: where nobody answers, whether it was.
func (p *RedisPositions) takeHash(h *positionHash, kind *redis.StatusCmd, fields *redis.SliceCmd, snap *Snapshot, sink Sink) bool {
	refuse := func(flaws ...flaw) bool {
		p.flaw(h.key, h.symbol, flaws, snap.At, sink)
		snap.Refused = append(snap.Refused, h.symbol)
		return true
	}
	values, err := fields.Result()
	if p.lost(err) || p.lost(kind.Err()) {
		snap.Lost = append(snap.Lost, h.symbol)
		return h.present
	}
	if bad, is := replyFlaw(err); is {
		if bad.reason == ReasonWrongType {
			bad.value = kind.Val()
		}
		return refuse(bad)
	}
	raw, size, found := new(rawRecord), 0, false
	for i, v := range values {
		if text, ok := v.(string); ok && i < int(recordStateFields) {
			found = true
			size += len(text)
			if size <= recordBytes {
				raw.set(recordField(i), text)
			}
		}
	}
	switch {
	case !found && kind.Val() == "none":
		return false
	case !found && kind.Err() != nil:
		// It cannot be told whether there is nothing or nothing of ours.
		return refuse(flaw{field: "reply", reason: ReasonUnreadable, value: kind.Err().Error()})
	case size > recordBytes:
		return refuse(flaw{reason: ReasonTooLarge})
	}
	rec, flaws, ok := decodeRecord(h.symbol, raw, snap.At)
	if !ok {
		return refuse(flaws...)
	}
	p.flaw(h.key, h.symbol, flaws, snap.At, sink)
	snap.Records = append(snap.Records, rec)
	return true
}

// takeJSON takes the JSON hash and returns the symbols in it. Those that have a hash of their own are left to that.
// The answer is not readable where the key is of another type or closed to us.
func (p *RedisPositions) takeJSON(ctx context.Context, cmd *redis.MapStringStringCmd, own []position.Symbol, snap *Snapshot, sink Sink) (held []position.Symbol, readable bool) {
	all, err := cmd.Result()
	lose := func() {
		for _, sym := range p.json.held {
			if _, mine := slices.BinarySearch(own, sym); !mine {
				snap.Lost = append(snap.Lost, sym)
			}
		}
	}
	if p.lost(err) {
		lose()
		return nil, false
	}
	if p.nodes != nil {
		run := p.nodes.runOf(ctx, p.opts.Key)
		switch {
		case run == "":
			lose()
			return nil, false
		case len(all) > 0:
			p.jsonRun = run
		case err == nil && !snap.Alive && len(p.json.held) > 0 && run != p.jsonRun:
			lose() // emptied with its node
			return p.json.held, true
		}
	}
	if bad, is := replyFlaw(err); is {
		p.flaw(p.opts.Key, "", []flaw{bad}, snap.At, sink)
		return nil, false
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		key := p.opts.Key + " " + shorten(name)
		sym, err := position.ParseSymbol(name)
		if err != nil || string(sym) != name {
			p.flaw(key, "", []flaw{{"key", ReasonSymbol, name}}, snap.At, sink)
			continue
		}
		held = append(held, sym)
		if _, mine := slices.BinarySearch(own, sym); mine {
			continue
		}
		raw, bad, ok := parseRecordJSON([]byte(all[name]))
		flaws := []flaw{bad}
		if ok {
			var rec position.Record
			if rec, flaws, ok = decodeRecord(sym, raw, snap.At); ok {
				snap.Records = append(snap.Records, rec)
			}
		}
		if !ok {
			snap.Refused = append(snap.Refused, sym)
		}
		p.flaw(key, sym, flaws, snap.At, sink)
	}
	return held, true
}
