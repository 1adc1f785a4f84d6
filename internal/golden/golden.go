// Package golden evaluates cases in the schema of the golden vectors (testdata/vectors/README.md): one JSON object a
// case, through the kernel, with an answer shaped like the "expected" of the vectors. It is how other languages and
// checks talk to the kernel.
//
// Anything that a case leaves to choice is read strictly: an unknown parameter, a number that is not one and a field of
// the wrong type are refused with the field's name, as the kernel refuses what is outside its domain. Fields of a case
// that are no input (tags, note, expected, theta_effective) are not looked at.
package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"quantumharvest/kernel"
)

// Kind is what a case is about; the zero value is none.
type Kind string

// The kinds, spelled as the argument of the eval command.
const (
	MarketState Kind = "market-state"
	Stops       Kind = "stops"
	Harvest     Kind = "harvest"
	Chain       Kind = "chain"
	Gate        Kind = "gate"
)

// Kinds lists every kind.
var Kinds = [...]Kind{MarketState, Stops, Harvest, Chain, Gate}

// ParseKind accepts exactly the spelling of Kinds.
func ParseKind(s string) (Kind, error) {
	names := make([]string, len(Kinds))
	for i, k := range Kinds {
		if Kind(s) == k {
			return k, nil
		}
		names[i] = string(k)
	}
	return "", fmt.Errorf("unknown kind of case %q: one of %s", s, strings.Join(names, ", "))
}

// answer is one output line. Exactly one of Output and Error is set.
type answer struct {
	ID     json.RawMessage
	Output any
	Error  *kernel.FieldError
}

type fieldError struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

// Eval evaluates one case and returns one line without its end: {"id":...,"output":...} or
// {"id":...,"error":{"field":...,"reason":...}}, and whether it is the latter. The output is null where a case has too
// few prices. A line that is not a JSON object is an error of the field "line", with the id null.
func Eval(kind Kind, line []byte) (out []byte, refused bool) {
	a := answer{ID: json.RawMessage("null")}
	o, err := parseObject("", line)
	if err != nil {
		a.Error = &kernel.FieldError{Field: "line", Reason: err.Error()}
	} else {
		a.ID = caseID(o)
		a.Output, err = evaluate(kind, o)
		a.Error = asFieldError(err)
	}
	return a.encode(), a.Error != nil
}

func evaluate(kind Kind, c object) (any, error) {
	switch kind {
	case MarketState:
		return evalMarketState(c)
	case Stops:
		return evalStops(c)
	case Harvest:
		return evalHarvest(c)
	case Chain:
		return evalChain(c)
	case Gate:
		return evalGate(c)
	}
	return nil, fmt.Errorf("unknown kind of case %q", kind)
}

func asFieldError(err error) *kernel.FieldError {
	var fe *kernel.FieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &fe):
		return fe
	}
	return &kernel.FieldError{Field: "line", Reason: err.Error()}
}

func (a answer) encode() []byte {
	var b bytes.Buffer
	b.WriteString(`{"id":`)
	b.Write(a.ID)
	key, value := `,"output":`, a.Output
	if a.Error != nil {
		key, value = `,"error":`, fieldError{Field: a.Error.Field, Reason: a.Error.Reason}
	}
	b.WriteString(key)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		// Outputs hold strings, booleans and numbers that the kernel vouches to be finite.
		panic(fmt.Sprintf("golden: encode answer: %v", err))
	}
	b.Truncate(b.Len() - 1) // the encoder's line end
	b.WriteByte('}')
	return b.Bytes()
}

// caseID is the id as it stands where it is a string or a number, null otherwise.
func caseID(o object) json.RawMessage {
	raw := o.fields["id"]
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	switch c := raw[0]; {
	case c == '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			break
		}
		if clean, err := json.Marshal(s); err == nil { // valid UTF-8 whatever came in
			return clean
		}
	case c == '-' || c >= '0' && c <= '9':
		return raw
	}
	return json.RawMessage("null")
}
