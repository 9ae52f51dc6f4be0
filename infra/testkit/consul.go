package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/cellway/cellway/infra/local"
)

// Consul is the HTTP address (host:port) of a fresh agent of the test's own,
// from CONSUL_BIN, PATH or a container; without any of them the test is skipped.
func Consul(tb testing.TB) string {
	tb.Helper()
	ctx, cancel := begin(tb)
	defer cancel()
	addr, stop, err := startConsul(ctx)
	var missing *noConsul
	if errors.As(err, &missing) {
		tb.Skip(missing.Error())
	}
	return kept(tb, "consul", addr, stop, err)
}

// noConsul says why there is no agent.
type noConsul struct{ program, image string }

// Error names both ways that were tried.
func (e *noConsul) Error() string {
	return fmt.Sprintf("no Consul agent: %s; %s", e.program, e.image)
}

func startConsul(ctx context.Context) (string, func() error, error) {
	bin, err := local.FindConsul()
	if err == nil {
		return localConsul(ctx, bin)
	}
	if os.Getenv(local.ConsulEnv) != "" {
		return "", nil, err // named and not there: not a reason to skip
	}
	image, imageErr := findImage(ctx, "consul")
	if imageErr != nil {
		return "", nil, &noConsul{err.Error(), imageErr.Error()}
	}
	return containerConsul(ctx, image)
}

// localConsul runs a development agent with the HTTP API alone.
func localConsul(ctx context.Context, bin string) (string, func() error, error) {
	dir, err := serverDir("consul-")
	if err != nil {
		return "", nil, err
	}
	log := filepath.Join(dir, "consul.log")
	var addr string
	var port int
	proc, err := onFreePort(ctx, &port, log, func() (*local.Process, error) {
		addr = fmt.Sprintf("127.0.0.1:%d", port)
		return consulOn(ctx, bin, dir, log, port, addr)
	})
	if err != nil {
		return "", nil, err
	}
	return addr, func() error {
		return errors.Join(proc.Stop(context.Background(), syscall.SIGKILL, 10*time.Second), os.RemoveAll(dir))
	}, nil
}

func consulOn(ctx context.Context, bin, dir, log string, port int, addr string) (*local.Process, error) {
	args := []string{
		"agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=warn", "-disable-host-node-id", "-node=testkit",
		fmt.Sprintf("-http-port=%d", port), "-dns-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1",
	}
	// The agent talks to itself on two more ports, which no option turns off.
	for _, option := range []string{"-server-port=%d", "-serf-lan-port=%d"} {
		free, err := local.FreePort()
		if err != nil {
			return nil, err
		}
		args = append(args, fmt.Sprintf(option, free))
	}
	args = append(args, "-serf-wan-port=-1")
	cmd := local.Command{
		Name: "consul", Path: bin, Args: args, Env: []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}, Dir: dir,
		Log: log, OnOrphan: syscall.SIGKILL,
	}
	return local.StartReady(ctx, cmd, func(ctx context.Context) error { return consulLeads(ctx, addr) })
}

// consulLeads checks that the agent can take writes.
func consulLeads(ctx context.Context, addr string) error {
	c, err := api.NewClient(&api.Config{Address: addr})
	if err != nil {
		return err
	}
	leader, err := c.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	if err == nil && leader == "" {
		return errors.New("no leader yet")
	}
	return err
}
