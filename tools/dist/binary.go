package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// goBuild builds harvest for a platform.
func (r release) goBuild(p platform, output string, more ...string) error {
	args := append([]string{"build", "-trimpath"}, more...)
	args = append(args, r.build...)
	cmd := exec.Command(r.gocmd, append(args, "-o", output, "./cmd/harvest")...)
	cmd.Dir = r.root
	// The level of instructions is set, so that no setting of the builder makes a binary that does not run elsewhere.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build for %s: %w\n%s", p, err, text)
	}
	return nil
}

func (r release) binary(p platform) (string, error) {
	path := filepath.Join(r.work, p.os+"-"+p.arch, "harvest")
	if p.os == "windows" {
		path += ".exe"
	}
	return path, r.goBuild(p, path)
}

// document is a file that goes into archives and packages.
type document struct {
	path string // in an archive
	src  string // where it is
}

// documents makes manual and completions with a build of their own, and adds what stands in the tree.
func (r release) documents() (docs []document, err error) {
	here := platform{runtime.GOOS, runtime.GOARCH}
	program := filepath.Join(r.work, "pages")
	if err := r.goBuild(here, program, "-tags=pages"); err != nil {
		return nil, err
	}
	man := filepath.Join(r.work, "man")
	completions := filepath.Join(r.work, "completions")
	for _, dir := range []string{man, completions} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if text, err := exec.Command(program, "pages", man).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("manual: %w\n%s", err, text)
	}
	for shell, name := range map[string]string{"bash": "harvest", "zsh": "_harvest", "fish": "harvest.fish"} {
		var text, problem bytes.Buffer
		cmd := exec.Command(program, "completion", shell)
		cmd.Stdout, cmd.Stderr = &text, &problem
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("completion for %s: %w\n%s", shell, err, problem.Bytes())
		}
		if err := os.MkdirAll(filepath.Join(completions, shell), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(completions, shell, name), text.Bytes(), 0o644); err != nil {
			return nil, err
		}
	}
	trees := []struct{ in, src, pattern string }{
		{"man", man, "*.1"},
		{"completions/bash", completions, "bash/*"},
		{"completions/zsh", completions, "zsh/*"},
		{"completions/fish", completions, "fish/*"},
		{"", r.root, "LICENSE"},
		{"", r.root, "README.md"},
		{"", r.root, "CHANGELOG.md"},
		{"docs", r.root, "docs/*.md"},
		{"docs/runbooks", r.root, "docs/runbooks/*.md"},
		{"env", r.root, "deploy/packages/env/*.env"},
		{"alerts", r.root, "deploy/alerts/*.yml"},
		{"alertmanager", r.root, "deploy/alertmanager/*.yml"},
		{"dashboards", r.root, "deploy/dashboards/*.json"},
		{"systemd", r.root, "deploy/systemd/*.service"},
		{"container", r.root, "deploy/container/compose.yaml"},
		{"cluster", r.root, "deploy/cluster/*.yaml"},
	}
	for _, t := range trees {
		found, err := filepath.Glob(filepath.Join(t.src, t.pattern))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("nothing is there for %s", strings.TrimPrefix(t.in+"/"+t.pattern, "/"))
		}
		for _, src := range found {
			docs = append(docs, document{strings.TrimPrefix(t.in+"/"+filepath.Base(src), "/"), src})
		}
	}
	return docs, nil
}
