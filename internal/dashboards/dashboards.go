// Package dashboards makes the Grafana dashboards: what they ask Prometheus is a table, which tests read, too, and the
// JSON is made from it.
package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"

	"quantumharvest/internal/rules"
)

// board is one dashboard.
type board struct {
	uid                      rules.Dashboard
	file, title, description string
	panels                   []panel
}

func boards() []board { return []board{control(), freshness()} }

// Files makes the dashboards, by file name. Links lead to the runbooks below runbookURL.
func Files(runbookURL string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, b := range boards() {
		text, err := b.json(runbookURL)
		if err != nil {
			return nil, fmt.Errorf("dashboards: %s: %w", b.title, err)
		}
		files[b.file] = text
	}
	return files, nil
}

var datasource = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

func (b board) json(runbookURL string) ([]byte, error) {
	all := dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}}
	//lint:ignore SA1019 the newer schema is read by the newest Grafana only; this one by every Grafana since 8
	d := dashboard.NewDashboardBuilder(b.title).
		Uid(string(b.uid)).Description(b.description).Tags([]string{"quantum-harvest"}).
		Timezone("browser").Refresh("10s").Time("now-1h", "now").Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus")).
		WithVariable(dashboard.NewQueryVariableBuilder("symbol").Label("Symbol").Datasource(datasource).
			Query(dashboard.StringOrMap{String: cog.ToPtr("label_values(quantum_harvest_last_update_epoch, symbol)")}).
			Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc).
			Multi(true).IncludeAll(true).AllValue(".+").
			Current(dashboard.VariableOption{Text: dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}}, Value: all})).
		Annotation(dashboard.NewAnnotationQueryBuilder().Name("Alerts").Datasource(datasource).Enable(true).IconColor("red").
			Expr(`max by (alertname, severity, symbol) (ALERTS{subsystem="harvest", alertstate="firing", alertname!="Watchdog"})`).
			TitleFormat("{{alertname}} {{symbol}}").TextFormat("{{severity}}").Step("10s")).
		Link(dashboard.NewDashboardLinkBuilder("Runbooks").Type(dashboard.DashboardLinkTypeLink).Url(runbookURL).TargetBlank(true)).
		Link(dashboard.NewDashboardLinkBuilder("Quantum Harvest").Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{"quantum-harvest"}).IncludeVars(true).KeepTime(true))
	for _, p := range b.panels {
		d = d.WithPanel(p.builder())
	}
	made, err := d.Build()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(made); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

func target(q query, ref string) *prometheus.DataqueryBuilder {
	t := prometheus.NewDataqueryBuilder().Expr(q.expr).LegendFormat(q.legend).RefId(ref).Datasource(datasource)
	if q.now {
		return t.Instant().Format(prometheus.PromQueryFormatTable)
	}
	return t.Range()
}
