package prom

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"go.yaml.in/yaml/v2"
)

// Limits of one scrape. What a target of ours exposes grows with its symbols: these allow for a thousand of them, and
// stop anything that grows without bound.
const (
	bodyLimit       = "16MB"
	sampleLimit     = 50_000
	labelLimit      = 30
	labelNameLimit  = 100
	labelValueLimit = 500
	targetLimit     = 50
)

// alertmanagerSet is what the configuration calls its first set of Alertmanagers.
const alertmanagerSet = "config-0"

// document is the part of Prometheus' configuration that is ours to write.
type document struct {
	Global struct {
		ScrapeInterval     model.Duration `yaml:"scrape_interval"`
		ScrapeTimeout      model.Duration `yaml:"scrape_timeout"`
		EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	} `yaml:"global"`
	Alerting *struct {
		Alertmanagers []alertmanagers `yaml:"alertmanagers"`
	} `yaml:"alerting,omitempty"`
	RuleFiles     []string    `yaml:"rule_files,omitempty"`
	ScrapeConfigs []scrapeJob `yaml:"scrape_configs"`
}

type alertmanagers struct {
	Scheme        string         `yaml:"scheme"`
	PathPrefix    string         `yaml:"path_prefix,omitempty"`
	Timeout       model.Duration `yaml:"timeout"`
	StaticConfigs []static       `yaml:"static_configs"`
}

type scrapeJob struct {
	JobName          string   `yaml:"job_name"`
	BodySizeLimit    string   `yaml:"body_size_limit"`
	SampleLimit      int      `yaml:"sample_limit"`
	TargetLimit      int      `yaml:"target_limit"`
	LabelLimit       int      `yaml:"label_limit"`
	LabelNameLimit   int      `yaml:"label_name_length_limit"`
	LabelValueLimit  int      `yaml:"label_value_length_limit"`
	StaticConfigs    []static `yaml:"static_configs"`
	FallbackProtocol string   `yaml:"fallback_scrape_protocol"`
}

type static struct {
	Targets []string          `yaml:"targets"`
	Labels  map[string]string `yaml:"labels,omitempty"`
}

// configuration is the configuration as Prometheus itself reads it: what /api/v1/status/config shows is what runs.
func configuration(o Options, ruleNames []string) (*config.Config, error) {
	var d document
	interval := o.ScrapeInterval / time.Duration(o.TimeScale)
	d.Global.ScrapeInterval = model.Duration(interval)
	d.Global.ScrapeTimeout = model.Duration(interval * 4 / 5)
	d.Global.EvaluationInterval = model.Duration(interval)
	d.RuleFiles = ruleNames
	for _, j := range o.Jobs {
		job := scrapeJob{
			JobName: j.Name, BodySizeLimit: bodyLimit, SampleLimit: sampleLimit, TargetLimit: targetLimit, LabelLimit: labelLimit,
			LabelNameLimit: labelNameLimit, LabelValueLimit: labelValueLimit, FallbackProtocol: "PrometheusText0.0.4",
		}
		for _, g := range jobGroups(j) {
			job.StaticConfigs = append(job.StaticConfigs, staticConfig(g))
		}
		d.ScrapeConfigs = append(d.ScrapeConfigs, job)
	}
	if u := o.Notify.URL; u != nil {
		d.Alerting = &struct {
			Alertmanagers []alertmanagers `yaml:"alertmanagers"`
		}{[]alertmanagers{{
			Scheme: u.Scheme, PathPrefix: strings.TrimSuffix(u.Path, "/"), Timeout: model.Duration(notifyTimeout),
			StaticConfigs: []static{{Targets: []string{u.Host}}},
		}}}
	}
	text, err := yaml.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("monitor: write the configuration: %w", err)
	}
	c, err := config.Load(string(text), o.Libraries)
	if err != nil {
		return nil, fmt.Errorf("monitor: the settings make no configuration: %w", err)
	}
	if o.ScrapeHTTPFile != "" {
		client, err := httpClient(o.ScrapeHTTPFile)
		if err != nil {
			return nil, fmt.Errorf("monitor: how targets are scraped: %w", err)
		}
		for _, s := range c.ScrapeConfigs {
			s.HTTPClientConfig = *client
		}
	} else {
		for _, s := range c.ScrapeConfigs {
			// A certificate names the host that people use; what is scraped without further ado is this host.
			s.HTTPClientConfig.TLSConfig.InsecureSkipVerify = loopbackOnly(s)
		}
	}
	if o.Notify.HTTPFile != "" {
		client, err := httpClient(o.Notify.HTTPFile)
		if err != nil {
			return nil, fmt.Errorf("monitor: how the Alertmanager is told: %w", err)
		}
		for _, a := range c.AlertingConfig.AlertmanagerConfigs {
			a.HTTPClientConfig = *client
		}
	}
	return c, nil
}

// httpClient reads a file in the format that amtool and promtool take, too.
func httpClient(path string) (*commoncfg.HTTPClientConfig, error) {
	c, _, err := commoncfg.LoadHTTPConfigFile(path)
	if err != nil {
		return nil, fmt.Errorf("HTTP client file %s: %w", path, err)
	}
	return c, nil
}

// loopbackOnly tells that every target of the job is on this host.
func loopbackOnly(s *config.ScrapeConfig) bool {
	for _, d := range s.ServiceDiscoveryConfigs {
		groups, ok := d.(discovery.StaticConfig)
		if !ok {
			return false
		}
		for _, g := range groups {
			for _, t := range g.Targets {
				host, _, err := net.SplitHostPort(string(t[model.AddressLabel]))
				if err != nil {
					return false
				}
				if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
					return false
				}
			}
		}
	}
	return true
}

// jobGroups are the targets of a job, those with a scheme of their own apart.
func jobGroups(j Job) []*targetgroup.Group {
	bySource := map[string]*targetgroup.Group{}
	var groups []*targetgroup.Group
	for _, t := range j.Targets {
		scheme, host := "http", t
		if u, err := url.Parse(t); err == nil && u.Host != "" {
			scheme, host = u.Scheme, u.Host
		}
		g := bySource[scheme]
		if g == nil {
			g = &targetgroup.Group{Source: scheme, Labels: model.LabelSet{model.SchemeLabel: model.LabelValue(scheme)}}
			bySource[scheme] = g
			groups = append(groups, g)
		}
		g.Targets = append(g.Targets, model.LabelSet{model.AddressLabel: model.LabelValue(host)})
	}
	return groups
}

func staticConfig(g *targetgroup.Group) static {
	s := static{Labels: map[string]string{}}
	for _, t := range g.Targets {
		s.Targets = append(s.Targets, string(t[model.AddressLabel]))
	}
	for k, v := range g.Labels {
		s.Labels[string(k)] = string(v)
	}
	return s
}

// scrapeTargets are all targets by job. They change with the configuration alone, so they are handed over without a discovery.
func scrapeTargets(jobs []Job) map[string][]*targetgroup.Group {
	all := map[string][]*targetgroup.Group{}
	for _, j := range jobs {
		all[j.Name] = jobGroups(j)
	}
	return all
}

func alertmanagerTargets(c *config.Config) map[string][]*targetgroup.Group {
	all := map[string][]*targetgroup.Group{}
	for _, a := range c.AlertingConfig.AlertmanagerConfigs {
		for _, d := range a.ServiceDiscoveryConfigs {
			if groups, ok := d.(discovery.StaticConfig); ok {
				all[alertmanagerSet] = append(all[alertmanagerSet], groups...)
			}
		}
	}
	return all
}
