package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
)

// accepts is what a Prometheus asks for.
const accepts = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"

// measureScrape scrapes the exporter's page of what a cycle left, as Prometheus does, in turns with reading the same hashes.
func (r *run) measureScrape(ctx context.Context, c *cycle) error {
	handler, err := r.Page(c.store)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()

	scrape := func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String()+"/metrics", nil)
		if err != nil {
			return err
		}
		req.Header.Set("Accept", accepts)
		req.Header.Set("Accept-Encoding", "gzip")
		req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "10")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the page answers %s", resp.Status)
		}
		return nil
	}
	read := func() error {
		found, err := readRaw(ctx, c.client, c.names, c.key)
		if err == nil && found != len(c.names) {
			err = fmt.Errorf("%d of %d hashes were there", found, len(c.names))
		}
		return err
	}
	if err := scrape(); err != nil {
		return err
	}
	rounds := 2 * r.Effort.Rounds
	if len(c.names) > r.Effort.Symbols[0] {
		rounds = r.Effort.Rounds
	}
	d, err := fight(ctx, rounds, scrape, nil, read)
	if err != nil {
		return err
	}
	const rival = "the same hashes, read by one pipeline of the same client"
	name, ratio := fmt.Sprintf("scrape_%d", len(c.names)), d.ratio()
	r.add(Figure{Name: name + "_ratio", Value: &ratio, Unit: "1", Target: ptr(2), Rival: rival, Ratio: &ratio})
	r.add(Figure{Name: name + "_ms", Value: ptr(1e3 * quantile(d.ours, 0.5)), Unit: "ms", Rival: rival, Ratio: &ratio})
	return nil
}

// readRaw reads whole hashes in one pipeline, and does nothing with them.
func readRaw(ctx context.Context, client redis.UniversalClient, names []position.Symbol, key func(position.Symbol) string) (found int, err error) {
	pipe := client.Pipeline()
	for _, name := range names {
		pipe.HGetAll(ctx, key(name))
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil {
		return 0, err
	}
	for _, cmd := range cmds {
		if hash, ok := cmd.(*redis.MapStringStringCmd); ok && len(hash.Val()) == len(store.FieldNames()) {
			found++
		}
	}
	return found, nil
}

// key is where a proposal is, as everybody knows it from the contract.
func (c *cycle) key(name position.Symbol) string {
	return c.prefix + "harvest:proposal:" + string(name)
}
