package golden

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"

	"quantumharvest/internal/golden/vector"
)

// fileNames are the vector files by the kind of their cases.
var fileNames = map[Kind]string{
	MarketState: "market_state.json",
	Stops:       "risk_stops.json",
	Harvest:     "harvest_kernel.json",
	Chain:       "chain.json",
	Gate:        "publish_gate.json",
}

// Verdict is what Verify found.
type Verdict struct {
	Strict   int      // cases that must be reproduced
	Failures []string // those that were not, with where they differ
}

// Verify puts every strict case of all vector files through the kernel of this binary, by the same way as the eval command.
// A case that the reference refuses must be refused.
func Verify(files fs.FS) (Verdict, error) {
	var v Verdict
	for _, kind := range Kinds {
		raw, err := fs.ReadFile(files, fileNames[kind])
		if err != nil {
			return v, fmt.Errorf("verify vectors: %w", err)
		}
		f, err := vector.Parse(fileNames[kind], raw)
		if err != nil {
			return v, err
		}
		for _, c := range f.Cases {
			if !c.Strict {
				continue
			}
			v.Strict++
			if text := verify(kind, c, f.Tolerance); text != "" {
				v.Failures = append(v.Failures, c.ID+": "+text)
			}
		}
	}
	return v, nil
}

func verify(kind Kind, c vector.Case, tol vector.Tolerance) string {
	var line bytes.Buffer
	if err := json.Compact(&line, c.Raw); err != nil {
		return err.Error()
	}
	out, refused := Eval(kind, line.Bytes())
	if c.WantsError() || refused {
		if c.WantsError() != refused {
			return "refused by one of the two: " + string(out)
		}
		return ""
	}
	var answer struct {
		Output json.RawMessage `json:"output"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return err.Error()
	}
	diffs, err := vector.Compare(c.Expected, answer.Output, tol)
	if err != nil {
		return err.Error()
	}
	if len(diffs) > 0 {
		return diffs[0]
	}
	return ""
}
