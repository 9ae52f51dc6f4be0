package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// A tenant is a row: the tenant as the world sees it, and what suspension covers.
type tenant struct {
	directory.Tenant
	owned     directory.State
	suspended bool
}

const selectTenants = `
	SELECT t.id, t.slug, t.name, t.locality, t.tier, t.pinned, t.cell, t.epoch, t.state, t.suspended, t.created_at,
	       t.apart, t.pause_budget,
	       ARRAY(SELECT name FROM directory.claims WHERE tenant = t.id AND kind = 'host' ORDER BY name)
	  FROM directory.tenants t`

func scanTenant(row pgx.CollectableRow) (tenant, error) {
	var t tenant
	p := &t.Placement
	err := row.Scan(&t.ID, &t.Slug, &t.Name, &t.Locality, &t.Tier, &t.Pinned, &p.Cell, &p.Epoch, &t.owned, &t.suspended, &t.CreatedAt,
		&t.Group, (*int64)(&t.PauseBudget), &t.Hosts)
	t.CreatedAt = t.CreatedAt.UTC()
	p.Tenant, p.State = t.ID, directory.Shown(t.owned, t.suspended)
	return t, err
}

// route is what routers are told of the tenant.
func (t tenant) route() directory.Route {
	return directory.Route{Placement: t.Placement, Slug: t.Slug, Hosts: t.Hosts}
}

// getTenant is the one tenant that where finds.
func getTenant(ctx context.Context, db pg.DB, where string, arg any) (tenant, error) {
	rows, err := db.Query(ctx, selectTenants+where, arg)
	if err != nil {
		return tenant{}, err
	}
	return collectTenant(rows, arg)
}

// collectTenant is the one tenant of rows, which was asked for by arg.
func collectTenant(rows pgx.Rows, arg any) (tenant, error) {
	t, err := pgx.CollectExactlyOneRow(rows, scanTenant)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, problem.New(problem.NotFound, "no tenant \"%v\"", arg)
	}
	return t, err
}

// lockTenant keeps every other mutation of the tenant waiting. The read is a
// statement of its own, after the lock: the one that waits for the lock would
// still see the hosts as they were before it.
func lockTenant(ctx context.Context, tx pgx.Tx, id directory.TenantID) (tenant, error) {
	const lock = `SELECT FROM directory.tenants WHERE id = $1 FOR NO KEY UPDATE`
	if _, err := tx.Exec(ctx, lock, int64(id)); err != nil {
		return tenant{}, err
	}
	return getTenant(ctx, tx, ` WHERE t.id = $1`, int64(id))
}

// Tenant implements directory.Tenants.
func (s *Store) Tenant(ctx context.Context, ref string) (directory.Tenant, error) {
	where, arg := ` WHERE t.slug = $1 AND t.state <> 'deleted'`, any(ref)
	if id, err := directory.ParseTenantID(ref); err == nil {
		where, arg = ` WHERE t.id = $1`, int64(id)
	}
	t, err := getTenant(ctx, s.pool, where, arg)
	return t.Tenant, fail(ctx, "find tenant", err)
}

