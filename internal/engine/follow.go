package engine

import (
	"quantumharvest/internal/feed"
	"quantumharvest/kernel"
)

// follower keeps a stream of the kernel in step with the closes of a series, so that a new candle or price costs what it
// changes and not the whole window. The zero value has seen nothing yet. Its states are those of the estimator for the
// closes of the series.
type follower struct {
	stream *kernel.Stream
	inStep bool          // the stream held the closes of the series when it had come as far as at
	at     feed.Progress // of the series
}

// maxFollowed is the number of new candles from which taking in the whole window is cheaper.
const maxFollowed = 24

// state is the market state of the closes of a series of up to window candles. It is always the same series.
func (f *follower) state(est *kernel.Estimator, window int, series *feed.Series) (kernel.MarketState, bool, error) {
	if f.stream == nil {
		f.stream = est.NewStream(window)
	}
	closes, progress := series.Closes(), series.Progress()
	added := progress.Candles - f.at.Candles
	f.inStep = f.inStep && progress.Histories == f.at.Histories && added <= maxFollowed && int(added) < len(closes) &&
		f.follow(closes, int(added)) == nil
	f.at = progress
	if !f.inStep {
		if err := f.stream.Reset(closes); err != nil {
			return kernel.MarketState{}, false, err
		}
		f.inStep = true
	}
	return f.stream.State()
}

// follow takes in the candles that were added, and the last price of the one before them.
func (f *follower) follow(closes []float64, added int) error {
	first := len(closes) - 1 - added
	if err := f.stream.Revise(closes[first]); err != nil {
		return err
	}
	for _, c := range closes[first+1:] {
		if err := f.stream.Push(c); err != nil {
			return err
		}
	}
	return nil
}
