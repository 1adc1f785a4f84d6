package store

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"quantumharvest/internal/position"
	"quantumharvest/kernel"
)

// legacyFields are the fields of the earlier writer, exactly as the wire contract lists them.
var legacyFields = []string{
	"harvest_action", "new_sl_proposed", "R_net", "risk_unit", "cost_est", "kill_score", "reason_codes", "k_regime_flip",
	"k_sigma_spike", "k_ts_drop", "k_age_penalty", "sigma", "ts", "p_trend", "p_mr", "p_chop", "computed_at_utc", "last_update_epoch",
	"position_side", "position_age_sec", "position_current_price", "position_entry_price", "position_unrealized_pnl",
}

func TestFieldTableIsTheContract(t *testing.T) {
	ours := []string{
		"schema_version", "revision", "episode", "content_market_epoch", "content_position_epoch", "market_epoch",
		"position_epoch", "input_state", "valid_until_epoch", "publisher", "fence",
		"publisher_version", "position_opened_epoch", "position_current_sl", "market_source", "position_source", "position_peak_price", "position_trough_price",
	}
	want := map[string]bool{}
	for _, n := range legacyFields {
		want[n] = true
	}
	for _, n := range ours {
		want[n] = false
	}
	got := map[string]bool{}
	for _, f := range fields {
		if _, twice := got[f.name]; twice {
			t.Errorf("%s is in the table twice", f.name)
		}
		got[f.name] = f.legacy
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("fields and whether they are legacy (-want +got):\n%s", d)
	}
	if names := FieldNames(); len(names) != len(fields) || names[0] != "revision" {
		t.Errorf("FieldNames() = %v; the publish script fills in the first", names)
	}
}

func TestBeatMovesOnlyTheClocks(t *testing.T) {
	got := map[string]bool{}
	for _, f := range fields {
		if f.beat {
			got[f.name] = true
		}
	}
	want := map[string]bool{
		"last_update_epoch": true, "market_epoch": true, "position_epoch": true, "input_state": true, "valid_until_epoch": true,
		"position_peak_price": true, "position_trough_price": true,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("beat fields (-want +got):\n%s", d)
	}
}

func anyProposal(t *rapid.T) Proposal {
	num := func(label string) float64 {
		v := rapid.Float64().Filter(finite).Draw(t, label)
		return v
	}
	price := func(label string) float64 {
		v := rapid.Float64Min(0).Filter(finite).Draw(t, label)
		return v + 0 // no negative zero
	}
	when := func(label string) time.Time {
		if rapid.IntRange(0, 4).Draw(t, label+" known") == 0 {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(0, maxEpoch).Draw(t, label), 0).UTC()
	}
	p := Proposal{
		Symbol: "BTCUSDT", Action: rapid.SampledFrom(kernel.Actions[:]).Draw(t, "action"), NewStop: price("stop"),
		RNet: num("r"), RiskUnit: num("unit"), CostEst: num("cost"), KillScore: num("k"),
		Reasons: rapid.SliceOfN(rapid.StringMatching(`[a-z_0-9]{1,20}`), 0, 6).Draw(t, "reasons"),
		K:       kernel.KillComponents{RegimeFlip: num("flip"), SigmaSpike: num("spike"), TSDrop: num("drop"), AgePenalty: num("age")},
		Sigma:   num("sigma"), TS: num("ts"), PTrend: num("pt"), PMR: num("pm"), PChop: num("pc"),
		ComputedAt: time.UnixMicro(rapid.Int64Range(1, maxEpoch*1e6).Draw(t, "computed")).UTC(),
		Side:       rapid.SampledFrom([]position.Side{position.Long, position.Short}).Draw(t, "side"),
		AgeSec:     num("age"), Current: num("current"), Entry: num("entry"), UnrealizedPnL: num("pnl"), SchemaVersion: SchemaVersion,
		Revision: rapid.Int64Range(0, exactBelow-1).Draw(t, "revision"), Episode: rapid.String().Draw(t, "episode"), OpenedAt: when("opened"),
		Stop: price("current stop"), ContentMarketAt: when("cm"), ContentPositionAt: when("cp"),
		InputState:   rapid.SampledFrom([]InputState{InputFresh, InputStaleMarket, InputStalePosition}).Draw(t, "state"),
		MarketSource: rapid.String().Draw(t, "ms"), PositionSource: rapid.String().Draw(t, "ps"),
		Publisher: rapid.String().Draw(t, "publisher"), PublisherVersion: rapid.String().Draw(t, "version"), Fence: rapid.Int64Range(0, exactBelow-1).Draw(t, "fence"),
		LastUpdate: time.Unix(rapid.Int64Range(0, maxEpoch).Draw(t, "update"), 0).UTC(),
		MarketAt:   when("m"), PositionAt: when("p"), ValidUntil: when("v"), Peak: price("peak"), Trough: price("trough"),
	}
	if len(p.Reasons) == 0 {
		p.Reasons = nil
	}
	return p
}

