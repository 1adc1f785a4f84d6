package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// healthTimeout bounds a health check: a container's own checks give up after little more.
const healthTimeout = 3 * time.Second

// maxHealthBytes is how much of an answer is shown.
const maxHealthBytes = 512

// CheckHealthURL says what is wrong with the address of a health page.
func CheckHealthURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%q is no address of a page; write for example http://127.0.0.1:8041/-/ready", address)
	}
	return nil
}

// Healthcheck asks a health page and prints its answer. The error says why the part behind it is not well.
func Healthcheck(ctx context.Context, address string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	// Never through a proxy: what is asked runs here.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthBytes))
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	text := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", address, resp.Status, text)
	}
	_, err = fmt.Fprintln(out, text)
	return err
}
