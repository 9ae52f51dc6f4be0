package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	stopGrace     = 5 * time.Second
	answerTimeout = 2 * time.Second
)

// A Redis is one server with a password.
type Redis struct {
	Name     string
	Bin      string // path of redis-server
	Dir      string // where it keeps its files
	Port     int
	Password string
	Args     []string // further options, such as "--appendonly", "yes"
	Log      string
	OnOrphan syscall.Signal
}

// URL is the connection string.
func (r Redis) URL() string { return fmt.Sprintf("redis://:%s@127.0.0.1:%d/0", r.Password, r.Port) }

// Start starts the server and waits until it answers, at most as long as ctx.
// The password goes in a file: everybody can read a command line.
func (r Redis) Start(ctx context.Context) (*Process, error) {
	conf := r.Dir + "/redis.conf"
	text := fmt.Sprintf("bind 127.0.0.1\nport %d\nrequirepass %s\ndir %s\ndaemonize no\n", r.Port, r.Password, r.Dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("start %s: %w", r.Name, err)
	}
	proc, err := Start(Command{
		Name: r.Name, Path: r.Bin, Args: append([]string{conf}, r.Args...), Env: []string{"PATH=" + os.Getenv("PATH")},
		Dir: r.Dir, Log: r.Log, OnOrphan: r.OnOrphan,
	})
	if err != nil {
		return nil, err
	}
	if err := proc.Await(ctx, r.answers); err != nil {
		_ = proc.Stop(context.WithoutCancel(ctx), syscall.SIGTERM, stopGrace) // the first error says more
		return nil, err
	}
	return proc, nil
}

// answers checks that the server on the port knows the password and has loaded its data.
func (r Redis) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	opts, err := redis.ParseURL(r.URL())
	if err != nil {
		return errors.New("redis url cannot be parsed") // its text holds the password
	}
	opts.MaxRetries, opts.PoolSize = -1, 1
	c := redis.NewClient(opts)
	defer c.Close()
	return c.Ping(ctx).Err()
}
