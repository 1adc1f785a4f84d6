package app

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthcheck(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // is not asked
	status, answer := http.StatusOK, "Ready\n"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	defer server.Close()
	var out bytes.Buffer
	if err := Healthcheck(t.Context(), server.URL, &out); err != nil || out.String() != "Ready\n" {
		t.Errorf("a ready part: %q, %v", out.String(), err)
	}
	status, answer = http.StatusServiceUnavailable, "Not ready: redis is away\n"
	if err := Healthcheck(t.Context(), server.URL, &out); err == nil || !strings.Contains(err.Error(), "redis is away") {
		t.Errorf("a part that is not ready: %v", err)
	}
	server.Close()
	if err := Healthcheck(t.Context(), server.URL, &out); err == nil {
		t.Error("nobody answers, and that is no error")
	}
	for _, bad := range []string{"", "127.0.0.1:8041", "ftp://host/", "http://", ":"} {
		if err := CheckHealthURL(bad); err == nil {
			t.Errorf("%q is taken as an address", bad)
		}
	}
}
