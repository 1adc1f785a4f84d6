package exporter

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// A proposal of a newer release is shown as far as it is known: never a number whose meaning may have changed, never less
// than the metrics of the earlier services.
func TestProposalsOfANewerRelease(t *testing.T) {
	scrape := func(schema int) string {
		hash := hashOf(published("BTCUSDT"))
		hash["schema_version"], hash["new_tp_proposed"] = strconv.Itoa(schema), "123"
		c := store.Collection{Expected: []position.Symbol{"BTCUSDT"}, Entries: []store.Entry{entry("BTCUSDT", hash)}, ServerTime: at}
		return page(t, handler(newExporter(t, Options{Reader: fixed(c), Now: func() time.Time { return at }})))
	}
	legacy := []string{
		`quantum_harvest_kill_score{symbol="BTCUSDT"} 0.43`, `quantum_harvest_action{symbol="BTCUSDT",action="PARTIAL_50"} 1`,
		`quantum_harvest_last_update_epoch{symbol="BTCUSDT"}`, `quantum_harvest_proposal_present{symbol="BTCUSDT"} 1`,
	}
	ours := []string{`quantum_harvest_revision{`, `quantum_harvest_input_state{`, `quantum_harvest_market_input_timestamp_seconds{`, `quantum_harvest_position_peak_price{`}
	ahead, far := scrape(store.MaxSchema), scrape(store.MaxSchema+1)
	for _, want := range legacy {
		for name, text := range map[string]string{"one step ahead": ahead, "two steps ahead": far} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %s is not shown", name, want)
			}
		}
	}
	for _, name := range ours {
		if !strings.Contains(ahead, name) {
			t.Errorf("one step ahead: %s is not shown", name)
		}
		if strings.Contains(far, name) {
			t.Errorf("two steps ahead: %s is shown", name)
		}
	}
	for _, want := range []string{`quantum_harvest_proposal_bad_fields{symbol="BTCUSDT"} 1`, `quantum_harvest_bad_fields_total{field="schema_version",kind="newer"} 1`} {
		if !strings.Contains(far, want) {
			t.Errorf("it is not seen that the proposal cannot be read: no %s", want)
		}
	}
	if !strings.Contains(ahead, `quantum_harvest_proposal_bad_fields{symbol="BTCUSDT"} 0`) {
		t.Error("one step ahead counts as bad fields")
	}
}
