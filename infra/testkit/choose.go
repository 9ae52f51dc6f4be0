package testkit

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

// What decides where servers come from.
const (
	modeEnv        = "CELLWAY_TESTKIT" // "", "local" or "containers"
	modeLocal      = "local"
	modeContainers = "containers"
)

// askTimeout bounds the questions to the engine.
const askTimeout = 5 * time.Second

// A choice says where a server comes from, and why.
type choice struct {
	Image  string // runs in a container of this image; "" is a program of this machine
	Reason string
}

// choose decides for one kind of server, "postgres" or "redis". It fails only
// where the environment forbids what is left.
func choose(ctx context.Context, kind string) (choice, error) {
	mode := os.Getenv(modeEnv)
	switch mode {
	case modeLocal:
		return choice{Reason: modeEnv + "=" + modeLocal}, nil
	case "", modeContainers:
	default:
		return choice{}, fmt.Errorf("%s=%q: want %s, %s or nothing", modeEnv, mode, modeLocal, modeContainers)
	}
	name, err := findImage(ctx, kind)
	if err == nil {
		return choice{Image: name, Reason: "the Docker engine has " + name}, nil
	}
	if mode == modeContainers {
		return choice{}, fmt.Errorf("%s=%s: %w", modeEnv, mode, err)
	}
	return choice{Reason: err.Error()}, nil
}

// findImage asks the engine for the image that CELLWAY_TEST_<KIND>_IMAGE names,
// else for the newest official one.
func findImage(ctx context.Context, kind string) (string, error) {
	ref := os.Getenv("CELLWAY_TEST_" + strings.ToUpper(kind) + "_IMAGE")
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	engine, err := connect(ctx)
	if err != nil {
		return "", err
	}
	defer engine.Close()
	want := ref
	if want == "" {
		want = official[kind]
	}
	list, err := engine.ImageList(ctx, client.ImageListOptions{Filters: make(client.Filters).Add("reference", want)})
	if err != nil {
		return "", fmt.Errorf("the Docker engine does not list its images: %w", err)
	}
	for _, img := range slices.SortedFunc(slices.Values(list.Items), newest) {
		if ref != "" {
			return ref, nil
		}
		if len(img.RepoTags) > 0 {
			return img.RepoTags[0], nil
		}
	}
	return "", fmt.Errorf("the Docker engine has no image %s, and tests never pull one", want)
}

// official are the images, of whatever version, that are used where none is named.
var official = map[string]string{"postgres": "postgres", "redis": "redis", "consul": "hashicorp/consul"}

func newest(a, b image.Summary) int { return int(b.Created - a.Created) }

// quiet keeps testcontainers from announcing the engine in every test's output,
// and from starting a container of its own that would first have to be pulled.
var quiet = sync.OnceFunc(func() {
	log.SetDefault(silent{})
	for name, value := range map[string]string{
		"TESTCONTAINERS_RYUK_DISABLED": "true", "TESTCONTAINERS_HOST_OVERRIDE": "localhost",
	} {
		if os.Getenv(name) == "" {
			_ = os.Setenv(name, value) // fails only for a malformed name
		}
	}
})

type silent struct{}

// Printf drops the line.
func (silent) Printf(string, ...any) {}

// connect finds an engine that answers.
func connect(ctx context.Context) (*testcontainers.DockerClient, error) {
	quiet()
	engine, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return nil, fmt.Errorf("no Docker engine: %w", err)
	}
	if _, err := engine.Ping(ctx, client.PingOptions{}); err != nil {
		_ = engine.Close() // nothing was sent
		return nil, fmt.Errorf("no Docker engine answers: %w", err)
	}
	return engine, nil
}
