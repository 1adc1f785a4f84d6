package prom

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// endSeries ends every series that had a sample within the lookback: nothing has scraped it since the run before. A target that
// has moved would otherwise stand there with its last values, beside itself, until the lookback is over. What the rules
// remember of their alerts stays: `for` clauses go on from there.
func (s *store) endSeries(now time.Time, lookback time.Duration) (err error) {
	ctx := context.Background()
	q, err := s.db.Querier(now.Add(-lookback).UnixMilli(), math.MaxInt64)
	if err != nil {
		return fmt.Errorf("monitor: read the series of the run before: %w", err)
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	app := s.db.Appender(ctx)
	ours := labels.MustNewMatcher(labels.MatchNotRegexp, model.MetricNameLabel, "ALERTS|ALERTS_FOR_STATE")
	found := q.Select(ctx, false, nil, ours)
	for found.Next() {
		series := found.At()
		last, ended := int64(math.MaxInt64), false
		it := series.Iterator(nil)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			last, ended = it.AtT(), false
			if kind == chunkenc.ValFloat {
				_, v := it.At()
				ended = value.IsStaleNaN(v)
			}
		}
		if it.Err() != nil || ended || last > now.UnixMilli() {
			continue // damaged, over, or of a clock that was ahead
		}
		if _, err := app.Append(0, series.Labels(), last+1, math.Float64frombits(value.StaleNaN)); err != nil {
			return errors.Join(fmt.Errorf("monitor: end the series of the run before: %w", err), app.Rollback())
		}
	}
	if err := found.Err(); err != nil {
		return errors.Join(fmt.Errorf("monitor: read the series of the run before: %w", err), app.Rollback())
	}
	if err := app.Commit(); err != nil {
		return fmt.Errorf("monitor: end the series of the run before: %w", err)
	}
	return nil
}

// awaitScrapes waits until every target was tried once, for two intervals at most. A rule that is evaluated before would
// take what was not looked at yet for lost.
func (s *Server) awaitScrapes(ctx context.Context, jobs []Job) {
	targets := 0
	for _, j := range jobs {
		targets += len(j.Targets)
	}
	late := time.After(2 * s.interval())
	for {
		scraped := 0
		for _, list := range s.scrape.TargetsActive() {
			for _, t := range list {
				if !t.LastScrape().IsZero() {
					scraped++
				}
			}
		}
		if scraped >= targets {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-late:
			return
		case <-time.After(s.interval() / 40):
		}
	}
}

// awaitTargets waits, no longer than grace, until the scrape manager has taken the targets it was given. Stopped before, it would
// begin to scrape behind its own end and never stop again.
func (s *Server) awaitTargets(grace time.Duration) {
	late := time.After(grace)
	for {
		taken := s.scrape.TargetsActive()
		if !slices.ContainsFunc(s.opts.Jobs, func(j Job) bool { return len(j.Targets) > 0 && len(taken[j.Name]) == 0 }) {
			return
		}
		select {
		case <-late:
			return
		case <-time.After(time.Millisecond):
		}
	}
}
