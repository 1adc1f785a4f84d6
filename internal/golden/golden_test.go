package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/golden/vector"
	"quantumharvest/internal/golden/vectortest"
)

var files = map[Kind]string{
	MarketState: "market_state.json", Stops: "risk_stops.json", Harvest: "harvest_kernel.json",
	Chain: "chain.json", Gate: "publish_gate.json",
}

func load(t testing.TB, kind Kind) vector.File {
	t.Helper()
	return vectortest.Load(t, filepath.Join("..", "..", "testdata", "vectors", files[kind]))
}

// line is one answer as a reader of another language sees it.
type line struct {
	ID     json.RawMessage `json:"id"`
	Output json.RawMessage `json:"output"`
	Error  *struct {
		Field  string `json:"field"`
		Reason string `json:"reason"`
	} `json:"error"`
}

func read(t testing.TB, b []byte) line {
	t.Helper()
	var l line
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		t.Fatalf("answer %s: %v", b, err)
	}
	if (l.Error == nil) == (l.Output == nil) {
		t.Fatalf("answer %s has not exactly one of output and error", b)
	}
	if len(l.ID) == 0 {
		t.Fatalf("answer %s has no id", b)
	}
	return l
}

// TestRunVectors feeds every file as lines, as the eval command gets them.
func TestRunVectors(t *testing.T) {
	for _, kind := range Kinds {
		t.Run(string(kind), func(t *testing.T) {
			f := load(t, kind)
			var in, out bytes.Buffer
			for _, c := range f.Cases {
				in.Write(c.Raw)
				in.WriteString("\n\n")
			}
			st, err := Run(kind, &in, &out)
			if err != nil {
				t.Fatal(err)
			}
			answers := bytes.Split(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("\n"))
			if st.Cases != len(f.Cases) || len(answers) != len(f.Cases) {
				t.Fatalf("%d cases, %d answers and %d counted", len(f.Cases), len(answers), st.Cases)
			}
			refused := 0
			for i, c := range f.Cases {
				a := read(t, answers[i])
				if got, want := string(a.ID), `"`+c.ID+`"`; got != want {
					t.Errorf("answer %d has the id %s, want %s", i, got, want)
				}
				if a.Error != nil {
					refused++
				}
				if !c.Strict || c.WantsError() {
					if c.WantsError() && a.Error == nil {
						t.Errorf("%s: not refused", c.ID)
					}
					continue
				}
				if a.Error != nil {
					t.Errorf("%s: refused: %+v", c.ID, *a.Error)
					continue
				}
				diffs, err := vector.Compare(c.Expected, a.Output, f.Tolerance)
				if err != nil {
					t.Fatal(c.ID, err)
				}
				for _, d := range diffs {
					t.Errorf("%s: %s", c.ID, d)
				}
			}
			if refused != st.Refused {
				t.Errorf("%d refused, %d counted", refused, st.Refused)
			}
		})
	}
}

const (
	position    = `{"symbol":"A","side":"LONG","entry_price":100,"current_price":105,"peak_price":106,"trough_price":99,"age_sec":10,"unrealized_pnl":5,"current_sl":null,"current_tp":null}`
	stopsCase   = `{"id":"x","symbol":"A","market_state":{"sigma":0.01,"mu":0,"ts":0.2,"regime_probs":{"trend":0.5,"mr":0.2,"chop":0.3}},"position":` + position + `,"theta":null}`
	harvestCase = `{"id":"x","market_state":{"sigma":0.01,"ts":0.2,"p_trend":0.5,"p_mr":0.2,"p_chop":0.3},"position":` + position + `,"p1_proposal":null,"theta":null}`
	stateCase   = `{"id":"x","theta":null,"prices":[1,2,3]}`
	gateCase    = `{"id":"x","change_eps_pct":0.001,"max_publish_age_sec":60,"steps":[{"t":1,"symbol":"A","harvest_action":"NONE","new_sl_proposed":null,"kill_score":0.5,"R_net":0}]}`
)

