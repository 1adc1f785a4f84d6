package drill

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// receiver is where the notifications of the copy go: the messages of its alerts, and the dead man's switch.
type receiver struct {
	server   *http.Server
	listener net.Listener

	mu       sync.Mutex
	told     map[alertKey]time.Time // firing, when it was first told
	resolved map[alertKey]time.Time
	alive    time.Time // last word of the watchdog
}

// alertKey names one alert; symbol is blank where it has none.
type alertKey struct{ name, symbol string }

func newReceiver() (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{listener: l, told: map[alertKey]time.Time{}, resolved: map[alertKey]time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /alerts", r.alerts)
	mux.HandleFunc("POST /watchdog", r.watchdog)
	r.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := r.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			l.Close()
		}
	}()
	return r, nil
}

func (r *receiver) url(path string) string { return "http://" + r.listener.Addr().String() + path }

func (r *receiver) close() { _ = r.server.Close() }

func (r *receiver) alerts(w http.ResponseWriter, req *http.Request) {
	var message struct {
		Alerts []struct {
			Status string            `json:"status"`
			Labels map[string]string `json:"labels"`
		} `json:"alerts"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 4<<20)).Decode(&message); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, a := range message.Alerts {
		key := alertKey{a.Labels["alertname"], a.Labels["symbol"]}
		if a.Status == "resolved" {
			r.resolved[key] = now
		} else if _, known := r.told[key]; !known {
			r.told[key] = now
		}
	}
}

func (r *receiver) watchdog(http.ResponseWriter, *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive = time.Now()
}

// silence is for how long the watchdog has said nothing; 0 before its first word.
func (r *receiver) silence() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alive.IsZero() {
		return 0
	}
	return time.Since(r.alive)
}

func (r *receiver) heard() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.alive.IsZero()
}

// since lists the alerts that were told as firing after a moment.
func (r *receiver) since(at time.Time) map[alertKey]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := map[alertKey]time.Time{}
	for key, told := range r.told {
		if told.After(at) {
			list[key] = told
		}
	}
	return list
}
