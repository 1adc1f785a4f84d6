package drill

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"
)

// fault is one row of the fault table.
type fault struct {
	number int
	name   string
	// seen are the alerts that must fire, each within its bound after the fault; none: no alert may fire.
	seen []sight
	// overAfter are alerts that must not be told, and must not begin to fire once the repair is done: whoever is paged then
	// is paged for what is over.
	overAfter []string
	// about is the symbol that the fault is about: no alert may name another one. Blank: all of them.
	about string
	// hold is how long a fault is looked at that no alert is to see.
	hold time.Duration

	prepare   func(*stand) // before anything is started
	settle    func(ctx context.Context, d *drill) error
	inject    func(ctx context.Context, d *drill) error
	meanwhile func(ctx context.Context, d *drill) error // what must be true while the fault lasts
	repair    func(ctx context.Context, d *drill) error
	after     func(ctx context.Context, d *drill) error // what must be true soon after the repair
	redisLast bool
}

// sight is an alert, or one of several, and within which time of the real system it must fire.
type sight struct {
	by    []string
	bound time.Duration
	// deadMan: it is the dead man's switch that sees it, not an alert.
	deadMan bool
}

func by(bound time.Duration, alerts ...string) []sight { return []sight{{by: alerts, bound: bound}} }

// keepsAdvice demands that the last good proposal of the faulted symbol stands: same action, same content.
func keepsAdvice(ctx context.Context, d *drill) error {
	return keeps(ctx, d, faulted)
}

func keeps(ctx context.Context, d *drill, symbols ...string) error {
	for _, sym := range symbols {
		was := d.before[sym]
		is, err := d.s.proposal(ctx, sym)
		if err != nil {
			return err
		}
		if is == nil {
			return fmt.Errorf("the proposal of %s is gone", sym)
		}
		// What was published on inputs that were good until the fault may be newer than the look before it.
		if is["harvest_action"] != was["harvest_action"] && is["computed_at_utc"] > d.injected.UTC().Add(2*time.Second).Format("2006-01-02T15:04:05") {
			return fmt.Errorf("the advice for %s went from %s to %s", sym, was["harvest_action"], is["harvest_action"])
		}
	}
	return nil
}

// refuses is a fault in the record of one position.
func refuses(number int, name string, fields map[string]string) fault {
	return fault{
		number: number, name: name, about: faulted, seen: by(60*time.Second, "QuantumHarvestInputRefused"),
		inject: func(_ context.Context, d *drill) error {
			d.s.writer.change(func(w *writer) { w.records[faulted] = fields })
			return nil
		},
		meanwhile: keepsAdvice,
		repair: func(_ context.Context, d *drill) error {
			d.s.writer.change(func(w *writer) { delete(w.records, faulted) })
			return nil
		},
	}
}

// badState is a fault in the ready market state of one symbol.
func badState(number int, name string, spoil func(ctx context.Context, d *drill) error) fault {
	return fault{
		number: number, name: name, about: faulted, seen: by(60*time.Second, "QuantumHarvestInputRefused"),
		prepare:   func(s *stand) { s.ready = true },
		inject:    spoil,
		meanwhile: keepsAdvice,
		repair: func(_ context.Context, d *drill) error {
			d.s.writer.change(func(w *writer) { w.states[faulted] = goodState() })
			return nil
		},
	}
}

// wholeAgain waits until a proposal is whole again.
func wholeAgain(within time.Duration) func(ctx context.Context, d *drill) error {
	return func(ctx context.Context, d *drill) error {
		// The bound is of the system; a little is for looking.
		return await(ctx, within+500*time.Millisecond, "the proposal of "+faulted+" is not whole again", func() error {
			d.o.mu.Lock()
			defer d.o.mu.Unlock()
			if !d.o.wholeAt[faulted].After(d.injected) {
				return fmt.Errorf("it has %d fields", len(d.o.hashes[faulted]))
			}
			return nil
		})
	}
}

func proposalKey(sym string) string { return "quantum:harvest:proposal:" + sym }

func redisFault(number int, name string, within time.Duration, commands ...[]any) fault {
	return fault{
		number: number, name: name, about: faulted, hold: time.Minute,
		inject: func(ctx context.Context, d *drill) error {
			d.o.change(func(o *observer) { o.forgiving[faulted] = true })
			for _, c := range commands {
				if err := d.s.writer.do(ctx, c...); err != nil {
					return err
				}
			}
			return nil
		},
		meanwhile: wholeAgain(within),
	}
}

