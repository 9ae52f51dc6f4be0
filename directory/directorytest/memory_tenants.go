package directorytest

import (
	"context"
	"slices"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// CreateTenant implements directory.Tenants.
func (m *Memory) CreateTenant(ctx context.Context, t directory.NewTenant) (directory.Tenant, error) {
	if err := t.Validate(); err != nil {
		return directory.Tenant{}, err
	}
	if err := m.lock(ctx); err != nil {
		return directory.Tenant{}, err
	}
	defer m.mu.Unlock()
	if err := m.free(0, t.Slug, t.Hosts); err != nil {
		return directory.Tenant{}, err
	}
	if err := m.Quotas.Allow(m.listCells(), m.created(directory.Actor(ctx))); err != nil {
		return directory.Tenant{}, err
	}
	cells := m.listCells()
	for i := range cells { // the places of tenants on their way are promised
		cells[i].Tenants += m.coming(cells[i].ID)
	}
	cell, err := directory.ChooseCell(t, t.Apart(cells, m.ofGroup(t.Group, 0)))
	if err != nil {
		return directory.Tenant{}, err
	}
	m.lastID++
	id := m.lastID
	r := &record{owned: directory.Active, creator: directory.Actor(ctx), Tenant: directory.Tenant{
		ID: id, Slug: t.Slug, Name: t.Name, Locality: t.Locality, Tier: t.Tier,
		Hosts:     slices.Sorted(slices.Values(t.Hosts)),
		Placement: directory.Placement{Tenant: id, Cell: cell, Epoch: 1, State: directory.Active},
		CreatedAt: m.Now().UTC(),
		Group:     t.Group, PauseBudget: t.PauseBudget,
	}}
	m.tenants[id] = r
	m.slugs[t.Slug] = id
	m.own(id, t.Slug, t.Hosts)
	m.count(cell, 1)
	m.note(ctx, "tenant.create", tenantSubject(id), nil, r.Tenant)
	m.publish(entry{tenant: id})
	return r.copy(), nil
}

// created is how many tenants a caller has created that are not deleted.
func (m *Memory) created(caller string) (n int) {
	for _, r := range m.tenants {
		if r.creator == caller && r.owned != directory.Deleted {
			n++
		}
	}
	return n
}

// ofGroup is where the tenants of a group but one are, and where they are on their way to.
func (m *Memory) ofGroup(group string, but directory.TenantID) (cells []directory.CellID) {
	for id, r := range m.tenants {
		if id == but || r.Group != group || r.owned == directory.Deleted {
			continue
		}
		cells = append(cells, r.Placement.Cell)
		for _, o := range m.open(id) {
			if o.Phase.BeforeDecision() {
				cells = append(cells, o.Target)
			}
		}
	}
	return cells
}

// Tenant implements directory.Tenants.
func (m *Memory) Tenant(ctx context.Context, ref string) (directory.Tenant, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Tenant{}, err
	}
	defer m.mu.Unlock()
	id, isSlug := m.slugs[ref]
	if !isSlug {
		id, _ = directory.ParseTenantID(ref)
	}
	r, ok := m.tenants[id]
	if !ok {
		return directory.Tenant{}, problem.New(problem.NotFound, "no tenant %q", ref)
	}
	return r.copy(), nil
}

// UpdateTenant implements directory.Tenants.
func (m *Memory) UpdateTenant(ctx context.Context, id directory.TenantID, change directory.Change) (directory.Tenant, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Tenant{}, err
	}
	defer m.mu.Unlock()
	r, ok := m.tenants[id]
	if !ok {
		return directory.Tenant{}, noTenant(id)
	}
	kept, err := r.With(change)
	if err != nil {
		return directory.Tenant{}, err
	}
	if err := m.free(id, kept.Slug, kept.Hosts); err != nil {
		return directory.Tenant{}, err
	}
	before, old := text(r.Tenant), r.Route()
	if change.Suspended != nil {
		r.suspended = *change.Suspended
	}
	kept.Placement.State = directory.Shown(r.owned, r.suspended)
	m.disown(r.Tenant)
	m.own(id, kept.Slug, kept.Hosts)
	r.Tenant = kept
	if before != text(kept) {
		m.note(ctx, "tenant.update", tenantSubject(id), raw(before), kept)
	}
	if text(old) != text(r.Route()) {
		m.publish(entry{tenant: id})
	}
	return r.copy(), nil
}

// DeleteTenant implements directory.Tenants.
func (m *Memory) DeleteTenant(ctx context.Context, id directory.TenantID) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	r, ok := m.tenants[id]
	if !ok {
		return noTenant(id)
	}
	if r.owned == directory.Deleted {
		return nil
	}
	watching := m.open(id)
	if err := directory.MayDelete(watching); err != nil {
		return err
	}
	before := text(r.Tenant)
	for n, owner := range m.claims {
		if owner == id {
			delete(m.claims, n)
		}
	}
	delete(m.slugs, r.Slug)
	m.count(r.Placement.Cell, -1)
	r.owned, r.Hosts = directory.Deleted, nil
	r.Placement.Epoch++
	r.Placement.State = directory.Deleted
	m.note(ctx, "tenant.delete", tenantSubject(id), raw(before), r.Tenant)
	m.publish(entry{tenant: id})
	m.forget(ctx, r, watching)
	return nil
}

// Place implements directory.Tenants.
func (m *Memory) Place(ctx context.Context, p directory.Placement) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	r, ok := m.tenants[p.Tenant]
	if !ok {
		return noTenant(p.Tenant)
	}
	to, ok := m.cells[p.Cell]
	switch {
	case !ok:
		return noCell(p.Cell)
	case r.owned == directory.Deleted:
		return problem.New(problem.Conflict, "tenant %d is deleted", p.Tenant)
	case r.Placement.Epoch != p.Epoch-1:
		return problem.New(problem.Conflict, "tenant %d is at epoch %d", p.Tenant, r.Placement.Epoch)
	}
	if err := to.MayOwn(); err != nil {
		return err
	}
	if err := directory.MayPlace(m.open(p.Tenant)); err != nil {
		return err
	}
	m.place(ctx, r, p)
	return nil
}

// place gives a tenant the placement p.
func (m *Memory) place(ctx context.Context, r *record, p directory.Placement) {
	before := r.Placement
	m.count(before.Cell, -1)
	m.count(p.Cell, 1)
	r.owned = p.State
	r.Placement = directory.Placement{Tenant: p.Tenant, Cell: p.Cell, Epoch: p.Epoch, State: directory.Shown(p.State, r.suspended)}
	m.note(ctx, "tenant.place", tenantSubject(p.Tenant), before, r.Placement)
	m.publish(entry{tenant: p.Tenant})
}

// count changes how many tenants a cell owns.
func (m *Memory) count(id directory.CellID, by int) {
	c := m.cells[id]
	c.Tenants += by
	m.cells[id] = c
}

// copy shares no memory with the record.
func (r *record) copy() directory.Tenant {
	t := r.Tenant
	t.Hosts = slices.Clone(t.Hosts)
	return t
}

func tenantSubject(id directory.TenantID) string { return "tenant/" + id.String() }

func noTenant(id directory.TenantID) error { return problem.New(problem.NotFound, "no tenant %d", id) }
