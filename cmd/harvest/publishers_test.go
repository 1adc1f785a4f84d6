//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/livetest"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
)

// publisherProcess is one harvest publish as an operator runs it.
type publisherProcess struct {
	id  string
	cmd *exec.Cmd
	log *livetest.Buffer
}

func startPublisher(t *testing.T, id string, args ...string) *publisherProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &publisherProcess{id: id, log: &livetest.Buffer{}}
	p.cmd = exec.Command(self)
	p.cmd.Args = append([]string{"harvest", "publish", "--publisher-id", id, "--publisher-port", "0"}, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("log of %s:\n%s", id, p.log)
		}
	})
	return p
}

// seededRedis gives a Redis positions and candles that somebody keeps writing.
func seededRedis(t *testing.T, rdb redis.UniversalClient, symbols ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	t.Cleanup(func() { cancel(); writing.Wait() })
	write := func() {
		now := time.Now()
		pipe := rdb.Pipeline()
		for i, sym := range symbols {
			price := 100 + float64(i) + float64(now.Unix()%7)/100
			pipe.HSet(ctx, "quantum:state:positions:"+sym, "symbol", sym, "side", "LONG", "entry_price", 99+i, "current_price", price,
				"quantity", 1, "opened_at_epoch", 1769129938, "updated_at_epoch", float64(now.UnixMilli())/1000)
			closes := make([]any, 300)
			for j := range closes {
				closes[j] = strconv.FormatFloat(100+float64(i)+float64((j*7)%13)/50+float64(now.Unix()%5)/100, 'f', 4, 64)
			}
			pipe.Del(ctx, "candles:"+sym+":1m")
			pipe.RPush(ctx, "candles:"+sym+":1m", closes...)
		}
		_, _ = pipe.Exec(ctx) // a Redis that is away is part of the test
	}
	write()
	writing.Go(func() {
		for tick := time.NewTicker(500 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				write()
			}
		}
	})
}

// onlooker watches one proposal from outside: nothing may go back, and one fence is of one publisher.
type onlooker struct {
	mu        sync.Mutex
	faults    []string
	publisher string
	beat      int64
	changedAt time.Time
	longest   time.Duration // between two heartbeats
	loose     bool          // a failover is under way: what was not replicated is lost
}

func watchProposal(t *testing.T, rdb redis.UniversalClient, symbol string) *onlooker {
	t.Helper()
	o := &onlooker{}
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	t.Cleanup(func() { cancel(); looking.Wait() })
	looking.Go(func() {
		var revision, fence int64
		writers := map[int64]string{}
		for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			v, err := rdb.HMGet(ctx, "quantum:harvest:proposal:"+symbol, "revision", "fence", "publisher", "last_update_epoch").Result()
			if err != nil || v[0] == nil {
				continue
			}
			number := func(i int) int64 {
				n, _ := strconv.ParseInt(fmt.Sprint(v[i]), 10, 64)
				return n
			}
			r, f, id, beat := number(0), number(1), fmt.Sprint(v[2]), number(3)
			o.mu.Lock()
			if (r < revision || f < fence) && !o.loose {
				o.faults = append(o.faults, fmt.Sprintf("revision %d -> %d, fence %d -> %d (%s)", revision, r, fence, f, id))
			}
			if w := writers[f]; w != "" && w != id {
				o.faults = append(o.faults, fmt.Sprintf("%s and %s write under fence %d", w, id, f))
			}
			if beat != o.beat {
				if !o.changedAt.IsZero() {
					o.longest = max(o.longest, time.Since(o.changedAt))
				}
				o.beat, o.changedAt = beat, time.Now()
			}
			o.publisher = id
			o.mu.Unlock()
			revision, fence = max(revision, r), max(fence, f)
			writers[f] = id
		}
	})
	return o
}

// during tells that servers change their roles meanwhile.
func (o *onlooker) during(t *testing.T, failover func()) {
	t.Helper()
	set := func(loose bool) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.loose = loose
	}
	set(true)
	failover()
	o.await(t)
	set(false)
}

