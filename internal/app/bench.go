package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"

	"quantumharvest/internal/bench"
	"quantumharvest/internal/config"
	"quantumharvest/internal/embedded"
	"quantumharvest/internal/feed"
	"quantumharvest/internal/position"
	"quantumharvest/internal/store"
	"quantumharvest/internal/top"
)

// Bench measures what the desk costs on this machine and the Redis that the settings name, and prints the table. Without
// such settings it starts a redis-server for the while, or uses the embedded one.
func Bench(ctx context.Context, env Env) error {
	c := env.Config
	quiet := slog.New(slog.DiscardHandler)
	where := c.Redis.String()
	if c.Embedded {
		addr, name, stop, err := ownServer(ctx, quiet)
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		defer stop()
		where = name
		c.Redis = config.Redis{Network: "tcp", Addr: addr}
		c.RedisEnviron = []string{"REDIS_URL=redis://" + addr + "/0"}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("bench: find this program: %w", err)
	}
	parts := bench.Parts{
		Dial:    func() redis.UniversalClient { return connect(c.Redis) },
		Publish: func(ctx context.Context, d bench.Desk) error { return benchDesk(ctx, env, d) },
		Page: func(s *store.Store) (http.Handler, error) {
			return (&exporterPort{draining: new(draining)}).page(config.Config{}, env.Build, s, nil, "", quiet)
		},
		Program: self, Env: append(withoutSettings(env.Environ), c.RedisEnviron...),
	}
	o := bench.Options{Parts: parts, Effort: bench.Usual()}
	var unread error // the first figure that could not be written
	if c.JSON {
		enc := json.NewEncoder(env.Out)
		enc.SetEscapeHTML(false)
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer stop()
		o.Done = func(f bench.Figure) {
			if err := enc.Encode(f); err != nil && unread == nil {
				unread = fmt.Errorf("bench: write %s: %w", f.Name, err)
				stop() // nobody wants the rest
			}
		}
	} else {
		fmt.Fprintf(env.Out, "Measured on %s, with keys of its own, which are removed again.\n\n", where)
	}
	bar := newBar(env)
	o.Begin = bar.show
	figures, err := bench.Run(ctx, o)
	bar.clear()
	if unread != nil {
		return unread
	}
	if !c.JSON {
		fmt.Fprint(env.Out, bench.Table(figures))
	}
	return err
}

// ownServer starts a Redis for the while.
func ownServer(ctx context.Context, log *slog.Logger) (addr, name string, stop func(), err error) {
	addr, stop, err = bench.StartServer(ctx)
	if !errors.Is(err, bench.ErrNoServer) {
		return addr, "a redis-server of its own", stop, err
	}
	srv, err := embedded.Start(embedded.Options{Addr: hostPort("127.0.0.1", 0), Log: log})
	if err != nil {
		return "", "", nil, fmt.Errorf("embedded redis: %w", err)
	}
	return srv.Addr(), "the embedded Redis, in this process: redis-server is not on PATH", func() { _ = srv.Close() }, nil
}

// benchDesk is the publisher of publish, with the settings that are usual, on sources of others.
func benchDesk(ctx context.Context, env Env, d bench.Desk) error {
	settings, err := config.Usual(config.Publish, "KEY_PREFIX="+d.Prefix, "PUBLISHER_PORT=0")
	if err != nil {
		return err
	}
	env.Config, env.Log = settings, slog.New(slog.DiscardHandler)
	role, err := assemblePublisher(env, d.Redis, false, func(redis.UniversalClient, func() []position.Symbol) (*inputs, error) {
		return &inputs{market: d.Market, positions: d.Positions, clock: feed.Wall{}}, nil
	})
	if err != nil {
		return err
	}
	defer role.close()
	role.pub.watch = d.Stepped
	return role.pub.run(ctx)
}

// withoutSettings is the environment without settings of ours: what is measured, or broken on a copy, has those that are usual.
func withoutSettings(environ []string) []string {
	ours := map[string]bool{}
	for _, s := range config.Settings() {
		ours[s.Env] = true
	}
	var rest []string
	for _, line := range environ {
		if name, _, _ := strings.Cut(line, "="); !ours[name] {
			rest = append(rest, line)
		}
	}
	return rest
}

// bar shows on a terminal how far the measuring has come.
type bar struct {
	env Env
	on  bool
}

func newBar(env Env) *bar {
	return &bar{env: env, on: top.Interactive(env.Err, env.Environ)}
}

func (b *bar) show(stage string, n, of int) {
	if !b.on {
		return
	}
	const width = 24
	done := width * n / of
	fmt.Fprintf(b.env.Err, "\r\x1b[K[%s%s] %s", strings.Repeat("#", done), strings.Repeat(".", width-done), stage)
}

func (b *bar) clear() {
	if b.on {
		fmt.Fprint(b.env.Err, "\r\x1b[K")
	}
}
