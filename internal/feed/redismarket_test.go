package feed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"quantumharvest/internal/position"
)

// redisBench is a RedisMarket on a server, polled by hand on a clock set by hand.
type redisBench struct {
	*testing.T
	server *testRedis
	market *RedisMarket
	now    time.Time
	trips  *tripCounter
}

func newRedisBench(t *testing.T, r *testRedis, mode MarketMode, symbols ...position.Symbol) *redisBench {
	t.Helper()
	if len(symbols) == 0 {
		symbols = []position.Symbol{"BTCUSDT"}
	}
	b := newRedisBenchOn(t, r.client(), mode, symbols...)
	b.server = r
	return b
}

// newRedisBenchOn is a bench on any kind of server; whoever asks for it fills that one.
func newRedisBenchOn(t *testing.T, client redis.UniversalClient, mode MarketMode, symbols ...position.Symbol) *redisBench {
	t.Helper()
	b := &redisBench{T: t, now: candleStart, trips: &tripCounter{}}
	client.AddHook(b.trips)
	var err error
	b.market, err = NewRedisMarket(RedisMarketOptions{
		Client: client, Mode: mode, Universe: func() []position.Symbol { return symbols },
		Now: func() time.Time { return b.now }, Limit: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tripCounter counts round trips.
type tripCounter struct{ pipelines, commands int }

func (c *tripCounter) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c *tripCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !greeting(cmd) {
			c.commands++
		}
		return next(ctx, cmd)
	}
}

func (c *tripCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !greeting(cmds[0]) {
			c.pipelines++
		}
		return next(ctx, cmds)
	}
}

// greeting tells whether the client says this by itself when it connects.
func greeting(cmd redis.Cmder) bool { return cmd.Name() == "hello" || cmd.Name() == "client" }

// poll polls once, some time after the last.
func (b *redisBench) poll(after time.Duration) []Event {
	b.Helper()
	b.now = b.now.Add(after)
	var events []Event
	if err := b.market.poll(b.Context(), func(e Event) { events = append(events, e) }); err != nil {
		b.Fatal(err)
	}
	return events
}

// brief is an event in a form that is quick to compare: times as seconds after candleStart.
func brief(events []Event) []string {
	after := func(at time.Time) float64 { return at.Sub(candleStart).Seconds() }
	var out []string
	for _, e := range events {
		switch e := e.(type) {
		case History:
			text := fmt.Sprintf("history %s", e.Symbol)
			for _, c := range e.Candles {
				mark := ""
				if !c.Closed {
					mark = "+"
				}
				text += fmt.Sprintf(" %v%s", c.Close, mark)
			}
			out = append(out, fmt.Sprintf("%s @%v", text, after(e.At)))
		case Candle:
			mark := ""
			if !e.Closed {
				mark = "+"
			}
			out = append(out, fmt.Sprintf("candle %s %v:%v%s @%v", e.Symbol, after(e.OpenTime), e.Close, mark, after(e.At)))
		case State:
			out = append(out, fmt.Sprintf("state %s %v @%v", e.Symbol, e.State.Sigma, after(e.At)))
		case Stops:
			out = append(out, fmt.Sprintf("stops %s %v @%v", e.Symbol, e.StopDistPct, after(e.At)))
		case Refusal:
			out = append(out, fmt.Sprintf("refused %s %s %s", e.Key, e.Field, e.Reason))
		default:
			out = append(out, fmt.Sprintf("%T", e))
		}
	}
	return out
}

func (b *redisBench) expect(after time.Duration, want ...string) {
	b.Helper()
	if diff := cmp.Diff(want, brief(b.poll(after))); diff != "" {
		b.Errorf("after %v: %s", after, diff)
	}
}

func minuteJSON(minute int, price float64) string {
	return fmt.Sprintf(`{"t":%d,"c":%v}`, candleStart.Add(time.Duration(minute)*time.Minute).UnixMilli(), price)
}

func (b *redisBench) push(key string, elements ...string) {
	b.Helper()
	b.server.RPush(key, elements...)
}

func (b *redisBench) add(key string, score float64, element string) {
	b.Helper()
	b.server.ZAdd(key, score, element)
}

