package main

import (
	"context"
	"errors"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

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
