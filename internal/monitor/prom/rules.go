package prom

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// loader hands rule files to the rule manager, from memory or from disk.
type loader struct {
	files  []RuleFile
	parser parser.Parser
	log    *slog.Logger
}

func newLoader(files []RuleFile, p parser.Parser, log *slog.Logger) *loader {
	return &loader{files, p, log}
}

func (l *loader) names() []string {
	names := make([]string, len(l.files))
	for i, f := range l.files {
		names[i] = f.Name
	}
	return names
}

// check reports everything that is wrong with any of the files.
func (l *loader) check() error {
	var problems []error
	seen := map[string]bool{}
	for _, f := range l.files {
		if seen[f.Name] {
			problems = append(problems, fmt.Errorf("rule file %s is given twice", f.Name))
		}
		seen[f.Name] = true
		_, errs := l.Load(f.Name, false, model.UTF8Validation)
		for _, err := range errs {
			problems = append(problems, fmt.Errorf("rule file %s: %w", f.Name, err))
		}
	}
	return errors.Join(problems...)
}

// Load reads the file of that name.
func (l *loader) Load(name string, ignoreUnknown bool, scheme model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	for _, f := range l.files {
		if f.Name == name && f.Content != nil {
			return rulefmt.Parse(f.Content, ignoreUnknown, scheme, l.parser, l.log)
		}
	}
	return rulefmt.ParseFile(name, ignoreUnknown, scheme, l.parser, l.log)
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
