package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"quantumharvest/deploy/systemd"
	"quantumharvest/internal/config"
	"quantumharvest/internal/dashboards"
	"quantumharvest/internal/deploy"
	"quantumharvest/internal/proof"
	"quantumharvest/internal/rules"
	"quantumharvest/internal/service"
	"quantumharvest/internal/store"
)

// Deploy takes a server that runs the earlier services over, in seven steps.
func Deploy(ctx context.Context, env Env) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("deploy: find this program: %w", err)
	}
	return deploy.Run(ctx, deploy.Options{
		Config: env.Config, Version: env.Build.Version, Self: self, Out: env.Out, Manager: serviceManager(env.Config, self),
		Desk: deploy.Desk{
			Connect: connect, Keys: storeKeys, Unit: systemd.Unit, Inhibitions: rules.RenderInhibitions,
			Rules: func(c config.Config, early bool) ([]byte, error) {
				t := thresholds(c)
				if early {
					return rules.RenderEarly(t)
				}
				return rules.Render(t)
			},
			Dashboards: func() (map[string][]byte, error) { return dashboards.Files("docs/runbooks") },
			Prove: func(ctx context.Context, c config.Config, dir, before string) ([]string, error) {
				return proveInto(ctx, env, c, dir, before)
			},
		},
	})
}

// Supervise runs what units say, on hosts without systemd.
func Supervise(ctx context.Context, env Env) error {
	return service.Supervisor{Root: env.Config.Deploy.Root, Read: environmentFile}.Run(ctx, env.Config.Unit)
}

func environmentFile(path string) ([]string, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	entries, problems := config.ParseEnv(src)
	if len(problems) > 0 {
		return nil, fmt.Errorf("environment file %s: %s", path, problems[0])
	}
	lines := make([]string, len(entries))
	for i, e := range entries {
		lines[i] = e.Key + "=" + e.Value
	}
	return lines, nil
}

// serviceManager is what the settings ask for, or what this host has.
func serviceManager(c config.Config, self string) service.Manager {
	d := c.Deploy
	if d.Manager == config.ManagerSystemd || d.Manager == config.ManagerAuto && d.Root == "/" && service.SystemdRuns() {
		return service.Systemd{}
	}
	return service.Exec{Root: d.Root, Self: self}
}

// proveInto runs a proof on settings and writes the pack into a folder. The failures are one line for each check.
func proveInto(ctx context.Context, env Env, c config.Config, dir, before string) ([]string, error) {
	env.Config = c
	o, err := proofOptions(env)
	if err != nil {
		return nil, err
	}
	st := store.New(connect(c.Redis), storeKeys(c))
	defer st.Close()
	o.Reader = st
	var earlier *proof.Pack
	if before != "" {
		if earlier, err = readPack(before); err != nil {
			return nil, err
		}
	}
	pack, err := proof.Run(ctx, o)
	if err != nil {
		return nil, err
	}
	pack.Version = env.Build.Version
	if err := keepPack(pack, earlier, dir); err != nil {
		return nil, err
	}
	var failures []string
	for _, c := range pack.Checks {
		if !c.Passed {
			failures = append(failures, fmt.Sprintf("%d %s (%s)", c.Number, c.Name, c.Failures[0]))
		}
	}
	return failures, nil
}

// keepPack writes a pack into a folder, for programs and for people.
func keepPack(pack proof.Pack, before *proof.Pack, dir string) error {
	raw, err := packJSON(pack)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	for name, content := range map[string][]byte{"proof.json": raw, "proof.md": []byte(pack.Markdown(before))} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("proof: %w", err)
		}
	}
	return nil
}
