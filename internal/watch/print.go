package watch

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// Printer is a Handler that writes every event to Out: a line for people, or one JSON object.
type Printer struct {
	Out  io.Writer
	JSON bool
	Log  *slog.Logger // of what cannot be written

	broken sync.Once
}

// Handle writes one event.
func (p *Printer) Handle(e Event) {
	var err error
	if p.JSON {
		err = json.NewEncoder(p.Out).Encode(e)
	} else {
		_, err = fmt.Fprintln(p.Out, e.Line())
	}
	if err != nil {
		p.broken.Do(func() { p.Log.Error("events cannot be written", "err", err) })
	}
}
