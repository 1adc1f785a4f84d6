package feed_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"quantumharvest/internal/feed"
	"quantumharvest/internal/feed/feedtest"
	"quantumharvest/internal/position"
)

// recording is one file of real or generated data and what is known of it.
type recording struct {
	file feed.ReplayFile
	bars int
}

// replayAll plays recordings at full speed and checks that every bar comes out once, in order, none refused.
func replayAll(t *testing.T, recordings ...recording) {
	t.Helper()
	var files []feed.ReplayFile
	for _, r := range recordings {
		files = append(files, r.file)
	}
	r, err := feed.NewReplay(feed.ReplayOptions{Files: files, Speed: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	series := map[position.Symbol]*feed.Series{}
	bars := map[position.Symbol]int{}
	ended := false
	err = r.Run(t.Context(), func(e feed.Event) {
		switch e := e.(type) {
		case feed.History:
			series[e.Symbol] = feed.NewSeries(300)
			if refused := series[e.Symbol].Replace(e.Candles); len(refused) > 0 {
				t.Errorf("history: %v", refused)
			}
			if len(e.Candles) != 300 {
				t.Errorf("%s: history of %d bars", e.Symbol, len(e.Candles))
			}
			bars[e.Symbol] = len(e.Candles)
		case feed.Candle:
			if changed, refusal := series[e.Symbol].Apply(e); !changed || refusal != nil {
				t.Errorf("candle %+v: %v", e, refusal)
			}
			bars[e.Symbol]++
		case feed.End:
			ended = true
		default:
			t.Errorf("unexpected %#v", e)
		}
	})
	if err != nil || !ended {
		t.Errorf("ended %v, error %v", ended, err)
	}
	for _, r := range recordings {
		if got := bars[r.file.Symbol]; got != r.bars {
			t.Errorf("%s: %d bars, want %d", r.file.Path, got, r.bars)
		}
		if closes := series[r.file.Symbol].Closes(); len(closes) != 300 {
			t.Errorf("%s: %d closes at the end", r.file.Path, len(closes))
		}
	}
}

func TestReplayGenerated(t *testing.T) {
	var recordings []recording
	for symbol, bars := range map[position.Symbol]int{"BTCUSDT": 3000, "ETHUSDT": 5000} {
		path := filepath.Join(t.TempDir(), string(symbol)+".csv")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := feedtest.WriteCSV(f, feedtest.Candles(2, symbol, bars)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		recordings = append(recordings, recording{feed.ReplayFile{Symbol: symbol, Path: path}, bars})
	}
	synctest.Test(t, func(t *testing.T) { replayAll(t, recordings...) })
}

func TestReplayReal(t *testing.T) {
	dir := os.Getenv("HARVEST_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "shared", "data")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", "..", dir) // given from the root of the repository
	}
	btc := filepath.Join(dir, "binance_um_BTCUSDT_1m_20250504_20250603.csv")
	eth := filepath.Join(dir, "binance_um_ETHUSDT_1m_20250504_20250615.csv")
	seconds := filepath.Join(dir, "binance_um_BTCUSDT_1s_20240808.csv")
	for _, path := range []string{btc, eth, seconds} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			t.Skipf("no recorded data: %v; set HARVEST_TEST_DATA. Generated data covers the same paths", err)
		}
	}
	files, err := feed.ParseReplayFiles(btc + "," + eth)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		replayAll(t, recording{files[0], 43199}, recording{files[1], 60191})
	})
	if _, err := feed.NewReplay(feed.ReplayOptions{Files: []feed.ReplayFile{{Symbol: "BTCUSDT", Path: seconds}}}); err != nil {
		t.Errorf("one-second bars: %v", err)
	}
}
