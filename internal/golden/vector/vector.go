// Package vector reads golden vector files and compares answers with what they expect: in tests, and wherever a binary is
// to prove that it computes what the reference computes.
package vector

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// Tolerance is the head field of the same name: numbers agree where |got-want| <= Abs + Rel*|want|.
type Tolerance struct {
	Rel float64 `json:"rel"`
	Abs float64 `json:"abs"`
}

// File is one vector file.
type File struct {
	Schema    string    `json:"schema"`
	Tolerance Tolerance `json:"tolerance"`
	Count     int       `json:"count"`
	Cases     []Case    `json:"cases"`
}

// Case is one case: Raw is the line to evaluate, Expected what the answer's output is compared with. In gate files
// Expected is gathered from the steps.
type Case struct {
	ID       string
	Tags     []string
	Strict   bool
	Note     string
	Expected json.RawMessage
	Raw      json.RawMessage
}

// UnmarshalJSON keeps the case as it stands.
func (c *Case) UnmarshalJSON(b []byte) error {
	var head struct {
		ID       string          `json:"id"`
		Tags     []string        `json:"tags"`
		Strict   bool            `json:"strict"`
		Note     string          `json:"note"`
		Expected json.RawMessage `json:"expected"`
		Steps    []struct {
			ExpectedPublish bool `json:"expected_publish"`
		} `json:"steps"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return err
	}
	if head.Steps != nil {
		publish := make([]bool, len(head.Steps))
		for i, s := range head.Steps {
			publish[i] = s.ExpectedPublish
		}
		var err error
		if head.Expected, err = json.Marshal(map[string][]bool{"publish": publish}); err != nil {
			return err
		}
	}
	*c = Case{
		ID: head.ID, Tags: head.Tags, Strict: head.Strict, Note: head.Note,
		Expected: head.Expected, Raw: slices.Clone(b),
	}
	return nil
}

// WantsError tells whether the reference refused the case.
func (c Case) WantsError() bool {
	var e struct {
		Error string `json:"error"`
	}
	return json.Unmarshal(c.Expected, &e) == nil && e.Error != ""
}

// Parse reads a vector file and checks that it is whole; path is for messages.
func Parse(path string, b []byte) (File, error) {
	var f File
	if err := json.Unmarshal(b, &f); err != nil {
		return File{}, fmt.Errorf("parse vectors %s: %w", path, err)
	}
	if len(f.Cases) != f.Count || f.Count == 0 {
		return File{}, fmt.Errorf("parse vectors %s: %d cases, its head says %d", path, len(f.Cases), f.Count)
	}
	if f.Tolerance.Rel <= 0 || f.Tolerance.Abs <= 0 {
		return File{}, fmt.Errorf("parse vectors %s: no tolerance", path)
	}
	return f, nil
}

// Compare lists where two JSON values differ, nothing where they agree: numbers within the tolerance, everything else
// exactly, including the keys of objects and the order of lists.
func Compare(want, got json.RawMessage, tol Tolerance) ([]string, error) {
	var w, g any
	if err := json.Unmarshal(want, &w); err != nil {
		return nil, fmt.Errorf("compare: expected value: %w", err)
	}
	if err := json.Unmarshal(got, &g); err != nil {
		return nil, fmt.Errorf("compare: value: %w", err)
	}
	return compare(nil, "", w, g, tol), nil
}

func compare(diffs []string, path string, want, got any, tol Tolerance) []string {
	differ := func() []string { return append(diffs, fmt.Sprintf("%s: got %v, want %v", path, got, want)) }
	switch w := want.(type) {
	case float64:
		g, ok := got.(float64)
		if !ok || !(math.Abs(g-w) <= tol.Abs+tol.Rel*math.Abs(w)) {
			return differ()
		}
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return differ()
		}
		for _, key := range sortedKeys(w, g) {
			_, inWant := w[key]
			_, inGot := g[key]
			switch {
			case !inGot:
				diffs = append(diffs, path+"."+key+": missing")
			case !inWant:
				diffs = append(diffs, path+"."+key+": not expected")
			default:
				diffs = compare(diffs, path+"."+key, w[key], g[key], tol)
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return differ()
		}
		for i := range w {
			diffs = compare(diffs, fmt.Sprintf("%s[%d]", path, i), w[i], g[i], tol)
		}
	default: // string, bool, nil
		if want != got {
			return differ()
		}
	}
	return diffs
}

func sortedKeys(maps ...map[string]any) []string {
	var keys []string
	for _, m := range maps {
		for k := range m {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
