package listen

import (
	"context"
	"iter"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// PageGatherer is a gatherer that keeps to the deadline of the scrape and gives gauges as what they stand for.
// MetricsHandler prefers it to Gather.
type PageGatherer interface {
	GatherPage(ctx context.Context) (Page, error)
}

// Page is everything that one scrape shows.
type Page struct {
	Families []*dto.MetricFamily
	Gauges   []Gauges // none of a name that is in Families
}

// Messages gives the whole page as messages, sorted by name.
func (p Page) Messages() []*dto.MetricFamily {
	all := families(p)
	messages := make([]*dto.MetricFamily, len(all))
	for i, f := range all {
		messages[i] = f.asMessage()
	}
	return messages
}

// Gauges is a family of gauges that is written from what stands behind it. A family of ten thousand samples as messages is
// thirty thousand objects that live for the time of one scrape, which costs more than writing them.
type Gauges struct {
	Name, Help string
	// Samples are at least one, the same each time they are asked for.
	Samples iter.Seq[Sample]
}

// Sample is one value of a gauge, with the labels of Of followed by those of And; nil is none.
type Sample struct {
	Of, And *Labels
	Value   float64
}

// Labels are labels of a sample, made ready once for all samples that have them.
type Labels struct {
	pairs []string // name, value, name, value...
	text  string   // name="value",name="value", escaped
}

// NewLabels makes labels of names, which need no quotes, and values in turn.
func NewLabels(pairs ...string) Labels {
	size := 0
	for _, p := range pairs {
		size += len(p) + 2
	}
	text := make([]byte, 0, size)
	for i := 0; i < len(pairs); i += 2 {
		if i > 0 {
			text = append(text, ',')
		}
		text = appendLabel(text, pairs[i], pairs[i+1])
	}
	return Labels{pairs: pairs, text: string(text)}
}

// message is the family for the formats that need messages.
func (g *Gauges) message() *dto.MetricFamily {
	mf := &dto.MetricFamily{Name: &g.Name, Help: &g.Help, Type: dto.MetricType_GAUGE.Enum()}
	for s := range g.Samples {
		m := &dto.Metric{Gauge: &dto.Gauge{Value: proto.Float64(s.Value)}}
		for _, l := range [...]*Labels{s.Of, s.And} {
			if l == nil {
				continue
			}
			for i := 0; i < len(l.pairs); i += 2 {
				m.Label = append(m.Label, &dto.LabelPair{Name: &l.pairs[i], Value: &l.pairs[i+1]})
			}
		}
		mf.Metric = append(mf.Metric, m)
	}
	return mf
}
