package kernel

// Side is the direction of a position; the zero value is none and is refused.
type Side int8

// The two sides.
const (
	Long  Side = 1
	Short Side = -1
)

// String is LONG or SHORT as on the wire, and blank for no side.
func (s Side) String() string {
	switch s {
	case Long:
		return "LONG"
	case Short:
		return "SHORT"
	}
	return ""
}

// Position is what the stop and harvest kernels need to know of a position. Prices are quote currency per unit of
// base; 0 for Stop and Target means none, 0 for Current, Peak and Trough means not known.
type Position struct {
	Side          Side
	Entry         float64
	Current       float64 // needed by Stops only
	Peak          float64 // highest price since entry, both sides; needed by Stops for a long
	Trough        float64 // lowest price since entry, both sides; needed by Stops for a short
	AgeSec        float64 // seconds since opened, >= 0
	UnrealizedPnL float64 // quote currency for ONE unit of base; needed by Propose only
	Stop          float64 // existing stop, 0 = none
	Target        float64 // existing target, 0 = none
}

// check refuses what neither kernel can work with.
func (p *Position) check() error {
	if p.Side != Long && p.Side != Short {
		return refuse("position.side", "must be LONG or SHORT")
	}
	if err := checkPositive("position.entry_price", p.Entry); err != nil {
		return err
	}
	if err := checkNonNegative("position.current_price", p.Current); err != nil {
		return err
	}
	if err := checkNonNegative("position.peak_price", p.Peak); err != nil {
		return err
	}
	if err := checkNonNegative("position.trough_price", p.Trough); err != nil {
		return err
	}
	if err := checkNonNegative("position.age_sec", p.AgeSec); err != nil {
		return err
	}
	if err := checkFinite("position.unrealized_pnl", p.UnrealizedPnL); err != nil {
		return err
	}
	if err := checkNonNegative("position.current_sl", p.Stop); err != nil {
		return err
	}
	return checkNonNegative("position.current_tp", p.Target)
}
