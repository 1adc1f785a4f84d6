package kernel_test

import (
	"errors"
	"math"
	"testing"

	"quantumharvest/kernel"
)

// FuzzStream reads bytes as what happens to a stream, and compares each state with that of an estimator. The windows
// are just long enough for everything to happen in a short input.
func FuzzStream(f *testing.F) {
	f.Add([]byte{})
	rising, falling, mixed := make([]byte, 120), make([]byte, 120), make([]byte, 400)
	for i := range rising {
		rising[i], falling[i] = 140, 120
	}
	for i := range mixed {
		mixed[i] = byte(i * i * 37)
	}
	f.Add(rising)
	f.Add(falling)
	f.Add(append(rising, falling...))
	f.Add(mixed)
	f.Fuzz(func(t *testing.T, data []byte) {
		p := kernel.DefaultMarketParams()
		p.Vol.Window, p.Regime.Window, p.Regime.VRK = 20, 12, 3
		p.Trend.Windows, p.Trend.Weights = []int{10, 26, 32}, []float64{1, 1, 1}
		const window = 36
		e, err := kernel.NewEstimator(p)
		if err != nil {
			t.Fatal(err)
		}
		cold, err := kernel.NewEstimator(p)
		if err != nil {
			t.Fatal(err)
		}
		s := e.NewStream(window)
		closes := walk(uint64(len(data)), window, 0.001)
		if err := s.Reset(closes); err != nil {
			t.Fatal(err)
		}
		for i, b := range data {
			price := closes[len(closes)-1]
			switch step := int(b>>1) - 64; {
			case step < -32: // back to a price of before
				price = closes[len(closes)-1-int(-step-33)%window]
			case step < 32:
				price += 0.01 * float64(step)
			case step < 48:
				price *= math.Ldexp(1, step-40)
			default:
				price = math.Float64frombits(math.Float64bits(price) + uint64(step-55))
			}
			call := s.Push
			if b&1 == 1 {
				call = s.Revise
			}
			if err := call(price); err != nil {
				var fe *kernel.FieldError
				if !errors.As(err, &fe) || fe.Field != "prices[35]" {
					t.Fatalf("%v names no close", err)
				}
				if price > 0 && price <= math.MaxFloat64 {
					t.Fatalf("%v was refused: %v", price, err)
				}
				continue
			}
			if b&1 == 0 {
				closes = append(closes[:0:0], closes[1:]...)
				closes = append(closes, price)
			} else {
				closes[len(closes)-1] = price
			}
			if i%3 == 2 && i < len(data)-1 {
				continue // several changes may come between two looks
			}
			got, ok, err := s.State()
			want, wantOK, wantErr := cold.State(closes)
			if got != want || ok != wantOK || !sameError(err, wantErr) {
				t.Fatalf("after %d bytes:\ngot  %+v, %v, %v\nwant %+v, %v, %v", i+1, got, ok, err, want, wantOK, wantErr)
			}
		}
	})
}

func sameError(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Error() == b.Error()
}
