package binancetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"quantumharvest/internal/position"
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /fapi/v1/time", s.rest(func(*http.Request) int { return 1 }, s.serveTime))
	mux.HandleFunc("GET /fapi/v1/exchangeInfo", s.rest(func(*http.Request) int { return 1 }, s.serveInfo))
	mux.HandleFunc("GET /fapi/v1/klines", s.rest(klineWeight, s.serveKlines))
	for _, path := range []string{"/market/stream", "/public/stream", "/stream"} {
		mux.HandleFunc("GET "+path, s.serveStream)
	}
	return mux
}

func klineWeight(r *http.Request) int {
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	switch {
	case err != nil, limit >= 500 && limit <= 1000:
		return 5
	case limit < 100:
		return 1
	case limit < 500:
		return 2
	}
	return 10
}

// answer is a status and a JSON text.
type answer struct {
	status int
	body   string
}

func apiError(code int, text string) answer {
	return answer{http.StatusBadRequest, fmt.Sprintf(`{"code":%d,"msg":%q}`, code, text)}
}

// rest applies weights and faults around a handler, which runs under the lock.
func (s *Server) rest(weight func(*http.Request) int, serve func(*http.Request, time.Time) answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		now := time.Now()
		s.stats.Requests++
		delay := time.Duration(0)
		if now.Before(s.faults.slowUntil) {
			delay = s.faults.slow
		}
		s.mu.Unlock()
		if delay > 0 {
			select {
			case <-time.After(delay):
			case <-r.Context().Done():
				return
			case <-s.ctx.Done():
				return
			}
		}

		s.mu.Lock()
		now = time.Now()
		ex := s.exchange()
		used := s.weight.add(ex, weight(r))
		status, after := s.limited(now)
		if status == 0 && s.overWeight(ex, used) {
			status, after = s.limited(now)
		}
		var a answer
		switch {
		case now.Before(s.faults.refuseREST):
			a = answer{http.StatusServiceUnavailable, `Service unavailable from a restricted location`}
		case status != 0:
			a = answer{status, `{"code":-1003,"msg":"Too many requests."}`}
			w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
		default:
			s.advance(ex)
			a = serve(r, ex)
		}
		s.mu.Unlock()
		w.Header().Set("Date", ex.UTC().Format(http.TimeFormat))
		w.Header().Set("X-MBX-USED-WEIGHT-1M", strconv.Itoa(used))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.status)
		_, _ = w.Write([]byte(a.body))
	}
}

func (s *Server) serveTime(_ *http.Request, ex time.Time) answer {
	return answer{http.StatusOK, fmt.Sprintf(`{"serverTime":%d}`, ex.UnixMilli())}
}

func (s *Server) serveInfo(_ *http.Request, ex time.Time) answer {
	type symbol struct {
		Symbol string `json:"symbol"`
		Status string `json:"status"`
	}
	var list []symbol
	for _, m := range s.order {
		list = append(list, symbol{string(m.symbol), m.status})
	}
	raw, err := json.Marshal(map[string]any{
		"timezone": "UTC", "serverTime": ex.UnixMilli(), "symbols": list,
		"rateLimits": []map[string]any{{
			"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": s.cfg.Weight,
		}},
	})
	if err != nil {
		return answer{http.StatusInternalServerError, err.Error()}
	}
	return answer{http.StatusOK, string(raw)}
}

func (s *Server) serveKlines(r *http.Request, _ time.Time) answer {
	q := r.URL.Query()
	m := s.markets[position.Symbol(q.Get("symbol"))]
	switch {
	case m == nil:
		return apiError(-1121, "Invalid symbol.")
	case q.Get("interval") != intervalName(s.cfg.Interval):
		return apiError(-1120, "Invalid interval.")
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > 1500 {
		return apiError(-1130, "Data sent for parameter 'limit' is not valid.")
	}
	all := make([]bar, 0, len(m.closed)+1)
	all = append(append(all, m.closed...), m.now)
	if start := q.Get("startTime"); start != "" {
		ms, err := strconv.ParseInt(start, 10, 64)
		if err != nil {
			return apiError(-1130, "Data sent for parameter 'startTime' is not valid.")
		}
		for len(all) > 0 && all[0].open.UnixMilli() < ms {
			all = all[1:]
		}
		all = all[:min(limit, len(all))]
	} else {
		all = all[max(0, len(all)-limit):]
	}
	rows := make([]string, len(all))
	for i, b := range all {
		rows[i] = fmt.Sprintf(`[%d,"%s","%s","%s","%s","%s",%d,"1.0",%d,"0.5","0.5","0"]`, b.open.UnixMilli(), text(b.o),
			text(b.h), text(b.l), text(b.c), text(b.volume), b.open.Add(s.cfg.Interval).UnixMilli()-1, b.trades)
	}
	return answer{http.StatusOK, "[" + strings.Join(rows, ",") + "]"}
}

func (s *Server) serveStream(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	refused := time.Now().Before(s.faults.refuseStreams) || s.ctx.Err() != nil
	if !refused {
		s.wait.Add(1)
		defer s.wait.Done()
	}
	s.mu.Unlock()
	if refused {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	s.serveConn(ws, r.URL.Path, r.URL.Query().Get("streams"))
}
