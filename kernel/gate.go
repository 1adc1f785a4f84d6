package kernel

import "math"

// Published is what the gate remembers of a publication, or compares with it: the zero value is none.
type Published struct {
	Action    Action
	NewStop   float64 // 0 = none
	KillScore float64
	AtSec     float64 // seconds, on any clock that does not step back
}

// Validate returns a *FieldError for the first field outside its domain.
func (p Published) Validate() error {
	if !p.Action.Valid() {
		return refuse("harvest_action", "is none of the actions")
	}
	if err := checkNonNegative("new_sl_proposed", p.NewStop); err != nil {
		return err
	}
	if err := checkUnit("kill_score", p.KillScore); err != nil {
		return err
	}
	return checkFinite("t", p.AtSec)
}

// GateReason is why the gate opened; the zero value says that it did not.
type GateReason string

// The reasons, in the order in which they are looked for.
const (
	GateHeld      GateReason = ""
	GateFirst     GateReason = "first"      // nothing was published before
	GateAction    GateReason = "action"     // another action
	GateStop      GateReason = "stop"       // the stop moved, appeared or went
	GateKillScore GateReason = "kill_score" // the kill score moved
	GateAge       GateReason = "age"        // the last publication is too old
)

// Open tells whether the proposal is to be published in full.
func (r GateReason) Open() bool { return r != GateHeld }

// String is the reason, blank where the gate was held.
func (r GateReason) String() string { return string(r) }

// Gate decides whether next is published in full, given the last publication that the store confirmed (specification
// v1.0, "the publish gate"); have is false where there is none. next.AtSec is the time of the decision. Comparisons
// are strict, and a clock that stepped back never opens the gate.
//
// A next that Validate refuses is held back: nonsense is not news. A last that is damaged, or parameters that are not
// numbers, open the gate instead of closing it for good.
func Gate(last Published, have bool, next Published, p GateParams) GateReason {
	if next.Validate() != nil {
		return GateHeld
	}
	switch {
	case !have:
		return GateFirst
	case next.Action != last.Action:
		return GateAction
	case (next.NewStop > 0) != (last.NewStop > 0):
		return GateStop
	case next.NewStop > 0 && !(math.Abs(next.NewStop-last.NewStop)/last.NewStop <= p.ChangeEpsPct):
		return GateStop
	case !(math.Abs(next.KillScore-last.KillScore) <= p.ChangeEpsPct):
		return GateKillScore
	case !(next.AtSec-last.AtSec <= p.MaxPublishAgeSec):
		return GateAge
	}
	return GateHeld
}
