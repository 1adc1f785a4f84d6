package proof

import (
	"context"
	"net/http"
	"slices"
)

// Figures are what one page of metrics shows.
type Figures struct{ p page }

// ReadFigures reads the page of a part at its base address.
func ReadFigures(ctx context.Context, client *http.Client, address string) (Figures, error) {
	p, err := readPage(ctx, Options{Client: client}, address+"/metrics")
	return Figures{p}, err
}

// Total adds the samples of a family with these labels, given as names and values.
func (f Figures) Total(name string, labels ...string) float64 { return f.p.total(name, labels...) }

// Labels are the values of a label in a family, sorted.
func (f Figures) Labels(name, label string) []string {
	var all []string
	for _, m := range f.p.families[name].GetMetric() {
		for _, l := range m.Label {
			if l.GetName() == label && !slices.Contains(all, l.GetValue()) {
				all = append(all, l.GetValue())
			}
		}
	}
	slices.Sort(all)
	return all
}
