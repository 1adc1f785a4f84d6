package drill

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// storeFaults are those of Redis itself.
func storeFaults() []fault {
	return []fault{
		{
			number: 13, name: "Redis down 60 s", seen: by(45*time.Second, "QuantumHarvestStoreDown"), overAfter: []string{"QuantumHarvestHeartbeatLost"},
			prepare: func(s *stand) { s.keep = true },
			inject: func(ctx context.Context, d *drill) error {
				d.o.change(func(o *observer) { all(o.blindFor, true) })
				return d.killRedis(ctx)
			},
			meanwhile: func(ctx context.Context, d *drill) error {
				if err := await(ctx, 5*time.Second, "the exporter", func() error { return noSymbols(ctx, d) }); err != nil {
					return err
				}
				return wait(ctx, d.injected.Add(d.s.scaled(time.Minute)))
			},
			repair: func(ctx context.Context, d *drill) error { return d.s.startRedis(ctx) },
			after:  func(ctx context.Context, d *drill) error { return republished(ctx, d, 3*time.Second) },
		},
		{
			number: 14, name: "Redis restarted empty", hold: time.Minute,
			inject: func(ctx context.Context, d *drill) error {
				d.o.change(func(o *observer) { o.forgetful = true; all(o.blindFor, true) })
				if err := d.killRedis(ctx); err != nil {
					return err
				}
				return d.s.startRedis(ctx)
			},
			meanwhile: func(ctx context.Context, d *drill) error { return republished(ctx, d, 3*time.Second) },
		},
		{
			number: 15, name: "exporter and publisher started before Redis", seen: by(45*time.Second, "QuantumHarvestStoreDown"), redisLast: true,
			settle: func(ctx context.Context, d *drill) error {
				// The fault begins when both sides are there and Redis is not. A Prometheus that starts looks for its targets
				// after five seconds, at any time scale.
				return await(ctx, startWithin, "exporter or Prometheus do not come up", func() error {
					if err := noSymbols(ctx, d); err != nil {
						return err
					}
					_, scraped, err := d.s.query(ctx, "quantum_harvest_up")
					if err == nil && !scraped {
						err = errors.New("the exporter has not been scraped")
					}
					return err
				})
			},
			inject: func(context.Context, *drill) error { return nil },
			meanwhile: func(ctx context.Context, d *drill) error {
				return await(ctx, 5*time.Second, "the exporter", func() error { return noSymbols(ctx, d) })
			},
			repair: func(ctx context.Context, d *drill) error { return d.s.startRedis(ctx) },
			after:  func(ctx context.Context, d *drill) error { return republished(ctx, d, 5*time.Second) },
		},
		{
			number: 16, name: "Redis answers after 2 s",
			seen: by(60*time.Second, "QuantumHarvestStoreSlow", "QuantumHarvestHeartbeatLost", "QuantumHarvestCadenceLow"),
			inject: func(_ context.Context, d *drill) error {
				d.o.change(func(o *observer) { all(o.blindFor, true) })
				// A scrape takes two round trips and has to stay within its scaled deadline. What counts as slow is the same at
				// every time scale.
				d.s.proxy.delay.Store(int64(max(d.s.scaled(2*time.Second), 700*time.Millisecond)))
				return nil
			},
			meanwhile: func(ctx context.Context, d *drill) error {
				begin := time.Now()
				if _, err := d.s.fetch(ctx, "http://"+loopback(d.s.ports.exporter)+"/metrics"); err != nil {
					return fmt.Errorf("the exporter keeps no deadline: %w", err)
				}
				if took := time.Since(begin); took > 10*time.Second {
					return fmt.Errorf("a scrape took %v", took)
				}
				if most := d.s.proxy.most.Load(); most > 40 {
					return fmt.Errorf("%d connections to Redis: requests pile up", most)
				}
				return nil
			},
			repair: func(_ context.Context, d *drill) error { d.s.proxy.delay.Store(0); return nil },
			after:  func(ctx context.Context, d *drill) error { return republished(ctx, d, 8*time.Second) },
		},
	}
}

// killRedis kills Redis while nobody writes, so that its last words were seen: what the exporter shows is held against them.
func (d *drill) killRedis(ctx context.Context) error {
	for _, p := range d.s.publishers {
		if err := p.stop(); err != nil {
			return err
		}
	}
	d.o.lookAtRedis(ctx)
	d.s.redis.kill()
	for _, p := range d.s.publishers {
		if err := p.proceed(); err != nil {
			return err
		}
	}
	return nil
}

// noSymbols demands that the exporter says that Redis is away, and nothing of any symbol.
func noSymbols(ctx context.Context, d *drill) error {
	body, err := d.s.fetch(ctx, "http://"+loopback(d.s.ports.exporter)+"/metrics")
	if err != nil {
		return err
	}
	return awayPage(string(body))
}

// republished demands that every proposal has a heartbeat of now within a time after the repair, and goes on beating.
func republished(ctx context.Context, d *drill, within time.Duration) error {
	err := await(ctx, within+500*time.Millisecond, "not everything is published again", func() error {
		for _, sym := range drillSymbols {
			h, err := d.s.proposal(ctx, sym)
			if err != nil {
				return err
			}
			if age := time.Now().Unix() - whole(h["last_update_epoch"]); age < 0 || age > 2 {
				return fmt.Errorf("the heartbeat of %s is %d s old", sym, age)
			}
		}
		return nil
	})
	if err == nil {
		d.o.change(func(o *observer) { clear(o.blindFor) })
	}
	return err
}

// wait waits until a moment.
func wait(ctx context.Context, until time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(until)):
		return nil
	}
}
