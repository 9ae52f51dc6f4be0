package directorytest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cellway/cellway/directory"
)

var _ directory.Deletions = (*Memory)(nil)

// ListDeletions implements directory.Deletions.
func (m *Memory) ListDeletions(ctx context.Context, cell directory.CellID, after directory.TenantID, limit int) ([]directory.Deletion, error) {
	if err := directory.CheckLimit(limit); err != nil {
		return nil, err
	}
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	list := []directory.Deletion{}
	for t, d := range m.deleted {
		own := slices.Contains(d.Cells, cell)
		d = m.shown(d)
		if t <= after || cell == "" && len(d.Cells) == 0 || cell != "" && !own {
			continue
		}
		d.Due, d.Hurried = !m.Now().Before(d.PurgeAt), m.isHurried(t)
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b directory.Deletion) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return list[:min(limit, len(list))], nil
}

// CountDeletions is how many that ListDeletions lists are in their grace, and how many due.
func (m *Memory) CountDeletions(ctx context.Context) (kept, due int, err error) {
	list, err := m.ListDeletions(ctx, "", 0, 1000) // as many as a test makes
	for _, d := range list {
		if d.Due {
			due++
		} else {
			kept++
		}
	}
	return kept, due, err
}

// TellDeletion implements directory.Deletions.
func (m *Memory) TellDeletion(ctx context.Context, cell directory.CellID, incarnation string, tenant directory.TenantID, epoch directory.Epoch, purged bool) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if err := m.isIncarnation(cell, incarnation); err != nil {
		return err
	}
	d, ok := m.deleted[tenant]
	if !ok || !m.wasOn(tenant, cell) {
		return directory.ErrNoDeletion(tenant, cell)
	}
	waits, before := slices.Contains(d.Cells, cell), m.shown(d)
	if raises := m.tenants[tenant].Placement.Cell == cell || waits && !m.held[held{tenant, cell}]; !purged && epoch > d.Epoch && !raises {
		return directory.ErrNoDeletion(tenant, cell)
	}
	switch {
	case purged:
		if err := d.PurgedAt(epoch); err != nil || !waits {
			return err
		}
		d.Cells = slices.DeleteFunc(slices.Clone(d.Cells), func(c directory.CellID) bool { return c == cell })
	case waits && epoch <= d.Epoch:
		return nil
	default:
		if !waits {
			m.held[held{tenant, cell}] = true
		}
		d.Epoch = max(d.Epoch, epoch)
		d.Cells = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(d.Cells), cell))))
	}
	m.deleted[tenant] = d
	m.note(ctx, directory.TellAction(purged), tenantSubject(tenant), before, m.shown(d))
	return nil
}

// held is a cell that has something of a deleted tenant because it said so.
type held struct {
	tenant directory.TenantID
	cell   directory.CellID
}

// shown is the deletion without the cells that are retired.
func (m *Memory) shown(d directory.Deletion) directory.Deletion {
	d.Cells = slices.DeleteFunc(slices.Clone(d.Cells), func(c directory.CellID) bool { return m.cells[c].State == directory.Retired })
	return d
}

// wasOn reports whether the tenant was on the cell, or is, as far as the record knows.
func (m *Memory) wasOn(t directory.TenantID, cell directory.CellID) bool {
	return m.tenants[t].Placement.Cell == cell || len(m.find(func(v directory.Move) bool {
		return v.Tenant == t && (v.Source == cell || v.Target == cell)
	})) > 0
}

// HurryDeletion implements directory.Deletions.
func (m *Memory) HurryDeletion(ctx context.Context, tenant directory.TenantID) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.tenants[tenant] == nil {
		return noTenant(tenant)
	}
	d, ok := m.deleted[tenant]
	if !ok {
		return directory.ErrNotDeleted(tenant)
	}
	now := m.Now().UTC()
	if m.isHurried(tenant) {
		return nil
	}
	before := m.shown(d)
	m.hurried[tenant] = now
	if d.PurgeAt.After(now) {
		d.PurgeAt = now
	}
	m.deleted[tenant] = d
	m.note(ctx, "tenant.hurry", tenantSubject(tenant), before, m.shown(d))
	return nil
}

// isHurried reports whether somebody has ended the tenant's grace within the last hour.
func (m *Memory) isHurried(t directory.TenantID) bool {
	at, ok := m.hurried[t]
	return ok && m.Now().Sub(at) < time.Hour
}

// forget records the deletion of a tenant, and ends the move that watches over it.
func (m *Memory) forget(ctx context.Context, r *record, watching []directory.Move) {
	now := m.Now().UTC()
	for _, v := range watching {
		ended := v.WithoutTenant(now)
		m.note(ctx, "move.advance", directory.MoveSubject(v.ID), v, ended)
		*m.move(v.ID) = ended
	}
	cells := directory.DeletionCells(r.Placement.Cell, watching)
	slices.Sort(cells)
	m.deleted[r.ID] = directory.Deletion{
		Tenant: r.ID, Slug: r.Slug, Epoch: r.Placement.Epoch, DeletedAt: now, PurgeAt: now.Add(cmp.Or(m.Grace, directory.DefaultGrace)), Cells: cells,
	}
}
