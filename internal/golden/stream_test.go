package golden

import (
	"encoding/json"
	"testing"

	"quantumharvest/internal/golden/vector"
	"quantumharvest/kernel"
)

// TestVectorsThroughStreams gives the prices of the vectors to streams, one after another and each candle revised on its
// way, and wants the recorded states. This package reads the overrides of the vectors, so it is the place for that.
func TestVectorsThroughStreams(t *testing.T) {
	compared := 0
	for _, kind := range []Kind{MarketState, Chain} {
		f := load(t, kind)
		for _, c := range f.Cases {
			if !c.Strict || c.WantsError() {
				continue
			}
			want := c.Expected
			if kind == Chain {
				var whole map[string]json.RawMessage
				if err := json.Unmarshal(c.Expected, &whole); err != nil {
					t.Fatal(c.ID, err)
				}
				want = whole["market_state"]
			}
			got, err := json.Marshal(streamed(t, c))
			if err != nil {
				t.Fatal(c.ID, err)
			}
			diffs, err := vector.Compare(want, got, f.Tolerance)
			if err != nil {
				t.Fatal(c.ID, err)
			}
			for _, d := range diffs {
				t.Errorf("%s %v: %s", c.ID, c.Tags, d)
			}
			compared++
		}
	}
	if compared < 200 {
		t.Errorf("only %d cases compared", compared)
	}
}

// streamed is the answer to a case as evalMarketState gives it, but with the state of a stream.
func streamed(t *testing.T, c vector.Case) any {
	t.Helper()
	o, err := parseObject("", c.Raw)
	if err != nil {
		t.Fatal(c.ID, err)
	}
	p, err := marketTheta(o)
	if err != nil {
		t.Fatal(c.ID, err)
	}
	prices, err := o.numbers("prices")
	if err != nil {
		t.Fatal(c.ID, err)
	}
	e, err := kernel.NewEstimator(p)
	if err != nil {
		t.Fatal(c.ID, err)
	}
	s := e.NewStream(max(len(prices), e.Required()))
	var st kernel.MarketState
	var ok bool
	for i, x := range prices {
		if err := s.Push(x * 1.001); err != nil {
			t.Fatal(c.ID, i, err)
		}
		if _, _, err = s.State(); err != nil {
			t.Fatal(c.ID, i, err)
		}
		if err := s.Revise(x); err != nil {
			t.Fatal(c.ID, i, err)
		}
		if st, ok, err = s.State(); err != nil {
			t.Fatal(c.ID, i, err)
		}
	}
	if !ok {
		return nil
	}
	d, ok, err := e.Detail(prices)
	if err != nil || !ok {
		t.Fatal(c.ID, ok, err)
	}
	if d.MarketState != st {
		t.Errorf("%s: a stream says %+v, the estimator %+v", c.ID, st, d.MarketState)
	}
	d.MarketState = st
	return renderState(d)
}
