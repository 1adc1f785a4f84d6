package listen

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"
)

func gauge(name, help string, metrics ...*dto.Metric) *dto.MetricFamily {
	return &dto.MetricFamily{Name: proto.String(name), Help: proto.String(help), Type: dto.MetricType_GAUGE.Enum(), Metric: metrics}
}

func sample(v float64, labels ...string) *dto.Metric {
	m := &dto.Metric{Gauge: &dto.Gauge{Value: proto.Float64(v)}}
	for i := 0; i < len(labels); i += 2 {
		m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(labels[i]), Value: proto.String(labels[i+1])})
	}
	return m
}

func writeText(t interface {
	Helper()
	Fatal(...any)
}, mf *dto.MetricFamily,
) string {
	t.Helper()
	text, err := written(mf, textFormat)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var (
	textFormat = expfmt.NewFormat(expfmt.TypeTextPlain)
	openFormat = expfmt.NewFormat(expfmt.TypeOpenMetrics)
)

func written(mf *dto.MetricFamily, f expfmt.Format) (string, error) {
	var b bytes.Buffer
	err := encode(&b, &gaugeWriter{}, Page{Families: []*dto.MetricFamily{mf}}, f, nil)
	return b.String(), err
}

func TestGaugesArePlainDecimals(t *testing.T) {
	withTime := sample(3)
	withTime.TimestampMs = proto.Int64(1769129938000)
	got := writeText(t, gauge("g", "back\\slash and\nline \"quoted\"",
		sample(1769129938, "symbol", "BTCUSDT"),
		sample(1.5e-7, "symbol", "ETH/USDT:USDT", "zone", ""),
		sample(0.1, "symbol", "a\"b\\c\nd"),
		sample(1e21),
		sample(-12.25),
		sample(math.Copysign(0, -1)),
		sample(math.NaN()), sample(math.Inf(1)), sample(math.Inf(-1)),
		withTime,
	))
	want := strings.Join([]string{
		`# HELP g back\\slash and\nline "quoted"`,
		`# TYPE g gauge`,
		`g{symbol="BTCUSDT"} 1769129938`,
		`g{symbol="ETH/USDT:USDT",zone=""} 0.00000015`,
		`g{symbol="a\"b\\c\nd"} 0.1`,
		`g 1000000000000000000000`,
		`g -12.25`,
		`g 0`,
		`g NaN`, `g +Inf`, `g -Inf`,
		`g 3 1769129938000`,
		``,
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestOtherTypesAreWrittenByExpfmt(t *testing.T) {
	counter := &dto.MetricFamily{
		Name: proto.String("c_total"), Type: dto.MetricType_COUNTER.Enum(),
		Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(2e9)}}},
	}
	if got, want := writeText(t, counter), "# TYPE c_total counter\nc_total 2e+09\n"; got != want {
		t.Errorf("counter: got %q, want %q", got, want)
	}
	// A name outside the classic set needs quotes, which expfmt knows how to place.
	quoted, err := written(gauge("g.x", "", sample(1, "a", "b")), textFormat.WithEscapingScheme(model.NoEscaping))
	if got, want := quoted, "# HELP \"g.x\" \n# TYPE \"g.x\" gauge\n{\"g.x\",a=\"b\"} 1\n"; err != nil || got != want {
		t.Errorf("quoted name: got %q, want %q", got, want)
	}
	if _, err := written(gauge("empty", "no samples"), textFormat); err == nil {
		t.Error("a family without samples was written")
	}
	if _, err := written(gauge("hollow", "no value", &dto.Metric{}), textFormat); err == nil {
		t.Error("a gauge without a value was written")
	}
}

// Whatever is written reads back as what expfmt's own encoding reads back as, and never with an exponent.
func TestGaugesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.Float64(), rapid.Float64Range(-1e12, 1e12), rapid.SampledFrom([]float64{0, 1, 1769129938, 1e15 + 1}))
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Z"\\\n{}=, ]{0,12}`))
		labels := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z_][a-z0-9_]{0,6}`), 0, 3, rapid.ID).Draw(t, "labels")
		mf := gauge(rapid.StringMatching(`[a-z_:][a-z0-9_:]{0,20}`).Draw(t, "name"), text.Draw(t, "help"))
		for i, n := 0, rapid.IntRange(1, 5).Draw(t, "samples"); i < n; i++ {
			m := sample(value.Draw(t, "value"))
			for _, l := range labels {
				m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(l), Value: proto.String(strings.ToValidUTF8(text.Draw(t, "label"), "?"))})
			}
			mf.Metric = append(mf.Metric, m)
		}
		var reference bytes.Buffer
		plain := writeText(t, mf)
		if _, err := expfmt.MetricFamilyToText(&reference, mf); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(plain, "\n") {
			if value := line[strings.LastIndexByte(line, ' ')+1:]; !strings.HasPrefix(line, "#") && strings.ContainsAny(value, "eE") {
				t.Fatalf("exponent in %q", line)
			}
		}
		want, wantErr := parseText(reference.Bytes())
		got, err := parseText([]byte(plain))
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("parse: %v, of expfmt's own text: %v\n%s", err, wantErr, plain)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Fatalf("read back (-expfmt +plain):\n%s", diff)
		}
	})
}

func parseText(text []byte) (map[string]*dto.MetricFamily, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	return p.TextToMetricFamilies(bytes.NewReader(text))
}

func TestOpenMetricsGauges(t *testing.T) {
	withTime := sample(3)
	withTime.TimestampMs = proto.Int64(1769129938250)
	got, err := written(gauge("g", "back\\slash and\nline \"quoted\"", sample(1769129938, "symbol", "a\"b"), sample(math.Inf(-1)), withTime), openFormat)
	want := strings.Join([]string{
		`# HELP g back\\slash and\nline \"quoted\"`, `# TYPE g gauge`, `g{symbol="a\"b"} 1769129938`, `g -Inf`, `g 3 1769129938.25`, `# EOF`, ``,
	}, "\n")
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
}