func TestRedisUntimedList(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketAuto)
		const key = "quantum:candles:BTCUSDT"
		b.expect(0)
		b.push(key, "1", `{"close":"2"}`, `{"c":3}`)
		b.expect(time.Second, "history BTCUSDT 1 2 3 @1")
		b.expect(time.Minute) // the same again makes nothing younger
		b.push(key, "4", "5", "6")
		b.expect(time.Second, "history BTCUSDT 2 3 4 5 6 @62")
		// Gone and back with the same content: as old as it was.
		b.server.Del(key)
		b.expect(time.Second)
		b.push(key, "1", "2", "3", "4", "5", "6")
		b.expect(time.Second, "history BTCUSDT 2 3 4 5 6 @62")
	})
}

func TestRedisTimedList(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketCandles)
		const key = "candles:BTCUSDT:1m"
		b.push(key, minuteJSON(-3, 1), minuteJSON(-2, 2), minuteJSON(-1, 3))
		// Candles that carry their time are as old as they say, whenever they are read.
		b.now = candleStart.Add(10 * time.Minute)
		b.expect(0, "history BTCUSDT 1 2 3 @0")
		b.expect(time.Second)
		b.push(key, minuteJSON(0, 4))
		b.expect(time.Second, "candle BTCUSDT 0:4 @60")
		b.now = candleStart.Add(60 * time.Second)
		b.push(key, minuteJSON(1, 5))
		b.expect(10*time.Second, "candle BTCUSDT 60:5+ @70")
		b.server.RPop(key)
		b.push(key, minuteJSON(1, 5.5))
		b.expect(time.Second, "candle BTCUSDT 60:5.5+ @71")
		// The final revision and the next candle in one poll.
		b.server.RPop(key)
		b.push(key, minuteJSON(1, 5.75), minuteJSON(2, 6))
		b.expect(50*time.Second, "candle BTCUSDT 60:5.75 @120", "candle BTCUSDT 120:6+ @121")
		// More than the newest few: the window is read.
		b.push(key, minuteJSON(3, 7), minuteJSON(4, 8), minuteJSON(5, 9), minuteJSON(6, 10))
		b.expect(5*time.Minute, "history BTCUSDT 6 7 8 9 10 @420")
		// A correction of an older candle too.
		for range 2 {
			b.server.RPop(key)
		}
		b.push(key, minuteJSON(5, 9.5), minuteJSON(6, 10))
		b.expect(time.Second, "history BTCUSDT 6 7 8 9.5 10 @420")
	})
}

func TestRedisSortedSet(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketAuto)
		const key = "klines:BTCUSDT:1m"
		score := func(minute int) float64 { return float64(candleStart.Unix() + int64(minute)*60) }
		b.now = candleStart.Add(150 * time.Second)
		b.add(key, score(0), "1")
		b.add(key, score(1), `{"close":2}`)
		b.add(key, score(2), "3")
		// The time is in the score alone. Seen for the first time, an open candle is as old as its beginning.
		b.expect(0, "history BTCUSDT 1 2 3+ @120")
		b.add(key, score(3), "4")
		b.expect(time.Minute, "candle BTCUSDT 120:3 @180", "candle BTCUSDT 180:4+ @210")
		// Revisions left beside each other are normal: the later one counts.
		b.add(key, score(4), `{"c":5,"h":5}`)
		b.add(key, score(4), `{"c":5.5,"h":6}`)
		b.expect(time.Minute, "candle BTCUSDT 180:4 @240", "candle BTCUSDT 240:5.5+ @270")
		b.expect(time.Minute)
	})
}

