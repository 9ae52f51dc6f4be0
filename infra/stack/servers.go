package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/local"
)

// postgresSettings keep a server small: a laptop runs four of them. What is
// written stays written: fsync is on.
var postgresSettings = map[string]string{
	"shared_buffers": "48MB", "max_connections": "120", "wal_level": "replica", "max_wal_size": "256MB",
	"fsync": "on", "jit": "off", "log_min_messages": "warning", "log_checkpoints": "off",
}

// postgresSettings are those of the stack with those of its options over them.
func (s *Stack) postgresSettings() map[string]string {
	all := maps.Clone(postgresSettings)
	for _, kv := range s.opts.Postgres {
		name, value, _ := strings.Cut(kv, "=")
		all[name] = value
	}
	return all
}

// serverGrace is how long a database server may take to stop in order.
const serverGrace = 30 * time.Second

// startPostgres starts the server called name with a database and gives the
// superuser's URL of that database.
func (s *Stack) startPostgres(ctx context.Context, name, database string) (string, error) {
	srv, err := s.postgres(name)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(srv.Data); errors.Is(err, fs.ErrNotExist) {
		if err := local.InitDB(ctx, srv.Bin, srv.Data, srv.Password, srv.User); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	c := &child{command: srv.Command(), prepare: srv.EndLeftovers, ready: srv.Answers, stop: syscall.SIGINT, grace: serverGrace}
	s.add(c)
	if err := s.launch(ctx, c); err != nil {
		return "", err
	}
	if err := createDatabase(ctx, srv, database); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return srv.URL(database), nil
}

func (s *Stack) postgres(name string) (local.Postgres, error) {
	var srv local.Postgres
	port, err := s.plan.port(name)
	if err != nil {
		return srv, err
	}
	data, err := s.dataDir(name)
	if err != nil {
		return srv, err
	}
	return local.Postgres{
		Name: name, Bin: s.programs.postgres, Data: data, Port: port, Password: s.plan.password(name),
		Settings: s.postgresSettings(), Log: s.logFile(name), User: s.programs.user, OnOrphan: syscall.SIGINT,
	}, nil
}

// dataDir is where the data of a Postgres server is: in the stack's directory,
// or in /var/tmp where the user it runs as may not enter that (/root, say).
func (s *Stack) dataDir(name string) (string, error) {
	dir := filepath.Join(s.opts.Dir, name)
	if s.programs.user.CanReach(dir) {
		return dir, nil
	}
	elsewhere := elsewhere(s.opts.Dir)
	if err := os.MkdirAll(elsewhere, 0o711); err != nil { //nolint:gosec // the user of Postgres must get through
		return "", fmt.Errorf("make data directory: %w", err)
	}
	if info, err := os.Lstat(elsewhere); err != nil || !info.IsDir() || !ownedByUs(info) {
		return "", fmt.Errorf("%s is not a directory of this user", elsewhere)
	}
	return filepath.Join(elsewhere, name), nil
}

func ownedByUs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// createDatabase makes the database unless it is there.
func createDatabase(ctx context.Context, srv local.Postgres, name string) error {
	ctx, cancel := context.WithTimeout(ctx, serverGrace)
	defer cancel()
	conn, err := pgx.Connect(ctx, srv.URL("postgres"))
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer conn.Close(ctx)
	var there bool
	const exists = "SELECT exists(SELECT FROM pg_database WHERE datname = $1)"
	if err := conn.QueryRow(ctx, exists, name).Scan(&there); err != nil || there {
		return err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// startRedis starts the server called name and gives its URL. What it has
// acknowledged is at most a second from being on disk.
func (s *Stack) startRedis(ctx context.Context, name string) (string, error) {
	port, err := s.plan.port(name)
	if err != nil {
		return "", err
	}
	srv := local.Redis{
		Name: name, Bin: s.programs.redis, Dir: filepath.Join(s.opts.Dir, name), Port: port, Password: s.plan.password(name),
		Args: []string{"--appendonly", "yes", "--save", ""}, Log: s.logFile(name), OnOrphan: syscall.SIGTERM,
	}
	if err := os.MkdirAll(srv.Dir, 0o700); err != nil {
		return "", fmt.Errorf("make data directory: %w", err)
	}
	if err := srv.Configure(); err != nil {
		return "", err
	}
	c := &child{command: srv.Command(), ready: srv.Answers, stop: syscall.SIGTERM, grace: serverGrace}
	s.add(c)
	return srv.URL(), s.launch(ctx, c)
}

func (s *Stack) logFile(name string) string { return filepath.Join(s.opts.Dir, "log", name+".log") }
