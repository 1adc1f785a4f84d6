package watch

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/kernel"
)

// Kind is what happened. The zero value is no event.
type Kind string

// The kinds of event.
const (
	Action    Kind = "action"     // harvest_action changed
	State     Kind = "state"      // input_state changed
	Stale     Kind = "stale"      // valid_until passed: nobody renews the proposal
	Live      Kind = "live"       // a proposal that was stale or missing is renewed again
	Appeared  Kind = "appeared"   // a symbol, or a new episode of it, has a proposal
	Missing   Kind = "missing"    // the proposal is gone although the position was not closed
	Closed    Kind = "closed"     // the proposal is gone and no longer expected, or a new episode took its place
	StoreLost Kind = "store_lost" // the store cannot be read
	StoreBack Kind = "store_back" // it can again
)

// Kinds lists every kind of event.
var Kinds = []Kind{Action, State, Stale, Live, Appeared, Missing, Closed, StoreLost, StoreBack}

// Event is one thing that happened. Symbol and Proposal are blank where it is about the store as a whole; after a
// closing the proposal is the last one that was seen.
type Event struct {
	Kind           Kind
	At             time.Time // on the clock of the server; on this machine's where the server was away
	Symbol         position.Symbol
	PreviousAction kernel.Action    // the action before; the current one where it did not change
	PreviousState  store.InputState // likewise
	Proposal       store.Proposal
	Error          string // why the store is lost
}

// notReal says which inputs of the proposal are generated, replayed or made up.
func (e *Event) notReal() []string {
	var list []string
	for _, source := range []string{e.Proposal.MarketSource, e.Proposal.PositionSource} {
		switch source {
		case "synthetic", "replay", "demo":
			list = append(list, source)
		}
	}
	return list
}

// object is an Event as JSON. Numbers of an event about the store as a whole are left out.
type object struct {
	Event          Kind             `json:"event"`
	At             time.Time        `json:"at"`
	Symbol         position.Symbol  `json:"symbol,omitempty"`
	Episode        string           `json:"episode,omitempty"`
	Side           position.Side    `json:"side,omitempty"`
	Action         kernel.Action    `json:"action,omitempty"`
	PreviousAction kernel.Action    `json:"previous_action,omitempty"`
	State          store.InputState `json:"state,omitempty"`
	PreviousState  store.InputState `json:"previous_state,omitempty"`
	*figures
	Reasons        []string   `json:"reasons,omitempty"`
	Publisher      string     `json:"publisher,omitempty"`
	MarketSource   string     `json:"market_source,omitempty"`
	PositionSource string     `json:"position_source,omitempty"`
	NotReal        []string   `json:"not_real,omitempty"`
	LastUpdate     *time.Time `json:"last_update,omitempty"`
	ValidUntil     *time.Time `json:"valid_until,omitempty"`
	Error          string     `json:"error,omitempty"`
}

type figures struct {
	R         float64  `json:"r"`
	KillScore float64  `json:"kill_score"`
	NewStop   *float64 `json:"new_stop"` // null: none is proposed
	Entry     float64  `json:"entry_price"`
	Current   float64  `json:"current_price"`
	Revision  int64    `json:"revision"`
}