func TestRedisWindowRefusals(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketCandles)
		b.market.opts.Limit = 50
		const key = "candles:BTCUSDT:1m"
		b.now = candleStart.Add(20 * time.Minute)
		b.push(key, minuteJSON(0, 1), "garbage", `{"c":-1}`, minuteJSON(1, 2), minuteJSON(3, 4), minuteJSON(2, 3), "7",
			minuteJSON(2, 3.5), `{"t":1746372900000,"c":3.25,"x":true}`, `{"t":1746372900000,"c":3.5,"x":true}`, minuteJSON(6, 7), minuteJSON(60, 8), "more garbage")
		b.expect(0,
			"refused candles:BTCUSDT:1m element unreadable_value",
			"refused candles:BTCUSDT:1m close out_of_domain",
			"refused candles:BTCUSDT:1m time from_the_future",
			"refused candles:BTCUSDT:1m time missing_field",
			"refused candles:BTCUSDT:1m time out_of_order",
			"refused candles:BTCUSDT:1m time duplicate",
			"refused candles:BTCUSDT:1m time gap",
			"history BTCUSDT 1 2 3.5 4 7 @420")
		b.expect(defectRepeat / 2)
		if got := len(b.poll(defectRepeat)); got != 7 {
			t.Errorf("%d refusals repeated after a while, want 7", got)
		}
		b.server.Del(key)
		b.expect(time.Second)
		if got := b.poll(114 * time.Second); len(got) != 0 {
			t.Errorf("the key is gone, but: %v", brief(got))
		}
		b.push(key, minuteJSON(20, 1), minuteJSON(21, 2))
		b.expect(0, "history BTCUSDT 1 2 @1320")
	})
}

func TestRedisWrongTypeStaysWithItsSymbol(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketAuto, "BTCUSDT", "ETHUSDT", "SOLUSDT")
		b.server.Set("candles:BTCUSDT:1m", "text")
		b.server.Set("quantum:marketstate:ETHUSDT", "text")
		b.push("quantum:candles:BTCUSDT", "1", "2")
		b.push("candles:ETHUSDT:1m", "3")
		b.push("candles:SOLUSDT:1m", "4")
		b.expect(0,
			"refused candles:BTCUSDT:1m type wrong_redis_type",
			"refused quantum:marketstate:ETHUSDT type wrong_redis_type",
			"history BTCUSDT 1 2 @0", "history ETHUSDT 3 @0", "history SOLUSDT 4 @0")
		b.expect(time.Second)
		b.server.Del("candles:BTCUSDT:1m")
		b.server.Del("quantum:marketstate:ETHUSDT")
		b.expect(time.Second)
		b.expect(time.Minute)
	})
}

// A key in use that becomes something else is said once, with its type, and the next one stands in; the preferred one is
// taken again within seconds of its return.
func TestRedisCandleKeyRetyped(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketCandles)
		b.push("candles:BTCUSDT:1m", "1", "2")
		b.expect(0, "history BTCUSDT 1 2 @0")
		b.push("quantum:candles:BTCUSDT", "3", "4")
		b.server.Del("candles:BTCUSDT:1m")
		b.server.Set("candles:BTCUSDT:1m", "text")
		b.expect(time.Second)
		b.expect(time.Second, "refused candles:BTCUSDT:1m type wrong_redis_type", "history BTCUSDT 3 4 @2")
		b.server.Del("candles:BTCUSDT:1m")
		b.push("candles:BTCUSDT:1m", "5", "6")
		b.expect(defectRepeat - time.Second)
		b.expect(time.Second, "refused candles:BTCUSDT:1m type wrong_redis_type") // not looked at yet
		b.expect(candleKinds-defectRepeat, "history BTCUSDT 5 6 @7")
		b.expect(time.Minute)
	})
}

// However many symbols there are, a poll is at most three round trips, and one that finds nothing new two.
func TestRedisRoundTrips(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		var symbols []position.Symbol
		for i := range 300 {
			symbols = append(symbols, position.Symbol(fmt.Sprintf("S%dUSDT", i)))
		}
		b := newRedisBench(t, r, MarketAuto, symbols...)
		for i, s := range symbols {
			if i%3 == 0 {
				b.setState(string(s))
				continue
			}
			b.push("candles:"+string(s)+":1m", minuteJSON(-2, 1), minuteJSON(-1, 2))
		}
		for _, step := range []struct{ events, trips int }{{300, 3}, {0, 2}} {
			b.trips.pipelines, b.trips.commands = 0, 0
			if got := len(b.poll(time.Second)); got != step.events {
				t.Errorf("%d events, want %d", got, step.events)
			}
			if b.trips.pipelines != step.trips || b.trips.commands != 0 {
				t.Errorf("%d pipelines and %d single commands, want %d pipelines", b.trips.pipelines, b.trips.commands, step.trips)
			}
		}
		for _, s := range symbols {
			b.push("candles:"+string(s)+":1m", minuteJSON(0, 3))
		}
		b.trips.pipelines = 0
		if got := len(b.poll(time.Second)); got != 200 || b.trips.pipelines != 2 {
			t.Errorf("a new candle each: %d events in %d round trips, want 200 in 2", got, b.trips.pipelines)
		}
	})
}

