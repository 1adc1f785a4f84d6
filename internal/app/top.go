package app

import (
	"context"

	"quantumharvest/internal/store"
	"quantumharvest/internal/top"
)

// Top shows what a Redis holds: on a terminal as a live table until ctx ends or the user quits, elsewhere, or with JSON
// asked for, once. The error of a live table is never that
// Redis is away; a single reading has nothing else to say.
func Top(ctx context.Context, env Env) error {
	c := env.Config
	st := store.New(connect(c.Redis), storeKeys(c))
	defer st.Close()
	o := top.Options{
		Reader: st, Symbols: c.Symbols, Header: "Quantum Harvest " + env.Build.Version + "  " + c.Redis.String(),
		In: env.In, Out: env.Out, Environ: env.Environ,
	}
	if c.JSON || !top.Interactive(env.Out, env.Environ) {
		return top.Snapshot(ctx, o, c.JSON)
	}
	return top.Run(ctx, o)
}
