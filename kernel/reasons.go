package kernel

import "math/bits"

// Reasons is a set of reason codes. Its order is always that of the specification: tier, profit lock, kill score and
// its causes; for stops the trailing stop, the monotonic clamp, the regime and the extended target.
type Reasons uint32

// The reason codes of the harvest kernel, then those of the stop kernel.
const (
	ReasonPartial75  Reasons = 1 << iota // tier 3 reached
	ReasonPartial50                      // tier 2 reached
	ReasonPartial25                      // tier 1 reached
	ReasonProfitLock                     // the stop moves to break-even plus
	ReasonKill                           // the kill score reached its threshold, because of:
	ReasonRegimeFlip
	ReasonSigmaSpike
	ReasonTSDrop
	ReasonAgePenalty

	ReasonTrailActive        // the trailing stop is the tighter one
	ReasonTightenedMonotonic // the proposal was looser: the existing stop stays
	ReasonTightening         // the proposal is tighter than the existing stop
	ReasonRegimeTrend        // the most probable regime
	ReasonRegimeMR
	ReasonRegimeChop
	ReasonTPExtended // the target is farther because of a trend
)

// reasonCodes are the codes as on the wire, in the order of the bits.
var reasonCodes = [...]string{
	"harvest_partial_75", "harvest_partial_50", "harvest_partial_25", "profit_lock", "kill_score_triggered",
	"regime_flip", "sigma_spike", "ts_drop", "age_penalty",
	"trail_active", "sl_tightened_monotonic", "sl_tightening", "regime_trend", "regime_mr", "regime_chop",
	"tp_extended",
}

const allReasons = Reasons(1<<len(reasonCodes) - 1)

// Has tells whether every reason of r2 is in r.
func (r Reasons) Has(r2 Reasons) bool { return r&r2 == r2 }

// Codes are the codes of the set in order; empty, not nil, where there are none.
func (r Reasons) Codes() []string {
	r &= allReasons
	codes := make([]string, 0, bits.OnesCount32(uint32(r)))
	for ; r != 0; r &= r - 1 {
		codes = append(codes, reasonCodes[bits.TrailingZeros32(uint32(r))])
	}
	return codes
}

// AppendTo appends the codes in order, separated by commas, to b.
func (r Reasons) AppendTo(b []byte) []byte {
	r &= allReasons
	for first := true; r != 0; r &= r - 1 {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, reasonCodes[bits.TrailingZeros32(uint32(r))]...)
	}
	return b
}

// String is the codes in order, separated by commas, as in the field reason_codes of the wire contract.
func (r Reasons) String() string { return string(r.AppendTo(nil)) }
