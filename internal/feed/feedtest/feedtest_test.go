package feedtest_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantumharvest/internal/feed/feedtest"
)

func TestCandlesArePure(t *testing.T) {
	long := feedtest.Candles(1, "BTCUSDT", 400)
	if diff := cmp.Diff(long[:100], feedtest.Candles(1, "BTCUSDT", 100)); diff != "" {
		t.Error(diff)
	}
	for i, c := range feedtest.Closes(1, "BTCUSDT", 400) {
		if c != long[i].Close {
			t.Fatalf("close %d is %v, candle has %v", i, c, long[i].Close)
		}
	}
}

func TestWriteCSV(t *testing.T) {
	var b bytes.Buffer
	if err := feedtest.WriteCSV(&b, feedtest.Candles(1, "BTCUSDT", 2)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 3 || lines[0] != "time,open,high,low,close,volume" || !strings.HasPrefix(lines[1], "1746316800000,") {
		t.Errorf("wrote %q", lines)
	}
}