// addComing counts the tenants that are on their way to a cell as its own: their places are
// promised. The cells are locked.
func addComing(ctx context.Context, tx pgx.Tx, cells []directory.Cell) error {
	rows, err := tx.Query(ctx, `SELECT target, count(*) FROM directory.moves WHERE`+undecided+`GROUP BY target`)
	if err != nil {
		return fmt.Errorf("count tenants that are moving: %w", err)
	}
	var target directory.CellID
	var n int
	_, err = pgx.ForEachRow(rows, []any{&target, &n}, func() error {
		if i := slices.IndexFunc(cells, func(c directory.Cell) bool { return c.ID == target }); i >= 0 {
			cells[i].Tenants += n
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count tenants that are moving: %w", err)
	}
	return nil
}

// CreateTenant implements directory.Tenants.
func (s *Store) CreateTenant(ctx context.Context, n directory.NewTenant) (directory.Tenant, error) {
	if err := n.Validate(); err != nil {
		return directory.Tenant{}, err
	}
	var out directory.Tenant
	err := s.mutate(ctx, "create tenant", func(tx pgx.Tx) (*change, error) {
		// Every cell stays locked until the commit: the loads that the policy
		// compared are still so when the tenant counts.
		cells, err := listCells(ctx, tx, forChange)
		if err != nil {
			return nil, err
		}
		if err := s.allow(ctx, tx, cells); err != nil {
			return nil, err
		}
		taken, err := ofGroup(ctx, tx, n.Group)
		if err != nil {
			return nil, err
		}
		if err := addComing(ctx, tx, cells); err != nil {
			return nil, err
		}
		cell, err := directory.ChooseCell(n, n.Apart(cells, taken))
		if err != nil {
			return nil, err
		}
		if out, err = insertTenant(ctx, tx, n, cell); err != nil {
			return nil, err
		}
		return &change{action: "tenant.create", subject: tenantSubject(out.ID), after: out, tenant: out.ID, publish: true}, nil
	})
	return out, err
}

// allow holds another tenant of the caller's against the quotas. While the cells
// are locked nobody else's tenant is added.
func (s *Store) allow(ctx context.Context, tx pgx.Tx, cells []directory.Cell) error {
	var callers int
	const created = `SELECT COALESCE((SELECT tenants FROM directory.creators WHERE creator = $1), 0)`
	if err := tx.QueryRow(ctx, created, directory.Actor(ctx)).Scan(&callers); err != nil {
		return err
	}
	return s.Quotas.Allow(cells, callers)
}

// ofGroup is where the tenants of a group are, and where they are on their way to.
func ofGroup(ctx context.Context, tx pgx.Tx, group string) ([]directory.CellID, error) {
	if group == "" {
		return nil, nil
	}
	const cells = `
		SELECT cell FROM directory.tenants WHERE apart = $1 AND apart <> '' AND state <> 'deleted'
		 UNION
		SELECT m.target
		  FROM directory.moves m
		  JOIN directory.tenants t ON t.id = m.tenant
		 WHERE t.apart = $1 AND t.apart <> '' AND t.state <> 'deleted' AND ` + undecided
	rows, err := tx.Query(ctx, cells, group)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[directory.CellID])
}

// insertTenant writes the tenant, its cell's count, its claims and its creator's count.
func insertTenant(ctx context.Context, tx pgx.Tx, n directory.NewTenant, cell directory.CellID) (directory.Tenant, error) {
	const insert = `
		  WITH counted AS (UPDATE directory.cells SET tenants = tenants + 1 WHERE id = $5)
		INSERT INTO directory.tenants (slug, name, locality, tier, cell, apart, pause_budget, creator)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		    ON CONFLICT (slug) WHERE state <> 'deleted' DO NOTHING
		RETURNING id, created_at`
	t := directory.Tenant{
		Slug: n.Slug, Name: n.Name, Locality: n.Locality, Tier: n.Tier, Hosts: slices.Sorted(slices.Values(n.Hosts)),
		Placement: directory.Placement{Cell: cell, Epoch: 1, State: directory.Active},
		Group:     n.Group, PauseBudget: n.PauseBudget,
	}
	err := tx.QueryRow(ctx, insert, n.Slug, n.Name, n.Locality, n.Tier, cell, n.Group, int64(n.PauseBudget), directory.Actor(ctx)).Scan(&t.ID, &t.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, problem.New(problem.Conflict, "slug %q is taken", n.Slug) // and the count is rolled back
	}
	t.CreatedAt, t.Placement.Tenant = t.CreatedAt.UTC(), t.ID
	if err != nil {
		return t, err
	}
	steps := append(claimSteps(nil, n.Hosts), claimStep{kind: "slug", name: n.Slug, take: true})
	if err := trade(ctx, tx, t.ID, steps); err != nil {
		return t, err
	}
	const counted = `
		INSERT INTO directory.creators AS c (creator, tenants) VALUES ($1, 1)
		    ON CONFLICT (creator) DO UPDATE SET tenants = c.tenants + 1`
	_, err = tx.Exec(ctx, counted, directory.Actor(ctx))
	return t, err
}

// countTenants changes how many tenants a cell owns; the cell is locked.
const countTenants = `UPDATE directory.cells SET tenants = tenants + $2 WHERE id = $1`

func tenantSubject(id directory.TenantID) string { return "tenant/" + id.String() }

// sameRoute reports whether routers can tell a from b.
func sameRoute(a, b directory.Tenant) bool {
	return a.Placement == b.Placement && a.Slug == b.Slug && slices.Equal(a.Hosts, b.Hosts)
}