func TestEval(t *testing.T) {
	for _, c := range []struct {
		name string
		kind Kind
		line string
		want string
	}{
		{"too few prices", MarketState, stateCase, `{"id":"x","output":null}`},
		{"no prices", MarketState, `{"id":1,"prices":[]}`, `{"id":1,"output":null}`},
		{"gate", Gate, gateCase, `{"id":"x","output":{"publish":[true]}}`},
		{"gate without steps", Gate, `{"id":"x","steps":[]}`, `{"id":"x","output":{"publish":[]}}`},
		{"spaces", Gate, "  { \"id\" : \"x\" , \"steps\" : [ ] } ", `{"id":"x","output":{"publish":[]}}`},
		{"chain with too few prices", Chain, `{"id":"x","prices":[1,2,3],"position":` + position + `}`, `{"id":"x","output":null}`},
		{"no id", MarketState, `{"prices":[]}`, `{"id":null,"output":null}`},
		{"an id that is a list", MarketState, `{"id":[1],"prices":[]}`, `{"id":null,"output":null}`},
		{"an id that needs care", MarketState, `{"id":"a\"<\u00e9>\n","prices":[]}`, `{"id":"a\"\u003cé\u003e\n","output":null}`},
		{
			"harvest", Harvest, strings.Replace(harvestCase, `"theta":null`, `"theta":{"ts_ref":0,"max_age_sec":1e300,"lock_R":3}`, 1),
			`{"id":"x","output":{"harvest_action":"PARTIAL_25","new_sl_proposed":null,"R_net":2.45,"risk_unit":2,"cost_est":0.1,` +
				`"kill_score":0.5,"reason_codes":["harvest_partial_25"],"k_components":{"regime_flip":0,"sigma_spike":0,` +
				`"ts_drop":0,"age_penalty":1e-299},"tranche_weights":[0.3333333333333333,0.3333333333333333,0.3333333333333333]}}`,
		},
	} {
		if got, _ := Eval(c.kind, []byte(c.line)); string(got) != c.want {
			d := cmp.Diff(c.want, string(got))
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func TestEvalRefuses(t *testing.T) {
	for _, c := range []struct {
		kind                    Kind
		line, old, new          string // line with old replaced by new
		wantID, wantField, want string // want is part of the reason
	}{
		{MarketState, "garbage", "", "", "null", "line", "not a JSON object"},
		{MarketState, "[1]", "", "", "null", "line", "not a JSON object"},
		{MarketState, "null", "", "", "null", "line", "not a JSON object"},
		{MarketState, stateCase + ",", "", "", "null", "line", "not a JSON object"},
		{MarketState, stateCase + stateCase, "", "", "null", "line", "not a JSON object"},
		{MarketState, `{"id":"x"`, "", "", "null", "line", "not a JSON object"},
		{MarketState, stateCase, `"prices"`, `"Prices"`, `"x"`, "prices", "missing"},
		{MarketState, stateCase, `[1,2,3]`, `"1"`, `"x"`, "prices", "list"},
		{MarketState, stateCase, `[1,2,3]`, `[1,"2",3]`, `"x"`, "prices[1]", "number"},
		{MarketState, stateCase, `[1,2,3]`, `[1,null,3]`, `"x"`, "prices[1]", "number"},
		{MarketState, stateCase, `[1,2,3]`, `[1,2,"NaN"]`, `"x"`, "prices[2]", "finite"},
		{MarketState, stateCase, `[1,2,3]`, `[1,2,"-Infinity"]`, `"x"`, "prices[2]", "finite"},
		{MarketState, stateCase, `[1,2,3]`, `[1e999,2,3]`, `"x"`, "prices[0]", "range"},
		{MarketState, stateCase, `[1,2,3]`, `[0,2,3]`, `"x"`, "prices[0]", "greater than 0"},
		{MarketState, stateCase, `null`, `7`, `"x"`, "theta", "object"},
		{MarketState, stateCase, `null`, `{"vol":{"windows":5}}`, `"x"`, "theta.vol.windows", "not a parameter"},
		{MarketState, stateCase, `null`, `{"zeta":1,"beta":1}`, `"x"`, "theta.beta", "not a parameter"},
		{MarketState, stateCase, `null`, `{"vol":{"window":5.5}}`, `"x"`, "theta.vol.window", "whole"},
		{MarketState, stateCase, `null`, `{"vol":{"window":1e30}}`, `"x"`, "theta.vol.window", "whole"},
		{MarketState, stateCase, `null`, `{"vol":{"window":"NaN"}}`, `"x"`, "theta.vol.window", "whole"},
		{MarketState, stateCase, `null`, `{"vol":null}`, `"x"`, "theta.vol", "null"},
		{MarketState, stateCase, `null`, `{"trend":{"windows":[1.5]}}`, `"x"`, "theta.trend.windows[0]", "whole"},
		{MarketState, stateCase, `null`, `{"trend":{"windows":[64]}}`, `"x"`, "theta.trend.weights", "each window"},
		{MarketState, stateCase, `null`, `{"trend":{"method":3}}`, `"x"`, "theta.trend.method", "string"},
		{MarketState, stateCase, `null`, `{"trend":{"method":"linear"}}`, `"x"`, "theta.trend.method", "linear"},
		{MarketState, stateCase, `null`, `{"regime":{"score":{"d1":1}}}`, `"x"`, "theta.regime.score.d1", "not a parameter"},
		{Stops, stopsCase, `"LONG"`, `"long"`, `"x"`, "position.side", "neither LONG nor SHORT"},
		{Stops, stopsCase, `"LONG"`, `1`, `"x"`, "position.side", "string"},
		{Stops, stopsCase, `"id":"x","symbol":"A"`, `"id":"x","symbol":"B"`, `"x"`, "position.symbol", "about"},
		{Stops, stopsCase, `"peak_price":106,`, ``, `"x"`, "position.peak_price", "greater than 0"},
		{Stops, stopsCase, `"current_sl":null`, `"current_sl":0`, `"x"`, "position.current_sl", "null for none"},
		{Stops, stopsCase, `"current_sl":null`, `"current_sl":-1`, `"x"`, "position.current_sl", "0 or greater"},
		{Stops, stopsCase, `"entry_price":100,`, ``, `"x"`, "position.entry_price", "missing"},
		{Stops, stopsCase, `"mr":0.2,`, ``, `"x"`, "market_state.regime_probs.mr", "missing"},
		{Stops, stopsCase, `"sigma":0.01`, `"sigma":true`, `"x"`, "market_state.sigma", "number"},
		{Stops, stopsCase, `"theta":null`, `"theta":{"k_sl":{"up":1}}`, `"x"`, "theta.k_sl.up", "not a parameter"},
		{Stops, stopsCase, `"theta":null`, `"theta":{"monotonic_sl":1}`, `"x"`, "theta.monotonic_sl", "true or false"},
		{Stops, stopsCase, `"theta":null`, `"theta":{"eps":null}`, `"x"`, "theta.eps", "null"},
		{Harvest, harvestCase, `"unrealized_pnl":5`, `"unrealized_pnl":null`, `"x"`, "position.unrealized_pnl", "missing"},
		{Harvest, harvestCase, `"age_sec":10,`, ``, `"x"`, "position.age_sec", "missing"},
		{Harvest, harvestCase, `"p_mr":0.2,`, ``, `"x"`, "market_state.p_mr", "missing"},
		{Harvest, harvestCase, `"p1_proposal":null`, `"p1_proposal":{"stop_dist_pct":-1}`, `"x"`, "p1_proposal.stop_dist_pct", "0 or greater"},
		{Harvest, harvestCase, `"p1_proposal":null`, `"p1_proposal":5`, `"x"`, "p1_proposal", "object"},
		{Harvest, harvestCase, `"theta":null`, `"theta":{"t1_r":1}`, `"x"`, "theta.t1_r", "not a parameter"},
		{Harvest, harvestCase, `"theta":null`, `"theta":{"T1_R":5}`, `"x"`, "theta.T2_R", "below"},
		{Chain, `{"id":"x","prices":[1],"position":` + position + `,"theta":{}}`, "", "", `"x"`, "theta", "default"},
		{Chain, `{"id":"x","prices":[1]}`, "", "", `"x"`, "position", "missing"},
		{Gate, gateCase, `"kill_score":0.5`, `"kill_score":"NaN"`, `"x"`, "steps[0].kill_score", "finite"},
		{Gate, gateCase, `"NONE"`, `"SELL"`, `"x"`, "steps[0].harvest_action", "none of the actions"},
		{Gate, gateCase, `"symbol":"A",`, ``, `"x"`, "steps[0].symbol", "missing"},
		{Gate, gateCase, `"t":1,`, ``, `"x"`, "steps[0].t", "missing"},
		{Gate, gateCase, `[{`, `[7,{`, `"x"`, "steps[0]", "object"},
		{Gate, gateCase, `"change_eps_pct":0.001`, `"change_eps_pct":-1`, `"x"`, "change_eps_pct", "0 or greater"},
		{Gate, gateCase, `"steps"`, `"stops"`, `"x"`, "steps", "missing"},
	} {
		in := c.line
		if c.old != "" {
			if in = strings.Replace(c.line, c.old, c.new, 1); in == c.line {
				t.Fatalf("%q is not in %s", c.old, c.line)
			}
		}
		out, _ := Eval(c.kind, []byte(in))
		a := read(t, out)
		if a.Error == nil {
			t.Errorf("%s: not refused: %s", in, a.Output)
			continue
		}
		if string(a.ID) != c.wantID || a.Error.Field != c.wantField || !strings.Contains(a.Error.Reason, c.want) {
			t.Errorf("%s\nrefused as %s %s: %s\nwant %s %s: ...%s...", in, a.ID, a.Error.Field, a.Error.Reason, c.wantID, c.wantField, c.want)
		}
	}
}

// TestNumbersReadBack: what is printed is the same double when read again.
func TestNumbersReadBack(t *testing.T) {
	line, _ := Eval(Stops, []byte(stopsCase))
	a := read(t, line)
	var out struct {
		SL float64 `json:"proposed_sl"`
	}
	if err := json.Unmarshal(a.Output, &out); err != nil {
		t.Fatal(err)
	}
	if want := 106 * (1 - (1.2*0.5+1.5*0.2+1.3*0.3)*0.01); math.Abs(out.SL-want) > 1e-10 || out.SL == math.Trunc(out.SL) {
		t.Errorf("proposed stop %v, want about %v", out.SL, want)
	}
}

func TestRunAnswersAtOnce(t *testing.T) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := Run(Gate, inR, outW)
		outW.Close()
		done <- err
	}()
	buf := make([]byte, 4096)
	for range 3 { // the next case is written only after the answer to the last one was read
		if _, err := io.WriteString(inW, gateCase+"\r\n"); err != nil {
			t.Fatal(err)
		}
		n, err := outR.Read(buf)
		if err != nil || string(buf[:n]) != `{"id":"x","output":{"publish":[true]}}`+"\n" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
	if _, err := io.WriteString(inW, "last line without an end"); err != nil {
		t.Fatal(err)
	}
	inW.Close()
	n, err := outR.Read(buf)
	if err != nil || !strings.Contains(string(buf[:n]), `"field":"line"`) {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestRunLongLines(t *testing.T) {
	long := `{"id":"long","prices":[` + strings.Repeat("100.25,", 400_000) + `100.25]}` // about 3 MB
	tooLong := strings.Repeat("x", maxLineBytes+10)
	var out bytes.Buffer
	st, err := Run(MarketState, strings.NewReader(tooLong+"\n"+long+"\n"), &out)
	if err != nil || st != (Stats{Cases: 2, Refused: 1}) {
		t.Fatalf("%+v, %v", st, err)
	}
	lines := strings.Split(out.String(), "\n")
	if a := read(t, []byte(lines[0])); a.Error == nil || a.Error.Field != "line" {
		t.Errorf("too long: %s", lines[0])
	}
	if a := read(t, []byte(lines[1])); string(a.ID) != `"long"` || !strings.Contains(string(a.Output), `"returns_n":400000`) {
		t.Errorf("long: %s", lines[1])
	}
}

func TestRunFails(t *testing.T) {
	broken := errors.New("broken")
	if _, err := Run(Gate, iotest.ErrReader(broken), io.Discard); !errors.Is(err, broken) {
		t.Errorf("reading: %v", err)
	}
	_, w := io.Pipe()
	if err := w.CloseWithError(broken); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(Gate, strings.NewReader(gateCase), w); err == nil || !strings.Contains(err.Error(), "write answer") {
		t.Errorf("writing: %v", err)
	}
	if _, err := Run("poker", strings.NewReader(gateCase), io.Discard); err == nil || !strings.Contains(err.Error(), "market-state, stops") {
		t.Errorf("unknown kind: %v", err)
	}
}

func FuzzEval(f *testing.F) {
	for i, kind := range Kinds {
		cases := load(f, kind).Cases
		for _, c := range []int{0, len(cases) / 2, len(cases) - 1} {
			f.Add(i, []byte(cases[c].Raw))
		}
	}
	for i, s := range []string{stateCase, stopsCase, harvestCase, "", gateCase, "null", "{}", `{"id":1e999}`, `{"id":"\ud800","prices":[1e-400]}`} {
		f.Add(i, []byte(s))
	}
	f.Fuzz(func(t *testing.T, kind int, in []byte) {
		if len(in) > 1<<16 {
			return
		}
		out, refused := Eval(Kinds[uint(kind)%uint(len(Kinds))], in)
		if bytes.ContainsAny(out, "\n\r") || bytes.Contains(out, []byte(`:"NaN"`)) {
			t.Fatalf("%q", out)
		}
		if a := read(t, out); refused != (a.Error != nil) || refused && (a.Error.Field == "" || a.Error.Reason == "") {
			t.Fatalf("refusal without field or reason: %s", out)
		}
	})
}
