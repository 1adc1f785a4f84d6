package store

import (
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// script is one atomic step on the server.
type script struct {
	name   string
	source string
	sha    string
}

func newScript(name, source string) *script {
	source = strings.TrimSpace(source)
	sum := sha1.Sum([]byte(source))
	return &script{name: name, source: source, sha: hex.EncodeToString(sum[:])}
}

// The key that a script guards is always KEYS[1]; the lease key, where one guards the write, is KEYS[2]. A script that
// refuses returns before it writes anything.
//
// Numbers in a hash may have been put there by anyone. A fence or revision only counts where it is a whole number that
// a double holds exactly: otherwise one corrupt field could lock every writer out for ever.
const luaWhole = `
local function whole(s)
  if s and #s <= 16 and not string.find(s, '%D') then
    local n = tonumber(s)
    if n and n < 9007199254740992 then return n end
  end
  return 0
end
`

// luaLeased refuses where the writer does not hold the lease of the shard. ARGV: 1 shard, 2 holder, 3 fence of the lease. A
// writer that names no holder is not asked for a lease.
const luaLeased = luaWhole + `
if KEYS[2] and ARGV[2] ~= '' then
  local lease = redis.pcall('HMGET', KEYS[2], ARGV[1] .. ':fence', ARGV[1] .. ':holder', ARGV[1] .. ':until_ms')
  if lease.err then
    if not string.find(lease.err, 'WRONGTYPE', 1, true) then return lease end
    lease = {}
  end
  local clock = redis.call('TIME')
  if lease[1] ~= ARGV[3] or lease[2] ~= ARGV[2] or whole(lease[3]) <= clock[1] * 1000 + clock[2] / 1000 then
    return {'unleased', lease[2] or '', lease[1] or ''}
  end
end
`

// luaHeld reads who wrote the hash. A key of another type holds nothing: type is then the only thing known about it.
const luaHeld = luaLeased + `
local held = redis.pcall('HMGET', KEYS[1], 'fence', 'revision', 'publisher', 'valid_until_epoch', 'episode')
local alien = false
if held.err then
  if not string.find(held.err, 'WRONGTYPE', 1, true) then return held end
  alien, held = true, {}
end
local fence = whole(held[1])
`

// luaFenced refuses where the hash carries a higher fence than ARGV[4].
const luaFenced = `
if fence > tonumber(ARGV[4]) then
  return {'fenced', held[3] or '', held[1], held[4] or ''}
end
`

// luaEnded takes in what the last close left beside the hash (KEYS[2]): where the hash is gone, it is all that knows the
// fence and the revision that the key had come to.
const luaEnded = `
local ended = redis.pcall('HMGET', KEYS[2], 'key_fence', 'key_revision', 'publisher')
if ended.err then
  if not string.find(ended.err, 'WRONGTYPE', 1, true) then return ended end
  ended = {}
end
if whole(ended[1]) > fence then
  fence = whole(ended[1])
  held[1], held[3], held[4] = ended[1], ended[3], ''
end
`

// publishScript replaces the whole hash. KEYS: 1 hash, 2 lease, 3 stream. ARGV: 1 shard, 2 holder, 3 fence of the lease, 4
// fence of the hash, 5 believed revision, 6 symbol, then name-value pairs of which the first is the revision, assigned
// here. Answers the revision, or a list where there is more to say.
var publishScript = newScript("publish", luaHeld+luaFenced+`
local revision = math.max(whole(held[2]), tonumber(ARGV[5])) + 1
local text = string.format('%.0f', revision)
ARGV[8] = text
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
local note = ''
if KEYS[3] then
  local added = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', 'symbol', ARGV[6], unpack(ARGV, 7))
  if type(added) == 'table' and added.err then note = added.err end
end
if alien or note ~= '' then return {'done', text, alien and 1 or 0, note} end
return revision
`)

// publishAloneScript is publishScript where neither lease nor stream lie in the slot of the hash. KEYS: 1 hash, 2 what the
// last close left beside it.
var publishAloneScript = newScript("publish", luaHeld+luaEnded+luaFenced+`
local revision = math.max(whole(held[2]), whole(ended[2]), tonumber(ARGV[5])) + 1
local text = string.format('%.0f', revision)
ARGV[8] = text
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
if alien then return {'done', text, 1, ''} end
return revision
`)

func (sc *script) publishes() bool { return sc == publishScript || sc == publishAloneScript }

// luaWholeHash reads every field of the schema, those of luaHeld first, and counts the ones that are not there. Counting
// the fields of the hash would not do: one that somebody added would make up for one that somebody took.
var luaWholeHash = func() string {
	names := []string{"'fence'", "'revision'", "'publisher'", "'valid_until_epoch'", "'episode'"}
	for _, f := range fields {
		if quoted := "'" + f.name + "'"; !slices.Contains(names, quoted) {
			names = append(names, quoted)
		}
	}
	return luaLeased + `
local held = redis.pcall('HMGET', KEYS[1], ` + strings.Join(names, ", ") + `)
if held.err then
  if string.find(held.err, 'WRONGTYPE', 1, true) then return {'missing'} end
  return held
end
local absent = 0
for i = 1, ` + strconv.Itoa(len(names)) + ` do
  if not held[i] then absent = absent + 1 end
end
local fence = whole(held[1])
`
}()

// beatScript moves the clocks of a hash that is whole and ours. KEYS: 1 hash, 2 lease. ARGV: 1 shard, 2 holder, 3 fence of
// the lease, 4 fence of the hash, 5 believed revision, then name-value pairs. Answers 1, or a list with the reason.
var beatScript = newScript("beat", luaWholeHash+luaFenced+`
if absent > 0 then
  if redis.call('EXISTS', KEYS[1]) == 0 then return {'missing'} end
  return {'incomplete'}
end
if held[2] ~= ARGV[5] or held[1] ~= ARGV[4] then return {'superseded'} end
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
return 1
`)

// luaEnd deletes the hash of an episode that is over, behind luaHeld and luaFenced. ARGV: 1 shard, 2 holder, 3 fence of the
// lease, 4 fence of the hash, 5 episode or blank for any, 6 symbol, then the name-value pairs of the closing record.
const luaEnd = `
local there = alien or redis.call('EXISTS', KEYS[1]) == 1
local episode = ARGV[5]
if episode == '' then
  if not there then return {'missing'} end
  episode = held[5] or ''
end
local other = held[5] and held[5] ~= '' and held[5] ~= episode
if not other then redis.call('DEL', KEYS[1]) end
`

// closeScript deletes the hash and leaves a closing record. KEYS: 1 hash, 2 lease, 3 stream, 4 memory of closed episodes.
// The record is left where there was something to close, or where that episode was never recorded as closed: once.
var closeScript = newScript("close", luaHeld+luaFenced+luaEnd+`
local note = ''
local last = redis.pcall('HGET', KEYS[4], ARGV[6])
if type(last) == 'table' and last.err then
  redis.call('DEL', KEYS[4])
  last = false
end
local before, revision = string.match(last or '', '^(.*) (%d+)$')
revision = math.max(whole(revision), whole(held[2]))
if episode == '' or before ~= episode then
  local added = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', unpack(ARGV, 7))
  if type(added) == 'table' and added.err then note = added.err end
  if episode ~= '' then redis.call('HSET', KEYS[4], ARGV[6], episode .. ' ' .. string.format('%.0f', revision)) end
end
return {other and 'other_episode' or 'done', string.format('%.0f', revision), alien and 1 or 0, note}
`)

// endScript is closeScript where stream and memory lie in other slots of a Cluster: it deletes the hash and puts the record
// beside it, in the same step, until it was written where it belongs. The fence and the revision that the key had come to
// go with it: the hash that knew them is gone. KEYS: 1 hash, 2 record.
var endScript = newScript("close", luaHeld+luaEnded+luaFenced+luaEnd+`
local revision = string.format('%.0f', math.max(whole(held[2]), whole(ended[2])))
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 7))
redis.call('HSET', KEYS[2], 'episode', episode, 'key_revision', revision, 'key_fence', ARGV[4])
return {other and 'other_episode' or 'done', revision, alien and 1 or 0, '', episode}
`)

// noteScript notes an episode in the memory of closed ones, whose revisions never go back. Where somebody noted another
// episode since the writer looked, or one of a higher revision, that one is the later. KEYS: 1 memory. ARGV: 1 to 3 as ever,
// 4 symbol, 5 episode, 6 revision or 0, 7 what the writer read there before.
var noteScript = newScript("note", luaWhole+`
local last = redis.pcall('HGET', KEYS[1], ARGV[4])
if type(last) == 'table' and last.err then
  if not string.find(last.err, 'WRONGTYPE', 1, true) then return last end
  redis.call('DEL', KEYS[1])
  last = false
end
last = last or ''
local before, had = string.match(last, '^(.*) (%d+)$')
local episode, ours = ARGV[5], whole(ARGV[6])
had = whole(had)
if before and before ~= episode and (last ~= ARGV[7] or (ours > 0 and had > ours)) then episode = before end
redis.call('HSET', KEYS[1], ARGV[4], episode .. ' ' .. string.format('%.0f', math.max(had, ours)))
return 1
`)

// clearScript makes of a closing record that is in the stream what guards the key for a while: its fence and revision. One
// that another close left is not touched. KEYS: 1 record. ARGV: 1 to 3 as ever, 4 fence, 5 episode, 6 time to live in
// milliseconds.
var clearScript = newScript("clear", `
local kept = redis.pcall('HMGET', KEYS[1], 'key_fence', 'episode', 'key_revision', 'publisher')
if kept.err or kept[1] ~= ARGV[4] or kept[2] ~= ARGV[5] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'key_fence', kept[1], 'key_revision', kept[3], 'publisher', kept[4] or '')
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return 1
`)

// produceScript replaces a record that this instance produces beside other services. KEYS: 1 record, 2 lease, 3 stream.
// ARGV: 1 shard, 2 holder, 3 fence of the lease, 4 mark of our records, 5 time to live in milliseconds, 6 symbol, then
// name-value pairs. A key without our mark is another service's and left alone.
var produceScript = newScript("produce", luaLeased+`
local held = redis.pcall('HGET', KEYS[1], 'publisher')
if type(held) == 'table' and held.err then
  if string.find(held.err, 'WRONGTYPE', 1, true) then return {'foreign'} end
  return held
end
if held then
  if string.sub(held, 1, #ARGV[4]) ~= ARGV[4] then return {'foreign'} end
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  return {'foreign'}
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if KEYS[3] then
  local added = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', 'symbol', ARGV[6], unpack(ARGV, 7))
  if type(added) == 'table' and added.err then return {'done', '0', 0, added.err} end
end
return 1
`)

// expectScript changes the expected set, and makes it a set again where another type took its name. KEYS: 1 set, 2 lease.
// ARGV: 1 shard, 2 holder, 3 fence of the lease, 4 SADD or SREM, then the symbols of that shard.
var expectScript = newScript("expect", luaLeased+`
local done = redis.pcall(ARGV[4], KEYS[1], unpack(ARGV, 5))
if type(done) == 'table' and done.err then
  if not string.find(done.err, 'WRONGTYPE', 1, true) then return done end
  redis.call('DEL', KEYS[1])
  done = redis.call(ARGV[4], KEYS[1], unpack(ARGV, 5))
end
return done
`)

// scripts are all that a writing Store loads for its batches.
var scripts = [...]*script{
	publishScript, publishAloneScript, beatScript, closeScript, endScript, noteScript, clearScript, produceScript, expectScript,
}