func hashOf(p Proposal) map[string]string {
	m := map[string]string{}
	pairs := Encode(p)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func TestEveryProposalReadsBackTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyProposal(t)
		if err := check(&p); err != nil {
			t.Fatalf("check: %v", err)
		}
		hash := hashOf(p)
		got, problems := Decode(p.Symbol, hash)
		if d := cmp.Diff(p, got); d != "" || len(problems) > 0 {
			t.Fatalf("problems %v (-want +got):\n%s", problems, d)
		}
		for name, v := range hash {
			if f := fieldByName(name); f.number != nil && strings.ContainsAny(v, "eEnN") {
				t.Errorf("%s = %s is no plain decimal", name, v)
			}
		}
	})
}

// A field that is lost or spoilt is a problem of its own and changes no other.
func TestOneSpoiltFieldStaysOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyProposal(t)
		hash := hashOf(p)
		f := fields[rapid.IntRange(0, len(fields)-1).Draw(t, "field")]
		if f.name == "schema_version" {
			return // without it the hash is an earlier writer's
		}
		want := []Problem{{Field: f.name, Kind: FieldMissing}}
		if rapid.Bool().Draw(t, "lost") {
			delete(hash, f.name)
			if f.later {
				want = nil // of an earlier release
			}
		} else {
			v := rapid.SampledFrom([]string{"NaN", "inf", "-Infinity", "garbage", "0x10", "1_000"}).Draw(t, "value")
			hash[f.name] = v
			want = []Problem{{Field: f.name, Kind: FieldUnparsable, Value: v}}
			if f.name == "reason_codes" || f.name == "episode" || strings.HasPrefix(f.name, "publisher") || strings.HasSuffix(f.name, "_source") {
				want = nil // free text
			}
		}
		got, problems := Decode(p.Symbol, hash)
		if d := cmp.Diff(want, problems); d != "" {
			t.Fatalf("problems (-want +got):\n%s", d)
		}
		back := hashOf(got)
		for name, v := range hashOf(p) {
			if name != f.name && back[name] != v {
				t.Errorf("%s was %s and became %s", name, v, back[name])
			}
		}
	})
}

func fieldByName(name string) field {
	for _, f := range fields {
		if f.name == name {
			return f
		}
	}
	return field{}
}