// MarshalJSON writes the event as one object; its names are those of the environment in small letters.
func (e Event) MarshalJSON() ([]byte, error) {
	o := object{
		Event: e.Kind, At: e.At.UTC(), Symbol: e.Symbol, Episode: e.Proposal.Episode, Side: e.Proposal.Side,
		Action: e.Proposal.Action, PreviousAction: e.PreviousAction, State: e.Proposal.InputState, PreviousState: e.PreviousState,
		Reasons: e.Proposal.Reasons, Publisher: e.Proposal.Publisher, MarketSource: e.Proposal.MarketSource,
		PositionSource: e.Proposal.PositionSource, NotReal: e.notReal(), Error: e.Error,
	}
	if e.Symbol != "" {
		p := &e.Proposal
		o.figures = &figures{R: p.RNet, KillScore: p.KillScore, Entry: p.Entry, Current: p.Current, Revision: p.Revision}
		if p.NewStop != 0 {
			o.NewStop = &p.NewStop
		}
		o.LastUpdate, o.ValidUntil = instant(p.LastUpdate), instant(p.ValidUntil)
	}
	return json.Marshal(o)
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// maxValue bounds one value of the environment, in bytes: an operating system refuses to start a command whose
// environment is too large. The JSON is never cut.
const maxValue = 4096

// environment gives the event as NAME=value lines. Every name is always there, so that a script never sees the value of
// another event; what is not known is blank.
func (e *Event) environment() []string {
	p := &e.Proposal
	number := func(v float64) string {
		if e.Symbol == "" {
			return ""
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	when := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	stop, revision := "", ""
	if p.NewStop != 0 {
		stop = number(p.NewStop)
	}
	if e.Symbol != "" {
		revision = strconv.FormatInt(p.Revision, 10)
	}
	pairs := [...][2]string{
		{"HARVEST_EVENT", string(e.Kind)},
		{"HARVEST_AT", when(e.At)},
		{"HARVEST_SYMBOL", string(e.Symbol)},
		{"HARVEST_EPISODE", p.Episode},
		{"HARVEST_SIDE", string(p.Side)},
		{"HARVEST_ACTION", string(p.Action)},
		{"HARVEST_PREVIOUS_ACTION", string(e.PreviousAction)},
		{"HARVEST_STATE", string(p.InputState)},
		{"HARVEST_PREVIOUS_STATE", string(e.PreviousState)},
		{"HARVEST_R", number(p.RNet)},
		{"HARVEST_KILL_SCORE", number(p.KillScore)},
		{"HARVEST_NEW_STOP", stop},
		{"HARVEST_ENTRY_PRICE", number(p.Entry)},
		{"HARVEST_CURRENT_PRICE", number(p.Current)},
		{"HARVEST_REASONS", strings.Join(p.Reasons, ",")},
		{"HARVEST_REVISION", revision},
		{"HARVEST_PUBLISHER", p.Publisher},
		{"HARVEST_NOT_REAL", strings.Join(e.notReal(), ",")},
		{"HARVEST_LAST_UPDATE", when(p.LastUpdate)},
		{"HARVEST_VALID_UNTIL", when(p.ValidUntil)},
		{"HARVEST_ERROR", e.Error},
	}
	lines := make([]string, len(pairs))
	for i, pair := range pairs {
		value := strings.ReplaceAll(pair[1], "\x00", "?") // no environment can hold it
		if len(value) > maxValue {
			value = strings.ToValidUTF8(value[:maxValue], "")
		}
		lines[i] = pair[0] + "=" + value
	}
	return lines
}

// Line is the event for people, on one line that is safe for a terminal.
func (e Event) Line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.At.UTC().Format(time.RFC3339), e.Kind)
	p := &e.Proposal
	if e.Symbol != "" {
		fmt.Fprintf(&b, " %s %s %s", e.Symbol, orDash(string(p.Side)), orDash(string(p.Action)))
		if e.PreviousAction != p.Action {
			fmt.Fprintf(&b, " (was %s)", orDash(string(e.PreviousAction)))
		}
		fmt.Fprintf(&b, " R=%.2f K=%.2f", p.RNet, p.KillScore)
		if p.NewStop != 0 {
			fmt.Fprintf(&b, " stop=%s", strconv.FormatFloat(p.NewStop, 'f', -1, 64))
		}
		fmt.Fprintf(&b, " %s", orDash(string(p.InputState)))
		if e.PreviousState != p.InputState {
			fmt.Fprintf(&b, " (was %s)", orDash(string(e.PreviousState)))
		}
		if len(p.Reasons) > 0 {
			fmt.Fprintf(&b, " [%s]", strings.Join(p.Reasons, ","))
		}
		if list := e.notReal(); len(list) > 0 {
			fmt.Fprintf(&b, " NOT REAL: %s", strings.Join(list, ", "))
		}
	}
	if e.Error != "" {
		fmt.Fprintf(&b, " %s", e.Error)
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, b.String())
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