// In OpenMetrics, too, everything reads back as what expfmt's own encoding reads back as.
func TestOpenMetricsReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[A-Z"\\\n{}=, ]{0,12}`)
		mf := gauge(rapid.StringMatching(`[a-z_][a-z0-9_]{0,20}`).Draw(t, "name"), text.Draw(t, "help"))
		for i, n := 0, rapid.IntRange(1, 4).Draw(t, "samples"); i < n; i++ {
			m := sample(rapid.Float64().Draw(t, "value"), "l", text.Draw(t, "label"), "n", strconv.Itoa(i))
			if rapid.Bool().Draw(t, "dated") {
				m.TimestampMs = proto.Int64(rapid.Int64Range(0, 1<<42).Draw(t, "at"))
			}
			mf.Metric = append(mf.Metric, m)
		}
		ours, err := written(mf, openFormat)
		if err != nil {
			t.Fatal(err)
		}
		var reference bytes.Buffer
		if _, err := expfmt.MetricFamilyToOpenMetrics(&reference, mf); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(scraped(t, reference.String()+"# EOF\n"), scraped(t, ours)); diff != "" {
			t.Fatalf("read back (-expfmt +ours):\n%s", diff)
		}
	})
}

// scraped is what Prometheus makes of a page.
func scraped(t *rapid.T, page string) (lines []string) {
	p := textparse.NewOpenMetricsParser([]byte(page), labels.NewSymbolTable())
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, page)
		}
		switch entry {
		case textparse.EntrySeries:
			var set labels.Labels
			_, at, value := p.Series()
			p.Labels(&set)
			line := set.String() + " " + strconv.FormatFloat(value, 'g', -1, 64)
			if at != nil {
				line += " at " + strconv.FormatInt(*at, 10)
			}
			lines = append(lines, line)
		case textparse.EntryHelp:
			name, help := p.Help()
			lines = append(lines, string(name)+" help "+string(help))
		case textparse.EntryType:
			name, kind := p.Type()
			lines = append(lines, string(name)+" type "+string(kind))
		}
	}
}
