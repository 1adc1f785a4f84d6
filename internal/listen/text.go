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
	if mf.Help != nil {
		b = append(b, "# HELP "...)
		b = append(b, name...)
		b = append(b, ' ')
		b = appendEscaped(b, mf.GetHelp(), openMetrics)
		b = append(b, '\n')
	}
	b = append(b, "# TYPE "...)
	b = append(b, name...)
	b = append(b, " gauge\n"...)
	for _, m := range mf.Metric {
		b = append(b, name...)
		for i, l := range m.Label {
			if i == 0 {
				b = append(b, '{')
			} else {
				b = append(b, ',')
			}
			b = append(b, l.GetName()...)
			b = append(b, `="`...)
			b = appendEscaped(b, l.GetValue(), true)
			b = append(b, '"')
		}
		if len(m.Label) > 0 {
			b = append(b, '}')
		}
		b = append(b, ' ')
		v := m.Gauge.GetValue()
		if v == 0 {
			v = 0 // without the sign of a negative zero
		}
		b = strconv.AppendFloat(b, v, 'f', -1, 64)
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
