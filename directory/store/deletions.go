package store

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// deletions is what scanDeletion reads. The grace is reckoned when it is asked for: what
// records a deletion may be a process that does not know how long it is.
func (s *Store) deletions() string { return s.withGrace(selectDeletions) }

func (s *Store) withGrace(sql string) string {
	return strings.ReplaceAll(sql, "GRACE", strconv.FormatInt(cmp.Or(s.Grace, directory.DefaultGrace).Microseconds(), 10))
}

const selectDeletions = `
	SELECT d.tenant, t.slug, d.epoch, d.deleted_at, g.ends, g.ends <= clock_timestamp(), coalesce(d.hurried_at > clock_timestamp() - interval '1 hour', false),
	       ARRAY(SELECT h.cell FROM directory.deletion_cells h JOIN directory.cells c ON c.id = h.cell AND c.state <> 'retired'
	              WHERE h.tenant = d.tenant ORDER BY h.cell)
	  FROM directory.deletions d
	  JOIN directory.tenants t ON t.id = d.tenant` + graceEnds

const (
	graceEnds = `
	 CROSS JOIN LATERAL (SELECT least(d.hurried_at, d.kept_from + GRACE * interval '1 microsecond') AS ends) g`
	// someCellWaits is of the deletions that a cell has yet to purge which is not retired.
	someCellWaits = `EXISTS (SELECT FROM directory.deletion_cells h JOIN directory.cells c ON c.id = h.cell AND c.state <> 'retired' WHERE h.tenant = d.tenant)`
)

func scanDeletion(row pgx.CollectableRow) (d directory.Deletion, err error) {
	err = row.Scan(&d.Tenant, &d.Slug, &d.Epoch, &d.DeletedAt, &d.PurgeAt, &d.Due, &d.Hurried, &d.Cells)
	d.DeletedAt, d.PurgeAt = d.DeletedAt.UTC(), d.PurgeAt.UTC()
	return d, err
}

// ListDeletions implements directory.Deletions.
func (s *Store) ListDeletions(ctx context.Context, cell directory.CellID, after directory.TenantID, limit int) ([]directory.Deletion, error) {
	if err := directory.CheckLimit(limit); err != nil {
		return nil, err
	}
	// Each cell asks every few seconds: what it has to purge is found by the index of cells.
	sql, args := s.deletions()+`
	  JOIN directory.deletion_cells c ON c.tenant = d.tenant AND c.cell = $3
	 WHERE d.tenant > $1 ORDER BY d.tenant LIMIT $2`, []any{int64(after), limit, cell}
	if cell == "" {
		sql, args = s.deletions()+`
	 WHERE d.tenant > $1 AND `+someCellWaits+`
	 ORDER BY d.tenant LIMIT $2`, args[:2]
	}
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fail(ctx, "list deletions", err)
	}
	list, err := pgx.CollectRows(rows, scanDeletion)
	return list, fail(ctx, "list deletions", err)
}

// CountDeletions is how many deletions that some cell has yet to purge are in their grace,
// and how many are due.
func (s *Store) CountDeletions(ctx context.Context) (kept, due int, err error) {
	err = s.pool.QueryRow(ctx, s.withGrace(`
		SELECT count(*) FILTER (WHERE g.ends > clock_timestamp()), count(*) FILTER (WHERE g.ends <= clock_timestamp())
		  FROM directory.deletions d`+graceEnds+`
		 WHERE `+someCellWaits)).Scan(&kept, &due)
	return kept, due, fail(ctx, "count deletions", err)
}

// TellDeletion implements directory.Deletions.
func (s *Store) TellDeletion(ctx context.Context, cell directory.CellID, incarnation string, tenant directory.TenantID, epoch directory.Epoch, purged bool) error {
	return s.mutate(ctx, "tell deletion", func(tx pgx.Tx) (*change, error) {
		before, err := s.lockDeletion(ctx, tx, tenant, directory.ErrNoDeletion(tenant, cell))
		if err != nil {
			_, known := registered(ctx, tx, cell, incarnation)
			return nil, cmp.Or(known, err)
		}
		c, err := getCell(ctx, tx, cell, forChange)
		if err != nil {
			return nil, err
		}
		if err := c.MustBe(incarnation); err != nil {
			return nil, err
		}
		const was = `
			SELECT EXISTS (SELECT FROM directory.tenants WHERE id = $1 AND cell = $2)
			    OR EXISTS (SELECT FROM directory.deletion_cells WHERE tenant = $1 AND cell = $2 AND NOT told),
			       EXISTS (SELECT FROM directory.moves WHERE tenant = $1 AND $2 IN (source, target))`
		var raises, mine bool
		if err := tx.QueryRow(ctx, was, int64(tenant), cell).Scan(&raises, &mine); err != nil {
			return nil, err
		}
		if !raises && (!mine || !purged && epoch > before.Epoch) {
			return nil, directory.ErrNoDeletion(tenant, cell)
		}
		if purged {
			err = before.PurgedAt(epoch)
		}
		if err != nil {
			return nil, err
		}
		return s.tellDeletion(ctx, tx, cell, before, epoch, purged)
	})
}

