package dashboards

import (
	"strconv"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// shape is how a panel is drawn.
type shape string

const (
	lines   shape = "timeseries"
	numbers shape = "stat"  // the last value of each series, on its colour
	grid    shape = "table" // one row for each symbol or name, one column for each query
)

// query is one question of a panel and, in a grid, one column.
type query struct {
	expr, legend string
	now          bool // of this moment only
	column       column
}

// column is how the values of one query look in a grid.
type column struct {
	unit     string
	steps    []step
	mappings map[int]text
}

// step is a colour and from which value on it holds; the first one holds from anywhere.
type step struct {
	color string
	from  float64
}

type text struct{ text, color string }

type panel struct {
	shape              shape
	title, description string
	unit               string
	width, height      uint32
	low, high          *float64
	steps              []step
	queries            []query
	hide               []string // columns that say nothing
}

func (p panel) builder() cog.Builder[dashboard.Panel] {
	switch p.shape {
	case numbers:
		b := stat.NewPanelBuilder().Title(p.title).Description(p.description).Datasource(datasource).Unit(p.unit).Span(p.width).Height(p.height).
			Thresholds(thresholds(p.steps)).ColorMode(common.BigValueColorModeBackground).TextMode(common.BigValueTextModeValueAndName).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}))
		for i, q := range p.queries {
			b = b.WithTarget(target(q, ref(i)))
		}
		return b
	case grid:
		b := table.NewPanelBuilder().Title(p.title).Description(p.description).Datasource(datasource).Span(p.width).Height(p.height)
		for i, q := range p.queries {
			b = b.WithTarget(target(q, ref(i)))
		}
		names, hidden := map[string]string{}, map[string]bool{"Time": true}
		for _, h := range p.hide {
			hidden[h] = true
		}
		for i, q := range p.queries {
			name := "Value"
			if len(p.queries) > 1 {
				name = "Value #" + ref(i)
			}
			if q.legend == "" {
				hidden[name] = true
				continue
			}
			names[name] = q.legend
			b = b.OverrideByName(q.legend, q.column.properties())
		}
		if len(p.queries) > 1 {
			b = b.WithTransformation(dashboard.DataTransformerConfig{Id: "merge", Options: map[string]any{}})
		}
		return b.WithTransformation(dashboard.DataTransformerConfig{
			Id: "organize", Options: map[string]any{"excludeByName": hidden, "renameByName": names},
		})
	}
	b := timeseries.NewPanelBuilder().Title(p.title).Description(p.description).Datasource(datasource).Unit(p.unit).Span(p.width).Height(p.height).
		LineWidth(1).FillOpacity(0).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.low != nil {
		b = b.Min(*p.low)
	}
	if p.high != nil {
		b = b.Max(*p.high)
	}
	if len(p.steps) > 0 {
		b = b.Thresholds(thresholds(p.steps)).
			ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	for i, q := range p.queries {
		b = b.WithTarget(target(q, ref(i)))
	}
	return b
}

// ref is the letter by which Grafana knows a query.
func ref(i int) string { return string(rune('A' + i)) }

func thresholds(steps []step) *dashboard.ThresholdsConfigBuilder {
	list := []dashboard.Threshold{}
	for i, s := range steps {
		t := dashboard.Threshold{Color: s.color}
		if i > 0 {
			t.Value = cog.ToPtr(s.from)
		}
		list = append(list, t)
	}
	if len(list) == 0 {
		list = append(list, dashboard.Threshold{Color: "green"})
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(list)
}

func (c column) properties() []dashboard.DynamicConfigValue {
	props := []dashboard.DynamicConfigValue{{Id: "unit", Value: c.unit}}
	if len(c.steps) > 0 {
		steps, err := thresholds(c.steps).Build()
		if err == nil { // steps of a table of ours always build
			props = append(props, dashboard.DynamicConfigValue{Id: "thresholds", Value: steps})
		}
		props = append(props, dashboard.DynamicConfigValue{Id: "custom.cellOptions", Value: map[string]any{"type": "color-text"}})
	}
	if len(c.mappings) > 0 {
		options := map[string]dashboard.ValueMappingResult{}
		for value, t := range c.mappings {
			options[strconv.Itoa(value)] = dashboard.ValueMappingResult{Text: cog.ToPtr(t.text), Color: cog.ToPtr(t.color)}
		}
		props = append(props,
			dashboard.DynamicConfigValue{Id: "mappings", Value: []any{map[string]any{"type": "value", "options": options}}},
			dashboard.DynamicConfigValue{Id: "custom.cellOptions", Value: map[string]any{"type": "color-text"}})
	}
	return props
}
