package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// UpdateTenant implements directory.Tenants.
func (s *Store) UpdateTenant(ctx context.Context, id directory.TenantID, c directory.Change) (directory.Tenant, error) {
	var out directory.Tenant
	err := s.mutate(ctx, "update tenant", func(tx pgx.Tx) (*change, error) {
		old, err := lockTenant(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		suspended := old.suspended
		if c.Suspended != nil {
			suspended = *c.Suspended
		}
		if out, err = old.With(c); err != nil {
			return nil, err
		}
		out.Placement.State = directory.Shown(old.owned, suspended)
		same := sameRoute(old.Tenant, out)
		if same && old.Name == out.Name && old.Pinned == out.Pinned && old.Group == out.Group && old.PauseBudget == out.PauseBudget {
			return nil, nil
		}
		if err := trade(ctx, tx, id, claimSteps(old.Hosts, out.Hosts)); err != nil {
			return nil, err
		}
		const update = `UPDATE directory.tenants SET name = $2, pinned = $3, suspended = $4, apart = $5, pause_budget = $6 WHERE id = $1`
		_, err = tx.Exec(ctx, update, int64(id), out.Name, out.Pinned, suspended, out.Group, int64(out.PauseBudget))
		return &change{
			action: "tenant.update", subject: tenantSubject(id), before: old.Tenant, after: out, tenant: id, publish: !same,
		}, err
	})
	return out, err
}

// DeleteTenant implements directory.Tenants.
func (s *Store) DeleteTenant(ctx context.Context, id directory.TenantID) error {
	return s.mutate(ctx, "delete tenant", func(tx pgx.Tx) (*change, error) {
		old, err := lockTenant(ctx, tx, id)
		if err != nil || old.owned == directory.Deleted {
			return nil, err
		}
		open, err := openMoves(ctx, tx, id, `FOR UPDATE`)
		if err != nil {
			return nil, err
		}
		if err := directory.MayDelete(open); err != nil {
			return nil, err
		}
		if err := s.forget(ctx, tx, old, old.Placement.Epoch+1, open); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, countTenants, old.Placement.Cell, -1); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM directory.claims WHERE tenant = $1`, int64(id)); err != nil {
			return nil, err
		}
		const update = `UPDATE directory.tenants SET state = 'deleted', epoch = epoch + 1 WHERE id = $1`
		if _, err := tx.Exec(ctx, update, int64(id)); err != nil {
			return nil, err
		}
		const uncount = `
			UPDATE directory.creators SET tenants = tenants - 1
			 WHERE creator = (SELECT creator FROM directory.tenants WHERE id = $1)`
		if _, err := tx.Exec(ctx, uncount, int64(id)); err != nil {
			return nil, err
		}
		gone := old.Tenant
		gone.Hosts, gone.Placement.State = nil, directory.Deleted
		gone.Placement.Epoch++
		return &change{
			action: "tenant.delete", subject: tenantSubject(id), before: old.Tenant, after: gone, tenant: id, publish: true,
		}, nil
	})
}

// Place implements directory.Tenants.
func (s *Store) Place(ctx context.Context, p directory.Placement) error {
	if err := p.Validate(); err != nil {
		return err
	}
	return s.mutate(ctx, "place tenant", func(tx pgx.Tx) (*change, error) {
		old, err := lockTenant(ctx, tx, p.Tenant)
		if err != nil {
			return nil, err
		}
		// Both cells are locked, in the order of their ids, before either changes.
		to, err := lockPair(ctx, tx, old.Placement.Cell, p.Cell)
		switch {
		case err != nil:
			return nil, err
		case old.owned == directory.Deleted:
			return nil, problem.New(problem.Conflict, "tenant %d is deleted", p.Tenant)
		case old.Placement.Epoch != p.Epoch-1:
			return nil, problem.New(problem.Conflict, "tenant %d is at epoch %d", p.Tenant, old.Placement.Epoch)
		}
		if err := to.MayOwn(); err != nil {
			return nil, err
		}
		open, err := openMoves(ctx, tx, p.Tenant, "")
		if err != nil {
			return nil, err
		}
		if err := directory.MayPlace(open); err != nil {
			return nil, err
		}
		did := &change{action: "tenant.place", subject: tenantSubject(p.Tenant), before: old.Placement, tenant: p.Tenant, publish: true}
		place(&did.writes, old.Placement.Cell, p)
		p.State = directory.Shown(p.State, old.suspended)
		did.after = p
		return did, nil
	})
}

// lockPair locks two cells, which may be one, and returns the second.
func lockPair(ctx context.Context, tx pgx.Tx, from, to directory.CellID) (second directory.Cell, err error) {
	var batch pgx.Batch
	queuePair(&batch, from, to, &second)
	err = tx.SendBatch(ctx, &batch).Close()
	return second, err
}

// queuePair is lockPair in a message with others.
func queuePair(batch *pgx.Batch, from, to directory.CellID, second *directory.Cell) {
	batch.Queue(selectCells+` WHERE c.id = ANY($1) ORDER BY c.id `+forChange, []string{string(from), string(to)}).Query(func(rows pgx.Rows) error {
		cells, err := pgx.CollectRows(rows, scanCell)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(cells, func(c directory.Cell) bool { return c.ID == to })
		if i < 0 {
			return problem.New(problem.NotFound, "no cell %q", to)
		}
		*second = cells[i]
		return nil
	})
}

// place writes, in a message with others, the placement and both counts.
func place(batch *pgx.Batch, from directory.CellID, p directory.Placement) {
	if from != p.Cell {
		batch.Queue(countTenants, from, -1)
		batch.Queue(countTenants, p.Cell, 1)
	}
	const update = `UPDATE directory.tenants SET cell = $2, epoch = $3, state = $4 WHERE id = $1`
	batch.Queue(update, int64(p.Tenant), p.Cell, int64(p.Epoch), p.State)
}
