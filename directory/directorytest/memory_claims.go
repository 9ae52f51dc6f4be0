package directorytest

import (
	"context"
	"encoding/json"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// TakeClaim implements directory.Claims.
func (m *Memory) TakeClaim(ctx context.Context, c directory.Claim) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	r, ok := m.tenants[c.Tenant]
	switch {
	case !ok:
		return noTenant(c.Tenant)
	case r.owned == directory.Deleted:
		return problem.New(problem.Conflict, "tenant %d is deleted", c.Tenant)
	}
	n := name{c.Kind, c.Name}
	owner, taken := m.claims[n]
	switch {
	case taken && owner == c.Tenant:
		return nil
	case taken:
		return problem.New(problem.Conflict, "%s %q is taken", c.Kind, c.Name)
	}
	m.claims[n] = c.Tenant
	m.note(ctx, "claim.take", tenantSubject(c.Tenant), nil, c)
	return nil
}

// ReleaseClaim implements directory.Claims.
func (m *Memory) ReleaseClaim(ctx context.Context, c directory.Claim) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n := name{c.Kind, c.Name}
	if owner, ok := m.claims[n]; !ok || owner != c.Tenant {
		return problem.New(problem.NotFound, "tenant %d does not own %s %q", c.Tenant, c.Kind, c.Name)
	}
	delete(m.claims, n)
	m.note(ctx, "claim.release", tenantSubject(c.Tenant), c, nil)
	return nil
}

// FindClaim implements directory.Claims.
func (m *Memory) FindClaim(ctx context.Context, kind, claimed string) (directory.Claim, error) {
	if err := m.lock(ctx); err != nil {
		return directory.Claim{}, err
	}
	defer m.mu.Unlock()
	owner, ok := m.claims[name{kind, claimed}]
	if !ok {
		return directory.Claim{}, problem.New(problem.NotFound, "nobody owns %s %q", kind, claimed)
	}
	return directory.Claim{Kind: kind, Name: claimed, Tenant: owner}, nil
}

// free reports a name that a tenant other than id has.
func (m *Memory) free(id directory.TenantID, slug string, hosts []string) error {
	if owner, taken := m.claims[name{"slug", slug}]; taken && owner != id {
		return problem.New(problem.Conflict, "slug %q is taken", slug)
	}
	for _, h := range hosts {
		if owner, taken := m.claims[name{"host", h}]; taken && owner != id {
			return problem.New(problem.Conflict, "host %q is taken", h)
		}
	}
	return nil
}

// own takes a tenant's slug and hosts; they are free.
func (m *Memory) own(id directory.TenantID, slug string, hosts []string) {
	m.claims[name{"slug", slug}] = id
	for _, h := range hosts {
		m.claims[name{"host", h}] = id
	}
}

// disown gives them back.
func (m *Memory) disown(t directory.Tenant) {
	delete(m.claims, name{"slug", t.Slug})
	for _, h := range t.Hosts {
		delete(m.claims, name{"host", h})
	}
}

// raw passes JSON through note unchanged.
func raw(s string) json.RawMessage { return json.RawMessage(s) }
