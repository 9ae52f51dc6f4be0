package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// answerTimeout bounds one question to a server that starts.
const answerTimeout = 2 * time.Second

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

// Configure writes the server's configuration. The password is there and not on
// the command line, which everybody can read.
func (r Redis) Configure() error {
	text := fmt.Sprintf("bind 127.0.0.1\nport %d\nrequirepass %s\ndir %s\ndaemonize no\n", r.Port, r.Password, r.Dir)
	if err := os.WriteFile(r.configuration(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("configure %s: %w", r.Name, err)
	}
	return nil
}

func (r Redis) configuration() string { return filepath.Join(r.Dir, "redis.conf") }

// Command is how the server is started, after Configure.
func (r Redis) Command() Command {
	return Command{
		Name: r.Name, Path: r.Bin, Args: append([]string{r.configuration()}, r.Args...),
		Env: []string{"PATH=" + os.Getenv("PATH")}, Dir: r.Dir, Log: r.Log, OnOrphan: r.OnOrphan,
	}
}

// Answers checks that the server on the port knows the password and has loaded its data.
func (r Redis) Answers(ctx context.Context) error {
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
