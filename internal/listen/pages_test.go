package listen

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPages(t *testing.T) {
	ready, reason := true, ""
	mux := NewMux(Pages{
		Title:       "Exporter <1>",
		Description: `Shows "what" Redis & co hold.`,
		Version:     "v1.2.3<script>",
		Metrics:     MetricsHandler(testRegistry(), MetricsOptions{Logger: quiet}),
		Links:       []Link{{`/x"><img src=y>`, "a <link>"}, {"javascript:alert(1)", "bad"}},
		Ready: func(ctx context.Context) (bool, string) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("readiness was asked without a deadline")
			}
			return ready, reason
		},
	})
	ask := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w
	}
	for _, tt := range []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/health", 200, "OK"},
		{"GET", "/-/healthy", 200, "Healthy\n"},
		{"GET", "/-/ready", 200, "Ready\n"},
		{"POST", "/metrics", 405, "Method Not Allowed\n"},
		{"GET", "/other", 404, "404 page not found\n"},
	} {
		if w := ask(tt.method, tt.path); w.Code != tt.code || w.Body.String() != tt.body {
			t.Errorf("%s %s: got %d %q, want %d %q", tt.method, tt.path, w.Code, w.Body.String(), tt.code, tt.body)
		}
	}
	if w := ask("GET", "/metrics"); w.Code != http.StatusOK {
		t.Errorf("/metrics: %d", w.Code)
	}
	ready, reason = false, `redis <b>refused</b>`
	if w := ask("GET", "/-/ready"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), reason) {
		t.Errorf("/-/ready: got %d %q", w.Code, w.Body.String())
	}
	if w := ask("GET", "/-/healthy"); w.Code != http.StatusOK {
		t.Errorf("not ready is not unhealthy: %d", w.Code)
	}

	w := ask("GET", "/")
	page := w.Body.String()
	for _, want := range []string{
		"Exporter &lt;1&gt;", "Status: not ready: redis &lt;b&gt;refused&lt;/b&gt;", "v1.2.3&lt;script&gt;",
		`href="/metrics"`, `href="/health"`, `href="/-/ready"`, "a &lt;link&gt;", "#ZgotmplZ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q on the landing page", want)
		}
	}
	for _, bad := range []string{"<script", "<img", "<b>"} {
		if strings.Contains(page, bad) {
			t.Errorf("%q on the landing page", bad)
		}
	}
	if got := w.Header().Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") {
		t.Errorf("content security policy %q", got)
	}
	if w := httptest.NewRecorder(); true {
		NewMux(Pages{}).ServeHTTP(w, httptest.NewRequest("GET", "/-/ready", nil))
		if w.Code != http.StatusOK {
			t.Errorf("without a question: %d", w.Code)
		}
	}
}
