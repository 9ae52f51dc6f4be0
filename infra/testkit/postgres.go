package testkit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/local"
)

// password of the superuser: tests fail when they connect without one.
const password = "testkit"

// settings make a server small and quick: its data does not outlive the tests.
var settings = map[string]string{
	"fsync": "off", "full_page_writes": "off", "max_connections": "200", "shared_buffers": "64MB", "jit": "off", "max_prepared_transactions": "20",
}

// A postgresServer is what the databases of one test binary live on.
type postgresServer struct {
	url  func(database string) string
	stop func() error
}

var databases atomic.Int64

// Postgres is the superuser's URL of a fresh database of the test's own, which
// is dropped when the test ends. Roles belong to the server, which all tests of
// the binary share: name them after the database.
func Postgres(tb testing.TB) string {
	tb.Helper()
	return database(tb, "template0")
}

// benchDatabase names a superuser's URL of a server with fsync on.
const benchDatabase = "CELLWAY_BENCH_DATABASE_URL"

// BenchPostgres is Postgres for a benchmark: its database is on the server that
// CELLWAY_BENCH_DATABASE_URL names, or without it on the tests' own, which has fsync off.
func BenchPostgres(tb testing.TB) string {
	tb.Helper()
	base := os.Getenv(benchDatabase)
	if base == "" {
		return Postgres(tb)
	}
	u, err := url.Parse(base)
	if err != nil {
		tb.Fatalf("parse %s: %v", benchDatabase, err)
	}
	at := func(database string) string { to := *u; to.Path = "/" + database; return to.String() }
	srv := &postgresServer{url: at}
	for _, sql := range []string{`DROP DATABASE IF EXISTS cellway_bench WITH (FORCE)`, `CREATE DATABASE cellway_bench`} {
		if err := srv.exec(tb.Context(), sql); err != nil {
			tb.Fatalf("make the benchmark's database: %v", err)
		}
	}
	return at("cellway_bench")
}

// A mould is a database that others are copies of.
type mould struct {
	once sync.Once
	name string
	err  error
}

var moulds sync.Map // of *mould, by name

// PostgresFilled is Postgres, with what fill makes of an empty database, such as a schema: it
// takes longer to make than to copy, and is made once in a test binary for all who ask by
// the same name. Nobody may be connected to it when fill is back.
func PostgresFilled(tb testing.TB, name string, fill func(ctx context.Context, url string) error) string {
	tb.Helper()
	ctx, cancel := begin(tb)
	defer cancel()
	srv, err := sharedPostgres(ctx)
	if err != nil {
		tb.Fatalf("start postgres: %v", err)
	}
	one, _ := moulds.LoadOrStore(name, &mould{name: "mould_" + name})
	m := one.(*mould)
	m.once.Do(func() {
		if m.err = srv.exec(ctx, "CREATE DATABASE "+m.name+" TEMPLATE template0"); m.err == nil {
			m.err = fill(ctx, srv.url(m.name))
		}
	})
	if m.err != nil {
		tb.Fatalf("fill database %s: %v", name, m.err)
	}
	return database(tb, m.name)
}

func database(tb testing.TB, template string) string {
	tb.Helper()
	ctx, cancel := begin(tb)
	defer cancel()
	srv, err := sharedPostgres(ctx)
	if err != nil {
		tb.Fatalf("start postgres: %v", err)
	}
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := srv.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		tb.Fatalf("create database: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := srv.exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("drop database: %v", err)
		}
	})
	return srv.url(name)
}

func (s *postgresServer) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// sharedPostgres starts the binary's server when it is first asked for; a
// failure is remembered, so that it costs one test's time and not every test's.
func sharedPostgres(ctx context.Context) (*postgresServer, error) {
	kit.mu.Lock()
	defer kit.mu.Unlock()
	if kit.pg != nil || kit.pgErr != nil {
		return kit.pg, kit.pgErr
	}
	where, err := choose(ctx, "postgres")
	if err == nil && where.Image != "" {
		kit.pg, err = containerPostgres(ctx, where.Image)
	} else if err == nil {
		kit.pg, err = localPostgres(ctx)
	}
	if err != nil {
		kit.pgErr = err
		return nil, err
	}
	kit.stops = append(kit.stops, kit.pg.stop)
	return kit.pg, nil
}

func localPostgres(ctx context.Context) (*postgresServer, error) {
	bin, err := local.FindPostgres("")
	if err != nil {
		return nil, err
	}
	user, err := local.Unprivileged()
	if err != nil {
		return nil, err
	}
	template, err := postgresTemplate(ctx, bin, user)
	if err != nil {
		return nil, err
	}
	dir, err := directory()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir.path, "pgdata")
	if err := errors.Join(os.CopyFS(data, os.DirFS(template)), os.Chmod(data, 0o700), user.Own(data)); err != nil {
		return nil, fmt.Errorf("copy data directory: %w", err)
	}
	srv := local.Postgres{
		Name: "postgres", Bin: bin, Data: data, Password: password, Settings: settings,
		Log: filepath.Join(dir.path, "postgres.log"), User: user, OnOrphan: syscall.SIGQUIT,
	}
	proc, err := onFreePort(ctx, &srv.Port, srv.Log, func() (*local.Process, error) {
		return local.StartReady(ctx, srv.Command(), srv.Answers)
	})
	if err != nil {
		return nil, err
	}
	return &postgresServer{url: srv.URL, stop: func() error {
		return proc.Stop(context.Background(), syscall.SIGQUIT, 10*time.Second)
	}}, nil
}

// postgresTemplate is a fresh data directory that servers copy, made once per
// user and version: initdb takes a second, a copy a tenth of it.
func postgresTemplate(ctx context.Context, bin string, user *local.User) (string, error) {
	root, err := base()
	if err != nil {
		return "", err
	}
	v, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("postgres --version: %w", err)
	}
	sum := sha256.Sum256(fmt.Append(v, bin, user))
	path := filepath.Join(root, fmt.Sprintf("template-%x", sum[:6]))
	lock, err := local.Lock(path+".lock", true) // one initdb, whatever number of test binaries
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	if _, err := os.Stat(filepath.Join(path, "PG_VERSION")); err == nil {
		return path, nil
	}
	return path, local.InitDB(ctx, bin, path, password, user, "--wal-segsize=4")
}

// onFreePort sets *port and starts a server; it tries again while another
// process is quicker to take the port.
func onFreePort(ctx context.Context, port *int, log string, start func() (*local.Process, error)) (*local.Process, error) {
	for try := 1; ; try++ {
		free, err := local.FreePort()
		if err != nil {
			return nil, err
		}
		*port = free
		proc, err := start()
		if err == nil || try == 5 || ctx.Err() != nil || !local.PortTaken(log) {
			return proc, err
		}
	}
}

// SetUser is url with another role and password: what a test connects as when
// it must not be the superuser.
func SetUser(tb testing.TB, databaseURL, role, password string) string {
	tb.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		tb.Fatalf("parse database url: %v", err)
	}
	u.User = url.UserPassword(role, password)
	return u.String()
}
