package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"quantumharvest/internal/position"
)

// MaxShards bounds into how many shards the symbols of one prefix can be divided.
const MaxShards = 64

// ShardOf is the shard of a symbol where there are n of them: the 32-bit FNV-1a hash of its name modulo n. Every
// publisher of a prefix divides the symbols in this way.
func ShardOf(sym position.Symbol, n int) int {
	if n <= 1 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(sym))
	return int(h.Sum32() % uint32(n))
}

// Lease is what a writer proves with every write: that it holds the shard of the symbol. The server compares holder and
// fence with the lease key in the same step in which it writes. The zero value proves nothing, and then only the fence
// inside the hash guards it.
type Lease struct {
	Holder string
	Fences []int64 // by shard; 0: not held
	// Until is until when all of them hold at least, by the clock of the writer (WithClock); the zero time: not known. It
	// counts where no script can look at the lease key: nothing is sent after it.
	Until time.Time
}

// of gives the shard of a symbol and the fence under which it is held.
func (l *Lease) of(sym position.Symbol) (shard int, fence int64) {
	shard = ShardOf(sym, len(l.Fences))
	if shard < len(l.Fences) {
		fence = l.Fences[shard]
	}
	return shard, fence
}

// LeaseAsk is what a publisher says to the lease key: that it lives, what it means to keep, take and give up. All of it
// is done in one step on the server, by the clock of the server.
type LeaseAsk struct {
	Holder string        // unique for every process
	Layout string        // how this publisher divides the symbols: all publishers of a prefix must agree
	TTL    time.Duration // for how long the lease and the membership hold from now on
	Floor  int64         // a fence that is taken is above this one
	Leave  bool          // give everything up and be no member any more
	Renew  []Term
	Take   []int // shards, free or run out or our own
	Give   []Term
}

// Term is one shard held under one fence.
type Term struct {
	Shard int
	Fence int64
}

// LeaseAnswer is what the server did and what stands in the lease key now.
type LeaseAnswer struct {
	// Conflict is set where living publishers of this prefix divide the symbols in another way: the layout they follow.
	// Nothing was done then.
	Conflict string
	Held     []Term // what the asker holds now
	View     LeaseView
}

// LeaseView is the content of the lease key at one moment of the server's clock.
type LeaseView struct {
	Now     time.Time
	Layout  string
	Shards  []ShardLease // by shard; those never taken have no holder
	Members []Member     // publishers that live, in the order of their names
}

// ShardLease is who holds one shard.
type ShardLease struct {
	Shard  int
	Holder string // blank: given up, or never held
	Fence  int64  // of the holder; of the last one where nobody holds it
	Until  time.Time
	Since  time.Time
}

// Live tells whether the shard is held at that moment of the server's clock.
func (l ShardLease) Live(now time.Time) bool { return l.Holder != "" && now.Before(l.Until) }

// Member is a publisher that shares in the symbols of a prefix.
type Member struct {
	Holder string
	Until  time.Time
}

// NewLayout describes how a publisher divides a prefix: into how many shards, and which symbols it covers (none named:
// all). Publishers that disagree would leave symbols without a writer or give them two.
func NewLayout(shards int, symbols []position.Symbol) string {
	if len(symbols) == 0 {
		return strconv.Itoa(shards) + " all"
	}
	names := make([]string, len(symbols))
	for i, sym := range symbols {
		names[i] = string(sym)
	}
	slices.Sort(names)
	list := strings.Join(slices.Compact(names), ",")
	if len(list) > maxLayoutList {
		h := fnv.New64a()
		_, _ = h.Write([]byte(list))
		list = fmt.Sprintf("%d symbols (%016x)", len(names), h.Sum64())
	}
	return strconv.Itoa(shards) + " " + list
}

// maxLayoutList is up to which length the symbols of a layout are spelled out.
const maxLayoutList = 200

func layoutShards(layout string) int {
	text, _, _ := strings.Cut(layout, " ")
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > MaxShards {
		return 0
	}
	return n
}

// holderMark parts the name of a publisher from what makes its process unique.
const holderMark = "#"

// NewHolder names a process that writes as publisher; nonce is different for every process.
func NewHolder(publisher, nonce string) string { return publisher + holderMark + nonce }