func TestDecodeLegacyWriters(t *testing.T) {
	base := map[string]string{
		"harvest_action": "PARTIAL_75", "new_sl_proposed": "100.2", "R_net": "7.01", "risk_unit": "0.699", "cost_est": "0.1",
		"kill_score": "0.527", "reason_codes": "harvest_partial_75, profit_lock", "k_regime_flip": "0.0", "k_sigma_spike": "0.0",
		"k_ts_drop": "0.0", "k_age_penalty": "0.041666666666666664", "sigma": "0.00466", "ts": "0.35", "p_trend": "0.4", "p_mr": "0.3",
		"p_chop": "0.3", "computed_at_utc": "2026-01-23T00:58:58.123456", "last_update_epoch": "1769129938", "position_side": "LONG",
		"position_age_sec": "3600.0", "position_current_price": "105.0", "position_entry_price": "100.0", "position_unrealized_pnl": "5.0",
	}
	computed := time.Date(2026, 1, 23, 0, 58, 58, 123456000, time.UTC)
	for _, c := range []struct {
		name     string
		change   map[string]string
		remove   []string
		check    func(p Proposal) string
		problems []Problem
	}{
		{name: "as written", check: func(p Proposal) string {
			if p.Action != kernel.ActionPartial75 || p.NewStop != 100.2 || p.LastUpdate.Unix() != 1769129938 || !p.ComputedAt.Equal(computed) {
				return fmt.Sprintf("%+v", p)
			}
			return cmp.Diff([]string{"harvest_partial_75", "profit_lock"}, p.Reasons)
		}},
		{name: "no stop, the word", change: map[string]string{"new_sl_proposed": "None"}, check: func(p Proposal) string { return zero(p.NewStop) }},
		{name: "no stop, empty", change: map[string]string{"new_sl_proposed": ""}, check: func(p Proposal) string { return zero(p.NewStop) }},
		{name: "no stop, zero", change: map[string]string{"new_sl_proposed": "0.0"}, check: func(p Proposal) string { return zero(p.NewStop) }},
		{
			name: "negative stop", change: map[string]string{"new_sl_proposed": "-5"}, check: func(p Proposal) string { return zero(p.NewStop) },
			problems: []Problem{{"new_sl_proposed", FieldUnparsable, "-5"}},
		},
		{name: "heartbeat with a fraction", change: map[string]string{"last_update_epoch": "1769129938.25"}, check: func(p Proposal) string {
			return cmp.Diff(int64(1769129938250), p.LastUpdate.UnixMilli())
		}},
		{
			name: "heartbeat in milliseconds", change: map[string]string{"last_update_epoch": "1769129938000"}, check: func(p Proposal) string { return "" },
			problems: []Problem{{"last_update_epoch", FieldUnparsable, "1769129938000"}},
		},
		{name: "no heartbeat", remove: []string{"last_update_epoch"}, check: func(p Proposal) string {
			if !p.LastUpdateDerived {
				return "not marked as derived"
			}
			return cmp.Diff(computed.Truncate(time.Second), p.LastUpdate)
		}},
		{name: "no heartbeat and no content clock", remove: []string{"last_update_epoch", "computed_at_utc"}, check: func(p Proposal) string {
			return cmp.Diff(false, p.LastUpdateDerived)
		}, problems: []Problem{{"computed_at_utc", FieldMissing, ""}, {"last_update_epoch", FieldMissing, ""}}},
		{name: "content clock with zone", change: map[string]string{"computed_at_utc": "2026-01-23T02:58:58.123456+02:00"}, check: func(p Proposal) string {
			return cmp.Diff(computed, p.ComputedAt)
		}},
		{name: "content clock with Z", change: map[string]string{"computed_at_utc": "2026-01-23T00:58:58Z"}, check: func(p Proposal) string {
			return cmp.Diff(computed.Truncate(time.Second), p.ComputedAt)
		}},
		{name: "content clock without fraction", change: map[string]string{"computed_at_utc": "2026-01-23T00:58:58"}, check: func(p Proposal) string {
			return cmp.Diff(computed.Truncate(time.Second), p.ComputedAt)
		}},
		{
			name: "unknown action", change: map[string]string{"harvest_action": "close_now"}, check: func(p Proposal) string { return string(p.Action) },
			problems: []Problem{{"harvest_action", FieldUnparsable, "close_now"}},
		},
		{
			name: "small letters", change: map[string]string{"position_side": "long"}, check: func(p Proposal) string { return string(p.Side) },
			problems: []Problem{{"position_side", FieldUnparsable, "long"}},
		},
		{
			name: "nan", change: map[string]string{"kill_score": "nan"}, check: func(p Proposal) string { return zero(p.KillScore) },
			problems: []Problem{{"kill_score", FieldUnparsable, "nan"}},
		},
		{name: "exponent", change: map[string]string{"k_age_penalty": "1e-05"}, check: func(p Proposal) string { return cmp.Diff(1e-5, p.K.AgePenalty) }},
		{
			name: "empty number", change: map[string]string{"sigma": ""}, check: func(p Proposal) string { return "" },
			problems: []Problem{{"sigma", FieldMissing, ""}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			hash := maps.Clone(base)
			maps.Copy(hash, c.change)
			for _, name := range c.remove {
				delete(hash, name)
			}
			p, problems := Decode("BTCUSDT", hash)
			if d := c.check(p); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.problems, problems); d != "" && len(c.problems)+len(problems) > 0 {
				t.Errorf("problems (-want +got):\n%s", d)
			}
		})
	}
}

