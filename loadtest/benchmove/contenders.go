package benchmove

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/directory"
)

// A contender is one way to move the pair's tenant from its source to its target.
type contender struct {
	name   string
	pair   *pair
	target string // URL at which the tenant's clients find the target
	// move returns when the target serves the tenant; restore takes that back.
	move    func(ctx context.Context) error
	restore func(ctx context.Context) error
}

// ours moves as the product does: directory, mover and the cells' own transfer
// endpoints. It is taken back by an undo, whose watch is completed, so that the
// next move copies everything again.
func (w *world) ours(m *measure, p *pair) contender {
	var id directory.MoveID
	return contender{
		name: "cellway", pair: p, target: p.target.AppDatabaseURL,
		move: func(ctx context.Context) error {
			there, err := w.move(ctx, directory.NewMove{Tenant: p.tenant, Target: directory.CellID(p.target.ID)})
			if id = there.ID; there.aborted > 0 {
				m.Note("a bound aborted %d attempts of ours before the one that went through; they are in its total", there.aborted)
			}
			return err
		},
		restore: func(ctx context.Context) error {
			back, err := w.move(ctx, directory.NewMove{Tenant: p.tenant, Target: directory.CellID(p.source.ID), Undoes: id})
			if err != nil {
				return err
			}
			return w.complete(ctx, back.ID)
		},
	}
}

// programs are the clients of Postgres that the rivals need.
type programs struct{ psql, dump, restore, pgcopydb string }

func findPrograms(bin string) programs {
	find := func(name string) string {
		if path := filepath.Join(bin, name); fileExists(path) {
			return path
		}
		path, _ := exec.LookPath(name) // "" says that it is not there
		return path
	}
	return programs{find("psql"), find("pg_dump"), find("pg_restore"), find("pgcopydb")}
}

func fileExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// command is a program; options are what libpq sets for its sessions.
func command(ctx context.Context, options string, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PGOPTIONS="+options)
	return cmd
}

// piped runs from | to.
func piped(from, to *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	var said [2]strings.Builder
	from.Stdout, from.Stderr, to.Stdin, to.Stderr, to.Stdout = w, &said[0], r, &said[1], io.Discard
	if err := from.Start(); err != nil {
		return fmt.Errorf("start %s: %w", from.Path, err)
	}
	err = to.Start()
	_, _ = w.Close(), r.Close() // theirs now
	failed := from.Wait()
	if err == nil {
		err = to.Wait()
	}
	if failed != nil || err != nil {
		return fmt.Errorf("%s | %s: %w, %w: %s %s", filepath.Base(from.Path), filepath.Base(to.Path), orOK(failed), orOK(err), said[0].String(), said[1].String())
	}
	return nil
}

var errOK = fmt.Errorf("ok")

func orOK(err error) error {
	if err == nil {
		return errOK
	}
	return err
}

// copyCopy is `psql COPY | psql COPY`, all tables at once, while the tenant is frozen.
func (p *pair) copyCopy(psql string) contender {
	var epoch directory.Epoch
	return contender{
		name: "psql COPY | COPY", pair: p, target: p.target.AppDatabaseURL,
		move: func(ctx context.Context) (err error) {
			if epoch, err = p.frozen(ctx); err != nil {
				return err
			}
			tables, err := p.tables(ctx)
			if err != nil {
				return err
			}
			g, gctx := errgroup.WithContext(ctx)
			for _, t := range tables {
				g.Go(func() error {
					out := command(gctx, "", psql, "-qX", "-v", "ON_ERROR_STOP=1", p.source.DatabaseURL, "-c",
						fmt.Sprintf("COPY (SELECT * FROM %s WHERE tenant_id = %d) TO STDOUT (FORMAT binary)", t, p.tenant))
					in := command(gctx, fmt.Sprintf("-c cell.tenant=%d -c session_replication_role=replica", p.tenant),
						psql, "-qX", "-v", "ON_ERROR_STOP=1", p.target.DatabaseURL, "-c", fmt.Sprintf("COPY %s FROM STDIN (FORMAT binary)", t))
					return piped(out, in)
				})
			}
			if err := g.Wait(); err != nil {
				return err
			}
			return p.served(ctx, p.target.DatabaseURL, epoch)
		},
		restore: func(ctx context.Context) error { return p.restore(ctx, epoch) },
	}
}

// rivalDatabase is where whole databases are restored.
const rivalDatabase = "rival"

// wholeDatabase is a way that knows no tenants: all of the source's database goes
// to a new one on the target's server, while the tenant is frozen.
func (p *pair) wholeDatabase(name string, clone func(ctx context.Context, from, to string) error) (contender, error) {
	to, err := database(p.target.DatabaseURL, rivalDatabase)
	if err != nil {
		return contender{}, err
	}
	app, err := database(p.target.AppDatabaseURL, rivalDatabase)
	if err != nil {
		return contender{}, err
	}
	var epoch directory.Epoch
	target := func(ctx context.Context, sql string) error {
		return p.admin(ctx, p.target, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, sql)
			return err
		})
	}
	return contender{
		name: name, pair: p, target: app,
		move: func(ctx context.Context) (err error) {
			if err := target(ctx, `CREATE DATABASE `+rivalDatabase+` TEMPLATE template0`); err != nil {
				return err
			}
			if epoch, err = p.frozen(ctx); err != nil {
				return err
			}
			if err := clone(ctx, p.source.DatabaseURL, to); err != nil {
				return err
			}
			if err := reconciled(ctx, to); err != nil {
				return err
			}
			return p.served(ctx, to, epoch)
		},
		restore: func(ctx context.Context) error {
			if err := p.restore(ctx, epoch); err != nil {
				return err
			}
			return target(ctx, `DROP DATABASE `+rivalDatabase+` WITH (FORCE)`)
		},
	}, nil
}

// reconciled lets a restored database serve, which is for the cell's agent to
// decide: it refuses everybody until then, and there is no agent here.
func reconciled(ctx context.Context, url string) error {
	return connected(ctx, url, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, `UPDATE cell.serving SET home = cell.home(), started = pg_postmaster_start_time()`); err != nil {
			return fmt.Errorf("let the restored database serve: %w", err)
		}
		return nil
	})
}

func (g programs) dumpRestore(ctx context.Context, from, to string) error {
	return piped(command(ctx, "", g.dump, "-Fc", "-Z0", "-d", from), command(ctx, "", g.restore, "--exit-on-error", "-d", to))
}

// cloneWith is pgcopydb's clone, with as many jobs as there are cores.
func (g programs) cloneWith(scratch string) func(ctx context.Context, from, to string) error {
	return func(ctx context.Context, from, to string) error {
		dir, err := os.MkdirTemp(scratch, "pgcopydb-")
		if err != nil {
			return fmt.Errorf("make a directory for pgcopydb: %w", err)
		}
		defer os.RemoveAll(dir)
		cmd := command(ctx, "", g.pgcopydb, "clone", "--dir", filepath.Join(dir, "work"), "--table-jobs", "2", "--index-jobs", "2", "--source", from, "--target", to)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pgcopydb: %w: %s", err, out[max(0, len(out)-800):])
		}
		return nil
	}
}
