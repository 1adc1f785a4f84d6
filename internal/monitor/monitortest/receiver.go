// Package monitortest has local stand-ins for those who are told of alerts: they keep what arrives.
package monitortest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quantumharvest/internal/livetest"
)

// Delivery is one request that arrived.
type Delivery struct {
	At     time.Time
	Path   string
	Header http.Header
	Body   []byte
}

// Message is the body of Alertmanager's webhook.
type Message struct {
	Status      string            `json:"status"`
	Receiver    string            `json:"receiver"`
	GroupLabels map[string]string `json:"groupLabels"`
	Alerts      []struct {
		Status string            `json:"status"`
		Labels map[string]string `json:"labels"`
	} `json:"alerts"`
}

// Names lists the alerts of the message with a status, each as its name with the symbol behind it, sorted.
func (m Message) Names(status string) []string {
	var names []string
	for _, a := range m.Alerts {
		if a.Status == status {
			names = append(names, strings.TrimSpace(a.Labels["alertname"]+" "+a.Labels["symbol"]))
		}
	}
	slices.Sort(names)
	return names
}

// Receiver is an HTTP server that keeps every request.
type Receiver struct {
	t   testing.TB
	srv *httptest.Server

	mu   sync.Mutex
	kept []Delivery
}

// NewReceiver starts a receiver that answers with status 200 and the text given.
func NewReceiver(t testing.TB, answer string) *Receiver {
	t.Helper()
	r := &Receiver{t: t}
	r.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		r.kept = append(r.kept, Delivery{time.Now(), req.URL.Path, req.Header.Clone(), body})
		r.mu.Unlock()
		if strings.HasPrefix(answer, "{") {
			w.Header().Set("Content-Type", "application/json")
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(r.srv.Close)
	return r
}

// URL is where it listens, without a path.
func (r *Receiver) URL() string { return r.srv.URL }

// Close makes it refuse connections from now on.
func (r *Receiver) Close() { r.srv.Close() }

// Kept is what arrived so far.
func (r *Receiver) Kept() []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.kept)
}

// Messages are the webhook messages that arrived so far.
func (r *Receiver) Messages() []Message {
	r.t.Helper()
	var all []Message
	for _, d := range r.Kept() {
		var m Message
		if err := json.Unmarshal(d.Body, &m); err != nil {
			r.t.Fatalf("what arrived is no webhook message: %v\n%s", err, d.Body)
		}
		all = append(all, m)
	}
	return all
}

// Told waits for a message of which check approves and returns it.
func (r *Receiver) Told(limit time.Duration, what string, check func(Message) bool) Message {
	r.t.Helper()
	var found Message
	livetest.Eventually(r.t, limit, func() error {
		all := r.Messages()
		for _, m := range all {
			if check(m) {
				found = m
				return nil
			}
		}
		return fmt.Errorf("%s did not arrive among %d messages: %+v", what, len(all), all)
	})
	return found
}
