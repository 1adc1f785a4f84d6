package binance

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// usualWeight is what the exchange allows an address in a minute, until its list of symbols says otherwise.
	usualWeight = 2400
	// Where the exchange names no time to stay away: a full window, and the shortest ban.
	blockLimited = time.Minute
	blockBanned  = 2 * time.Minute
	blockMost    = 72 * time.Hour // the longest ban
)

// budget paces requests by their weight. The exchange counts by address and minute and tells the count with every
// answer, so what others spend from the same address is seen too.
type budget struct {
	clock *exchangeClock
	share float64

	mu      sync.Mutex
	limit   int       // ours
	window  time.Time // the minute of the exchange's clock that used belongs to
	used    int
	blocked time.Time // by our clock
}

func newBudget(clock *exchangeClock, share float64) *budget {
	b := &budget{clock: clock, share: share}
	b.allow(usualWeight)
	return b
}

// allow sets what the exchange allows in a minute. Any single request of ours must fit.
func (b *budget) allow(weight int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = max(int(float64(weight)*b.share), 20)
}

func (b *budget) reading() (used, limit int, blocked time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roll()
	if b.clock.now().Before(b.blocked) {
		blocked = b.blocked
	}
	return b.used, b.limit, blocked
}

func (b *budget) roll() {
	if w := b.clock.exchange().Truncate(time.Minute); !w.Equal(b.window) {
		b.window, b.used = w, 0
	}
}

// acquire waits until a request of this weight fits and nothing blocks it. While the exchange blocks us for longer than
// patience, it fails at once with a limitError instead.
func (b *budget) acquire(ctx context.Context, weight int, patience time.Duration) error {
	for {
		wait, err := b.try(weight, patience)
		if err != nil || wait == 0 {
			return err
		}
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

func (b *budget) try(weight int, patience time.Duration) (wait time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if wait := b.blocked.Sub(b.clock.now()); wait > 0 {
		if wait > patience {
			return 0, &limitError{until: b.blocked}
		}
		return wait, nil
	}
	b.roll()
	if b.used+weight <= b.limit {
		b.used += weight
		return 0, nil
	}
	// A little into the next minute, because the two clocks agree to some milliseconds only.
	return b.window.Add(time.Minute).Sub(b.clock.exchange()) + 50*time.Millisecond, nil
}

// observe takes in what an answer says about our standing. A refusal for too many requests blocks everything.
func (b *budget) observe(status int, header http.Header) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roll()
	if used, err := strconv.Atoi(header.Get("X-MBX-USED-WEIGHT-1M")); err == nil && used > b.used {
		b.used = used
	}
	usual := blockLimited
	switch status {
	case http.StatusTooManyRequests:
	case http.StatusTeapot:
		usual = blockBanned
	default:
		return nil
	}
	pause := usual
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds > 0 {
		pause = min(time.Duration(min(seconds, int(blockMost/time.Second)))*time.Second, blockMost)
	}
	if until := b.clock.now().Add(pause); until.After(b.blocked) {
		b.blocked = until
	}
	return &limitError{status: status, until: b.blocked}
}

// limitError says that the exchange wants fewer requests.
type limitError struct {
	status int // 0: not asked again since
	until  time.Time
}

func (e *limitError) Error() string {
	word := "request limit reached"
	if e.status == http.StatusTeapot {
		word = "address banned for ignoring the request limit"
	}
	return fmt.Sprintf("%s, no request before %s (share one address among fewer programs, or lower the weight share)",
		word, e.until.UTC().Format(time.RFC3339))
}
