package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the name of a cluster's first role.
const Superuser = "postgres"

// A Postgres is one database server: one data directory, one port.
type Postgres struct {
	Name     string
	Bin      string // directory of the binaries
	Data     string // data directory
	Port     int
	Password string // of the role Superuser
	Settings map[string]string
	Log      string
	User     *User
	OnOrphan syscall.Signal
}

// InitDB makes a cluster in data, an absolute path that does not exist yet, in
// which every connection needs a password. It is made beside its place and
// moved there, so that a directory with this name is a whole one. args are
// further options of initdb.
func InitDB(ctx context.Context, bin, data, password string, user *User, args ...string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(data), filepath.Base(data)+".new-")
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	defer os.RemoveAll(tmp)
	pw := filepath.Join(tmp, "password")
	if err := os.WriteFile(pw, []byte(password), 0o600); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if err := user.Own(tmp); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	made := filepath.Join(tmp, "data")
	args = append([]string{
		"--pgdata=" + made, "--username=" + Superuser, "--pwfile=" + pw,
		"--auth=scram-sha-256", "--locale=C", "--encoding=UTF8", "--no-sync",
	}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	cmd.Dir, cmd.Env = "/", postgresEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if user != nil {
		cmd.SysProcAttr.Credential = user.credential()
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if err := os.Rename(made, data); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	return nil
}

// postgresEnv keeps what the servers' own variables (PGDATA, PGPORT) would change out.
func postgresEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=/"}
}

// URL is the superuser's connection string for a database.
func (p Postgres) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(Superuser, p.Password), Host: fmt.Sprintf("127.0.0.1:%d", p.Port),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Command is how the server is started.
func (p Postgres) Command() Command {
	settings := map[string]string{
		"listen_addresses": "127.0.0.1", "port": fmt.Sprint(p.Port), "unix_socket_directories": "",
		"timezone": "UTC", "log_timezone": "UTC",
	}
	maps.Copy(settings, p.Settings)
	return Command{
		Name: p.Name, Path: filepath.Join(p.Bin, "postgres"), Args: append([]string{"-D", p.Data}, pairs(settings)...),
		Env: postgresEnv(), Dir: "/", Log: p.Log, User: p.User, OnOrphan: p.OnOrphan,
	}
}

// leftoverGrace is how long what a killed server left behind may take to notice.
const leftoverGrace = 5 * time.Second

// EndLeftovers ends what a server that was killed has left behind and what would keep
// the next one from starting. Its children notice at once that it is gone, but for one
// that waits for a lock in the shared memory which a killed sibling held: that one waits
// for ever. A server that runs is left alone.
func (p Postgres) EndLeftovers(ctx context.Context) error {
	for began := time.Now(); ; {
		ids, err := leftovers(p.Data)
		if err != nil || len(ids) == 0 {
			return err
		}
		if time.Since(began) > leftoverGrace {
			for _, id := range ids {
				if err := id.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
					return fmt.Errorf("end what %s left behind: %w", p.Name, err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// pairs are "-c name=value" in the order of the names, for people who read ps.
func pairs(settings map[string]string) []string {
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	var args []string
	for _, name := range names {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// Answers checks that the server on the port is this one and takes queries: a
// port may have gone to another server in between.
func (p Postgres) Answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var data string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&data); err != nil {
		return err
	}
	if data != p.Data {
		return errors.New("another Postgres listens on the port")
	}
	return nil
}
