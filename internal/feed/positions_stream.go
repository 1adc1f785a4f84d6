package feed

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

const (
	// streamPage is how many entries are read at a time; at the start no older ones are looked at.
	streamPage = 10_000
	// streamNobody bounds how many entries of one page are reported that name no symbol.
	streamNobody = 10
)

// positionStream is what is remembered of a stream of which the last entry of a symbol stands.
type positionStream struct {
	last     streamID // of the newest entry read; zero: none, read from scratch
	instance string
	latest   map[position.Symbol]*positionEvent
}

// positionEvent is the newest entry of a symbol.
type positionEvent struct {
	key   string // stream and entry, for reports
	rec   position.Record
	flaws []flaw
	ok    bool
}

// streamID is the id of an entry.
type streamID struct{ ms, seq uint64 }

func parseStreamID(text string) (streamID, error) {
	ms, seq, _ := strings.Cut(text, "-")
	var id streamID
	var err error
	if id.ms, err = strconv.ParseUint(ms, 10, 64); err == nil {
		id.seq, err = strconv.ParseUint(seq, 10, 64)
	}
	if err != nil {
		return streamID{}, fmt.Errorf("stream id %q is not two numbers", shorten(text))
	}
	return id, nil
}

func (id streamID) String() string {
	return strconv.FormatUint(id.ms, 10) + "-" + strconv.FormatUint(id.seq, 10)
}

func (id streamID) less(o streamID) bool { return id.ms < o.ms || (id.ms == o.ms && id.seq < o.seq) }

// ask adds the questions of one poll: what is newest, to notice a stream that was begun anew, and what came since.
func (s *positionStream) ask(ctx context.Context, pipe redis.Pipeliner, key string, r *positionReplies) {
	r.newest = pipe.XRevRangeN(ctx, key, "+", "-", 1)
	if s.last != (streamID{}) {
		r.later = pipe.XRangeN(ctx, key, "("+s.last.String(), "+", streamPage)
	}
}

// takeStream makes a snapshot of the last entry of every symbol. A stream that is gone says nothing of any position:
// they are neither reported nor absent.
func (p *RedisPositions) takeStream(ctx context.Context, r *positionReplies, instance string, at time.Time, sink Sink) (Snapshot, error) {
	s, key := &p.stream, p.opts.StreamKey
	snap := Snapshot{Snapshot: position.Snapshot{Source: redisStreamName, At: at, Standing: true}}
	newest, err := r.newest.Result()
	if p.lost(err) {
		return s.lost(snap), nil
	}
	if bad, is := replyFlaw(err); is {
		p.flaw(key, "", []flaw{bad}, at, sink)
		s.forget()
		return snap, nil
	}
	if len(newest) == 0 {
		s.forget()
		return snap, nil
	}
	head, err := parseStreamID(newest[0].ID)
	if err != nil {
		return snap, err
	}
	if s.instance != instance || head.less(s.last) || r.later == nil || r.later.Err() != nil {
		entries, err := p.opts.Client.XRevRangeN(ctx, key, "+", "-", streamPage).Result()
		if p.lost(err) {
			return s.lost(snap), nil
		}
		if err != nil {
			return snap, fmt.Errorf("read stream %s: %w", key, err)
		}
		s.forget()
		s.instance = instance
		slices.Reverse(entries)
		if err := p.takeEntries(entries, at, sink); err != nil {
			return snap, err
		}
	} else {
		for entries := r.later.Val(); ; {
			if err := p.takeEntries(entries, at, sink); err != nil {
				return snap, err
			}
			if len(entries) < streamPage {
				break
			}
			entries, err = p.opts.Client.XRangeN(ctx, key, "("+s.last.String(), "+", streamPage).Result()
			if p.lost(err) {
				return s.lost(snap), nil
			}
			if err != nil {
				return snap, fmt.Errorf("read stream %s: %w", key, err)
			}
		}
	}
	for _, sym := range slices.Sorted(maps.Keys(s.latest)) {
		e := s.latest[sym]
		p.flaw(e.key, sym, e.flaws, at, sink)
		if e.ok {
			snap.Records = append(snap.Records, e.rec)
		} else {
			snap.Refused = append(snap.Refused, sym)
		}
	}
	return snap, nil
}

// lost is the snapshot of a stream that is out of reach: what its events said so far stands, and is out of sight.
func (s *positionStream) lost(snap Snapshot) Snapshot {
	for _, sym := range slices.Sorted(maps.Keys(s.latest)) {
		if !s.latest[sym].rec.Flat() {
			snap.Lost = append(snap.Lost, sym)
		}
	}
	return snap
}

func (s *positionStream) forget() {
	s.last = streamID{}
	clear(s.latest)
}

// takeEntries takes entries in, oldest first.
func (p *RedisPositions) takeEntries(entries []redis.XMessage, at time.Time, sink Sink) error {
	nobody := 0
	for _, entry := range entries {
		id, err := parseStreamID(entry.ID)
		if err != nil {
			return err
		}
		p.stream.last = id
		key := p.opts.StreamKey + " " + entry.ID
		sym, e := decodeEvent(entry.Values, id, at)
		e.key = key
		if sym == "" {
			// Nobody's: said once, because the next entry of anybody hides it.
			if nobody++; nobody <= streamNobody {
				p.defects.set(key, "", e.flaws, at, sink)
			}
			continue
		}
		p.stream.latest[sym] = e
	}
	return nil
}

// decodeEvent reads one entry. The symbol is blank where it does not name one.
func decodeEvent(values map[string]any, id streamID, now time.Time) (position.Symbol, *positionEvent) {
	raw, size := new(rawRecord), 0
	for f, name := range recordNames {
		text, _ := values[name].(string)
		if size += len(text); size <= recordBytes {
			raw.set(recordField(f), text)
		}
	}
	rec, flaws, ok := decodeRecord("", raw, now)
	if size > recordBytes {
		flaws, ok = []flaw{{reason: ReasonTooLarge}}, false
	}
	if ok && rec.UpdatedAt.IsZero() && id.ms <= uint64(latestTime.UnixMilli()) {
		if t := time.UnixMilli(int64(id.ms)).UTC(); !t.Before(earliestTime) {
			rec.UpdatedAt = t // ids are times, unless whoever wrote them chose otherwise
		}
	}
	return rec.Symbol, &positionEvent{rec: rec, flaws: flaws, ok: ok}
}