// faults is the table.
func faults() []fault {
	list := []fault{
		redisFault(1, "proposal hash deleted", 2*time.Second, []any{"DEL", proposalKey(faulted)}),
		redisFault(2, "proposal hash half deleted", 2*time.Second, []any{"HDEL", proposalKey(faulted), "kill_score", "R_net", "episode", "fence", "sigma"}),
		{
			number: 3, name: "market data frozen", about: faulted, seen: by(150*time.Second, "QuantumHarvestMarketStale"),
			inject: func(_ context.Context, d *drill) error {
				d.s.writer.change(func(w *writer) { w.frozen[faulted] = true })
				return nil
			},
			meanwhile: func(ctx context.Context, d *drill) error {
				h, err := d.s.proposal(ctx, faulted)
				if err != nil {
					return err
				}
				if h["input_state"] != "stale_market" || whole(h["market_epoch"]) > d.injected.Unix()+2 {
					return fmt.Errorf("input_state is %s, market_epoch moved %d s after the fault", h["input_state"], whole(h["market_epoch"])-d.injected.Unix())
				}
				return keepsAdvice(ctx, d)
			},
			repair: func(_ context.Context, d *drill) error {
				d.s.writer.change(func(w *writer) { delete(w.frozen, faulted) })
				return nil
			},
		},
		badState(4, "market state all NaN", func(_ context.Context, d *drill) error {
			d.s.writer.change(func(w *writer) { w.states[faulted] = stateOf("NaN") })
			return nil
		}),
		badState(5, "market state fields missing or empty", func(ctx context.Context, d *drill) error {
			bad := stateOf("")
			delete(bad, "sigma")
			d.s.writer.change(func(w *writer) { w.states[faulted] = bad })
			return d.s.writer.do(ctx, "HDEL", "quantum:marketstate:"+faulted, "sigma")
		}),
		{
			number: 6, name: "one position closed", about: faulted, hold: time.Minute,
			inject: func(ctx context.Context, d *drill) error {
				d.s.writer.change(func(w *writer) { w.closed[faulted] = true })
				return d.s.writer.do(ctx, "DEL", positionKey+faulted)
			},
			meanwhile: goneWithARecord,
		},
		{
			number: 7, name: "all position keys vanish at once", seen: by(60*time.Second, "QuantumHarvestPositionStale"),
			inject: func(ctx context.Context, d *drill) error {
				d.s.writer.change(func(w *writer) { all(w.suspended, true) })
				return d.s.writer.do(ctx, "DEL", positionKey+faulted, positionKey+control, positionKey+third)
			},
			meanwhile: func(ctx context.Context, d *drill) error { return keeps(ctx, d, drillSymbols...) },
			repair: func(_ context.Context, d *drill) error {
				d.s.writer.change(func(w *writer) { clear(w.suspended) })
				return nil
			},
		},
		refuses(8, "position entry 0 or negative", map[string]string{"entry_price": "0"}),
		refuses(9, "position NaN, infinite", map[string]string{"entry_price": "NaN", "current_price": "inf"}),
		refuses(10, "side in lower case or unknown", map[string]string{"side": "flat"}),
		{
			number: 11, name: "wrong Redis type on one position key", about: faulted, seen: by(60*time.Second, "QuantumHarvestInputRefused"),
			inject: func(ctx context.Context, d *drill) error {
				d.s.writer.change(func(w *writer) { w.suspended[faulted] = true })
				return d.s.writer.do(ctx, "SET", positionKey+faulted, "garbage")
			},
			meanwhile: keepsAdvice,
			repair: func(ctx context.Context, d *drill) error {
				if err := d.s.writer.do(ctx, "DEL", positionKey+faulted); err != nil {
					return err
				}
				d.s.writer.change(func(w *writer) { clear(w.suspended) })
				return nil
			},
		},
		{
			number: 12, name: "proposal key of wrong type", about: faulted, seen: by(60*time.Second, "QuantumHarvestStoreErrors", "QuantumHarvestTwoWriters"),
			inject: func(ctx context.Context, d *drill) error {
				d.o.change(func(o *observer) { o.forgiving[faulted] = true })
				if err := d.s.writer.do(ctx, "DEL", proposalKey(faulted)); err != nil {
					return err
				}
				return d.s.writer.do(ctx, "RPUSH", proposalKey(faulted), "garbage")
			},
			meanwhile: wholeAgain(2 * time.Second),
		},
	}
	list = append(list, storeFaults()...)
	return append(list, processFaults()...)
}

func all(m map[string]bool, v bool) {
	for _, sym := range drillSymbols {
		m[sym] = v
	}
}

// goneWithARecord demands that a closed position leaves nothing but its closing record.
func goneWithARecord(ctx context.Context, d *drill) error {
	err := await(ctx, 3500*time.Millisecond, "the proposal of the closed position stands", func() error {
		h, err := d.s.proposal(ctx, faulted)
		if err == nil && h != nil {
			err = fmt.Errorf("it has %d fields", len(h))
		}
		return err
	})
	if err != nil {
		return err
	}
	entries, err := d.s.writer.rdb.XRevRange(ctx, "quantum:stream:harvest.proposal", "+", "-").Result()
	if err != nil {
		return err
	}
	if len(entries) != 1 || entries[0].Values["symbol"] != faulted || entries[0].Values["event"] != "closed" || entries[0].Values["harvest_action"] != "NONE" {
		return fmt.Errorf("closing records: %v", entries)
	}
	return await(ctx, d.s.scaled(20*time.Second)+time.Second, "its series is still there", func() error {
		_, there, err := d.s.query(ctx, `quantum_harvest_last_update_epoch{symbol="`+faulted+`"}`)
		if err == nil && there {
			err = fmt.Errorf("quantum_harvest_last_update_epoch has a value")
		}
		return err
	})
}

// idle holds connections open on which nothing is ever said.
func idle(ctx context.Context, address string, n int) ([]net.Conn, error) {
	var conns []net.Conn
	for range n {
		c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		if err != nil {
			for _, c := range conns {
				c.Close()
			}
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// numbers are those of the table.
func numbers() []int {
	var list []int
	for _, f := range faults() {
		list = append(list, f.number)
	}
	slices.Sort(list)
	return list
}
