package feed

import (
	"context"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// outageRepeat is how often an outage that lasts is reported again.
	outageRepeat = 10 * time.Second
	// retryMost is the longest wait before a server that is away is asked again.
	retryMost = 2 * time.Second
)

// pollLoop calls poll, which reads once, every so often until ctx ends; after a failure with growing pauses of its own.
func pollLoop(ctx context.Context, every time.Duration, poll func(context.Context) error) error {
	retry := backoff.NewExponentialBackOff()
	// A quarter of jitter on top of the largest interval is the longest wait.
	retry.InitialInterval, retry.RandomizationFactor = retryMost/20, 0.25
	retry.MaxInterval = time.Duration(float64(retryMost) / (1 + retry.RandomizationFactor))
	retry.Reset()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := poll(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			retry.Reset()
			timer.Reset(every)
		default:
			timer.Reset(retry.NextBackOff())
		}
	}
}

// outage is the state of a source that may be out of reach. Its zero value is a source that is not.
type outage struct {
	said time.Time // when it was last reported; zero: there is none
}

// note takes the result of a reading: a failure is reported at once and every so often while it lasts, its end is logged.
func (o *outage) note(source string, err error, at time.Time, log *slog.Logger, sink Sink) {
	switch {
	case err == nil && !o.said.IsZero():
		o.said = time.Time{}
		log.Info("input can be read again", "source", source)
	case err != nil && (o.said.IsZero() || at.Sub(o.said) >= outageRepeat || at.Before(o.said)):
		o.said = at
		sink(Outage{Source: source, Err: err, At: at})
	}
}