// tellDeletion writes what a cell has said of a deletion, which is locked; nil where that is no news.
func (s *Store) tellDeletion(ctx context.Context, tx pgx.Tx, cell directory.CellID, before directory.Deletion, epoch directory.Epoch, purged bool) (*change, error) {
	sql := `INSERT INTO directory.deletion_cells (cell, tenant, told) VALUES ($1, $2, true) ON CONFLICT DO NOTHING`
	if purged {
		sql = `DELETE FROM directory.deletion_cells WHERE cell = $1 AND tenant = $2`
	}
	cells, err := tx.Exec(ctx, sql, cell, int64(before.Tenant))
	if err != nil {
		return nil, err
	}
	news := cells.RowsAffected()
	if !purged {
		raised, err := tx.Exec(ctx, `UPDATE directory.deletions SET epoch = $2 WHERE tenant = $1 AND epoch < $2`, int64(before.Tenant), int64(epoch))
		if err != nil {
			return nil, err
		}
		news += raised.RowsAffected()
	}
	if news == 0 {
		return nil, nil
	}
	after, err := s.lockDeletion(ctx, tx, before.Tenant, nil)
	return &change{action: directory.TellAction(purged), subject: tenantSubject(before.Tenant), before: before, after: after}, err
}

// HurryDeletion implements directory.Deletions.
func (s *Store) HurryDeletion(ctx context.Context, tenant directory.TenantID) error {
	return s.mutate(ctx, "hurry deletion", func(tx pgx.Tx) (*change, error) {
		if _, err := lockTenant(ctx, tx, tenant); err != nil {
			return nil, err
		}
		before, err := s.lockDeletion(ctx, tx, tenant, directory.ErrNotDeleted(tenant))
		if err != nil || before.Hurried {
			return nil, err
		}
		const now = `UPDATE directory.deletions SET hurried_at = clock_timestamp() WHERE tenant = $1`
		if _, err := tx.Exec(ctx, now, int64(tenant)); err != nil {
			return nil, err
		}
		after, err := s.lockDeletion(ctx, tx, tenant, nil)
		return &change{action: "tenant.hurry", subject: tenantSubject(tenant), before: before, after: after}, err
	})
}

// lockDeletion keeps every other change of the deletion waiting; none is the error
// where there is none. The read is a statement of its own: see lockTenant.
func (s *Store) lockDeletion(ctx context.Context, tx pgx.Tx, t directory.TenantID, none error) (directory.Deletion, error) {
	if _, err := tx.Exec(ctx, `SELECT FROM directory.deletions WHERE tenant = $1 FOR NO KEY UPDATE`, int64(t)); err != nil {
		return directory.Deletion{}, err
	}
	rows, err := tx.Query(ctx, s.deletions()+` WHERE d.tenant = $1`, int64(t))
	if err != nil {
		return directory.Deletion{}, err
	}
	d, err := pgx.CollectExactlyOneRow(rows, scanDeletion)
	if errors.Is(err, pgx.ErrNoRows) {
		return d, cmp.Or(none, error(problem.New(problem.NotFound, "no deletion of tenant %d", t)))
	}
	return d, err
}

// forget records the deletion of a tenant that is at epoch
// from now on, and ends the move that watches over it.
func (s *Store) forget(ctx context.Context, tx pgx.Tx, t tenant, epoch directory.Epoch, watching []directory.Move) error {
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return err
	}
	for _, m := range watching {
		ended := m.WithoutTenant(now.UTC())
		const free = `UPDATE directory.moves SET lease = $2, holder = '', leased_until = NULL WHERE id = $1`
		if _, err := tx.Exec(ctx, free, m.ID, ended.Lease); err != nil {
			return err
		}
		if err := updateMove(ctx, tx, ended); err != nil {
			return err
		}
		if err := note(ctx, tx, &change{action: "move.advance", subject: directory.MoveSubject(m.ID), before: m, after: ended}); err != nil {
			return err
		}
	}
	const insert = `
		  WITH gone AS (INSERT INTO directory.deletions (tenant, epoch, deleted_at, kept_from) VALUES ($1, $2, $3, $3) RETURNING tenant)
		INSERT INTO directory.deletion_cells (cell, tenant)
		SELECT c.id, gone.tenant FROM gone, directory.cells c WHERE c.id = ANY ($4)`
	var cells []string
	for _, c := range directory.DeletionCells(t.Placement.Cell, watching) {
		cells = append(cells, string(c))
	}
	_, err := tx.Exec(ctx, insert, int64(t.ID), int64(epoch), now, cells)
	return err
}
