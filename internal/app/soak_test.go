package app_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
)

// soakTime is how long the soak runs: a minute in the long suite, enough for both restarts otherwise.
func soakTime() time.Duration {
	if os.Getenv("HARVEST_LONG") != "" {
		return 60 * time.Second
	}
	return 15 * time.Second
}

// TestSoak lets a vandal delete, corrupt and retype keys at random while Redis restarts empty twice. No hash that is
// only partly there may ever be seen unless the vandal just made it, and all is right again within one cycle.
func TestSoak(t *testing.T) {
	t.Parallel()
	symbols := []position.Symbol{"BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT"}
	srv := realserver.Redis(t)
	c := dial(t, srv.Addr())
	seed(t, c, symbols...)
	pub := start(t, config.Publish, app.Publish, "--redis="+srv.URL(), "--publish-interval-sec=2")
	for _, sym := range symbols {
		fresh(t, c, sym, time.Time{})
	}

	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	length := soakTime()
	begin, restarts := time.Now(), 0
	for time.Since(begin) < length {
		vandalise(c, rng, symbols[rng.IntN(len(symbols))])
		if done := time.Since(begin); restarts < 2 && done > length*time.Duration(restarts+1)/3 {
			restarts++
			srv.Kill()
			time.Sleep(500 * time.Millisecond)
			srv.Restart()
			seed(t, c, symbols...)
		}
		checkNoBareTimestamp(t, c, symbols)
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
	}
	if restarts != 2 {
		t.Fatalf("%d restarts of Redis, want 2", restarts)
	}

	// The writers of the inputs set right what the vandal did to theirs; the desk must set right the rest.
	seed(t, c, symbols...)
	end := time.Now()
	for _, sym := range symbols {
		p := fresh(t, c, sym, end.Add(3*time.Second))
		if p.KillScore < 0.5 || p.KillScore >= 1 {
			t.Errorf("%s: a corrupted kill score of %v survived", sym, p.KillScore)
		}
	}
	if err := pub.end(); err != nil {
		t.Errorf("the publisher ended with %v", err)
	}
}

// vandalise damages one key at random. Errors are of no interest: Redis may be away.
func vandalise(c *redis.Client, rng *rand.Rand, sym position.Symbol) {
	ctx := context.Background()
	keys := []string{
		"quantum:harvest:proposal:" + string(sym), "quantum:state:positions:" + string(sym), "candles:" + string(sym) + ":1m",
		"quantum:harvest:expected", "quantum:marketstate:" + string(sym), "quantum:risk:proposal:" + string(sym),
	}
	key := keys[rng.IntN(len(keys))]
	garbage := []string{"", "NaN", "-1", "0", "Infinity", "None", "{", "long", "1e999", "\x00\xff"}
	bad := garbage[rng.IntN(len(garbage))]
	fields := append(store.FieldNames(), "side", "entry_price", "current_price", "quantity", "sigma")
	field := fields[rng.IntN(len(fields))]
	switch rng.IntN(7) {
	case 0:
		c.Del(ctx, key)
	case 1:
		c.HDel(ctx, key, field, fields[rng.IntN(len(fields))])
	case 2:
		c.HSet(ctx, key, field, bad)
	case 3:
		c.Del(ctx, key)
		c.LPush(ctx, key, bad)
	case 4:
		c.Set(ctx, key, bad, 0)
	case 5:
		c.Expire(ctx, key, time.Second)
	case 6:
		c.ZAdd(ctx, "candles:"+string(sym)+":1m", redis.Z{Score: float64(time.Now().UnixMilli()), Member: bad})
	}
}

// checkNoBareTimestamp looks for the fault that started it all: a hash that a heartbeat brought back without content.
func checkNoBareTimestamp(t *testing.T, c *redis.Client, symbols []position.Symbol) {
	t.Helper()
	for _, sym := range symbols {
		h, err := c.HGetAll(context.Background(), "quantum:harvest:proposal:"+string(sym)).Result()
		if err != nil || len(h) == 0 {
			continue // away, deleted or retyped just now
		}
		// The vandal takes two fields at a time and writes no valid epoch: a hash with a live heartbeat and hardly
		// anything else can only come from a beat.
		if _, err := strconv.ParseInt(h["last_update_epoch"], 10, 64); err == nil && len(h) < 12 {
			t.Fatalf("%s: a bare timestamp: %s", sym, fmt.Sprint(h))
		}
	}
}