// HolderName is the name of the publisher in a holder.
func HolderName(holder string) string {
	name, _, _ := strings.Cut(holder, holderMark)
	return name
}

// leaseScript keeps who may write. KEYS: 1 the lease key. ARGV: 1 holder, 2 layout, 3 time to live in milliseconds, 4
// floor of the fences, 5 keep or leave, then triples of verb (renew, take, give), shard and fence.
//
// Fields: layout; of every shard its holder, fence, until_ms, since_ms and ttl_ms; of every member until_ms and ttl_ms.
// Whatever has run out by the clock of the server is free. A time that lies further ahead than its own time to live is
// the mark of a clock that stepped back: it is pulled in, so that nothing stays locked until the clock has caught up.
//
// Answers conflict and the layout, or ok; then the time in microseconds, the shards that are held now, and the hash.
var leaseScript = newScript("lease", luaWhole+`
local clock = redis.call('TIME')
local micros = clock[1] * 1000000 + clock[2]
local now = math.floor(micros / 1000)
local raw = redis.pcall('HGETALL', KEYS[1])
if raw.err then
  if not string.find(raw.err, 'WRONGTYPE', 1, true) then return raw end
  redis.call('DEL', KEYS[1])
  raw = {}
end
local h = {}
for i = 1, #raw, 2 do h[raw[i]] = raw[i + 1] end
local function text(n) return string.format('%.0f', n) end
local function put(name, value)
  redis.call('HSET', KEYS[1], name, value)
  h[name] = value
end
local function drop(name)
  redis.call('HDEL', KEYS[1], name)
  h[name] = nil
end

local me, layout, ttl, floor = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local mine = 'member:' .. me
local others = false
local shards = {}
local top = math.max(floor, whole(h['floor']))
local names = {}
for name in pairs(h) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do
  local member = string.match(name, '^member:(.+)$')
  if member then
    local untilMs, life = string.match(h[name], '^(%d+) (%d+)$')
    untilMs, life = tonumber(untilMs) or 0, tonumber(life) or 0
    if untilMs > now + life then
      untilMs = now + life
      put(name, text(untilMs) .. ' ' .. text(life))
    end
    if untilMs <= now then
      drop(name)
    elseif member ~= me then
      others = true
    end
  end
  local shard = string.match(name, '^(%d+):fence$')
  if shard then
    shards[#shards + 1] = shard
    top = math.max(top, whole(h[name]))
    local untilMs, life = whole(h[shard .. ':until_ms']), whole(h[shard .. ':ttl_ms'])
    if untilMs > now + life then
      untilMs = now + life
      put(shard .. ':until_ms', text(untilMs))
    end
    local holder = h[shard .. ':holder'] or ''
    if holder ~= '' and holder ~= me and untilMs > now then others = true end
  end
end

local function answer(word, held)
  return {word, h['layout'] or '', text(micros), held, redis.call('HGETALL', KEYS[1])}
end

if h['layout'] ~= layout and ARGV[5] == 'keep' then
  if h['layout'] and others then return answer('conflict', {}) end
  for _, shard in ipairs(shards) do
    for _, part in ipairs({'holder', 'fence', 'until_ms', 'since_ms', 'ttl_ms'}) do drop(shard .. ':' .. part) end
  end
  put('floor', text(top))
  put('layout', layout)
end

local function held(shard) return h[shard .. ':holder'] == me and whole(h[shard .. ':until_ms']) > now end
local function extend(shard)
  put(shard .. ':until_ms', text(now + ttl))
  put(shard .. ':ttl_ms', text(ttl))
end
local function give(shard)
  put(shard .. ':holder', '')
  put(shard .. ':until_ms', '0')
end
for i = 6, #ARGV, 3 do
  local verb, shard, fence = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local now_held = held(shard)
  if verb == 'renew' then
    if now_held and h[shard .. ':fence'] == fence then extend(shard) end
  elseif verb == 'give' then
    if now_held and h[shard .. ':fence'] == fence then give(shard) end
  elseif verb == 'take' then
    local holder = h[shard .. ':holder'] or ''
    if holder == '' or holder == me or whole(h[shard .. ':until_ms']) <= now then
      local next_fence = math.max(whole(h[shard .. ':fence']) + 1, whole(h['floor']) + 1, floor + 1, micros)
      put(shard .. ':fence', text(next_fence))
      put(shard .. ':holder', me)
      put(shard .. ':since_ms', text(now))
      extend(shard)
    end
  end
end
local terms = {}
if ARGV[5] == 'leave' then
  for _, shard in ipairs(shards) do
    if h[shard .. ':holder'] == me then give(shard) end
  end
  drop(mine)
else
  put(mine, text(now + ttl) .. ' ' .. text(ttl))
  local seen = {}
  for i = 6, #ARGV, 3 do
    local shard = ARGV[i + 1]
    if not seen[shard] and held(shard) then
      seen[shard] = true
      terms[#terms + 1] = shard
      terms[#terms + 1] = h[shard .. ':fence']
    end
  end
end
return answer('ok', terms)
`)

