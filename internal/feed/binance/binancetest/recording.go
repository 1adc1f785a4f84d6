package binancetest

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Trade is one recorded trade, at the exchange's time.
type Trade struct {
	At              time.Time
	Price, Quantity float64
}

// Recording is a recorded combined stream.
type Recording struct {
	Trades   []Trade
	Messages []string // all of them, as they came
}

// ReadRecording reads lines of the local time in nanoseconds, a blank and the message, compressed with gzip.
func ReadRecording(path string) (*Recording, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	defer func() { _ = file.Close() }()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("read recording %s: %w", path, err)
	}
	r := &Recording{}
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		_, message, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			return nil, fmt.Errorf("read recording %s: line %d has no message", path, len(r.Messages)+1)
		}
		r.Messages = append(r.Messages, message)
		if !strings.Contains(message[:min(len(message), 64)], `@trade"`) {
			continue
		}
		var m struct {
			Data struct {
				// Both cases of a letter: without, one stands in for the other.
				Event    string          `json:"e"`
				EventAt  int64           `json:"E"`
				TradedAt int64           `json:"T"`
				ID       json.RawMessage `json:"t"`
				Price    string          `json:"p"`
				Quantity string          `json:"q"`
				Kind     string          `json:"X"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(message), &m); err != nil {
			return nil, fmt.Errorf("read recording %s: line %d: %w", path, len(r.Messages), err)
		}
		price, err := strconv.ParseFloat(m.Data.Price, 64)
		if err != nil {
			return nil, fmt.Errorf("read recording %s: line %d: %w", path, len(r.Messages), err)
		}
		quantity, err := strconv.ParseFloat(m.Data.Quantity, 64)
		if err != nil {
			return nil, fmt.Errorf("read recording %s: line %d: %w", path, len(r.Messages), err)
		}
		// Transfers of the insurance fund have no price.
		if m.Data.Kind == "MARKET" && price > 0 {
			r.Trades = append(r.Trades, Trade{time.UnixMilli(m.Data.TradedAt).UTC(), price, quantity})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read recording %s: %w", path, err)
	}
	return r, nil
}
