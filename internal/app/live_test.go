package app_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"quantumharvest/internal/app"
	"quantumharvest/internal/config"
	"quantumharvest/internal/feed/binance/binancetest"
	"quantumharvest/internal/livetest"
	"quantumharvest/internal/position"
	"quantumharvest/internal/realserver"
)

// embeddedAddr waits for the banner of up and returns the address of its Redis.
func embeddedAddr(t testing.TB, p *process) string {
	t.Helper()
	var addr string
	livetest.Eventually(t, 30*time.Second, func() error {
		r := regexp.MustCompile(`redis +(\S+)  \(embedded\)`).FindStringSubmatch(p.out.String())
		if r == nil {
			return fmt.Errorf("no banner yet: %q", p.out.String())
		}
		addr = r[1]
		return nil
	})
	return addr
}

func TestUpOnLiveData(t *testing.T) {
	t.Parallel()
	exchange, err := binancetest.Start(binancetest.Config{Symbols: []position.Symbol{"BTCUSDT", "ETHUSDT", "SOLUSDT"}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(exchange.Close)
	p := start(t, config.Up, app.Up, "--feed=auto", "--binance-base-url="+exchange.URL(), "--binance-stream-url="+exchange.StreamURL())
	c := dial(t, embeddedAddr(t, p))
	for _, sym := range []position.Symbol{"BTCUSDT", "ETHUSDT", "SOLUSDT"} {
		first := fresh(t, c, sym, time.Time{})
		later := fresh(t, c, sym, first.LastUpdate)
		if later.MarketSource != "binance" || later.InputState != "fresh" || !later.MarketAt.After(first.MarketAt.Add(-time.Second)) {
			t.Errorf("%s: source %q, state %s, market input of %v", sym, later.MarketSource, later.InputState, later.MarketAt)
		}
	}
	if out := p.out.String(); strings.Contains(out, "synthetic") || !strings.Contains(out, "positions are made up (demo)") {
		t.Errorf("the banner does not say what is live and what is not:\n%s", out)
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
	if v := exchange.Stats().Violations; len(v) > 0 {
		t.Errorf("the exchange's limits were broken: %v", v)
	}
}

func TestUpFallsBackToAGeneratedMarketAndSaysSo(t *testing.T) {
	t.Parallel()
	nobody := fmt.Sprintf("127.0.0.1:%d", realserver.FreePort(t))
	p := start(t, config.Up, app.Up, "--feed=auto", "--binance-base-url=http://"+nobody, "--binance-stream-url=ws://"+nobody)
	c := dial(t, embeddedAddr(t, p))
	if got := fresh(t, c, "BTCUSDT", time.Time{}); got.MarketSource != "synthetic" {
		t.Errorf("market source %q", got.MarketSource)
	}
	if out := p.out.String(); !strings.Contains(out, "NOT REAL: the exchange cannot be reached") {
		t.Errorf("the banner does not say why the market is generated:\n%s", out)
	}
}
