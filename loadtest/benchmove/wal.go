package benchmove

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
)

// walTransactions is how many are counted, after as many that warm the pages up.
const walTransactions = 1500

// measureWAL adds the WAL that a tenant's transaction, an insert and an update of
// another row, writes in each of two pairs' sources.
func measureWAL(ctx context.Context, m *measure, replica, logical *pair) error {
	a, err := walOfTransaction(ctx, replica)
	if err != nil {
		return err
	}
	b, err := walOfTransaction(ctx, logical)
	if err != nil {
		return err
	}
	m.Add("WAL before any move, wal_level=replica", a)
	m.Add("WAL before any move, wal_level=logical", b)
	m.Add("WAL, replica / logical", a/b)
	return nil
}

// walOfTransaction counts the bytes of WAL records per transaction. The images
// of whole pages, which follow a checkpoint whatever the level, are warmed away.
func walOfTransaction(ctx context.Context, p *pair) (float64, error) {
	var bytes float64
	err := connected(ctx, p.source.AppDatabaseURL, func(app *pgx.Conn) error {
		return connected(ctx, p.source.DatabaseURL, func(admin *pgx.Conn) error {
			if _, err := admin.Exec(ctx, `CHECKPOINT`); err != nil {
				return err
			}
			if err := p.work(ctx, app); err != nil {
				return err
			}
			var from, to int64
			const position = `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint`
			if err := admin.QueryRow(ctx, position).Scan(&from); err != nil {
				return err
			}
			if err := p.work(ctx, app); err != nil {
				return err
			}
			if err := admin.QueryRow(ctx, position).Scan(&to); err != nil {
				return err
			}
			bytes = float64(to-from) / walTransactions
			return nil
		})
	})
	if err != nil {
		return 0, fmt.Errorf("count WAL: %w", err)
	}
	return bytes, nil
}

func (p *pair) work(ctx context.Context, conn *pgx.Conn) error {
	tenant := firstBusy + busyMost
	last := ""
	for range walTransactions {
		id := rowID()
		err := pipelined(ctx, conn, enterSQL, []any{tenant, directory.Epoch(1)}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, insertSQL, tenant, id); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE projects.projects SET version = version + 1 WHERE tenant_id = $1 AND id = $2`, tenant, last)
			return err
		})
		if err != nil {
			return err
		}
		last = id
	}
	return nil
}
