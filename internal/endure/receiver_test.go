//go:build linux

package endure

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// receiver is whoever is told of alerts.
type receiver struct {
	url string

	mu    sync.Mutex
	told  []told
	alive time.Time // last word of the watchdog
}

// told is one alert that began to fire.
type told struct {
	at           time.Time // when it began, as the message says
	name, symbol string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	seen := map[string]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var message struct {
			Alerts []struct {
				Status   string            `json:"status"`
				Labels   map[string]string `json:"labels"`
				StartsAt time.Time         `json:"startsAt"`
			} `json:"alerts"`
		}
		if err := json.NewDecoder(req.Body).Decode(&message); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if strings.HasSuffix(req.URL.Path, "/watchdog") {
			r.alive = time.Now()
			return
		}
		for _, a := range message.Alerts {
			key := a.Labels["alertname"] + " " + a.Labels["symbol"] + " " + a.Labels["instance"] + a.StartsAt.String()
			if a.Status == "firing" && !seen[key] {
				seen[key] = true
				r.told = append(r.told, told{a.StartsAt, a.Labels["alertname"], a.Labels["symbol"]})
			}
		}
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

// list is what was told so far, and for how long the watchdog has been silent.
func (r *receiver) list() ([]told, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	silence := time.Duration(0)
	if !r.alive.IsZero() {
		silence = time.Since(r.alive)
	}
	return append([]told(nil), r.told...), silence
}
