package listen

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"
)

// A family is the same page whether it comes as gauges or as messages, in every format.
func TestGaugesAreTheirMessages(t *testing.T) {
	value := rapid.OneOf(rapid.Float64(), rapid.Map(rapid.Int64(), func(n int64) float64 { return float64(n) }),
		rapid.Map(rapid.IntRange(0, 3), func(n int) float64 { return float64(n) }))
	labels := rapid.Custom(func(t *rapid.T) *Labels {
		var pairs []string
		for i := range rapid.IntRange(0, 3).Draw(t, "labels") {
			pairs = append(pairs, []string{"symbol", "side", "state"}[i], rapid.String().Draw(t, "value"))
		}
		if pairs == nil {
			return nil
		}
		l := NewLabels(pairs...)
		return &l
	})
	rapid.Check(t, func(t *rapid.T) {
		var samples []Sample
		want := &dto.MetricFamily{Name: proto.String("g"), Help: proto.String(rapid.String().Draw(t, "help")), Type: dto.MetricType_GAUGE.Enum()}
		for range rapid.IntRange(1, 20).Draw(t, "samples") {
			s := Sample{Of: labels.Draw(t, "of"), And: labels.Draw(t, "and"), Value: value.Draw(t, "v")}
			samples = append(samples, s)
			m := sample(s.Value)
			for _, l := range []*Labels{s.Of, s.And} {
				for i := 0; l != nil && i < len(l.pairs); i += 2 {
					m.Label = append(m.Label, sample(0, l.pairs[i], l.pairs[i+1]).Label...)
				}
			}
			want.Metric = append(want.Metric, m)
		}
		page := Page{Gauges: []Gauges{{Name: "g", Help: *want.Help, Samples: slices.Values(samples)}}}
		if diff := cmp.Diff([]*dto.MetricFamily{want}, page.Messages(), protocmp.Transform()); diff != "" {
			t.Fatalf("messages (-want +got):\n%s", diff)
		}
		for _, format := range []expfmt.Format{textFormat, openFormat} {
			var got bytes.Buffer
			if err := encode(&got, &gaugeWriter{}, page, format, nil); err != nil {
				t.Fatal(err)
			}
			text, err := written(want, format)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(text, got.String()); diff != "" {
				t.Fatalf("%s (-message +gauges):\n%s", format, diff)
			}
		}
	})
}

// A long family is handed on in parts, so that compressing it begins before its end.
func TestGaugesAreHandedOnInParts(t *testing.T) {
	of := NewLabels("symbol", "BTCUSDT")
	many := func(yield func(Sample) bool) {
		for i := range 20000 {
			if !yield(Sample{Of: &of, Value: float64(i)}) {
				return
			}
		}
	}
	var parts countingWriter
	w := gaugeWriter{out: &parts}
	if err := w.writeGauges(&Gauges{Name: "g", Help: "G.", Samples: many}, false); err != nil {
		t.Fatal(err)
	}
	if parts.calls < 5 || parts.largest > 2*blockSize {
		t.Errorf("%d parts, the largest of %d bytes", parts.calls, parts.largest)
	}
	parts.err = errClosed
	if err := w.writeGauges(&Gauges{Name: "g", Help: "G.", Samples: many}, false); err == nil {
		t.Error("a writer that fails was not noticed")
	}
}

// Families of both kinds stand in the order of their names, and name[] picks from both.
func TestPageOfBothKinds(t *testing.T) {
	page := Page{
		Families: []*dto.MetricFamily{gauge("b", "B.", sample(2)), gauge("d", "D.", sample(4))},
		Gauges: []Gauges{
			{Name: "c", Help: "C.", Samples: slices.Values([]Sample{{Value: 3}})},
			{Name: "a", Help: "A.", Samples: slices.Values([]Sample{{Value: 1}})},
		},
	}
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{nil, "# HELP a A.\n# TYPE a gauge\na 1\n# HELP b B.\n# TYPE b gauge\nb 2\n# HELP c C.\n# TYPE c gauge\nc 3\n# HELP d D.\n# TYPE d gauge\nd 4\n"},
		{[]string{"c", "b", "x"}, "# HELP b B.\n# TYPE b gauge\nb 2\n# HELP c C.\n# TYPE c gauge\nc 3\n"},
	} {
		var got bytes.Buffer
		if err := encode(&got, &gaugeWriter{}, page, textFormat, tt.names); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got.String()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.names, diff)
		}
	}
}

type countingWriter struct {
	calls, largest int
	err            error
}

var errClosed = bytes.ErrTooLarge

func (c *countingWriter) Write(p []byte) (int, error) {
	c.calls++
	c.largest = max(c.largest, len(p))
	return len(p), c.err
}
