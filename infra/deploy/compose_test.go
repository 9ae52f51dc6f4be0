package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v4"
)

const root = "../.."

type compose struct {
	Services map[string]struct {
		Image    string   `yaml:"image"`
		Networks []string `yaml:"networks"`
		Ports    []string `yaml:"ports"`
		EnvFile  []string `yaml:"env_file"`
	} `yaml:"services"`
	Networks map[string]struct {
		Internal bool `yaml:"internal"`
	} `yaml:"networks"`
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
}

var cells = []string{"c1", "c2", "c3"}

func TestACellsServersAreOnItsNetworkOnly(t *testing.T) {
	t.Parallel()
	var c compose
	readYAML(t, "docker-compose.yml", &c)
	for _, cell := range cells {
		if !c.Networks[cell].Internal {
			t.Errorf("network %s has a way out", cell)
		}
		for _, server := range []string{cell + "-postgres", cell + "-redis"} {
			s := c.Services[server]
			if !slices.Equal(s.Networks, []string{cell}) {
				t.Errorf("%s is on %v, want on %s alone", server, s.Networks, cell)
			}
			if len(s.Ports) > 0 {
				t.Errorf("%s is published: %v", server, s.Ports)
			}
		}
		for name, s := range c.Services {
			if slices.Contains(s.Networks, cell) && name != cell && !strings.HasPrefix(name, cell+"-") {
				t.Errorf("%s is on the network of %s", name, cell)
			}
		}
	}
}

func TestAServiceHoldsNoSecretsButItsOwn(t *testing.T) {
	t.Parallel()
	var c compose
	readYAML(t, "docker-compose.yml", &c)
	for name, s := range c.Services {
		for _, file := range s.EnvFile {
			owner := strings.TrimSuffix(filepath.Base(file), ".env")
			if name != owner && !strings.HasPrefix(name, owner+"-") {
				t.Errorf("%s reads the secrets of %s", name, owner)
			}
		}
	}
}

func TestEveryImageCanBeReplacedAndPortsStayOnThisMachine(t *testing.T) {
	t.Parallel()
	var c compose
	readYAML(t, "docker-compose.yml", &c)
	for name, s := range c.Services {
		if !strings.HasPrefix(s.Image, "${") {
			t.Errorf("image of %s is %q, want a variable with a default", name, s.Image)
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:${") {
				t.Errorf("port %q of %s: want 127.0.0.1 and a variable", p, name)
			}
		}
	}
}

func TestPrometheusScrapesEveryProcess(t *testing.T) {
	t.Parallel()
	var c compose
	readYAML(t, "docker-compose.yml", &c)
	var p struct {
		Scrape []struct {
			Static []struct {
				Targets []string `yaml:"targets"`
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "infra/deploy/prometheus/prometheus.yml", &p)
	scraped := map[string]bool{}
	for _, job := range p.Scrape {
		for _, s := range job.Static {
			for _, target := range s.Targets {
				host, _, _ := strings.Cut(target, ":")
				scraped[host] = true
			}
		}
	}
	for name, s := range c.Services {
		if strings.Contains(s.Image, "CELLWAY_IMAGE") && !scraped[name] {
			t.Errorf("%s is not scraped", name)
		}
	}
}