// await waits until a publisher that is not one of others writes, with a heartbeat of now.
func (o *onlooker) await(t *testing.T, others ...string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		o.mu.Lock()
		id, age := o.publisher, time.Since(time.Unix(o.beat, 0))
		o.mu.Unlock()
		other := id == "" || age > 3*time.Second
		for _, name := range others {
			other = other || name == id
		}
		if !other {
			return id
		}
	}
	t.Fatalf("nobody but %v writes", others)
	return ""
}

func (o *onlooker) check(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.faults {
		t.Error(f)
	}
	t.Logf("longest time without a heartbeat: %v", o.longest.Round(time.Millisecond))
	o.longest = 0
}

// Three publishers as processes of their own: the one that writes is killed, stopped and continued, and told to end.
func TestPublishersTakeOver(t *testing.T) {
	t.Parallel()
	srv := realserver.Redis(t)
	rdb := redis.NewClient(&redis.Options{Addr: srv.Addr(), MaxRetries: -1})
	t.Cleanup(func() { rdb.Close() })
	seededRedis(t, rdb, "BTCUSDT", "ETHUSDT")
	processes := map[string]*publisherProcess{}
	for _, id := range []string{"one", "two", "three"} {
		processes[id] = startPublisher(t, id, "--redis", srv.URL())
	}
	o := watchProposal(t, rdb, "BTCUSDT")
	first := o.await(t)
	o.check(t)

	if err := processes[first].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	second := o.await(t, first)
	o.check(t)

	if err := processes[second].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	third := o.await(t, first, second)
	o.check(t)
	if err := processes[second].cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for range 40 { // the woken one writes nothing
		time.Sleep(100 * time.Millisecond)
		if id := o.await(t); id != third {
			t.Fatalf("%s writes after %s had taken over", id, third)
		}
	}
	o.check(t)

	if err := processes[third].cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if id := o.await(t, first, third); id != second {
		t.Errorf("%s writes", id)
	}
	if err := processes[third].cmd.Wait(); err != nil {
		t.Errorf("the one that was told to stop: %v", err)
	}
	o.check(t)
}

// takeOverOn has two publishers on several servers: the one that writes is killed, and once more right after a failover.
func takeOverOn(t *testing.T, where store.ClientOptions, failover func(), args ...string) {
	t.Helper()
	rdb := store.Dial(where)
	t.Cleanup(func() { _ = rdb.Close() })
	seededRedis(t, rdb, "BTCUSDT", "ETHUSDT")
	processes := map[string]*publisherProcess{}
	for _, id := range []string{"one", "two"} {
		processes[id] = startPublisher(t, id, args...)
	}
	o := watchProposal(t, rdb, "BTCUSDT")
	first := o.await(t)
	o.check(t)
	if err := processes[first].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	second := o.await(t, first)
	o.check(t)

	processes[first] = startPublisher(t, first, args...)
	o.during(t, failover)
	writes := o.await(t)
	if err := processes[writes].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if id := o.await(t, writes); id != first && id != second {
		t.Errorf("%s writes", id)
	}
	o.check(t)
}

func TestPublishersTakeOverBehindSentinels(t *testing.T) {
	t.Parallel()
	s := realserver.Sentinel(t, realserver.SentinelOptions{})
	takeOverOn(t, store.ClientOptions{Sentinels: s.Addrs(), Primary: s.Name()}, func() {
		old := s.Primary()
		old.Kill()
		s.WaitFailover(old)
	}, "--redis", "redis+sentinel://"+strings.Join(s.Addrs(), ",")+"/"+s.Name())
}

func TestPublishersTakeOverOnACluster(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Replicas: 1, Partial: true})
	takeOverOn(t, store.ClientOptions{Cluster: c.Addrs()}, func() {
		old := c.MasterOf("quantum:harvest:lease")
		old.Kill()
		c.WaitFailover(old)
	}, "--redis", "redis+cluster://"+strings.Join(c.Addrs(), ","))
}
