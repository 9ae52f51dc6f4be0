package testkit

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
	"github.com/testcontainers/testcontainers-go/modules/redis"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/cellway/cellway/infra/local"
)

// containerPostgres starts a server in a container of image.
func containerPostgres(ctx context.Context, image string) (*postgresServer, error) {
	var args []string
	for k, v := range settings {
		args = append(args, "-c", k+"="+v)
	}
	c, err := postgres.Run(ctx, image, postgres.WithUsername(local.Superuser), postgres.WithPassword(password),
		postgres.BasicWaitStrategies(), testcontainers.WithCmdArgs(args...))
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", image, err)
	}
	dsn, err := c.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", image, err)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", image, err)
	}
	return &postgresServer{
		url:  func(database string) string { at := *u; at.Path = "/" + database; return at.String() },
		stop: func() error { return terminate(c) },
	}, nil
}

func containerRedis(ctx context.Context, image string) (string, func() error, error) {
	c, err := redis.Run(ctx, image, testcontainers.WithCmdArgs("--requirepass", password))
	if err != nil {
		return "", nil, fmt.Errorf("run %s: %w", image, err)
	}
	addr, err := c.PortEndpoint(ctx, "6379/tcp", "")
	if err != nil {
		return "", nil, fmt.Errorf("run %s: %w", image, err)
	}
	return "redis://:" + password + "@" + addr + "/0", func() error { return terminate(c) }, nil
}

func containerConsul(ctx context.Context, image string) (string, func() error, error) {
	c, err := testcontainers.Run(ctx, image, testcontainers.WithExposedPorts("8500/tcp"),
		testcontainers.WithCmd("agent", "-dev", "-client=0.0.0.0"),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/v1/status/leader").WithPort("8500/tcp")))
	if err != nil {
		return "", nil, fmt.Errorf("run %s: %w", image, err)
	}
	addr, err := c.PortEndpoint(ctx, "8500/tcp", "")
	if err != nil {
		return "", nil, fmt.Errorf("run %s: %w", image, err)
	}
	return addr, func() error { return terminate(c) }, nil
}

func terminate(c testcontainers.Container) error {
	// A test's context has ended by now; the container must still go.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return c.Terminate(ctx)
}