func TestRedisUniverseChanges(t *testing.T) {
	onBoth(t, func(t *testing.T, r *testRedis) {
		b := newRedisBench(t, r, MarketCandles)
		universe := []position.Symbol{"BTCUSDT", "BTCUSDT"}
		b.market.opts.Universe = func() []position.Symbol { return universe }
		b.push("candles:BTCUSDT:1m", "1", "x")
		b.push("candles:ETHUSDT:1m", "2")
		b.expect(0, "refused candles:BTCUSDT:1m element unreadable_value", "history BTCUSDT 1 @0")
		universe = []position.Symbol{"ETHUSDT"}
		b.expect(time.Second, "history ETHUSDT 2 @1")
		b.expect(time.Hour) // what is no longer asked for is not complained about
		universe = nil
		b.expect(time.Second)
	})
}

func TestNewRedisMarketRefuses(t *testing.T) {
	_, err := NewRedisMarket(RedisMarketOptions{CandleKeys: []string{"candles"}, Mode: "guess", Poll: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"no client", "no universe", `"candles" must hold %s`, `mode "guess"`, "must be positive"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

// Redis away, back empty, and back with data: an outage is reported, nothing dies, and all is read again.
func TestRedisMarketRun(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	server := miniredis.RunT(t)
	address := server.Addr()
	client := redis.NewClient(&redis.Options{
		Addr: address, ContextTimeoutEnabled: true, MaxRetries: -1, DialTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second,
	})
	server.Close() // it starts before its Redis
	m, err := NewRedisMarket(RedisMarketOptions{
		Client: client, Universe: func() []position.Symbol { return []position.Symbol{"BTCUSDT"} }, Poll: 5 * time.Millisecond,
		Deadline: 10 * time.Second,
		Now:      func() time.Time { return candleStart }, // an outage is said again after ten seconds: here never
	})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var outages, histories int
	count := func(n *int) int {
		mu.Lock()
		defer mu.Unlock()
		return *n
	}
	waitFor := func(what string, n *int, least int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); count(n) < least; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- m.Run(ctx, func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			switch e := e.(type) {
			case Outage:
				outages++
				if e.Source != "redis" || e.Err == nil || e.At.IsZero() {
					t.Errorf("outage %+v", e)
				}
			case History:
				histories++
			}
		})
	}()
	waitFor("the first outage", &outages, 1)
	back := miniredis.NewMiniRedis()
	if err := back.StartAddr(address); err != nil {
		t.Fatal(err)
	}
	if _, err := back.RPush("candles:BTCUSDT:1m", "1", "2"); err != nil {
		t.Fatal(err)
	}
	waitFor("candles", &histories, 1)
	back.SetError("LOADING Redis is loading the dataset in memory")
	waitFor("the second outage", &outages, 2)
	back.SetError("")
	waitFor("candles to be read again", &histories, 2)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := count(&outages); got != 2 {
		t.Errorf("%d outages reported, want 2", got)
	}
	back.Close()
	if err := client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		t.Error(err)
	}
	goleak.VerifyNone(t, leaks)
}

// A server that never answers holds a poll up to its deadline and no longer.
func TestRedisMarketDeadline(t *testing.T) {
	r := embeddedRedis(t)
	b := newRedisBench(t, r, MarketAuto)
	b.market.opts.Deadline = 20 * time.Millisecond
	release := make(chan struct{})
	defer close(release)
	r.mini.Server().SetPreHook(func(*server.Peer, string, ...string) bool {
		<-release
		return false
	})
	if err := b.market.poll(t.Context(), func(Event) {}); err == nil {
		t.Error("no error")
	}
}
