package benchmove

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// native is Postgres's own logical replication with a row filter, and a cutover as
// a careful operator would script it: wait until every table has caught up, freeze
// (with our fence), write a marker behind the last transaction, wait until the
// marker is at the target, serve there.
//
// What it needs and we gave it: wal_level=logical, a superuser at the target that
// the guard takes for the tenant's, publish without TRUNCATE, which would empty
// the tables of the target's other tenants.
func (p *pair) native() contender {
	n := &nativeMove{pair: p}
	return contender{name: "native subscription", pair: p, target: p.target.AppDatabaseURL, move: n.move, restore: n.undo}
}

type nativeMove struct {
	*pair
	epoch directory.Epoch
	mark  int64
}

func (n *nativeMove) exec(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", strings.SplitN(strings.TrimSpace(sql), "\n", 2)[0], err)
		}
	}
	return nil
}

const markerTable = `CREATE TABLE IF NOT EXISTS public.marker (id bigint PRIMARY KEY)`

func (n *nativeMove) move(ctx context.Context) error {
	if err := n.publish(ctx); err != nil {
		return err
	}
	if err := n.subscribe(ctx); err != nil {
		return err
	}
	return connected(ctx, n.target.DatabaseURL, func(at *pgx.Conn) error {
		return connected(ctx, n.source.DatabaseURL, func(from *pgx.Conn) error { return n.cutover(ctx, from, at) })
	})
}

func (n *nativeMove) publish(ctx context.Context) error {
	tables, err := n.tables(ctx)
	if err != nil {
		return err
	}
	var filtered []string
	for _, t := range tables {
		filtered = append(filtered, fmt.Sprintf("TABLE %s WHERE (tenant_id = %d)", t, n.tenant))
	}
	return n.admin(ctx, n.source, func(conn *pgx.Conn) error {
		return n.exec(ctx, conn, markerTable,
			"CREATE PUBLICATION rival FOR TABLE public.marker, "+strings.Join(filtered, ", ")+" WITH (publish = 'insert, update, delete')")
	})
}

// subscribe begins the copy. The apply workers' sessions get the tenant that the
// guard asks for from their role's settings.
func (n *nativeMove) subscribe(ctx context.Context) error {
	return n.admin(ctx, n.target, func(conn *pgx.Conn) error {
		cfg, err := pgx.ParseConfig(n.source.DatabaseURL)
		if err != nil {
			return err
		}
		return n.exec(ctx, conn, markerTable,
			fmt.Sprintf("ALTER ROLE postgres IN DATABASE cell SET cell.tenant = '%d'", n.tenant),
			fmt.Sprintf("CREATE SUBSCRIPTION rival CONNECTION 'host=%s port=%d dbname=%s user=%s password=%s' PUBLICATION rival",
				cfg.Host, cfg.Port, cfg.Database, cfg.User, cfg.Password))
	})
}

// notReady is how many tables are not yet copied and caught up with.
const notReady = `SELECT count(*) FILTER (WHERE srsubstate <> 'r') + CASE WHEN count(*) = 0 THEN 1 ELSE 0 END FROM pg_subscription_rel`

func (n *nativeMove) cutover(ctx context.Context, from, at *pgx.Conn) error {
	const nativeTimeout = 5 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, nativeTimeout)
	defer cancel()
	err := loadtest.Until(ctx, "every table to be copied", 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		var left int
		err := at.QueryRow(ctx, notReady).Scan(&left)
		return left == 0, err
	})
	if err != nil {
		return err
	}
	if n.epoch, err = n.frozen(ctx); err != nil {
		return err
	}
	n.mark++
	if _, err := from.Exec(ctx, `INSERT INTO public.marker VALUES ($1)`, n.mark); err != nil {
		return fmt.Errorf("write the marker: %w", err)
	}
	err = loadtest.Until(ctx, "the marker at the target", pollFast, func(ctx context.Context) (bool, error) {
		var there bool
		err := at.QueryRow(ctx, `SELECT EXISTS (SELECT FROM public.marker WHERE id = $1)`, n.mark).Scan(&there)
		return there, err
	})
	if err != nil {
		return err
	}
	return n.served(ctx, n.target.DatabaseURL, n.epoch)
}

func (n *nativeMove) undo(ctx context.Context) error {
	err := n.admin(ctx, n.target, func(conn *pgx.Conn) error {
		return n.exec(ctx, conn, "DROP SUBSCRIPTION IF EXISTS rival", "DROP TABLE IF EXISTS public.marker", "ALTER ROLE postgres IN DATABASE cell RESET cell.tenant")
	})
	if err != nil {
		return err
	}
	err = n.admin(ctx, n.source, func(conn *pgx.Conn) error {
		return n.exec(ctx, conn, "DROP PUBLICATION IF EXISTS rival", "DROP TABLE IF EXISTS public.marker")
	})
	if err != nil {
		return err
	}
	return n.restore(ctx, n.epoch)
}
