package app

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"quantumharvest/internal/config"
	"quantumharvest/internal/footprint"
	"quantumharvest/internal/store"
	"quantumharvest/internal/supervise"
)

// Export runs the exporter on an existing Redis until ctx ends. Open positions are counted a second time, from their
// own source, so that coverage is not certified by the publisher alone.
func Export(ctx context.Context, env Env) error {
	c := env.Config
	rdb := connect(c.Redis)
	defer rdb.Close()
	positions, err := openPositions(c, rdb, nil, time.Now, env.Log)
	if err != nil {
		return err
	}
	count := newPositionCount()
	port, err := openExporterPort(c, env.Build, store.New(rdb, storeKeys(c)), count, "", false, env.Log)
	if err != nil {
		return err
	}
	env.Log.Info("exporter started", "redis", c.Redis, "metrics", port.URL()+"/metrics", "positions", positions.Name())
	manager, err := supervise.New(env.Log)
	if err != nil {
		return errors.Join(err, port.Close())
	}
	debug, err := openDebug(env, "Quantum Harvest exporter", nil, nil, false)
	if err != nil {
		return errors.Join(err, port.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	ports, portsDone := port.draining.portsOf(ctx)
	defer portsDone()
	group.Go(func() error { return port.Run(ports) })
	group.Go(func() error {
		defer portsDone()
		if err := positions.Run(ctx, count.offer); err != nil {
			return err
		}
		<-ctx.Done() // positions that end by themselves end nothing else
		return nil
	})
	reload := newReloading(env, port.exp.Registry(), func(_ context.Context, c config.Config) error {
		port.exp.SetSymbols(c.Symbols)
		return nil
	})
	group.Go(func() error {
		reload.run(ctx, manager)
		return nil
	})
	group.Go(func() error {
		manager.Run(ctx, supervise.Part{Progress: port.progress(), Status: port.status})
		return nil
	})
	group.Go(func() error {
		serveDebug(ctx, debug, env.Log)
		return nil
	})
	group.Go(func() error {
		footprint.Tend(ctx, footprint.Options{Log: env.Log})
		return nil
	})
	return group.Wait()
}
