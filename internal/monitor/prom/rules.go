package prom

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// loader hands rule files to the rule manager as they were read and checked: what is on disk may have changed since.
type loader struct {
	files  atomic.Pointer[[]RuleFile]
	parser parser.Parser
	log    *slog.Logger
}

func newLoader(p parser.Parser, log *slog.Logger) *loader {
	return &loader{parser: p, log: log}
}

func names(files []RuleFile) []string {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name
	}
	return names
}

// read gives the files with their content, or everything that is wrong with any of them.
func (l *loader) read(files []RuleFile) ([]RuleFile, error) {
	var problems []error
	var all []RuleFile
	seen := map[string]bool{}
	for _, f := range files {
		if seen[f.Name] {
			problems = append(problems, fmt.Errorf("rule file %s is given twice", f.Name))
		}
		seen[f.Name] = true
		if f.Content == nil {
			var err error
			if f.Content, err = os.ReadFile(f.Name); err != nil {
				problems = append(problems, fmt.Errorf("rule file %s: %w", f.Name, err))
				continue
			}
		}
		_, errs := rulefmt.Parse(f.Content, false, model.UTF8Validation, l.parser, l.log)
		for _, err := range errs {
			problems = append(problems, fmt.Errorf("rule file %s: %w", f.Name, err))
		}
		all = append(all, f)
	}
	return all, errors.Join(problems...)
}

// Load gives the rules in the file of that name.
func (l *loader) Load(name string, ignoreUnknown bool, scheme model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	for _, f := range *l.files.Load() {
		if f.Name == name {
			return rulefmt.Parse(f.Content, ignoreUnknown, scheme, l.parser, l.log)
		}
	}
	return nil, []error{fmt.Errorf("rule file %s was not read", name)}
}

// Parse reads one expression.
func (l *loader) Parse(query string) (parser.Expr, error) { return l.parser.ParseExpr(query) }

// Canonical writes a PromQL expression in its one form, as Prometheus shows it.
func Canonical(expr string) (string, error) {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return "", err
	}
	return e.String(), nil
}
