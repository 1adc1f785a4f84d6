// Package kernel holds the locked formulas of the exit desk, specification v1.0: prices and a position in, a harvest
// proposal out. Market state describes the market, Stops proposes stop and target, Propose proposes a harvest, and
// Gate decides whether a proposal is worth publishing.
//
// Everything here is a pure calculation on values: no clock, no input or output, no logging. An Estimator remembers
// nothing; a Stream remembers closes, so that the state of the next candle costs little, and gives the same numbers. An
// input that is NaN, infinite or outside its domain is refused with a *FieldError that names the field; no result ever
// contains a NaN or an infinity. The calls of the hot path (Stream, Estimator.State, Stops, Propose, Gate) do not
// allocate.
//
// Results are bit for bit the same on every machine: products that are added to something are rounded explicitly, so
// that no compiler fuses them, and logarithm and exponential are the package's own.
//
// Units: prices, stops and profit are quote currency per unit of base; fractions are named Pct (0.02 is two percent),
// basis points Bps, seconds Sec. Volatility and trend are per bar of the price series.
package kernel
