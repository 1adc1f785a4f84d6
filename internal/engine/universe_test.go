package engine_test

import (
	"slices"
	"testing"

	"quantumharvest/internal/position"
)

// The symbols to follow are told anew where a position begins or ends, and not with every price of one that goes on: with
// 10,000 of them that would be a list of 160 kB for each snapshot.
func TestSymbolsFollowThePositions(t *testing.T) {
	d := newDesk(t)
	d.market(btc, 112)
	d.market(eth, 50)
	d.seconds(2, true, d.long(btc, 99, 112), d.long(eth, 49, 50))
	both := d.eng.Symbols()
	if want := []position.Symbol{btc, eth}; !slices.Equal(both, want) {
		t.Fatalf("with two positions: %v", both)
	}
	d.seconds(3, true, d.long(btc, 99, 113), d.long(eth, 49, 51))
	if now := d.eng.Symbols(); &now[0] != &both[0] {
		t.Error("the list is made anew although no position began or ended")
	}
	d.seconds(3, true, d.long(eth, 49, 51))
	if now := d.eng.Symbols(); !slices.Equal(now, []position.Symbol{eth}) {
		t.Errorf("after one has ended: %v", now)
	}
}
