package listen

// Desc describes one metric of this package, for registration and for the documentation made from it.
type Desc struct {
	Name   string
	Type   string // counter or gauge
	Help   string
	Labels []string
}

// Results of a scrape, the values of the label "result".
const (
	resultOK      = "ok"      // everything was served
	resultPartial = "partial" // some metrics could not be gathered, the others were served
	resultFailed  = "failed"  // nothing could be served
	resultBusy    = "busy"    // no place became free before the deadline of the scrape
)

var (
	descScrapes = Desc{
		Name:   "quantum_harvest_scrapes_total",
		Type:   "counter",
		Help:   "Scrapes of this port by result: ok, partial (some metrics could not be gathered), failed, busy (too many at once).",
		Labels: []string{"result"},
	}
	descInFlight = Desc{
		Name: "quantum_harvest_scrapes_in_flight",
		Type: "gauge",
		Help: "Scrapes of this port under way, the one that shows this included.",
	}
)

// Metrics is the table of the metrics that every port exposes about itself.
var Metrics = []Desc{descScrapes, descInFlight}
