// Package engine is the cycle: inputs in, kernel, gate, publish or beat.
//
// Step is pure cadence: it takes the moment as an argument, does no I/O and starts nothing. Whoever owns the engine
// (package app, a replay, a test) calls Step on every wake-up and at NextBeat, carries the batch it returns to the
// store, and reports back through Confirm. While a batch is under way, Step goes on evaluating and only withholds
// writes, so that a slow or absent store never stops the thinking.
//
// Offer, Symbols, Wake and Status may be called from any goroutine; everything else belongs to the one that owns the
// engine.
package engine
