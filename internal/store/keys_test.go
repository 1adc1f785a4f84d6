package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func names(k Keys) []string {
	return []string{
		k.Proposal("BTCUSDT"), k.expected, k.closed, k.stream,
		k.MarketState("BTCUSDT"), k.marketStream, k.Risk("BTCUSDT"), k.riskStream, k.producerMark(),
	}
}

func TestKeys(t *testing.T) {
	legacy := []string{
		"quantum:harvest:proposal:BTCUSDT", "quantum:harvest:expected", "quantum:harvest:closed", "quantum:stream:harvest.proposal",
		"quantum:marketstate:BTCUSDT", "quantum:stream:marketstate", "quantum:risk:proposal:BTCUSDT", "quantum:stream:risk.proposal",
		"quantum-harvest/",
	}
	for _, c := range []struct {
		name string
		o    KeysOptions
		want []string
	}{
		{"default", KeysOptions{}, legacy},
		{"the legacy names in full", KeysOptions{
			Prefix: "quantum:", Harvest: "quantum:harvest:proposal:", MarketState: "quantum:marketstate", Risk: "quantum:risk:proposal",
		}, legacy},
		{"another prefix", KeysOptions{Prefix: "{desk}q"}, []string{
			"{desk}q:harvest:proposal:BTCUSDT", "{desk}q:harvest:expected", "{desk}q:harvest:closed", "{desk}q:stream:harvest.proposal",
			"{desk}q:marketstate:BTCUSDT", "{desk}q:stream:marketstate", "{desk}q:risk:proposal:BTCUSDT", "{desk}q:stream:risk.proposal",
			"quantum-harvest@{desk}q:/",
		}},
		{"another harvest prefix", KeysOptions{Harvest: "b:harvest:proposal:"}, []string{
			"b:harvest:proposal:BTCUSDT", "b:harvest:expected", "b:harvest:closed", "b:harvest:stream",
			"quantum:marketstate:BTCUSDT", "quantum:stream:marketstate", "quantum:risk:proposal:BTCUSDT", "quantum:stream:risk.proposal",
			"quantum-harvest@b:harvest:proposal:/",
		}},
		{"a harvest prefix of another shape, a stream by name", KeysOptions{Harvest: "mine", StreamName: "s", MarketState: "ms", Risk: "rk"}, []string{
			"mine:BTCUSDT", "mine:_expected", "mine:_closed", "s",
			"ms:BTCUSDT", "ms:_stream", "rk:BTCUSDT", "rk:_stream",
			"quantum-harvest@mine:/",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, names(NewKeys(c.o))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestSecondInstanceNeverMeetsTheFirst(t *testing.T) {
	first := NewKeys(KeysOptions{})
	for _, harvest := range []string{"b:harvest:proposal:", "quantum:b:proposal:", "quantum:harvest2:", "x"} {
		second := NewKeys(KeysOptions{Harvest: harvest})
		for i, name := range names(first)[:4] {
			if names(second)[i] == name {
				t.Errorf("HARVEST_PREFIX %s shares %s with the default", harvest, name)
			}
		}
		if first.producerMark() == second.producerMark() {
			t.Errorf("HARVEST_PREFIX %s would overwrite the produced records of the default", harvest)
		}
	}
}
