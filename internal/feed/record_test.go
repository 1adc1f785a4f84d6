package feed

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/position"
)

var recordNow = time.Unix(1_770_000_000, 0).UTC()

// recordOf makes a raw record of field, value pairs on top of a good one; a value "-" takes a field away.
func recordOf(pairs ...string) *rawRecord {
	all := append([]string{"side", "LONG", "entry_price", "100"}, pairs...)
	raw := new(rawRecord)
	for i := 0; i < len(all); i += 2 {
		found := false
		for f, name := range recordNames {
			if name == all[i] {
				found = true
				raw.set(recordField(f), strings.TrimPrefix(all[i+1], "-absent-"))
			}
		}
		if !found {
			panic("no field " + all[i])
		}
	}
	return raw
}

func flawText(flaws []flaw) []string {
	var out []string
	for _, f := range flaws {
		out = append(out, f.field+" "+string(f.reason)+" "+f.value)
	}
	return out
}

func TestDecodeRecord(t *testing.T) {
	good := position.Record{Symbol: "BTCUSDT", Side: position.Long, Entry: 100}
	with := func(change func(*position.Record)) position.Record {
		r := good
		change(&r)
		return r
	}
	for _, tc := range []struct {
		name  string
		raw   *rawRecord
		want  position.Record
		flaws []string // with a blank want: refused
	}{
		{"least", recordOf(), good, nil},
		{"everything", recordOf(
			"symbol", "BTCUSDT", "side", "SHORT", "entry_price", " 100.5 ", "current_price", "99", "peak_price", "101",
			"trough_price", "98", "age_sec", "3600.5", "unrealized_pnl", "-3", "current_sl", "105", "current_tp", "90",
			"quantity", "2", "opened_at_epoch", "1769996400", "updated_at_epoch", "1769999999.25",
		), position.Record{
			Symbol: "BTCUSDT", Side: position.Short, Entry: 100.5, Current: 99, Peak: 101, Trough: 98,
			Age: 3600500 * time.Millisecond, HasAge: true, PnL: -3, HasPnL: true, Stop: 105, Target: 90,
			Quantity: 2, HasQuantity: true, OpenedAt: recordNow.Add(-time.Hour), UpdatedAt: recordNow.Add(-750 * time.Millisecond),
		}, nil},
		{"nothing spelled out", recordOf("current_sl", "None", "current_tp", "null", "peak_price", "", "quantity", "None"), good, nil},
		{"no stop as zero", recordOf("current_sl", "0", "current_tp", "0.0"), good, nil},
		{"milliseconds", recordOf("opened_at_epoch", "1769996400000"), with(func(r *position.Record) { r.OpenedAt = recordNow.Add(-time.Hour) }), nil},
		{"flat", recordOf("quantity", "0", "side", "NONE", "entry_price", "0"), position.Record{Symbol: "BTCUSDT", HasQuantity: true}, nil},
		{"closed", recordOf("event", "CLOSED", "side", "-absent-"), position.Record{Symbol: "BTCUSDT", Closed: true}, nil},
		{"open event", recordOf("event", "opened", "status", "filled"), good, nil},

		{"stamp ahead", recordOf("updated_at_epoch", "1770000006"), with(func(r *position.Record) { r.UpdatedAt = recordNow.Add(6 * time.Second) }), []string{"updated_at_epoch from_the_future 1770000006"}},
		{"stamp a little ahead", recordOf("updated_at_epoch", "1770000005"), with(func(r *position.Record) { r.UpdatedAt = recordNow.Add(5 * time.Second) }), nil},
		{"opening ahead", recordOf("opened_at_epoch", "1770000120"), with(func(r *position.Record) { r.OpenedAt = recordNow.Add(2 * time.Minute) }), []string{"opened_at_epoch from_the_future 1770000120"}},

		{"no side", recordOf("side", "-absent-"), position.Record{}, []string{"side missing_field "}},
		{"no entry", recordOf("entry_price", "None"), position.Record{}, []string{"entry_price missing_field "}},
		{"lower case", recordOf("side", "long"), position.Record{}, []string{"side unknown_side long"}},
		{"flat is no side", recordOf("side", "FLAT"), position.Record{}, []string{"side unknown_side FLAT"}},
		{"buy", recordOf("side", "BUY"), position.Record{}, []string{"side unknown_side BUY"}},
		{"entry zero", recordOf("entry_price", "0"), position.Record{}, []string{"entry_price out_of_domain 0"}},
		{"entry negative", recordOf("entry_price", "-1"), position.Record{}, []string{"entry_price out_of_domain -1"}},
		{"entry NaN", recordOf("entry_price", "NaN"), position.Record{}, []string{"entry_price not_finite NaN"}},
		{"entry infinite", recordOf("entry_price", "Infinity"), position.Record{}, []string{"entry_price not_finite Infinity"}},
		{"entry too large for a number", recordOf("entry_price", "1e999"), position.Record{}, []string{"entry_price not_finite 1e999"}},
		{"entry garbage", recordOf("entry_price", "12,5"), position.Record{}, []string{"entry_price unreadable_value 12,5"}},
		{"current zero", recordOf("current_price", "0"), position.Record{}, []string{"current_price out_of_domain 0"}},
		{"peak NaN", recordOf("peak_price", "nan"), position.Record{}, []string{"peak_price not_finite nan"}},
		{"peak below trough", recordOf("peak_price", "90", "trough_price", "95"), position.Record{}, []string{"peak_price out_of_domain 90"}},
		{"age negative", recordOf("age_sec", "-1"), position.Record{}, []string{"age_sec out_of_domain -1"}},
		{"age beyond life", recordOf("age_sec", "1e18"), position.Record{}, []string{"age_sec out_of_domain 1e18"}},
		{"profit NaN", recordOf("unrealized_pnl", "NaN"), position.Record{}, []string{"unrealized_pnl not_finite NaN"}},
		{"stop negative", recordOf("current_sl", "-5"), position.Record{}, []string{"current_sl out_of_domain -5"}},
		{"quantity negative", recordOf("quantity", "-2"), position.Record{}, []string{"quantity out_of_domain -2"}},
		{"opened at zero", recordOf("opened_at_epoch", "0"), position.Record{}, []string{"opened_at_epoch out_of_domain 0"}},
		{"stamp garbage", recordOf("updated_at_epoch", "soon"), position.Record{}, []string{"updated_at_epoch unreadable_value soon"}},
		{"other symbol", recordOf("symbol", "ETHUSDT"), position.Record{}, []string{"symbol bad_symbol ETHUSDT"}},
		{"quoted symbol", recordOf("symbol", `"BTCUSDT"`), position.Record{}, []string{`symbol bad_symbol "BTCUSDT"`}},
		{"flat of another symbol", recordOf("symbol", "ETHUSDT", "quantity", "0"), position.Record{}, []string{"symbol bad_symbol ETHUSDT"}},
		{"all that is wrong", recordOf("side", "x", "entry_price", "0", "age_sec", "?"), position.Record{}, []string{"side unknown_side x", "entry_price out_of_domain 0", "age_sec unreadable_value ?"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec, flaws, ok := decodeRecord("BTCUSDT", tc.raw, recordNow)
			if diff := cmp.Diff(tc.flaws, flawText(flaws)); diff != "" {
				t.Errorf("flaws (-want +got):\n%s", diff)
			}
			if wantOK := tc.want.Symbol != ""; ok != wantOK {
				t.Fatalf("accepted: %v, want %v", ok, wantOK)
			}
			if ok {
				if diff := cmp.Diff(tc.want, rec); diff != "" {
					t.Errorf("record (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestParseRecordJSON(t *testing.T) {
	for _, tc := range []struct {
		text   string
		reason Reason
		field  string
	}{
		{`{"side":"LONG","entry_price":100}`, "", ""},
		{`{"side":"LONG","entry_price":"100","peak_price":null,"current_sl":"None","other":[1,{}]}`, "", ""},
		{`{"side":"LONG","entry_price":NaN}`, ReasonUnreadable, ""},
		{`{"side":"LONG","entry_price":1e400}`, ReasonNotFinite, "entry_price"},
		{`{"side":"LONG","entry_price":true}`, ReasonUnreadable, "entry_price"},
		{`{"side":["LONG"],"entry_price":1}`, ReasonSide, "side"},
		{`{"side":"LONG","entry_price":1,"opened_at_epoch":{}}`, ReasonUnreadable, "opened_at_epoch"},
		{`{"side":"LONG","entry_price":1,"symbol":7}`, ReasonSymbol, "symbol"},
		{`{"side":"LONG","entry_price":1,"symbol":[]}`, ReasonSymbol, "symbol"},
		{`{"side":"LONG","entry_price":1} x`, ReasonUnreadable, ""},
		{`{"side":"LONG",`, ReasonUnreadable, ""},
		{`[]`, ReasonUnreadable, ""},
		{`null`, ReasonUnreadable, ""},
		{``, ReasonUnreadable, ""},
		{`{"x":"` + strings.Repeat("y", recordBytes) + `"}`, ReasonTooLarge, ""},
	} {
		raw, bad, ok := parseRecordJSON([]byte(tc.text))
		if ok {
			var flaws []flaw
			if _, flaws, ok = decodeRecord("BTCUSDT", raw, recordNow); !ok {
				bad = flaws[0]
			}
		}
		if ok != (tc.reason == "") || bad.reason != tc.reason || bad.field != tc.field {
			t.Errorf("%.60s: accepted %v, flaw %+v; want %q in %q", tc.text, ok, bad, tc.reason, tc.field)
		}
	}
}

// checkRecord fails where an accepted record is outside its domain.
func checkRecord(t *testing.T, rec position.Record) {
	t.Helper()
	if _, err := position.ParseSymbol(string(rec.Symbol)); err != nil {
		t.Fatalf("accepted symbol: %v", err)
	}
	if rec.Flat() {
		return
	}
	if rec.Side.Sign() == 0 || !(rec.Entry > 0) || math.IsInf(rec.Entry, 0) {
		t.Fatalf("accepted %+v", rec)
	}
	for _, v := range []float64{rec.Current, rec.Peak, rec.Trough, rec.Stop, rec.Target, rec.Quantity} {
		if !(v >= 0) || math.IsInf(v, 0) {
			t.Fatalf("accepted %+v", rec)
		}
	}
	if rec.PnL-rec.PnL != 0 || rec.Age < 0 || (rec.Peak > 0 && rec.Peak < rec.Trough) {
		t.Fatalf("accepted %+v", rec)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add("BTCUSDT", "LONG", "100", "101", "99", "3600", "1", "1769996400", "closed")
	f.Add("", "SHORT", "1e-320", "NaN", "-Inf", "-0", "0", "1e300", "")
	f.Add(" BTCUSDT", "short", "0x10", "None", "null", "1_000", "9e999", "-5", "FLAT")
	f.Fuzz(func(t *testing.T, symbol, side, entry, peak, trough, age, quantity, opened, event string) {
		raw := new(rawRecord)
		for field, text := range map[recordField]string{
			recordSymbol: symbol, recordSide: side, recordEntry: entry, recordPeak: peak, recordTrough: trough,
			recordAge: age, recordQuantity: quantity, recordOpenedAt: opened, recordUpdatedAt: opened, recordEvent: event,
			recordPnL: entry, recordStop: peak, recordCurrent: trough,
		} {
			raw.set(field, text)
		}
		for _, sym := range []position.Symbol{"BTCUSDT", ""} {
			rec, flaws, ok := decodeRecord(sym, raw, recordNow)
			if !ok && len(flaws) == 0 {
				t.Fatal("refused without a reason")
			}
			if ok {
				checkRecord(t, rec)
				if sym != "" && rec.Symbol != sym {
					t.Fatalf("record of %s for the key of %s", rec.Symbol, sym)
				}
			}
		}
	})
}

func FuzzParseRecordJSON(f *testing.F) {
	for _, text := range []string{`{"side":"LONG","entry_price":100}`, `{"entry_price":{"a":[]}}`, `{"side":"LONG","side":"SHORT"}`, `[`, "\xff"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		raw, bad, ok := parseRecordJSON(text)
		if !ok {
			if bad.reason == "" {
				t.Fatal("refused without a reason")
			}
			return
		}
		if rec, flaws, ok := decodeRecord("", raw, recordNow); ok {
			checkRecord(t, rec)
		} else if len(flaws) == 0 {
			t.Fatal("refused without a reason")
		}
	})
}

func FuzzDecodePositionFile(f *testing.F) {
	for _, text := range []string{
		`[]`, `{}`, `[{"symbol":"A","side":"LONG","entry_price":1}]`, `{"A":{"side":"LONG","entry_price":1},"A":{}}`,
		`[1,2`, `{"a":`, `[{"symbol":"A"},null,[]]`, `nil`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		result, err := decodePositionFile("f", text)
		if err != nil {
			if !strings.Contains(err.Error(), "line") {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		if !json.Valid(text) {
			t.Fatalf("accepted what is not JSON")
		}
		seen := make(map[position.Symbol]bool)
		for _, rec := range result.records {
			checkRecord(t, rec)
			if seen[rec.Symbol] {
				t.Fatalf("%s twice", rec.Symbol)
			}
			seen[rec.Symbol] = true
		}
		if len(result.refused) > len(result.flaws) || (result.nameless && len(result.flaws) == 0) {
			t.Fatalf("refused without a reason: %+v", result)
		}
	})
}

func FuzzParseStreamID(f *testing.F) {
	f.Add("1770000000000-0")
	f.Add("-")
	f.Add("18446744073709551615-18446744073709551615")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := parseStreamID(text)
		if err != nil {
			return
		}
		again, err := parseStreamID(id.String())
		if err != nil || again != id {
			t.Fatalf("%q is %v, then %v, %v", text, id, again, err)
		}
		decodeEvent(map[string]any{"symbol": text}, id, recordNow)
	})
}

func ExampleRefusal() {
	_, flaws, _ := decodeRecord("BTCUSDT", recordOf("entry_price", "0"), recordNow)
	fmt.Println(flaws[0].refusal("redis_hash", "quantum:state:positions:BTCUSDT", "BTCUSDT", recordNow).Error())
	// Output: redis_hash: quantum:state:positions:BTCUSDT field "entry_price": out_of_domain (got "0")
}
