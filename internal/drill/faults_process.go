package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// processFaults are those of the processes around Redis, and of clocks.
func processFaults() []fault {
	var idlers []net.Conn
	return []fault{
		{
			number: 17, name: "publisher killed",
			seen: []sight{
				{by: []string{"QuantumHarvestHeartbeatLost"}, bound: 45 * time.Second},
				{by: []string{"QuantumHarvestMetricsStale"}, bound: 160 * time.Second},
			},
			inject: func(_ context.Context, d *drill) error {
				d.o.change(func(o *observer) { all(o.blindFor, true) })
				d.s.publishers[0].kill()
				return nil
			},
			repair: func(_ context.Context, d *drill) error { return d.s.publishers[0].start() },
			after:  func(ctx context.Context, d *drill) error { return republished(ctx, d, 12*time.Second) },
		},
		{
			number: 18, name: "publisher stopped and continued, with a standby",
			seen:   by(45*time.Second, "QuantumHarvestHeartbeatLost", "QuantumHarvestPublisherDown", "QuantumHarvestStandbyDown"),
			settle: standby,
			inject: func(_ context.Context, d *drill) error {
				d.o.change(func(o *observer) { all(o.blindFor, true) })
				return d.holder().stop()
			},
			meanwhile: func(ctx context.Context, d *drill) error {
				if err := republished(ctx, d, 8*time.Second); err != nil {
					return err
				}
				taken := d.writerOf(ctx, faulted)
				if taken == d.held {
					return fmt.Errorf("%s writes although it stands still", taken)
				}
				// The woken one writes nothing.
				if err := d.holderNamed(d.held).proceed(); err != nil {
					return err
				}
				for range 30 {
					if id := d.writerOf(ctx, faulted); id != taken && id != "" {
						return fmt.Errorf("%s writes after %s had taken over", id, taken)
					}
					if err := wait(ctx, time.Now().Add(100*time.Millisecond)); err != nil {
						return err
					}
				}
				return nil
			},
		},
		{
			number: 19, name: "two publishers; then an earlier one beside them", seen: by(60*time.Second, "QuantumHarvestTwoWriters"),
			settle: func(ctx context.Context, d *drill) error {
				if err := standby(ctx, d); err != nil {
					return err
				}
				before := d.writerOf(ctx, faulted)
				if err := wait(ctx, time.Now().Add(d.s.scaled(30*time.Second))); err != nil {
					return err
				}
				if id := d.writerOf(ctx, faulted); id != before {
					return fmt.Errorf("the lease went from %s to %s without need", before, id)
				}
				return d.o.quiet()
			},
			inject: func(_ context.Context, d *drill) error {
				d.o.change(func(o *observer) { all(o.forgiving, true); o.clocks = true })
				d.earlier()
				return nil
			},
			repair: func(_ context.Context, d *drill) error { d.endEarlier(); return nil },
		},
		{
			number: 20, name: "exporter killed", seen: by(80*time.Second, "QuantumHarvestExporterDown"),
			inject: func(_ context.Context, d *drill) error { d.s.exporter.kill(); return nil },
			meanwhile: func(_ context.Context, d *drill) error {
				// What depends on the exporter is not told beside it.
				for key := range d.s.receiver.since(d.injected) {
					if key.symbol != "" && !strings.Contains(key.name, "KillScore") {
						return fmt.Errorf("%s %s was told as well", key.name, key.symbol)
					}
				}
				return nil
			},
			repair: func(_ context.Context, d *drill) error { return d.s.exporter.start() },
		},
		{
			number: 21, name: "1,000 idle connections on the exporter", hold: time.Minute,
			inject: func(ctx context.Context, d *drill) (err error) {
				idlers, err = idle(ctx, loopback(d.s.ports.exporter), 1000)
				return err
			},
			meanwhile: func(ctx context.Context, d *drill) error {
				for range 5 {
					begin := time.Now()
					if _, err := d.s.fetch(ctx, "http://"+loopback(d.s.ports.exporter)+"/metrics"); err != nil {
						return fmt.Errorf("a scrape failed after %v: %w", time.Since(begin), err)
					}
				}
				return nil
			},
			repair: func(context.Context, *drill) error {
				for _, c := range idlers {
					c.Close()
				}
				return nil
			},
		},
		skewed(22, "clock of the publisher 120 s ahead", 120*time.Second),
		skewed(22, "clock of the publisher 120 s behind", -120*time.Second),
		{
			number: 23, name: "Prometheus killed", seen: []sight{{by: []string{"Watchdog stops"}, bound: 90 * time.Second, deadMan: true}},
			inject: func(_ context.Context, d *drill) error { d.s.prometheus.kill(); return nil },
			repair: func(_ context.Context, d *drill) error { return d.s.prometheus.start() },
		},
		{
			number: 24, name: "Alertmanager killed",
			seen: []sight{
				{by: []string{"QuantumHarvestNotificationsFailing"}, bound: 120 * time.Second},
				{by: []string{"Watchdog stops"}, bound: 120 * time.Second, deadMan: true},
			},
			inject: func(_ context.Context, d *drill) error { d.s.alertmanager.kill(); return nil },
			repair: func(_ context.Context, d *drill) error { return d.s.alertmanager.start() },
		},
	}
}