func zero(f float64) string {
	if f != 0 || 1/f < 0 {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return ""
}

func TestDecodeDoesNotInventAHeartbeatForOurs(t *testing.T) {
	p := Proposal{ComputedAt: time.Unix(1, 0)}
	hash := hashOf(p)
	delete(hash, "last_update_epoch")
	got, problems := Decode("BTCUSDT", hash)
	if got.LastUpdateDerived || !got.LastUpdate.IsZero() {
		t.Errorf("%+v", got)
	}
	if len(problems) == 0 {
		t.Error("no problem reported")
	}
}

func TestEncodeNeverWritesNaN(t *testing.T) {
	p := Proposal{KillScore: math.NaN(), RNet: math.Inf(1), NewStop: math.Inf(-1), Peak: math.NaN()}
	for i, text := range Encode(p) {
		if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
			t.Errorf("value %d is %q", i, text)
		}
	}
}

// listed is a hash as a server lists it, in any order.
func listed(hash map[string]string) (pairs []string) {
	for name, value := range hash {
		pairs = append(pairs, name, value)
	}
	return pairs
}

func FuzzDecode(f *testing.F) {
	f.Add("harvest_action", "NONE", "kill_score", "0.5", "1769129938")
	f.Add("new_sl_proposed", "None", "computed_at_utc", "2026-01-23T00:58:58", "")
	f.Add("schema_version", "1", "R_net", "1e999", "-1")
	f.Add("last_update_epoch", "9e18", "reason_codes", ",,a, b", "NaN")
	f.Add("fence", "\xff\xfe", "revision", strings.Repeat("é", 100), "0x1p4")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2, any string) {
		hash := map[string]string{name1: value1, name2: value2}
		for i := range fields {
			if i%3 == len(any)%3 {
				hash[fields[i].name] = any
			}
		}
		p, problems := Decode("BTCUSDT", hash)
		// In whatever order a server lists the fields, they read the same.
		var v values
		v.take(listed(hash))
		again := Proposal{Symbol: "BTCUSDT"}
		if found := v.decode(&again); !reflect.DeepEqual(again, p) || !reflect.DeepEqual(found, problems) {
			t.Errorf("as a list:\n%+v, %v\nas a map:\n%+v, %v", again, found, p, problems)
		}
		for _, name := range v.strangers() {
			if !utf8.ValidString(name) || slices.Contains(FieldNames(), name) {
				t.Errorf("%q is not known", name)
			}
		}
		bad := map[string]bool{}
		for _, pr := range problems {
			bad[pr.Field] = true
			if len(pr.Value) > 80 || !utf8.ValidString(pr.Value) {
				t.Errorf("problem shows %q", pr.Value)
			}
		}
		for i := range fields {
			if n := fields[i].number; n != nil && !finite(*n(&p)) {
				t.Errorf("%s is not finite", fields[i].name)
			}
		}
		if p.Action != "" && !knownAction(string(p.Action)) || p.InputState != "" && !knownInputState(string(p.InputState)) {
			t.Errorf("a word that is none came through: %q %q", p.Action, p.InputState)
		}
		// What was read without a problem reads the same once written.
		if p.SchemaVersion != SchemaVersion || p.LastUpdate.Nanosecond() != 0 || len(bad) > 0 {
			return
		}
		written, _ := Decode("BTCUSDT", hashOf(p))
		if written.Action != p.Action || written.Revision != p.Revision || written.KillScore != p.KillScore {
			t.Errorf("read %+v, and after writing %+v", p, written)
		}
	})
}
