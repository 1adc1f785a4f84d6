package kernel

import "math"

// FieldError says which field of an input was refused, and why. Fields are spelled as in the golden vectors, dotted
// where nested: "position.side", "prices[299]", "theta.trend.method".
type FieldError struct {
	Field  string
	Reason string
}

// Error is field and reason in one line.
func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

const (
	reasonNotFinite    = "must be a finite number"
	reasonPositive     = "must be greater than 0"
	reasonNonNegative  = "must be 0 or greater"
	reasonUnitInterval = "must be between 0 and 1"
	reasonOverflow     = "result is not finite: the inputs are too extreme"
)

// finite is false for NaN and both infinities.
func finite(x float64) bool { return math.Abs(x) <= math.MaxFloat64 }

func refuse(field, reason string) error { return &FieldError{Field: field, Reason: reason} }

func checkFinite(field string, x float64) error {
	if !finite(x) {
		return refuse(field, reasonNotFinite)
	}
	return nil
}

func checkPositive(field string, x float64) error {
	if x > 0 && x <= math.MaxFloat64 {
		return nil
	}
	if !finite(x) {
		return refuse(field, reasonNotFinite)
	}
	return refuse(field, reasonPositive)
}

func checkNonNegative(field string, x float64) error {
	if x >= 0 && x <= math.MaxFloat64 {
		return nil
	}
	if !finite(x) {
		return refuse(field, reasonNotFinite)
	}
	return refuse(field, reasonNonNegative)
}

func checkUnit(field string, x float64) error {
	if x >= 0 && x <= 1 {
		return nil
	}
	if !finite(x) {
		return refuse(field, reasonNotFinite)
	}
	return refuse(field, reasonUnitInterval)
}

// checkResult refuses inputs that are each in their domain but whose combination overflows.
func checkResult(field string, x float64) error {
	if !finite(x) {
		return refuse(field, reasonOverflow)
	}
	return nil
}
