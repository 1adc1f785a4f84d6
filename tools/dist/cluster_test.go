package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	compose "github.com/compose-spec/compose-go/v2/types"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// kinds are the objects that we ship, each as the cluster knows it.
var kinds = map[string]func() any{
	"v1/ServiceAccount":                       func() any { return new(core.ServiceAccount) },
	"v1/ConfigMap":                            func() any { return new(core.ConfigMap) },
	"v1/Service":                              func() any { return new(core.Service) },
	"apps/v1/Deployment":                      func() any { return new(apps.Deployment) },
	"apps/v1/StatefulSet":                     func() any { return new(apps.StatefulSet) },
	"networking.k8s.io/v1/NetworkPolicy":      func() any { return new(networking.NetworkPolicy) },
	"policy/v1/PodDisruptionBudget":           func() any { return new(policy.PodDisruptionBudget) },
	"monitoring.coreos.com/v1/PodMonitor":     func() any { return new(monitoring.PodMonitor) },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return new(monitoring.PrometheusRule) },
}

// objects decodes all manifests strictly: a field that the cluster does not know is an error.
func objects(t *testing.T) (all []any) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(tree, "deploy/cluster/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if filepath.Base(path) == "kustomization.yaml" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split(string(text), "\n---\n") {
			var head struct{ APIVersion, Kind string }
			if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			empty, ok := kinds[head.APIVersion+"/"+head.Kind]
			if !ok {
				t.Errorf("%s: %s %s is none of the kinds that are checked", path, head.APIVersion, head.Kind)
				continue
			}
			object := empty()
			if err := yaml.UnmarshalStrict([]byte(doc), object); err != nil {
				t.Errorf("%s: %s: %v", path, head.Kind, err)
			}
			all = append(all, object)
		}
	}
	return all
}

func TestManifestsAreWhatTheClusterKnows(t *testing.T) {
	seen := map[string]int{}
	for _, o := range objects(t) {
		switch o := o.(type) {
		case *apps.StatefulSet:
			seen["StatefulSet"]++
			restricted(t, o.Name, o.Spec.Template, o.Spec.Selector.MatchLabels)
		case *apps.Deployment:
			seen["Deployment"]++
			restricted(t, o.Name, o.Spec.Template, o.Spec.Selector.MatchLabels)
		case *core.ServiceAccount:
			seen["ServiceAccount"]++
			if o.AutomountServiceAccountToken == nil || *o.AutomountServiceAccountToken {
				t.Error("the service account has a token")
			}
		case *core.ConfigMap:
			if o.Labels["grafana_dashboard"] == "1" {
				seen["dashboard"]++
			}
		case *monitoring.PodMonitor:
			seen["PodMonitor"]++
			if r := o.Spec.PodMetricsEndpoints[0].RelabelConfigs; len(r) != 1 || r[0].TargetLabel != "job" {
				t.Errorf("the rules ask for jobs that this does not make: %s", jsonOf(t, r))
			}
		case *monitoring.PrometheusRule:
			seen["PrometheusRule"]++
			if len(o.Spec.Groups) == 0 || len(o.Spec.Groups[0].Rules) < 20 {
				t.Error("the rules are missing")
			}
		case *networking.NetworkPolicy:
			seen["NetworkPolicy"]++
		case *policy.PodDisruptionBudget:
			seen["PodDisruptionBudget"]++
		}
	}
	for kind, want := range map[string]int{
		"StatefulSet": 2, "Deployment": 1, "ServiceAccount": 1, "dashboard": 2, "PodMonitor": 1, "PrometheusRule": 1, "NetworkPolicy": 2, "PodDisruptionBudget": 1,
	} {
		if seen[kind] != want {
			t.Errorf("%d of %s, want %d", seen[kind], kind, want)
		}
	}
}

// restricted holds a pod against the strictest of the standards for pods, and against what makes it run for years.
func restricted(t *testing.T, name string, pod core.PodTemplateSpec, selector map[string]string) {
	t.Helper()
	for k, v := range selector {
		if pod.Labels[k] != v {
			t.Errorf("%s does not select its own pods by %s", name, k)
		}
	}
	s := pod.Spec
	if s.SecurityContext == nil || !*s.SecurityContext.RunAsNonRoot || s.SecurityContext.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the pod may run as root, or without seccomp", name)
	}
	if s.AutomountServiceAccountToken == nil || *s.AutomountServiceAccountToken {
		t.Errorf("%s has a token", name)
	}
	for _, c := range s.Containers {
		sc := c.SecurityContext
		if sc == nil || *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem || !slices.Equal(sc.Capabilities.Drop, []core.Capability{"ALL"}) {
			t.Errorf("%s: the container has more rights than it needs", name)
		}
		if c.LivenessProbe == nil || c.LivenessProbe.HTTPGet.Path != "/-/healthy" || c.ReadinessProbe == nil || c.ReadinessProbe.HTTPGet.Path != "/-/ready" {
			t.Errorf("%s: probes are missing or ask the wrong page", name)
		}
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%s: no resources are named", name)
		}
	}
}

func TestKustomizationNamesEveryManifest(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(tree, "deploy/cluster/kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Resources  []string `json:"resources"`
		Images     []struct {
			Name   string `json:"name"`
			NewTag string `json:"newTag"`
		} `json:"images"`
	}
	if err := yaml.UnmarshalStrict(text, &k); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(tree, "deploy/cluster"))
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, e := range entries {
		if e.Name() != "kustomization.yaml" {
			there = append(there, e.Name())
		}
	}
	if slices.Sort(k.Resources); !slices.Equal(k.Resources, there) {
		t.Errorf("it names %v, and there are %v", k.Resources, there)
	}
}

// Rules and dashboards in the cluster are those of the code.
func TestMadeManifestsAreNew(t *testing.T) {
	made, err := manifests(tree)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range made {
		got, err := os.ReadFile(filepath.Join(tree, "deploy/cluster", name))
		if err != nil || string(got) != string(want) {
			t.Errorf("deploy/cluster/%s is not what rules and dashboards make (%v): run 'make generate'", name, err)
		}
	}
}

func TestCompose(t *testing.T) {
	path := filepath.Join(tree, "deploy/container/compose.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), compose.ConfigDetails{
		WorkingDir: filepath.Dir(path), ConfigFiles: []compose.ConfigFile{{Filename: path, Content: text}},
		Environment: compose.Mapping{"HARVEST_IMAGE": "quantum-harvest:test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if names := project.ServiceNames(); !slices.Equal(names, []string{"exporter", "monitor", "publisher", "redis"}) {
		t.Errorf("its services are %v", names)
	}
	for name, s := range project.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.User == "" || s.HealthCheck == nil {
			t.Errorf("%s: may write, has capabilities, runs as root or is not watched", name)
		}
		if name != "redis" && s.Image != "quantum-harvest:test" {
			t.Errorf("%s runs %s", name, s.Image)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s on %q", name, p.Published, p.HostIP)
			}
		}
	}
}
