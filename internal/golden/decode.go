package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"

	"quantumharvest/kernel"
)

// object is one JSON object with the path that leads to it. Keys are matched exactly; where one is given twice the
// last counts.
type object struct {
	path   string
	fields map[string]json.RawMessage
}

func parseObject(path string, raw []byte) (object, error) {
	trimmed := bytes.TrimLeft(raw, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '{' {
		return object{}, errors.New("is not a JSON object")
	}
	o := object{path: path}
	if err := json.Unmarshal(trimmed, &o.fields); err != nil {
		return object{}, errors.New("is not a JSON object: " + err.Error())
	}
	return o, nil
}

func (o object) name(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

func (o object) refuse(key, reason string) error {
	return &kernel.FieldError{Field: o.name(key), Reason: reason}
}

// has is false for a key that is absent or null.
func (o object) has(key string) bool {
	raw, ok := o.fields[key]
	return ok && !bytes.Equal(raw, []byte("null"))
}

// object reads a member that must be there.
func (o object) object(key string) (object, error) {
	if !o.has(key) {
		return object{}, o.refuse(key, "is missing")
	}
	m, err := parseObject(o.name(key), o.fields[key])
	if err != nil {
		return object{}, o.refuse(key, err.Error())
	}
	return m, nil
}

// number reads a number into dst, which stays as it is where the key is absent or null.
func (o object) number(key string, dst *float64) error {
	if !o.has(key) {
		return nil
	}
	x, reason := parseNumber(o.fields[key])
	if reason != "" {
		return o.refuse(key, reason)
	}
	*dst = x
	return nil
}

// required reads a number that must be there.
func (o object) required(key string, dst *float64) error {
	if !o.has(key) {
		return o.refuse(key, "is missing")
	}
	return o.number(key, dst)
}

// priceOrNone reads a price where absent or null means none, which is 0 in the kernel. A 0 that was written is not
// taken for none: whether it was meant so is anybody's guess.
func (o object) priceOrNone(key string, dst *float64) error {
	if !o.has(key) {
		return nil
	}
	if err := o.number(key, dst); err != nil {
		return err
	}
	if *dst == 0 {
		return o.refuse(key, "must be greater than 0, or null for none")
	}
	return nil
}

// text reads a string that must be there.
func (o object) text(key string) (string, error) {
	if !o.has(key) {
		return "", o.refuse(key, "is missing")
	}
	var s string
	if json.Unmarshal(o.fields[key], &s) != nil {
		return "", o.refuse(key, "must be a string")
	}
	return s, nil
}

// array reads a list that must be there.
func (o object) array(key string) ([]json.RawMessage, error) {
	if !o.has(key) {
		return nil, o.refuse(key, "is missing")
	}
	var items []json.RawMessage
	if json.Unmarshal(o.fields[key], &items) != nil {
		return nil, o.refuse(key, "must be a list")
	}
	return items, nil
}

func (o object) numbers(key string) ([]float64, error) {
	items, err := o.array(key)
	if err != nil {
		return nil, err
	}
	xs := make([]float64, len(items))
	for i, raw := range items {
		x, reason := parseNumber(raw)
		if reason != "" {
			return nil, o.refuse(indexed(key, i), reason)
		}
		xs[i] = x
	}
	return xs, nil
}

func indexed(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

// parseNumber reads a JSON number, or one of the strings that stand for what JSON cannot write. The reason is blank
// where it succeeded.
func parseNumber(raw []byte) (x float64, reason string) {
	switch string(raw) {
	case `"NaN"`:
		return math.NaN(), ""
	case `"Infinity"`:
		return math.Inf(1), ""
	case `"-Infinity"`:
		return math.Inf(-1), ""
	}
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, "must be a number"
	}
	x, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0, "is out of the range of a double"
	}
	return x, ""
}

// integer converts what JSON writes as a number.
func integer(x float64) (n int, ok bool) {
	if x != math.Trunc(x) || math.Abs(x) > math.MaxInt32 {
		return 0, false
	}
	return int(x), true
}

// parameter is one entry of a theta: how to read its value into its place.
type parameter struct {
	key  string
	read func(o object, key string) error
}

// override reads an object whose keys must all be known. Where several are not, the first in alphabetical order is
// named.
func (o object) override(params ...parameter) error {
	known := make(map[string]bool, len(params))
	for _, p := range params {
		known[p.key] = true
	}
	var unknown []string
	for key := range o.fields {
		if !known[key] {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		return o.refuse(slices.Min(unknown), "is not a parameter")
	}
	for _, p := range params {
		if _, given := o.fields[p.key]; !given {
			continue
		}
		if !o.has(p.key) {
			return o.refuse(p.key, "must not be null")
		}
		if err := p.read(o, p.key); err != nil {
			return err
		}
	}
	return nil
}

func num(key string, dst *float64) parameter {
	return parameter{key, func(o object, key string) error { return o.number(key, dst) }}
}

func whole(key string, dst *int) parameter {
	return parameter{key, func(o object, key string) error {
		var x float64
		if err := o.number(key, &x); err != nil {
			return err
		}
		n, ok := integer(x)
		if !ok {
			return o.refuse(key, "must be a whole number")
		}
		*dst = n
		return nil
	}}
}

func group(key string, params ...parameter) parameter {
	return parameter{key, func(o object, key string) error {
		g, err := o.object(key)
		if err != nil {
			return err
		}
		return g.override(params...)
	}}
}
