package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
)

// The names under which positions in Redis are reported.
const (
	redisAutoName   = "redis_auto"
	redisHashName   = "redis_hash"
	redisStreamName = "redis_stream"
)

const (
	// positionScanDeadline bounds a walk through the keys.
	positionScanDeadline = 30 * time.Second
	// positionKeyRetire is how long a key that is gone is still asked for by name.
	positionKeyRetire = time.Minute
	// positionsNoneRepeat is how often it is said that there are no positions.
	positionsNoneRepeat = time.Minute
	// heartbeatFresh is the age up to which the heartbeat of whoever writes the positions shows that it lives.
	heartbeatFresh = 30 * time.Second
)

// PositionMode says which keys hold the positions.
type PositionMode string

// The modes. Auto reads the hashes, and the stream only as long as no hash was ever seen to hold a position. None of
// them makes positions up.
const (
	PositionsAuto   PositionMode = "auto"
	PositionsHash   PositionMode = "redis_hash"
	PositionsStream PositionMode = "redis_stream"
)

// RedisPositionsOptions say where positions lie.
type RedisPositionsOptions struct {
	// Client should have ContextTimeoutEnabled, so that a stuck read ends with its deadline.
	Client redis.UniversalClient
	// Universe are symbols that somebody takes to be open, asked before each poll; nil: nobody does. In a Cluster a
	// position can only be told from one that is out of reach where it is known which key to look for.
	Universe     func() []position.Symbol
	Mode         PositionMode      // blank: PositionsAuto
	Prefix       string            // of all keys; blank: quantum:
	Key          string            // JSON hash, and with a colon the start of every symbol's hash; blank: <Prefix>state:positions
	StreamKey    string            // blank: <Prefix>stream:execution
	HeartbeatKey string            // epoch seconds, kept fresh by whoever writes positions, if it does; blank: <Key>_heartbeat
	Symbols      []position.Symbol // asked for by name from the start; all others are found all the same
	Poll         time.Duration     // between reads; 0: one second
	Discover     time.Duration     // between walks through the keys; 0: five seconds
	Deadline     time.Duration     // of one read; 0: five seconds
	Log          *slog.Logger      // nil: nothing is logged
	Now          func() time.Time  // nil: time.Now
}

// RedisPositions reads open positions from Redis: a hash for each symbol, one hash of JSON records, or a stream of
// which the last entry of a symbol stands. Where both kinds of hash have a symbol its own hash counts.
//
// A poll is one pipelined round trip, whatever the number of positions; keys are discovered by SCAN beside it. Every
// poll that was read to the end gives a Snapshot, named redis_hash or redis_stream after where it comes from. Its
// Instance is the run id of the server, so that after a failover it is another; where the server does not tell, every
// outage counts as another incarnation.
//
// In a Cluster the keys of all nodes are read, and Instance stands for all of them: where one node was replaced or
// restarted, absence counts for nothing for a while anywhere. The positions of a node that is out of reach are Lost, those
// of the others are read as ever, and an Outage names the node. A node that comes back without a single position, as
// another incarnation, has lost them: they stay Lost until there is something on it again.
//
// The hashes are snapshots of a state: a symbol that is not there is absent. The stream is a log of events: nothing is
// ever absent from it, and only a close event or a quantity of zero ends a position.
type RedisPositions struct {
	opts    RedisPositionsOptions
	name    string
	nodes   *redisNodes // nil: one server
	defects *defectBook
	flawed  map[string]bool // keys found wrong by this poll
	missed  error           // what a node that is out of reach said in this poll; nil: all answered

	hashes   map[position.Symbol]*positionHash
	order    []*positionHash
	badKeys  []string // of the last walk
	nextScan time.Time
	own      positionKind // symbols with a hash of their own
	json     positionKind // symbols in the JSON hash
	jsonRun  string       // in a Cluster: the incarnation of its node when it last held any
	seen     bool         // some hash was seen to hold a position

	stream positionStream

	outages int       // survived so far: part of the instance where there is no run id
	noRunID bool      // said already
	noneAt  time.Time // when it was last said that there are no positions
	away    outage
}

// positionHash is one symbol's own hash.
type positionHash struct {
	symbol  position.Symbol
	key     string
	probed  bool      // asked for by name, whether it was ever seen or not
	present bool      // at the last poll
	seenAt  time.Time // when it was last there, or discovered
	run     string    // in a Cluster: the incarnation of its node when it was last there
}

// lostFor is how long the disappearance of all positions of one kind is taken for an accident of their writer.
const lostFor = 30 * time.Second

// positionKind remembers what one kind of key held.
type positionKind struct {
	held   []position.Symbol
	lost   []position.Symbol
	lostAt time.Time
}

