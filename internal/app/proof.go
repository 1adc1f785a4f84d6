package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"quantumharvest/internal/config"
	"quantumharvest/internal/golden"
	"quantumharvest/internal/monitor"
	"quantumharvest/internal/monitor/prom"
	"quantumharvest/internal/proof"
	"quantumharvest/internal/rules"
	"quantumharvest/internal/statefile"
	"quantumharvest/internal/store"
	"quantumharvest/testdata/vectors"
)

// errProof ends a proof in which something does not hold.
var errProof = errors.New("not everything holds")

// Where the parts of a desk answer unless the settings say otherwise.
const (
	defaultPrometheus   = "http://127.0.0.1:9091"
	defaultAlertmanager = "http://127.0.0.1:9093"
)

// alertWithin is how long a test alert may take: a group of an Alertmanager may wait half a minute.
const alertWithin = time.Minute

// Proof asks a running desk for evidence and writes the pack.
func Proof(ctx context.Context, env Env) error {
	o, err := proofOptions(env)
	if err != nil {
		return err
	}
	st := store.New(connect(env.Config.Redis), storeKeys(env.Config))
	defer st.Close()
	o.Reader = st
	var before *proof.Pack
	if path := env.Config.Proof.Before; path != "" {
		if before, err = readPack(path); err != nil {
			return err
		}
	}
	for {
		pack, err := proof.Run(ctx, o)
		if err != nil {
			if ctx.Err() != nil && env.Config.Proof.Watch {
				return nil
			}
			return err
		}
		pack.Version = env.Build.Version
		if err := writePack(env, pack, before); err != nil {
			return err
		}
		if !env.Config.Proof.Watch {
			if !pack.Passed() {
				return fmt.Errorf("proof: %w", errProof)
			}
			return nil
		}
	}
}

func proofOptions(env Env) (proof.Options, error) {
	c := env.Config
	t := thresholds(c)
	text, err := rules.Render(t)
	if err != nil {
		return proof.Options{}, err
	}
	wanted, err := proof.ParseRules(text)
	if err != nil {
		return proof.Options{}, err
	}
	o := proof.Options{
		Redis: c.Redis.String(), Symbols: c.Symbols,
		RedisCommand: c.Redis.Command(), Amtool: amtool(c.Monitor.TokenFile), Keys: storeKeys(c),
		Prometheus: address(c.Monitor.PrometheusURL, defaultPrometheus), Alertmanager: address(c.Monitor.AlertmanagerURL, defaultAlertmanager),
		Rules: wanted, Normalize: prom.Canonical, Verify: verifyVectors,
		Window: c.Proof.Window, Samples: c.Proof.Samples, Stale: 30 * time.Second, Skew: c.ClockSkew, AlertWithin: alertWithin, Beat: c.Heartbeat,
		Client: &http.Client{Timeout: 10 * time.Second},
	}
	exporters := targetURLs(c.Monitor.ExporterTargets)
	if len(exporters) != 1 {
		return o, fmt.Errorf("proof: %d exporters: name the one whose page is to be read (--exporter-targets)", len(exporters))
	}
	o.Exporter, o.Publishers = exporters[0], targetURLs(c.Monitor.PublisherTargets)
	if c.Monitor.TokenFile != "" {
		raw, err := os.ReadFile(c.Monitor.TokenFile)
		if err != nil {
			return o, fmt.Errorf("proof: read the token: %w", err)
		}
		o.Token = strings.TrimSpace(string(raw))
	}
	return o, nil
}

// amtool is how it is called by hand. The monitor leaves a file for it beside a token of its own; beside any other token one is
// made first.
func amtool(tokenFile string) string {
	if tokenFile == "" {
		return "amtool"
	}
	file, first := filepath.Join(filepath.Dir(tokenFile), monitor.ClientName), ""
	if _, err := os.Stat(file); err != nil {
		file = monitor.ClientName
		first = "printf 'authorization: {credentials_file: \"%s\"}\\n' " + config.ShellWord(tokenFile) + " > " + file + " && "
	}
	return first + "amtool --http.config.file=" + config.ShellWord(file)
}

// verifyVectors puts the golden vectors that this binary carries through its kernel.
func verifyVectors() (golden.Verdict, error) {
	files, err := vectors.Files()
	if err != nil {
		return golden.Verdict{}, err
	}
	return golden.Verify(files)
}

func address(u *url.URL, otherwise string) string {
	if u == nil {
		return otherwise
	}
	return strings.TrimSuffix(u.String(), "/")
}

// targetURLs are the base addresses of scrape targets.
func targetURLs(targets []string) []string {
	urls := make([]string, len(targets))
	for i, t := range targets {
		if !strings.Contains(t, "://") {
			t = "http://" + t
		}
		urls[i] = strings.TrimSuffix(t, "/")
	}
	return urls
}

// packFormat is that of proof.json. A pack without a number reads the same.
var packFormat = statefile.Format{Kind: "proof pack", Steps: []statefile.Step{statefile.Same}}

func readPack(path string) (*proof.Pack, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("proof: read the earlier pack: %w", err)
	}
	var p proof.Pack
	var newer *statefile.NewerError
	switch _, err := packFormat.Unmarshal(path, raw, &p); {
	case errors.As(err, &newer):
		return nil, fmt.Errorf("proof: %w", err)
	case err != nil || len(p.Checks) == 0:
		return nil, fmt.Errorf("proof: %s is no proof.json of an earlier pack", path)
	}
	return &p, nil
}

// writePack prints a pack, and writes it into the folder of the settings.
func writePack(env Env, pack proof.Pack, before *proof.Pack) error {
	c := env.Config
	raw, err := packJSON(pack)
	if err != nil {
		return err
	}
	text := pack.Markdown(before)
	if c.OutDir != "" {
		if err := keepPack(pack, before, c.OutDir); err != nil {
			return err
		}
	}
	switch {
	case c.JSON && c.Proof.Watch:
		line, err := packFormat.Marshal(pack)
		if err != nil {
			return fmt.Errorf("proof: %w", err)
		}
		fmt.Fprintf(env.Out, "%s\n", line)
	case c.JSON:
		fmt.Fprintf(env.Out, "%s\n", raw)
	case c.Proof.Watch:
		fmt.Fprintln(env.Out, pack.Line())
	default:
		fmt.Fprint(env.Out, text)
	}
	return nil
}

func packJSON(pack proof.Pack) ([]byte, error) {
	line, err := packFormat.Marshal(pack)
	if err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, line, "", "  "); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	return text.Bytes(), nil
}