// standby starts a second publisher and waits until it is known.
func standby(ctx context.Context, d *drill) error {
	if _, err := d.s.addPublisher(); err != nil {
		return err
	}
	if err := d.s.scrapePublishers(); err != nil {
		return err
	}
	err := await(ctx, 20*time.Second, "the second publisher is not seen", func() error {
		n, ok, err := d.s.query(ctx, "quantum_harvest_publishers")
		if err == nil && (!ok || n != 2) {
			err = fmt.Errorf("%v publishers", n)
		}
		return err
	})
	if err != nil {
		return err
	}
	d.held = d.writerOf(ctx, faulted)
	return d.steady(ctx)
}

// writerOf is the publisher whose name stands in a proposal.
func (d *drill) writerOf(ctx context.Context, sym string) string {
	h, err := d.s.proposal(ctx, sym)
	if err != nil {
		return ""
	}
	return h["publisher"]
}

func (d *drill) holder() *child { return d.holderNamed(d.held) }

func (d *drill) holderNamed(name string) *child {
	for _, p := range d.s.publishers {
		if p.name == name {
			return p
		}
	}
	return d.s.publishers[0]
}

// skewed is a publisher whose clock is off.
func skewed(number int, name string, by time.Duration) fault {
	restart := func(d *drill, offset time.Duration) error {
		p := d.s.publishers[0]
		p.kill()
		env := []string{}
		if offset != 0 {
			env = append(env, "HARVEST_CLOCK_OFFSET_SEC="+strconv.FormatFloat(offset.Seconds(), 'f', -1, 64))
		}
		fresh := d.s.publisher(p.name, d.s.publisherPorts[0], env...)
		p.env = fresh.env
		return p.start()
	}
	return fault{
		number: number, name: name, seen: []sight{{by: []string{"QuantumHarvestClockSkew", "QuantumHarvestHeartbeatSkewed"}, bound: 60 * time.Second}},
		inject: func(_ context.Context, d *drill) error {
			d.o.change(func(o *observer) { o.clocks = true; all(o.blindFor, true) })
			return restart(d, d.s.scaled(by))
		},
		meanwhile: func(ctx context.Context, d *drill) error {
			h, err := d.s.proposal(ctx, control)
			if err != nil {
				return err
			}
			if until, now := whole(h["valid_until_epoch"]), whole(h["last_update_epoch"]); until < now {
				return errors.New("an age is negative: valid_until_epoch lies before last_update_epoch")
			}
			return nil
		},
		repair: func(_ context.Context, d *drill) error { return restart(d, 0) },
		after: func(ctx context.Context, d *drill) error {
			if err := republished(ctx, d, 12*time.Second); err != nil {
				return err
			}
			d.o.change(func(o *observer) { o.clocks = false })
			return nil
		},
	}
}

// earlier is a publisher of the earlier deployment on the same keys: it writes its fields every ten seconds.
func (d *drill) earlier() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	d.endEarlier = func() { cancel(); <-done }
	go func() {
		defer close(done)
		for {
			now := time.Now()
			for _, sym := range drillSymbols {
				_ = d.s.writer.do(ctx, "HSET", proposalKey(sym), "harvest_action", "PARTIAL_25", "new_sl_proposed", "None", "R_net", "2.5", "risk_unit", "1",
					"cost_est", "0.1", "kill_score", "0.31", "reason_codes", "harvest_partial_25", "k_regime_flip", "0", "k_sigma_spike", "0", "k_ts_drop", "0",
					"k_age_penalty", "0.1", "computed_at_utc", now.UTC().Format("2006-01-02T15:04:05.000000"), "last_update_epoch", now.Unix())
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(d.s.scaled(10 * time.Second)):
			}
		}
	}()
}

// awayPage checks a page of the exporter that cannot reach Redis.
func awayPage(body string) error {
	if !strings.Contains(body, "\nquantum_harvest_up 0\n") {
		return errors.New("it does not say that Redis is away")
	}
	if strings.Contains(body, `{symbol="`) {
		return errors.New("it shows samples of symbols")
	}
	return nil
}
