// Package app is the composition root: the only place that picks concrete feeds, stores and listeners, wires them to
// the engine and owns the order of start and stop.
package app
