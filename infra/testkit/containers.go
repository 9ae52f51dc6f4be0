package testkit

import (
	"context"
	"errors"
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
func containerPostgres(ctx context.Context, image string) (_ *postgresServer, err error) {
	var args []string
	for k, v := range settings {
		args = append(args, "-c", k+"="+v)
	}
	c, err := postgres.Run(ctx, image, postgres.WithUsername(local.Superuser), postgres.WithPassword(password),
		testcontainers.WithCmdArgs(args...))
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("run %s: %w", image, err), terminate(c))
		}
	}()
	if err != nil {
		return nil, err
	}
	dsn, err := c.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	srv := &postgresServer{
		url:  func(database string) string { at := *u; at.Path = "/" + database; return at.String() },
		stop: func() error { return terminate(c) },
	}
	return srv, srv.await(ctx)
}

// await asks until the server answers over TCP: while an image sets itself up
// its server listens inside the container only.
func (s *postgresServer) await(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func containerRedis(ctx context.Context, image string) (string, func() error, error) {
	c, err := redis.Run(ctx, image, testcontainers.WithCmd("redis-server", "--requirepass", password))
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("run %s: %w", image, err), terminate(c))
	}
	addr, err := c.PortEndpoint(ctx, "6379/tcp", "")
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("run %s: %w", image, err), terminate(c))
	}
	return "redis://:" + password + "@" + addr + "/0", func() error { return terminate(c) }, nil
}

func containerConsul(ctx context.Context, image string) (string, func() error, error) {
	c, err := testcontainers.Run(ctx, image, testcontainers.WithExposedPorts("8500/tcp"),
		testcontainers.WithCmd("agent", "-dev", "-client=0.0.0.0"),
		testcontainers.WithWaitStrategy(wait.ForHTTP("/v1/status/leader").WithPort("8500/tcp")))
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("run %s: %w", image, err), terminate(c))
	}
	addr, err := c.PortEndpoint(ctx, "8500/tcp", "")
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("run %s: %w", image, err), terminate(c))
	}
	return addr, func() error { return terminate(c) }, nil
}

// terminate ends and removes a container; a nil one is no work.
func terminate(c testcontainers.Container) error {
	return testcontainers.TerminateContainer(c, testcontainers.StopTimeout(10*time.Second))
}
