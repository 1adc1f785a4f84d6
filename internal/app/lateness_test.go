package app

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What is late by more than an interval, or is not carried out, is worth a record; the usual jitter is not.
func TestLateness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var saved []string
		l := &lateness{interval: time.Second, begun: time.Now(), save: func(what, _ string) {
			mu.Lock()
			defer mu.Unlock()
			saved = append(saved, what)
		}}
		expect := func(want ...string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(saved, want) {
				t.Errorf("saved %q, want %q", saved, want)
			}
			saved = nil
		}
		now := time.Now()
		l.beat(time.Time{}, now)
		l.beat(now, now.Add(900*time.Millisecond))
		l.batch(1900*time.Millisecond, nil)
		expect()
		l.beat(now, now.Add(1100*time.Millisecond))
		l.batch(2100*time.Millisecond, nil)
		l.batch(time.Millisecond, errors.New("away"))
		expect("late beat", "slow batch", "failed batch")

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		time.Sleep(time.Millisecond)
		l.beat(time.Time{}, time.Now())
		go func() { l.watch(ctx); close(done) }()
		time.Sleep(2500 * time.Millisecond)
		expect()
		time.Sleep(2 * time.Second)
		expect("no beat")
		cancel()
		<-done
	})
}
