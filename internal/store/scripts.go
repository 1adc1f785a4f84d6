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

// The key that a script guards is always KEYS[1]; a stream, where the write goes to one, is KEYS[2]. A script that
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

// luaHeld reads who holds the hash. A key of another type holds nothing: type is then the only thing known about it.
const luaHeld = luaWhole + `
local held = redis.pcall('HMGET', KEYS[1], 'fence', 'revision', 'publisher', 'valid_until_epoch', 'episode')
local alien = false
if held.err then
  if not string.find(held.err, 'WRONGTYPE', 1, true) then return held end
  alien, held = true, {}
end
local fence = whole(held[1])
`

// luaFenced refuses where a higher fence than ARGV[2] holds the hash.
const luaFenced = `
if fence > tonumber(ARGV[2]) then
  return {'fenced', held[3] or '', held[1], held[4] or ''}
end
`

// publishScript replaces the whole hash. ARGV: 1 believed revision, 2 fence, 3 symbol, then name-value pairs of which
// the first is the revision, assigned here. Answers the revision, or a list where there is more to say.
var publishScript = newScript("publish", luaHeld+luaFenced+`
local revision = math.max(whole(held[2]), tonumber(ARGV[1])) + 1
local text = string.format('%.0f', revision)
ARGV[5] = text
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
local note = ''
if KEYS[2] then
  local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', '10000', '*', 'symbol', ARGV[3], unpack(ARGV, 4))
  if type(added) == 'table' and added.err then note = added.err end
end
if alien or note ~= '' then return {'done', text, alien and 1 or 0, note} end
return revision
`)

// luaWholeHash reads every field of the schema, those of luaHeld first, and counts the ones that are not there. Counting
// the fields of the hash would not do: one that somebody added would make up for one that somebody took.
var luaWholeHash = func() string {
	names := []string{"'fence'", "'revision'", "'publisher'", "'valid_until_epoch'", "'episode'"}
	for _, f := range fields {
		if quoted := "'" + f.name + "'"; !slices.Contains(names, quoted) {
			names = append(names, quoted)
		}
	}
	return luaWhole + `
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

// beatScript moves the clocks of a hash that is whole and ours. ARGV: 1 believed revision, 2 fence, then name-value
// pairs. Answers 1, or a list with the reason.
var beatScript = newScript("beat", luaWholeHash+luaFenced+`
if absent > 0 then
  if redis.call('EXISTS', KEYS[1]) == 0 then return {'missing'} end
  return {'incomplete'}
end
if held[2] ~= ARGV[1] or held[1] ~= ARGV[2] then return {'superseded'} end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
`)

// closeScript deletes the hash and leaves a closing record. KEYS: 1 hash, 2 stream, 3 memory of closed episodes. ARGV:
// 1 episode or blank for any, 2 fence, 3 symbol, then the name-value pairs of the record. The record is left where
// there was something to close, or where that episode was never recorded as closed: once.
var closeScript = newScript("close", luaHeld+luaFenced+`
local there = alien or redis.call('EXISTS', KEYS[1]) == 1
local episode = ARGV[1]
if episode == '' then
  if not there then return {'missing'} end
  episode = held[5] or ''
end
local other = held[5] and held[5] ~= '' and held[5] ~= episode
if not other then redis.call('DEL', KEYS[1]) end
local note = ''
local last = redis.pcall('HGET', KEYS[3], ARGV[3])
if type(last) == 'table' and last.err then
  redis.call('DEL', KEYS[3])
  last = false
end
if episode == '' or last ~= episode then
  local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', '10000', '*', unpack(ARGV, 4))
  if type(added) == 'table' and added.err then note = added.err end
  if episode ~= '' then redis.call('HSET', KEYS[3], ARGV[3], episode) end
end
return {other and 'other_episode' or 'done', '0', alien and 1 or 0, note}
`)

// produceScript replaces a record that this instance produces beside other services. ARGV: 1 mark of our records, 2 time
// to live in milliseconds, 3 symbol, then name-value pairs. A key without our mark is another service's and left alone.
var produceScript = newScript("produce", `
local held = redis.pcall('HGET', KEYS[1], 'publisher')
if type(held) == 'table' and held.err then
  if string.find(held.err, 'WRONGTYPE', 1, true) then return {'foreign'} end
  return held
end
if held then
  if string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return {'foreign'} end
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  return {'foreign'}
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if KEYS[2] then
  local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', '10000', '*', 'symbol', ARGV[3], unpack(ARGV, 4))
  if type(added) == 'table' and added.err then return {'done', '0', 0, added.err} end
end
return 1
`)

// expectScript changes the expected set, and makes it a set again where another type took its name. ARGV: 1 SADD or
// SREM, then the symbols.
var expectScript = newScript("expect", `
local done = redis.pcall(ARGV[1], KEYS[1], unpack(ARGV, 2))
if type(done) == 'table' and done.err then
  if not string.find(done.err, 'WRONGTYPE', 1, true) then return done end
  redis.call('DEL', KEYS[1])
  done = redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
end
return done
`)

// scripts are all that a writing Store loads.
var scripts = [...]*script{publishScript, beatScript, closeScript, produceScript, expectScript}
