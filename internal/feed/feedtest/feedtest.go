// Package feedtest makes market data for tests and benchmarks, in the shape of recorded data.
package feedtest

import (
	"encoding/csv"
	"io"
	"strconv"
	"time"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
)

// Start is the open time of the first generated candle.
var Start = time.Date(2025, time.May, 4, 0, 0, 0, 0, time.UTC)

// Candles generates n closed one-minute candles from Start on: a pure function of seed, symbol and n, and the first
// ones of any larger n. At is the close time.
func Candles(seed uint64, symbol position.Symbol, n int) []feed.Candle {
	g := feed.NewGenerator(seed, symbol)
	candles := make([]feed.Candle, n)
	for i := range candles {
		bar, open := g.Next(), Start.Add(time.Duration(i)*time.Minute)
		candles[i] = feed.Candle{
			Symbol: symbol, OpenTime: open, Interval: time.Minute, Open: bar.Open, High: bar.High, Low: bar.Low,
			Close: bar.Close, Closed: true, At: open.Add(time.Minute),
		}
	}
	return candles
}

// Closes are the close prices of Candles.
func Closes(seed uint64, symbol position.Symbol, n int) []float64 {
	g := feed.NewGenerator(seed, symbol)
	closes := make([]float64, n)
	for i := range closes {
		closes[i] = g.Next().Close
	}
	return closes
}

// WriteCSV writes candles as a recording: time,open,high,low,close,volume with the open time in Unix milliseconds.
func WriteCSV(w io.Writer, candles []feed.Candle) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"time", "open", "high", "low", "close", "volume"}}
	for _, c := range candles {
		row := []string{strconv.FormatInt(c.OpenTime.UnixMilli(), 10)}
		for _, p := range []float64{c.Open, c.High, c.Low, c.Close} {
			row = append(row, strconv.FormatFloat(p, 'f', -1, 64))
		}
		rows = append(rows, append(row, "1"))
	}
	return out.WriteAll(rows)
}
