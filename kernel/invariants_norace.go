//go:build !race

package kernel

const invariants = false
