package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"quantumharvest/internal/config"
	"quantumharvest/internal/golden"
	"quantumharvest/internal/golden/vector"
	"quantumharvest/internal/golden/vectortest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"harvest": main})
}

// The command line as readable scripts. Each runs the real binary's main in a process of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}

// runCommand executes one command line in this process.
func runCommand(t *testing.T, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), args, process{stdin: stdin, stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

// Every strict vector, through the command as another program would use it.
func TestEvalVectors(t *testing.T) {
	files := map[golden.Kind]string{
		golden.MarketState: "market_state.json",
		golden.Stops:       "risk_stops.json",
		golden.Harvest:     "harvest_kernel.json",
		golden.Chain:       "chain.json",
		golden.Gate:        "publish_gate.json",
	}
	for _, kind := range golden.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			file := vectortest.Load(t, filepath.Join("..", "..", "testdata", "vectors", files[kind]))
			var in bytes.Buffer
			for _, c := range file.Cases {
				if err := json.Compact(&in, c.Raw); err != nil {
					t.Fatal(err)
				}
				in.WriteByte('\n')
			}
			code, out, errs := runCommand(t, &in, "eval", string(kind))
			if code != exitOK || errs != "" {
				t.Fatalf("exit %d: %s", code, errs)
			}
			lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
			if len(lines) != len(file.Cases) {
				t.Fatalf("%d answers to %d cases", len(lines), len(file.Cases))
			}
			strict := 0
			for i, c := range file.Cases {
				var answer struct {
					ID     string          `json:"id"`
					Output json.RawMessage `json:"output"`
					Error  *struct {
						Field  string `json:"field"`
						Reason string `json:"reason"`
					} `json:"error"`
				}
				if err := json.Unmarshal([]byte(lines[i]), &answer); err != nil {
					t.Fatalf("%s: %v: %s", c.ID, err, lines[i])
				}
				if answer.ID != c.ID {
					t.Fatalf("answer %d is to %s, not to %s", i, answer.ID, c.ID)
				}
				if answer.Error != nil && answer.Error.Field == "" {
					t.Errorf("%s: refused without naming a field", c.ID)
				}
				if !c.Strict || c.WantsError() {
					continue
				}
				strict++
				if answer.Error != nil {
					t.Errorf("%s: refused: %+v", c.ID, *answer.Error)
					continue
				}
				diffs, err := vector.Compare(c.Expected, answer.Output, file.Tolerance)
				if err != nil || len(diffs) > 0 {
					t.Errorf("%s: %v %v", c.ID, err, diffs)
				}
			}
			if strict == 0 {
				t.Error("no strict case was compared")
			}
		})
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestEvalReportsWhatItCannotWrite(t *testing.T) {
	var errs bytes.Buffer
	code := run(context.Background(), []string{"eval", "gate"}, process{
		stdin: strings.NewReader("{}\n"), stdout: brokenPipe{}, stderr: &errs,
	})
	if code != exitFailed || !strings.HasPrefix(errs.String(), "harvest: eval gate: ") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

// An interrupt ends a command that waits for input.
func TestEvalInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	never, w := io.Pipe()
	defer w.Close()
	var errs bytes.Buffer
	code := run(ctx, []string{"eval", "gate"}, process{stdin: never, stdout: io.Discard, stderr: &errs})
	if code != exitFailed || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

// A command with settings gets its flags and its help from the table, and its problems end with exit code 2.
func TestSettingsCommand(t *testing.T) {
	newProbe := func(p process) *cobra.Command {
		cmd := &cobra.Command{Use: "probe", RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := config.Load(cmd.Flags(), config.Publish, p.environ)
			if err == nil {
				_, err = io.WriteString(cmd.OutOrStdout(), c.Redis.String()+"\n")
			}
			return err
		}}
		withSettings(cmd, config.Publish)
		return cmd
	}
	probe := func(environ []string, args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		p := process{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, environ: environ}
		root := newRoot(p)
		root.AddCommand(newProbe(p))
		code = execute(context.Background(), root, append([]string{"probe"}, args...), p)
		return code, out.String(), errs.String()
	}

	if code, out, errs := probe([]string{"REDIS_HOST=h"}, "--redis-port", "7"); code != exitOK || out != "redis://h:7/0\n" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if code, _, errs := probe([]string{"REDIS_PORT=x"}); code != exitUsage || !strings.Contains(errs, "REDIS_PORT (--redis-port)") {
		t.Errorf("bad setting: exit %d: %s", code, errs)
	}
	if code, _, errs := probe(nil, "--no-such-flag"); code != exitUsage || !strings.Contains(errs, "harvest probe --help") {
		t.Errorf("unknown flag: exit %d: %s", code, errs)
	}
	if code, _, errs := probe(nil, "BTCUSDT"); code != exitUsage || !strings.Contains(errs, `unexpected argument "BTCUSDT"`) {
		t.Errorf("argument: exit %d: %s", code, errs)
	}
	code, out, _ := probe(nil, "--help")
	if code != exitOK || !strings.Contains(out, config.Help(config.Publish)) || !strings.Contains(out, "Usage:\n  harvest probe [flags]") {
		t.Errorf("help: exit %d: %s", code, out)
	}
}
