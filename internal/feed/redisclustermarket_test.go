package feed

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
	"quantumharvest/internal/store"
)

// A node that is out of reach costs the input of its own keys. What is missing is neither gone nor bad: nobody is refused,
// and nobody changes to another kind of input. When the node answers, what was missed is read.
func TestClusterMarketOfANodeThatIsSilent(t *testing.T) {
	t.Parallel()
	c := realserver.Cluster(t, realserver.ClusterOptions{Partial: true})
	raw := dialAll(t, store.ClientOptions{Cluster: c.Addrs()})
	node := c.Servers()[1]
	candles := func(sym position.Symbol) string { return "candles:" + string(sym) + ":1m" }
	state := func(sym position.Symbol) string { return "quantum:marketstate:" + string(sym) }
	on := func(key string) bool { return c.MasterOf(key) == node }
	// One whose candles lie there, one whose ready state does, and one that has nothing to do with it.
	var traded, ready, other position.Symbol
	for i := 0; traded == "" || ready == "" || other == ""; i++ {
		sym := position.Symbol(fmt.Sprintf("S%dUSDT", i))
		switch there := on(candles(sym)); {
		case there && !on(state(sym)):
			traded = sym
		case !there && on(state(sym)):
			ready = sym
		case !there && !on(state(sym)):
			other = sym
		}
	}
	b := newRedisBenchOn(t, dialAll(t, store.ClientOptions{Cluster: c.Addrs()}), MarketAuto, traded, ready, other)
	push := func(sym position.Symbol, elements ...string) {
		t.Helper()
		for _, e := range elements {
			must(t, raw.RPush(t.Context(), candles(sym), e).Err())
		}
	}
	tell := func(sigma string) {
		t.Helper()
		must(t, raw.HSet(t.Context(), state(ready), "sigma", sigma, "ts", "0.35", "p_trend", "0.5", "p_mr", "0.25", "p_chop", "0.25",
			"ts_timestamp", fmt.Sprint(b.now.Unix())).Err())
	}
	for _, sym := range []position.Symbol{traded, ready, other} {
		push(sym, minuteJSON(-2, 1), minuteJSON(-1, 2))
	}
	tell("0.01")
	b.expect(0, fmt.Sprintf("state %s 0.01 @0", ready), fmt.Sprintf("history %s 1 2 @0", traded), fmt.Sprintf("history %s 1 2 @0", other))
	b.expect(time.Second)

	node.Pause()
	push(other, minuteJSON(0, 3))
	b.expect(time.Minute, fmt.Sprintf("candle %s 0:3 @60", other))
	if b.market.missed == nil || !strings.Contains(b.market.missed.Error(), node.Addr()) {
		t.Errorf("the node is not named: %v", b.market.missed)
	}
	for range 30 {
		b.expect(10 * time.Second)
	}

	node.Continue()
	push(traded, minuteJSON(0, 4), minuteJSON(1, 5))
	tell("0.02")
	want := []string{fmt.Sprintf("state %s 0.02 @361", ready), fmt.Sprintf("history %s 1 2 4 5 @120", traded)}
	var got []string
	for deadline := time.Now().Add(30 * time.Second); len(got) < len(want) && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		got = append(got, brief(b.poll(0))...)
	}
	slices.Sort(got) // which of its connections works first is the node's own business
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("after its return %q, want %q", got, want)
	}
	if b.market.missed != nil {
		t.Errorf("still missed: %v", b.market.missed)
	}
}
