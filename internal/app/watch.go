package app

import (
	"context"

	"golang.org/x/sync/errgroup"

	"quantumharvest/internal/store"
	"quantumharvest/internal/watch"
)

// Watch tells people of what changes in a Redis until ctx ends: by a command on every event, or where there is none by
// printing it.
func Watch(ctx context.Context, env Env) error {
	c := env.Config
	st := store.New(connect(c.Redis), storeKeys(c))
	defer st.Close()
	o := watch.Options{Reader: st, Symbols: c.Symbols, Initial: c.WatchInitial, Log: env.Log}
	for _, event := range c.WatchOn {
		o.On = append(o.On, watch.Kind(event))
	}
	if c.WatchExec == "" {
		o.Handler = &watch.Printer{Out: env.Out, JSON: c.JSON, Log: env.Log}
		env.Log.Info("watch started", "redis", c.Redis)
		return watch.Run(ctx, o)
	}
	commands, err := watch.NewCommands(watch.CommandOptions{
		Command: c.WatchExec, Timeout: c.WatchTimeout, Parallel: c.WatchParallel, Environ: env.Environ, Out: env.Out, Err: env.Err, Log: env.Log,
	})
	if err != nil {
		return err
	}
	o.Handler = commands
	env.Log.Info("watch started", "redis", c.Redis, "exec", c.WatchExec)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return commands.Run(ctx) })
	group.Go(func() error { return watch.Run(ctx, o) })
	err = group.Wait()
	tally := commands.Tally()
	env.Log.Info("watch ended", "commands", tally.Run, "failed", tally.Failed, "dropped", tally.Dropped)
	return err
}
