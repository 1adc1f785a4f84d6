package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// manifests are those of deploy/cluster that are made from alert rules and dashboards, which are made from the code
// themselves (make generate).
func manifests(root string) (map[string][]byte, error) {
	const head = "# Made by 'make generate' from "
	rules, err := os.ReadFile(filepath.Join(root, "deploy/alerts/quantum_harvest.yml"))
	if err != nil {
		return nil, err
	}
	var spec map[string]any
	if err := yaml.UnmarshalStrict(rules, &spec); err != nil {
		return nil, fmt.Errorf("deploy/alerts/quantum_harvest.yml: %w", err)
	}
	rule, err := yaml.Marshal(map[string]any{
		"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
		"metadata": map[string]any{"name": "quantum-harvest", "labels": map[string]string{"app.kubernetes.io/name": packageName}},
		"spec":     spec,
	})
	if err != nil {
		return nil, err
	}
	made := map[string][]byte{"prometheusrule.yaml": append([]byte(head+"deploy/alerts.\n"), rule...)}
	boards, err := filepath.Glob(filepath.Join(root, "deploy/dashboards/*.json"))
	if err != nil {
		return nil, err
	}
	all := bytes.NewBufferString(head + "deploy/dashboards.\n")
	for i, path := range boards {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		file := filepath.Base(path)
		board, err := yaml.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{
				"name":   strings.NewReplacer("_", "-", ".json", "").Replace(file),
				"labels": map[string]string{"app.kubernetes.io/name": packageName, "grafana_dashboard": "1"},
			},
			"data": map[string]string{file: compact.String() + "\n"},
		})
		if err != nil {
			return nil, err
		}
		if i > 0 {
			all.WriteString("---\n")
		}
		all.Write(board)
	}
	made["dashboards.yaml"] = all.Bytes()
	return made, nil
}

func writeManifests(root string) error {
	made, err := manifests(root)
	if err != nil {
		return err
	}
	for name, text := range made {
		if err := os.WriteFile(filepath.Join(root, "deploy/cluster", name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
