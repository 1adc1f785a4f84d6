package listen

import (
	"io"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// textWriter writes metric families in the text format 0.0.4 with gauges as plain decimals: 1769129938, never
// 1.769129938e+09. Both spellings are valid; scripts that do arithmetic on a scraped value can only read the first.
// Everything that is not a gauge is written by expfmt.
type textWriter struct {
	out     io.Writer
	scratch []byte
}

func (t *textWriter) write(mf *dto.MetricFamily) error {
	if mf.GetType() != dto.MetricType_GAUGE || len(mf.Metric) == 0 || !plainNames(mf) {
		_, err := expfmt.MetricFamilyToText(t.out, mf)
		return err
	}
	t.scratch = appendGauges(t.scratch[:0], mf)
	_, err := t.out.Write(t.scratch)
	return err
}

// plainNames tells whether a family can be written without quoted names and has a value in each metric.
func plainNames(mf *dto.MetricFamily) bool {
	if !model.LegacyValidation.IsValidMetricName(mf.GetName()) {
		return false
	}
	for _, m := range mf.Metric {
		if m.Gauge == nil {
			return false
		}
		for _, l := range m.Label {
			if !model.LegacyValidation.IsValidLabelName(l.GetName()) {
				return false
			}
		}
	}
	return true
}

func appendGauges(b []byte, mf *dto.MetricFamily) []byte {
	name := mf.GetName()
	if mf.Help != nil {
		b = append(b, "# HELP "...)
		b = append(b, name...)
		b = append(b, ' ')
		b = appendEscaped(b, mf.GetHelp(), false)
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
			b = strconv.AppendInt(b, m.GetTimestampMs(), 10)
		}
		b = append(b, '\n')
	}
	return b
}

// appendEscaped writes s with backslash and line feed escaped, and the double quote where s stands in quotes.
func appendEscaped(b []byte, s string, quoted bool) []byte {
	special := "\\\n"
	if quoted {
		special = "\\\n\""
	}
	for {
		i := strings.IndexAny(s, special)
		if i < 0 {
			return append(b, s...)
		}
		b = append(b, s[:i]...)
		if s[i] == '\n' {
			b = append(b, `\n`...)
		} else {
			b = append(b, '\\', s[i])
		}
		s = s[i+1:]
	}
}
