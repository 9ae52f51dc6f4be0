package benchmove

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest"
)

// cell is the n-th cell, from 0.
func (w *world) cell(n int) directory.CellID { return directory.CellID(w.state.Cells[n].ID) }

// at is where a cell is.
func (w *world) at(id directory.CellID) (stack.Cell, error) {
	for _, c := range w.state.Cells {
		if c.ID == string(id) {
			return c, nil
		}
	}
	return stack.Cell{}, fmt.Errorf("no cell %s in this stack", id)
}

// tenant makes a tenant in a cell and waits until every router routes it.
func (w *world) tenant(ctx context.Context, slug string, cell directory.CellID) (*loadtest.Tenant, error) {
	return w.console.Tenant(ctx, w.ep, &loadtest.Recorder{}, directory.NewTenant{Slug: slug, Cell: cell}, loadtest.Plan{})
}

// seed gives a tenant rows of about width bytes in a cell's database, past the
// API: projects, and all of the rows but one in a thousand as their tasks.
func seed(ctx context.Context, url string, tenant directory.TenantID, rows, width int) error {
	return connected(ctx, url, func(conn *pgx.Conn) error {
		return asTenant(ctx, conn, tenant, func(tx pgx.Tx) error {
			projects := max(1, rows/1000)
			_, err := tx.Exec(ctx, `
				INSERT INTO projects.projects (tenant_id, id, name, description)
				SELECT $1, 'seed_' || g, 'seed ' || g, repeat('x', $3) FROM generate_series(1, $2::int) g`, tenant, projects, width)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `
				INSERT INTO projects.tasks (tenant_id, id, project_id, title, description)
				SELECT $1, 'seed_' || g, 'seed_' || 1 + g % $2::int, 'seed ' || g, left(repeat(md5(g::text), 1 + $4::int / 32), $4::int)
				  FROM generate_series(1, $3::int) g`, tenant, projects, rows-projects, width)
			return err
		})
	})
}

// asTenant runs f in a transaction that the guard takes for the tenant's, whose
// fence it makes where the tenant was never used.
func asTenant(ctx context.Context, conn *pgx.Conn, tenant directory.TenantID, f func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO cell.fence (tenant_id, epoch, state) VALUES ($1, 1, 'active') ON CONFLICT DO NOTHING`, tenant); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT set_config('cell.tenant', $1::bigint::text, true)`, tenant); err != nil {
			return err
		}
		return f(tx)
	})
	if err != nil {
		return fmt.Errorf("write rows of tenant %d: %w", tenant, err)
	}
	return nil
}
