package listen

import (
	"io"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

// gaugeWriter writes gauges in the text format 0.0.4 and in OpenMetrics as plain decimals: 1769129938, never
// 1.769129938e+09. Both spellings are valid; scripts that do arithmetic on a scraped value can only read the first. A page
// of ours is gauges nearly all the way, so this is also where the time of a scrape is saved. Everything that is not a gauge
// is written by expfmt.
type gaugeWriter struct {
	out     io.Writer
	scratch []byte
}

// write writes a family if it is one of gauges whose names need no quotes, and tells whether it did.
func (t *gaugeWriter) write(mf *dto.MetricFamily, openMetrics bool) (bool, error) {
	if mf.GetType() != dto.MetricType_GAUGE || len(mf.Metric) == 0 || mf.Unit != nil || !plainNames(mf) {
		return false, nil
	}
	t.scratch = appendGauges(t.scratch[:0], mf, openMetrics)
	_, err := t.out.Write(t.scratch)
	return true, err
}

// writeGauges writes a family from what stands behind it, part by part: who compresses or sends it can begin.
func (t *gaugeWriter) writeGauges(g *Gauges, openMetrics bool) error {
	b := appendHeader(t.scratch[:0], g.Name, &g.Help, openMetrics)
	var err error
	for s := range g.Samples {
		if len(b) >= blockSize {
			if _, err = t.out.Write(b); err != nil {
				break
			}
			b = b[:0]
		}
		b = append(b, g.Name...)
		switch {
		case s.Of != nil && s.And != nil:
			b = append(append(append(append(append(b, '{'), s.Of.text...), ','), s.And.text...), '}', ' ')
		case s.Of != nil:
			b = append(append(append(b, '{'), s.Of.text...), '}', ' ')
		case s.And != nil:
			b = append(append(append(b, '{'), s.And.text...), '}', ' ')
		default:
			b = append(b, ' ')
		}
		b = append(appendValue(b, s.Value), '\n')
	}
	t.scratch = b
	if err == nil {
		_, err = t.out.Write(b)
	}
	return err
}

// plainNames tells whether a family can be written without quoted names and has a value in each metric.
func plainNames(mf *dto.MetricFamily) bool {
	if !model.LegacyValidation.IsValidMetricName(mf.GetName()) {
		return false
	}
	var before []*dto.LabelPair // of the sample before: mostly the same names
	for _, m := range mf.Metric {
		if m.Gauge == nil {
			return false
		}
		for i, l := range m.Label {
			if i < len(before) && l.GetName() == before[i].GetName() {
				continue
			}
			if !model.LegacyValidation.IsValidLabelName(l.GetName()) {
				return false
			}
		}
		before = m.Label
	}
	return true
}

func appendGauges(b []byte, mf *dto.MetricFamily, openMetrics bool) []byte {
	name := mf.GetName()
	b = appendHeader(b, name, mf.Help, openMetrics)
	for _, m := range mf.Metric {
		b = append(b, name...)
		for i, l := range m.Label {
			if i == 0 {
				b = append(b, '{')
			} else {
				b = append(b, ',')
			}
			b = appendLabel(b, l.GetName(), l.GetValue())
		}
		if len(m.Label) > 0 {
			b = append(b, '}')
		}
		b = appendValue(append(b, ' '), m.Gauge.GetValue())
		if m.TimestampMs != nil {
			b = append(b, ' ')
			if openMetrics { // in seconds
				b = strconv.AppendFloat(b, float64(m.GetTimestampMs())/1000, 'f', -1, 64)
			} else {
				b = strconv.AppendInt(b, m.GetTimestampMs(), 10)
			}
		}
		b = append(b, '\n')
	}
	return b
}

// appendHeader begins a family of gauges.
func appendHeader(b []byte, name string, help *string, openMetrics bool) []byte {
	if help != nil {
		b = append(append(append(b, "# HELP "...), name...), ' ')
		b = append(appendEscaped(b, *help, openMetrics), '\n')
	}
	return append(append(append(b, "# TYPE "...), name...), " gauge\n"...)
}

func appendLabel(b []byte, name, value string) []byte {
	b = append(append(b, name...), `="`...)
	return append(appendEscaped(b, value, true), '"')
}

// wholeBelow is the end of the numbers that a double holds with every digit before the point.
const wholeBelow = 1 << 53

func appendValue(b []byte, v float64) []byte {
	// Most values are counts, flags and times in whole seconds. A negative zero loses its sign here, too.
	if n := int64(v); float64(n) == v && -wholeBelow < n && n < wholeBelow {
		return strconv.AppendInt(b, n, 10)
	}
	return strconv.AppendFloat(b, v, 'f', -1, 64)
}

// appendEscaped writes s with backslash and line feed escaped, and the double quote where s stands in quotes.
func appendEscaped(b []byte, s string, quoted bool) []byte {
	from := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			b = append(append(b, s[from:i]...), `\n`...)
		case c == '\\', c == '"' && quoted:
			b = append(append(b, s[from:i]...), '\\', c)
		default:
			continue
		}
		from = i + 1
	}
	return append(b, s[from:]...)
}
