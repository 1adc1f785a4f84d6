//go:build race

package kernel

// invariants says whether what is kept from call to call is compared with what it should be. The race detector is on in
// tests, where the time does not matter.
const invariants = true
