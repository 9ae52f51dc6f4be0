package local

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
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
	text := fmt.Sprintf("bind 127.0.0.1\nport %d\nrequirepass %s\ndir %q\ndaemonize no\n", r.Port, r.Password, r.Dir)
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

// Answers checks that the server on the port knows the password and has loaded
// its data. It speaks the protocol itself: a client library retries and logs.
func (r Redis) Answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", r.Port))
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\nPING\r\n", r.Password); err != nil {
		return err
	}
	answers := bufio.NewReader(conn)
	for _, want := range []string{"+OK\r\n", "+PONG\r\n"} {
		got, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("redis answers %q", got)
		}
	}
	return nil
}
