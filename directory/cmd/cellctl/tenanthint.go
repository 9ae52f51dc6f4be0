package main

import (
	"context"
	"errors"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// findTenant is a tenant by name or id, with a hint where there is none.
func findTenant(ctx context.Context, d api, ref string) (directory.Tenant, error) {
	t, err := d.Tenant(ctx, ref)
	if err == nil {
		return t, nil
	}
	return t, nearby(err, ref, "cellctl tenant list --name WORD finds tenants by a part of their name or title", func() ([]string, error) {
		tenants, err := d.ListTenants(ctx, directory.TenantFilter{}, 0, pageSize)
		return slugs(tenants), err
	})
}

func slugs(tenants []directory.Tenant) []string {
	var out []string
	for _, t := range tenants {
		out = append(out, t.Slug)
	}
	return out
}

// createHint says what helps where the directory does not create n.
func createHint(ctx context.Context, d api, n directory.NewTenant, err error) error {
	if e, ok := errors.AsType[*problem.Error](err); ok && e.Extra[directory.QuotaMember] != "" {
		return err // which says so itself
	}
	if errors.Is(err, problem.NotFound) {
		return cellHint(ctx, d, string(n.Cell), err)
	}
	if taken := takenHint(ctx, d, 0, "slug", []string{n.Slug}, err); knowsMore(taken) {
		return taken
	}
	if taken := takenHint(ctx, d, 0, "host", n.Hosts, err); knowsMore(taken) {
		return taken
	}
	return withHint(err, problem.Conflict, "cellctl cell list shows each cell's state, room, locality and tier, and whether it is heard of")
}

// takenHint names the tenant, but for self, that has one of the names which a Conflict is about.
func takenHint(ctx context.Context, d api, self directory.TenantID, kind string, names []string, err error) error {
	if !errors.Is(err, problem.Conflict) {
		return err
	}
	for _, name := range names {
		if c, findErr := d.FindClaim(ctx, kind, name); findErr == nil && c.Tenant != self {
			return withHint(err, problem.Conflict, "cellctl tenant get %d shows whose it is; choose another %s", c.Tenant, kind)
		}
	}
	return err
}