// AskLease carries out an ask, in one step on the server.
func (s *Store) AskLease(ctx context.Context, ask LeaseAsk) (LeaseAnswer, error) {
	args := []any{ask.Holder, ask.Layout, ask.TTL.Milliseconds(), ask.Floor, "keep"}
	if ask.Leave {
		args[4] = "leave"
	}
	add := func(verb string, t Term) { args = append(args, verb, t.Shard, t.Fence) }
	for _, t := range ask.Renew {
		add("renew", t)
	}
	for _, t := range ask.Give {
		add("give", t)
	}
	for _, shard := range ask.Take {
		add("take", Term{Shard: shard})
	}
	reply, err := s.eval(ctx, leaseScript, []string{s.keys.lease}, args)
	if err != nil {
		return LeaseAnswer{}, s.fault("keep the lease", err)
	}
	return decodeLeaseAnswer(reply)
}

func decodeLeaseAnswer(reply []any) (LeaseAnswer, error) {
	if len(reply) != 5 {
		return LeaseAnswer{}, fmt.Errorf("keep the lease: an answer of %d parts", len(reply))
	}
	micros, ok := parseCount(stringAt(reply, 2))
	if !ok {
		return LeaseAnswer{}, errors.New("keep the lease: an answer without the time")
	}
	var a LeaseAnswer
	if stringAt(reply, 0) == "conflict" {
		a.Conflict = stringAt(reply, 1)
	}
	held, _ := reply[3].([]any)
	for i := 0; i+1 < len(held); i += 2 {
		shard, shardOK := parseShard(stringAt(held, i))
		fence, fenceOK := parseCount(stringAt(held, i+1))
		if !shardOK {
			return LeaseAnswer{}, fmt.Errorf("keep the lease: shard %q", stringAt(held, i))
		}
		if !fenceOK {
			continue // somebody spoilt it: not held, and taken anew under a good one
		}
		a.Held = append(a.Held, Term{Shard: shard, Fence: fence})
	}
	pairs, _ := reply[4].([]any)
	hash := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		hash[stringAt(pairs, i)] = stringAt(pairs, i+1)
	}
	a.View = decodeLease(hash, time.UnixMicro(micros))
	return a, nil
}

func parseShard(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0 && n < MaxShards
}

// decodeLease reads the lease key as of now. What cannot be read is left out: a shard without a fence is one that was
// never taken.
func decodeLease(hash map[string]string, now time.Time) LeaseView {
	v := LeaseView{Now: now, Layout: hash["layout"]}
	n := layoutShards(v.Layout)
	for shard := range n {
		at := func(part string) string { return hash[strconv.Itoa(shard)+":"+part] }
		l := ShardLease{Shard: shard, Holder: at("holder"), Until: parseMillis(at("until_ms")), Since: parseMillis(at("since_ms"))}
		l.Fence, _ = parseCount(at("fence"))
		v.Shards = append(v.Shards, l)
	}
	for name, value := range hash {
		holder, is := strings.CutPrefix(name, "member:")
		if !is {
			continue
		}
		text, _, _ := strings.Cut(value, " ")
		if until := parseMillis(text); now.Before(until) {
			v.Members = append(v.Members, Member{Holder: holder, Until: until})
		}
	}
	slices.SortFunc(v.Members, func(a, b Member) int { return strings.Compare(a.Holder, b.Holder) })
	return v
}

func parseMillis(text string) time.Time {
	n, ok := parseCount(text)
	if !ok || n == 0 || n > maxEpoch*1000 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}
