package benchmove

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/stack"
)

// A pair is two Postgres servers with the cells' schema, between which a tenant
// is moved, and the tenant, which is like every other pair's.
type pair struct {
	source, target stack.Cell
	tenant         directory.TenantID
	stop           func(ctx context.Context) error
}

// others is the tenant that stands for all others in the source, and firstBusy
// the first of those that write all the time.
const (
	others    = directory.TenantID(1<<40 + 1000)
	firstBusy = directory.TenantID(1<<40 + 2000)
	busyMost  = 8
)

// fill gives the pair's source its data: the tenant's rows, and those of others.
func (p *pair) fill(ctx context.Context, o Options) error {
	if err := seed(ctx, p.source.DatabaseURL, p.tenant, o.Rows, 100); err != nil {
		return err
	}
	if err := seed(ctx, p.source.DatabaseURL, others, o.Others, 100); err != nil {
		return err
	}
	return p.admin(ctx, p.source, func(conn *pgx.Conn) error {
		const fences = `INSERT INTO cell.fence (tenant_id, epoch, state) SELECT $1::bigint + g, 1, 'active' FROM generate_series(0, $2::int) g ON CONFLICT DO NOTHING`
		if _, err := conn.Exec(ctx, fences, firstBusy, busyMost); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `VACUUM ANALYZE`)
		return err
	})
}

func (p *pair) admin(ctx context.Context, c stack.Cell, f func(conn *pgx.Conn) error) error {
	return connected(ctx, c.DatabaseURL, f)
}

// logicalPair starts two more cells' databases, at wal_level=logical, and stops
// what else belongs to their stack: nothing but the databases is needed.
func (l *lab) logicalPair(ctx context.Context) (*pair, error) {
	dir, err := l.scratch()
	if err != nil {
		return nil, err
	}
	s, err := stack.Start(ctx, stack.Options{
		Dir: filepath.Join(dir, "logical"), BinDir: l.o.BinDir, Cells: 2, Routers: 1, Log: l.o.Progress,
		Postgres: []string{"wal_level=logical", "max_logical_replication_workers=8", "max_worker_processes=16"},
	})
	if err != nil {
		return nil, fmt.Errorf("start the databases at wal_level=logical: %w", err)
	}
	st := s.State()
	p := &pair{source: st.Cells[0], target: st.Cells[1], tenant: 1, stop: func(ctx context.Context) error {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return s.Stop(stopping)
	}}
	for _, name := range []string{
		"router-1", "mover-1", "c1-worker", "c2-worker", "c1", "c2", "directory", "directory-postgres", "c1-redis", "c2-redis",
	} {
		if err := s.StopProcess(ctx, name); err != nil {
			return nil, errors.Join(err, p.stop(ctx))
		}
	}
	return p, nil
}

// frozen begins a rival's pause with our own fence: it is the fastest way to be
// sure that no transaction of the tenant is left, and rivals get it too.
func (p *pair) frozen(ctx context.Context) (epoch directory.Epoch, err error) {
	err = p.admin(ctx, p.source, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, `SELECT epoch FROM cell.fence WHERE tenant_id = $1`, p.tenant).Scan(&epoch); err != nil {
			return err
		}
		var state string
		err := conn.QueryRow(ctx, `SELECT state FROM cell.freeze($1, $2, 'rival', 1000)`, p.tenant, epoch).Scan(&state)
		if err == nil && state != "frozen" {
			err = fmt.Errorf("its fence is %s", state)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("freeze tenant %d for a rival: %w", p.tenant, err)
	}
	return epoch + 1, nil
}

// served ends a rival's pause: the target's fence serves the tenant.
func (p *pair) served(ctx context.Context, url string, epoch directory.Epoch) error {
	return connected(ctx, url, func(conn *pgx.Conn) error {
		return unfenced(ctx, conn, `
			INSERT INTO cell.fence (tenant_id, epoch, state) VALUES ($1, $2, 'active')
			    ON CONFLICT (tenant_id) DO UPDATE SET epoch = $2, state = 'active', move_id = NULL, moved_to = NULL, capture = false`, p.tenant, epoch)
	})
}

// unfenced writes the fence past its own rules, as nobody but a laboratory may.
func unfenced(ctx context.Context, conn *pgx.Conn, sql string, args ...any) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("write the fence: %w", err)
	}
	return nil
}

// restore takes a rival's move back: the source serves at the epoch before, the
// target has nothing of the tenant.
func (p *pair) restore(ctx context.Context, epoch directory.Epoch) error {
	err := p.admin(ctx, p.source, func(conn *pgx.Conn) error {
		return unfenced(ctx, conn, `UPDATE cell.fence SET epoch = $2, state = 'active', move_id = NULL, moved_to = NULL, capture = false WHERE tenant_id = $1`, p.tenant, epoch-1)
	})
	if err != nil {
		return err
	}
	tables, err := p.tables(ctx)
	if err != nil {
		return err
	}
	return p.admin(ctx, p.target, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT set_config('cell.tenant', $1::bigint::text, true), set_config('session_replication_role', 'replica', true)`, p.tenant); err != nil {
				return err
			}
			for _, t := range tables {
				if _, err := tx.Exec(ctx, `DELETE FROM `+t+` WHERE tenant_id = $1`, p.tenant); err != nil {
					return fmt.Errorf("clear %s: %w", t, err)
				}
			}
			_, err := tx.Exec(ctx, `DELETE FROM cell.fence WHERE tenant_id = $1`, p.tenant)
			return err
		})
	})
}

// tables lists the tenant tables.
func (p *pair) tables(ctx context.Context) (all []string, err error) {
	err = p.admin(ctx, p.source, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `
			SELECT c.oid::regclass::text FROM pg_class c
			 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relforcerowsecurity
			   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
			 ORDER BY 1`)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return all, err
}

// database is a URL with another database's name.
func database(base, name string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", errors.New("parse database url: it is malformed")
	}
	u.Path = "/" + name
	return u.String(), nil
}

// pollFast is the pause between two looks of a rival's script within its pause.
const pollFast = time.Millisecond
