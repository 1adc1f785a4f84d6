package proof

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v2"
)

// Rule is one alerting or recording rule, as far as two of them can differ in what they do.
type Rule struct {
	Group, Name string
	Expr        string
	For, Keep   time.Duration
	Labels      map[string]string
}

// ParseRules reads a rule file.
func ParseRules(text []byte) ([]Rule, error) {
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert  string            `yaml:"alert"`
				Record string            `yaml:"record"`
				Expr   string            `yaml:"expr"`
				For    string            `yaml:"for"`
				Keep   string            `yaml:"keep_firing_for"`
				Labels map[string]string `yaml:"labels"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	var all []Rule
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			rule := Rule{Group: g.Name, Name: r.Alert + r.Record, Expr: r.Expr, Labels: r.Labels}
			for _, d := range []struct {
				text string
				at   *time.Duration
			}{{r.For, &rule.For}, {r.Keep, &rule.Keep}} {
				if d.text == "" {
					continue
				}
				v, err := model.ParseDuration(d.text)
				if err != nil {
					return nil, fmt.Errorf("read the rules: %s: %w", rule.Name, err)
				}
				*d.at = time.Duration(v)
			}
			all = append(all, rule)
		}
	}
	return all, nil
}

// rulesLoaded compares what Prometheus evaluates with what the settings make.
func rulesLoaded(ctx context.Context, o Options, _ *sights) Check {
	c := Check{
		Name: "rules", Claim: "the rules that Prometheus evaluates are the ones that the settings make",
		ByHand: []string{"harvest rules; curl -s " + o.Prometheus + "/api/v1/rules"},
	}
	loaded, err := loadedRules(ctx, o)
	if err != nil {
		c.fail("%v", err)
		return c
	}
	if len(o.Rules) == 0 {
		c.fail("there are no rules to compare with")
	}
	for _, want := range o.Rules {
		key := want.Group + " " + want.Name
		got, ok := loaded[key]
		if !ok {
			c.fail("%s is not loaded", want.Name)
			continue
		}
		delete(loaded, key)
		expr, err := o.Normalize(want.Expr)
		if err != nil {
			c.fail("%s: %v", want.Name, err)
			continue
		}
		is, err := o.Normalize(got.Expr)
		switch {
		case err != nil:
			c.fail("%s: %v", want.Name, err)
		case is != expr:
			c.fail("%s asks for something else: %s", want.Name, is)
		case got.For != want.For || got.Keep != want.Keep:
			c.fail("%s waits %s and keeps firing for %s, not %s and %s", want.Name, got.For, got.Keep, want.For, want.Keep)
		case !maps.Equal(got.Labels, want.Labels):
			c.fail("%s has the labels %v, not %v", want.Name, got.Labels, want.Labels)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(loaded)) {
		if strings.HasPrefix(key, "quantum_harvest_") {
			c.fail("%s is loaded and is not one of ours", loaded[key].Name)
		}
	}
	c.saw("%d rules of ours, %d of others", len(o.Rules), len(loaded))
	c.figure("rules", float64(len(o.Rules)))
	return c
}

// loadedRules asks Prometheus for its rules, by group and name. A rule that cannot be evaluated is an error.
func loadedRules(ctx context.Context, o Options) (map[string]Rule, error) {
	text, err := get(ctx, o, o.Prometheus+"/api/v1/rules")
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus for its rules: %w", err)
	}
	var answer struct {
		Data struct {
			Groups []struct {
				Name  string `json:"name"`
				Rules []struct {
					Name      string            `json:"name"`
					Query     string            `json:"query"`
					Duration  float64           `json:"duration"`
					Keep      float64           `json:"keepFiringFor"`
					Labels    map[string]string `json:"labels"`
					Health    string            `json:"health"`
					LastError string            `json:"lastError"`
				} `json:"rules"`
			} `json:"groups"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("understand the rules of Prometheus: %w", err)
	}
	loaded := map[string]Rule{}
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			if r.Health == "err" {
				return nil, fmt.Errorf("%s cannot be evaluated: %s", r.Name, r.LastError)
			}
			seconds := func(v float64) time.Duration { return time.Duration(v * float64(time.Second)) }
			loaded[g.Name+" "+r.Name] = Rule{
				Group: g.Name, Name: r.Name, Expr: r.Query, For: seconds(r.Duration), Keep: seconds(r.Keep), Labels: r.Labels,
			}
		}
	}
	return loaded, nil
}
