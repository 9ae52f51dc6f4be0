package testkit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/infra/local"
)

// Redis is the redis:// URL of a fresh server of the test's own, which ends with it.
func Redis(tb testing.TB) string {
	tb.Helper()
	ctx, cancel := begin(tb)
	defer cancel()
	where, err := choose(ctx, "redis")
	if err != nil {
		tb.Fatalf("start redis: %v", err)
	}
	start := localRedis
	if where.Image != "" {
		start = func(ctx context.Context) (string, func() error, error) { return containerRedis(ctx, where.Image) }
	}
	url, stop, err := start(ctx)
	return kept(tb, "redis", url, stop, err)
}

// RedisClient is a client of the server at url, which ends with the test.
func RedisClient(tb testing.TB, url string) *redis.Client {
	tb.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		tb.Fatalf("connect to redis: %v", err)
	}
	c := redis.NewClient(o)
	tb.Cleanup(func() { _ = c.Close() }) // a test may have done it, or killed the server
	return c
}

// localRedis starts a server that keeps nothing on disk.
func localRedis(ctx context.Context) (string, func() error, error) {
	bin, err := local.FindRedis("")
	if err != nil {
		return "", nil, err
	}
	dir, err := serverDir("redis-")
	if err != nil {
		return "", nil, err
	}
	srv := local.Redis{
		Name: "redis", Bin: bin, Dir: dir, Password: password, Args: []string{"--save", "", "--appendonly", "no"},
		Log: filepath.Join(dir, "redis.log"), OnOrphan: syscall.SIGKILL,
	}
	proc, err := onFreePort(ctx, &srv.Port, srv.Log, func() (*local.Process, error) {
		if err := srv.Configure(); err != nil {
			return nil, err
		}
		return local.StartReady(ctx, srv.Command(), srv.Answers)
	})
	if err != nil {
		return "", nil, err
	}
	return srv.URL(), func() error {
		return errors.Join(proc.Stop(context.Background(), syscall.SIGTERM, 10*time.Second), os.RemoveAll(dir))
	}, nil
}

func serverDir(pattern string) (string, error) {
	kit.mu.Lock()
	defer kit.mu.Unlock()
	dir, err := directory()
	if err != nil {
		return "", err
	}
	return dir.sub(pattern)
}