// note takes what there is now. Several positions that go at once, with nothing left of their kind, were not closed
// one by one: they are lost from sight.
//
// That lasts no longer than lostFor: the other kind lives, and a writer that still had them would have come back by then.
func (k *positionKind) note(now []position.Symbol, alive bool, at time.Time) {
	if len(now) > 0 || alive || at.Sub(k.lostAt) > lostFor {
		k.lost = nil
	}
	if len(now) == 0 && !alive && len(k.held) > 1 {
		k.lost, k.lostAt = k.held, at
	}
	k.held = now
}

// NewRedisPositions checks the options; it does not ask Redis anything.
func NewRedisPositions(opts RedisPositionsOptions) (*RedisPositions, error) {
	if opts.Client == nil {
		return nil, errors.New("redis positions: no client")
	}
	p := &RedisPositions{flawed: make(map[string]bool), hashes: make(map[position.Symbol]*positionHash)}
	switch opts.Mode {
	case "", PositionsAuto:
		opts.Mode, p.name = PositionsAuto, redisAutoName
	case PositionsHash:
		p.name = redisHashName
	case PositionsStream:
		p.name = redisStreamName
	default:
		return nil, fmt.Errorf("redis positions: mode %q is not one of auto, redis_hash, redis_stream", opts.Mode)
	}
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&opts.Prefix, "quantum:")
	if !strings.HasSuffix(opts.Prefix, ":") {
		opts.Prefix += ":"
	}
	fill(&opts.Key, opts.Prefix+"state:positions")
	fill(&opts.StreamKey, opts.Prefix+"stream:execution")
	fill(&opts.HeartbeatKey, opts.Key+"_heartbeat")
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{{&opts.Poll, time.Second}, {&opts.Discover, 5 * time.Second}, {&opts.Deadline, 5 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	p.opts, p.nodes, p.defects = opts, nodesOf(opts.Client), newDefectBook(p.name)
	p.stream.latest = make(map[position.Symbol]*positionEvent)
	if opts.Mode != PositionsStream {
		for _, s := range opts.Symbols {
			p.discover(s).probed = true
		}
	}
	return p, nil
}

// Name is redis_auto, redis_hash or redis_stream: the mode. Snapshots carry the name of what they were read from.
func (p *RedisPositions) Name() string { return p.name }

// Run polls until ctx ends. While Redis is away it reports an Outage, at first and then every ten seconds, backs off to
// two seconds, and goes on by itself.
func (p *RedisPositions) Run(ctx context.Context, sink Sink) error {
	return pollLoop(ctx, p.opts.Poll, func(ctx context.Context) error { return p.poll(ctx, sink) })
}

// poll reads once and reports an outage.
func (p *RedisPositions) poll(ctx context.Context, sink Sink) error {
	err := p.read(ctx, sink)
	if ctx.Err() != nil {
		return err
	}
	report := p.missed
	if err != nil {
		p.outages++
		report = err
	}
	if report != nil {
		report = fmt.Errorf("read positions from redis: %w", report)
	}
	p.away.note(p.name, report, p.opts.Now(), p.opts.Log, sink)
	return err
}

// lost tells whether an answer is missing because its node is out of reach.
func (p *RedisPositions) lost(err error) bool {
	if !p.nodes.lost(err) {
		return false
	}
	p.missed = err
	return true
}

// positionReplies are the answers of one poll.
type positionReplies struct {
	info   *redis.StringCmd
	beat   *redis.StringCmd
	json   *redis.MapStringStringCmd
	kinds  []*redis.StatusCmd
	fields []*redis.SliceCmd
	newest *redis.XMessageSliceCmd
	later  *redis.XMessageSliceCmd
}

// read reads once. An error means that Redis could not be read; what is wrong with one key is a refusal.
func (p *RedisPositions) read(ctx context.Context, sink Sink) error {
	hashes := p.opts.Mode != PositionsStream
	stream := p.opts.Mode == PositionsStream || (p.opts.Mode == PositionsAuto && !p.seen)
	p.missed = nil
	if hashes {
		if err := p.scan(ctx); err != nil {
			return fmt.Errorf("find position keys: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.opts.Deadline)
	defer cancel()
	// What is read is at least as new as the question.
	at := p.opts.Now()
	pipe := p.opts.Client.Pipeline()
	var r positionReplies
	var instance string
	if p.nodes == nil {
		r.info = pipe.Info(ctx, "server")
	} else {
		var err error
		if instance, err = p.instanceOfNodes(ctx); err != nil {
			return err
		}
	}
	if hashes {
		p.discoverUniverse(at)
		r.beat = pipe.Get(ctx, p.opts.HeartbeatKey)
		r.json = pipe.HGetAll(ctx, p.opts.Key)
		r.kinds, r.fields = make([]*redis.StatusCmd, len(p.order)), make([]*redis.SliceCmd, len(p.order))
		for i, h := range p.order {
			r.kinds[i] = pipe.Type(ctx, h.key)
			r.fields[i] = pipe.HMGet(ctx, h.key, recordNames[:recordStateFields]...)
		}
	}
	if stream {
		p.stream.ask(ctx, pipe, p.opts.StreamKey, &r)
	}
	if err := p.nodes.execute(ctx, pipe); err != nil {
		return err
	}
	if p.nodes == nil {
		instance = p.instance(r.info)
	}
	clear(p.flawed)

	var tally positionTally
	var snaps [2]Snapshot
	n := 0
	if hashes {
		snaps[n] = p.takeHashes(ctx, &r, at, sink)
		tally.count(&snaps[n])
		n++
		stream = stream && !p.seen
	}
	if stream {
		snap, err := p.takeStream(ctx, &r, instance, at, sink)
		if err != nil {
			return err
		}
		snaps[n] = snap
		tally.count(&snaps[n])
		n++
	}
	for key := range p.defects.standing {
		if !p.flawed[key] {
			p.defects.set(key, "", nil, at, sink)
		}
	}
	p.defects.repeat(at, sink)
	for _, snap := range snaps[:n] {
		snap.Instance = instance
		sink(snap)
	}
	p.sayNone(tally, at)
	return nil
}

// instance identifies the incarnation of the server. It matters wherever absence is to be evidence.
func (p *RedisPositions) instance(info *redis.StringCmd) string {
	if id := infoLine(info.Val(), "run_id"); id != "" {
		return id
	}
	p.sayNoRunID(info.Err())
	id := "outage-" + strconv.Itoa(p.outages)
	if c, ok := p.opts.Client.(interface{ Primary() string }); ok {
		id += " " + c.Primary() // which may be replaced without an outage
	}
	return id
}

// instanceOfNodes is instance for a Cluster.
func (p *RedisPositions) instanceOfNodes(ctx context.Context) (string, error) {
	id, told, away, err := p.nodes.instance(ctx)
	if away != nil {
		p.missed = away
	}
	if err == nil && !told {
		p.sayNoRunID(nil)
	}
	return id, err
}

func (p *RedisPositions) sayNoRunID(err error) {
	if p.noRunID {
		return
	}
	p.noRunID = true
	p.opts.Log.Info("redis does not tell its run id (INFO server): every outage counts as a restart", "source", p.name, "err", err)
}

// discoverUniverse makes the keys of those known that somebody takes to be open.
func (p *RedisPositions) discoverUniverse(at time.Time) {
	if p.nodes == nil || p.opts.Universe == nil {
		return
	}
	for _, sym := range p.opts.Universe() {
		p.discover(sym).seenAt = at
	}
}

// positionTally is what one poll found, over all places.
type positionTally struct {
	open, refused, lost int
	tried               []string
}

func (t *positionTally) count(snap *Snapshot) {
	for i := range snap.Records {
		if !snap.Records[i].Flat() {
			t.open++
		}
	}
	t.refused += len(snap.Refused)
	t.lost += len(snap.Lost)
	t.tried = append(t.tried, snap.Source)
}

// sayNone says loudly that there is nothing to protect, and what to do for whoever only wants to look around.
func (p *RedisPositions) sayNone(t positionTally, now time.Time) {
	if t.open+t.lost > 0 {
		p.noneAt = time.Time{}
		return
	}
	if !p.noneAt.IsZero() && now.Sub(p.noneAt) < positionsNoneRepeat && !now.Before(p.noneAt) {
		return
	}
	p.noneAt = now
	var keys []string
	for _, source := range t.tried {
		if source == redisStreamName {
			keys = append(keys, p.opts.StreamKey)
		} else {
			keys = append(keys, p.opts.Key+":<SYMBOL>", p.opts.Key)
		}
	}
	p.opts.Log.Warn("no open position found in any source", "sources", t.tried, "keys", keys,
		"refused_records", t.refused,
		"hint", "positions are never made up; demonstration positions: --positions demo or POSITION_SOURCE=synthetic")
}

// flaw notes what is wrong under a key.
func (p *RedisPositions) flaw(key string, sym position.Symbol, flaws []flaw, at time.Time, sink Sink) {
	if len(flaws) == 0 {
		return
	}
	p.flawed[key] = true
	p.defects.set(key, sym, flaws, at, sink)
}

// discover returns what is known of a symbol's own hash, and makes it known.
func (p *RedisPositions) discover(sym position.Symbol) *positionHash {
	h := p.hashes[sym]
	if h == nil {
		h = &positionHash{symbol: sym, key: p.opts.Key + ":" + string(sym)}
		p.hashes[sym] = h
		i, _ := slices.BinarySearchFunc(p.order, sym, func(h *positionHash, sym position.Symbol) int {
			return strings.Compare(string(h.symbol), string(sym))
		})
		p.order = slices.Insert(p.order, i, h)
	}
	return h
}
