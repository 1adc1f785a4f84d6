package binance

import (
	"context"
	"errors"
	"fmt"

	"github.com/coder/websocket"
)

// probeStream speaks every second as long as the exchange is open.
const probeStream = "btcusdt@markPrice@1s"

// Reachable tells whether live data can be had: REST answers, and a routed stream delivers a mark price, both before ctx
// ends. The error says which of them did not. Of the options only the addresses, the client and the timing are used.
func Reachable(ctx context.Context, opts Options) error {
	if err := opts.fill(); err != nil {
		return fmt.Errorf("binance feed: %w", err)
	}
	r := newRest(&opts, &exchangeClock{now: opts.Now})
	defer r.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := r.clockSample(ctx)
		answered <- err
	}()
	err := probe(ctx, r, opts.StreamURL)
	if err != nil {
		cancel()
	}
	if restErr := <-answered; restErr != nil && (err == nil || !errors.Is(restErr, context.Canceled)) {
		err = errors.Join(restErr, err)
	}
	if err != nil {
		return fmt.Errorf("binance is out of reach: %w", err)
	}
	return nil
}

func probe(ctx context.Context, r *rest, base string) error {
	ws, _, err := websocket.Dial(ctx, base+routeMarket.path+"?streams="+probeStream, &websocket.DialOptions{HTTPClient: r.http})
	if err != nil {
		return fmt.Errorf("connect to %s%s: %w", base, routeMarket.path, err)
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(messageBytes)
	for {
		_, message, err := ws.Read(ctx)
		if err != nil {
			return fmt.Errorf("no mark price from %s%s: %w", base, routeMarket.path, err)
		}
		name := streamName(message)
		if name == nil {
			continue
		}
		if _, _, ok := decodeMark(wrappedData(message, name), "BTCUSDT"); ok {
			return nil
		}
	}
}
