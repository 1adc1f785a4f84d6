package store

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/kernel"
)

const benchSymbols = 1000

func benchProposals() []Proposal {
	ps := make([]Proposal, benchSymbols)
	now := time.Unix(1769129938, 123456000)
	for i := range ps {
		f := 1 + float64(i)/3
		ps[i] = Proposal{
			Symbol: position.Symbol("SYM" + strconv.Itoa(i) + "USDT"), Action: kernel.ActionPartial75, NewStop: 100.2 * f, RNet: 7.01 / f,
			RiskUnit: 0.699 * f, CostEst: 0.1 * f, KillScore: 0.527123456789 / f, Reasons: []string{"harvest_partial_75", "profit_lock"},
			K:     kernel.KillComponents{TSDrop: 0.2 / f, AgePenalty: 0.041666666 / f},
			Sigma: 0.00466 / f, TS: 0.35 / f, PTrend: 0.4, PMR: 0.3 / f, PChop: 0.6 - 0.3/f, ComputedAt: now, Side: position.Long,
			AgeSec: 3600 + f, Current: 105 * f, Entry: 100 * f, UnrealizedPnL: 5 * f, Episode: "01J8Z3K4M5N6P7Q8R9S0T1U2V3", OpenedAt: now,
			Stop: 99 * f, ContentMarketAt: now, ContentPositionAt: now, InputState: InputFresh, MarketSource: "redis",
			PositionSource: "redis_hash", Publisher: "host-1/4711", Fence: 1769129938123456, LastUpdate: now, MarketAt: now, PositionAt: now,
			ValidUntil: now.Add(5 * time.Second), Peak: 106 * f, Trough: 98 * f,
		}
	}
	return ps
}

// BenchmarkCycle writes one cycle of 1000 symbols: through the store, and as the same scripts with the same bytes, ready
// made, through the same client. The store may cost half as much again.
func BenchmarkCycle(b *testing.B) {
	server := realserver.Redis(b)
	s := New(Dial(ClientOptions{Addr: server.Addr(), ReadTimeout: time.Minute}), NewKeys(KeysOptions{}))
	defer s.Close()
	ctx := context.Background()
	publishes := Batch{Publishes: benchProposals()}
	res, err := s.Write(ctx, publishes)
	if err != nil {
		b.Fatal(err)
	}
	beats := Batch{}
	for i, p := range publishes.Publishes {
		beats.Beats = append(beats.Beats, Beat{
			Symbol: p.Symbol, Revision: res.Publishes[i].Revision, Fence: p.Fence, LastUpdate: p.LastUpdate, MarketAt: p.MarketAt,
			PositionAt: p.PositionAt, InputState: p.InputState, ValidUntil: p.ValidUntil, Peak: p.Peak, Trough: p.Trough,
		})
	}
	// The beats come first: a publish moves the revision that they believe in.
	for _, c := range []struct {
		name  string
		batch Batch
	}{{"beats", beats}, {"publishes", publishes}} {
		ready := readyMade(s, c.batch)
		b.Run(c.name+"/raw", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pipe := s.rdb.Pipeline()
				for _, args := range ready {
					_ = pipe.Process(ctx, redis.NewCmd(ctx, args...))
				}
				if _, err := pipe.Exec(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/store", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := s.Write(ctx, c.batch)
				if err != nil {
					b.Fatal(err)
				}
				if r.RoundTrips != 1 {
					b.Fatalf("%d round trips", r.RoundTrips)
				}
				for _, group := range [][]Result{r.Publishes, r.Beats} {
					for i := range group {
						if group[i].Outcome != Done {
							b.Fatalf("%+v", group[i])
						}
					}
				}
			}
		})
	}
}

// readyMade gives the commands of a batch as the store would send them.
func readyMade(s *Store, batch Batch) [][]any {
	p := &plan{s: s}
	var res Result
	for i := range batch.Publishes {
		p.publish(&batch.Publishes[i], &res)
	}
	for i := range batch.Beats {
		p.beat(&batch.Beats[i], &res)
	}
	p.finish()
	out := make([][]any, len(p.calls))
	for i := range p.calls {
		for _, a := range p.argsOf(&p.calls[i]) {
			if text, ok := a.(*string); ok {
				a = *text
			}
			out[i] = append(out[i], a)
		}
	}
	return out
}

// BenchmarkDecode reads one hash from a list as it was written, and from one in another order, as of a hash with a long text in it.
func BenchmarkDecode(b *testing.B) {
	sym := benchProposals()[0].Symbol
	written := Encode(benchProposals()[0])
	shuffled := slices.Clone(written)
	for i := 2; i < len(shuffled); i += 2 {
		j := 2 * (i * 7 % (i/2 + 1))
		shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		shuffled[i+1], shuffled[j+1] = shuffled[j+1], shuffled[i+1]
	}
	for name, pairs := range map[string][]string{"written": written, "shuffled": shuffled} {
		b.Run(name, func(b *testing.B) {
			var v values
			b.ReportAllocs()
			for b.Loop() {
				p := Proposal{Symbol: sym}
				v.take(pairs)
				if problems := v.decode(&p); len(problems)+len(v.unknown) > 0 {
					b.Fatal(problems, v.unknown)
				}
			}
		})
	}
}

// What a batch costs in garbage does not grow with its size: a cycle runs every second for as long as the desk is open.
func TestEncodingABatchAllocatesOnce(t *testing.T) {
	s := New(Dial(ClientOptions{Addr: "127.0.0.1:0"}), NewKeys(KeysOptions{}))
	defer s.Close()
	ps := benchProposals()[:100]
	beat := Beat{Revision: 1 << 40, Fence: 1 << 50, LastUpdate: time.Unix(1769129938, 0), InputState: InputFresh}
	p := &plan{s: s}
	var res Result
	n := testing.AllocsPerRun(20, func() {
		p.reset()
		for i := range ps {
			p.publish(&ps[i], &res)
			beat.Symbol = ps[i].Symbol
			p.beat(&beat, &res)
		}
		p.finish()
	})
	if n > 1 || len(p.todo) != 200 {
		t.Errorf("%v allocations for %d calls, want one: the bytes that go out", n, len(p.todo))
	}
}
