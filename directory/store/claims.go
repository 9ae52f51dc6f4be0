package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// takeClaim takes a name in one statement and one round trip: it waits for who
// changes the tenant, so that a tenant being deleted takes nothing more, and for
// who takes the same name at this moment. No row for an unknown tenant.
const takeClaim = `
	  WITH owner AS (SELECT id, state FROM directory.tenants WHERE id = $3 FOR SHARE),
	       taken AS (INSERT INTO directory.claims (kind, name, tenant)
	                 SELECT $1, $2, id FROM owner WHERE state <> 'deleted'
	                     ON CONFLICT (kind, name) DO NOTHING
	                 RETURNING tenant),
	       line  AS (INSERT INTO directory.audit (actor, action, subject, after)
	                 SELECT $4, 'claim.take', $5, $6::jsonb FROM taken)
	SELECT state = 'deleted', EXISTS (SELECT FROM taken) FROM owner`

// TakeClaim implements directory.Claims. It makes no version: routers do not know
// claims.
func (s *Store) TakeClaim(ctx context.Context, c directory.Claim) error {
	if err := c.Validate(); err != nil {
		return err
	}
	after, err := document(c)
	if err != nil {
		return err
	}
	// The owner found after a refusal may have released the name since; then it
	// is free and asked for again.
	for range attempts {
		var deleted, taken bool
		err := s.pool.QueryRow(ctx, takeClaim, c.Kind, c.Name, int64(c.Tenant), directory.Actor(ctx), tenantSubject(c.Tenant), after).
			Scan(&deleted, &taken)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return problem.New(problem.NotFound, "no tenant %d", c.Tenant)
		case err != nil:
			return fail(ctx, "take claim", err)
		case deleted:
			return problem.New(problem.Conflict, "tenant %d is deleted", c.Tenant)
		case taken:
			return nil
		}
		owner, err := s.FindClaim(ctx, c.Kind, c.Name)
		if errors.Is(err, problem.NotFound) {
			continue
		}
		if err != nil || owner.Tenant == c.Tenant {
			return err
		}
		break
	}
	return problem.New(problem.Conflict, "%s %q is taken", c.Kind, c.Name)
}

const releaseClaim = `
	WITH gone AS (DELETE FROM directory.claims WHERE kind = $1 AND name = $2 AND tenant = $3 RETURNING tenant)
	INSERT INTO directory.audit (actor, action, subject, before)
	SELECT $4, 'claim.release', $5, $6::jsonb FROM gone`

// ReleaseClaim implements directory.Claims.
func (s *Store) ReleaseClaim(ctx context.Context, c directory.Claim) error {
	if err := c.Validate(); err != nil {
		return err
	}
	before, err := document(c)
	if err != nil {
		return err
	}
	tag, err := s.pool.Exec(ctx, releaseClaim, c.Kind, c.Name, int64(c.Tenant), directory.Actor(ctx), tenantSubject(c.Tenant), before)
	if err == nil && tag.RowsAffected() == 0 {
		return problem.New(problem.NotFound, "tenant %d does not own %s %q", c.Tenant, c.Kind, c.Name)
	}
	return fail(ctx, "release claim", err)
}

// FindClaim implements directory.Claims.
func (s *Store) FindClaim(ctx context.Context, kind, name string) (directory.Claim, error) {
	c := directory.Claim{Kind: kind, Name: name}
	err := s.pool.QueryRow(ctx, `SELECT tenant FROM directory.claims WHERE kind = $1 AND name = $2`, kind, name).Scan(&c.Tenant)
	if errors.Is(err, pgx.ErrNoRows) {
		return directory.Claim{}, problem.New(problem.NotFound, "nobody owns %s %q", kind, name)
	}
	if err != nil {
		return directory.Claim{}, fail(ctx, "find claim", err)
	}
	return c, nil
}

// A claimStep takes a name or gives it back.
type claimStep struct {
	kind, name string
	take       bool
}

// claimSteps turns one set of hosts into another, in the order of the names.
func claimSteps(from, to []string) []claimStep {
	steps := map[string]claimStep{}
	for _, h := range from {
		steps[h] = claimStep{kind: "host", name: h}
	}
	for _, h := range to {
		if _, kept := steps[h]; kept {
			delete(steps, h)
			continue
		}
		steps[h] = claimStep{kind: "host", name: h, take: true}
	}
	return slices.SortedFunc(maps.Values(steps), func(a, b claimStep) int { return strings.Compare(a.name, b.name) })
}

// trade does the steps in their order, which two tenants that want each other's
// names share: one waits for the other, never both.
func trade(ctx context.Context, tx pgx.Tx, id directory.TenantID, steps []claimStep) error {
	const (
		take = `INSERT INTO directory.claims (kind, name, tenant) VALUES ($1, $2, $3) ON CONFLICT (kind, name) DO NOTHING`
		give = `DELETE FROM directory.claims WHERE kind = $1 AND name = $2 AND tenant = $3`
	)
	if len(steps) == 0 {
		return nil
	}
	var batch pgx.Batch
	for _, s := range steps {
		sql := give
		if s.take {
			sql = take
		}
		batch.Queue(sql, s.kind, s.name, int64(id))
	}
	results := tx.SendBatch(ctx, &batch)
	defer results.Close()
	for _, s := range steps {
		tag, err := results.Exec()
		if err != nil {
			return fmt.Errorf("claim %s %q: %w", s.kind, s.name, err)
		}
		if tag.RowsAffected() == 0 {
			return problem.New(problem.Conflict, "%s %q is taken", s.kind, s.name)
		}
	}
	return results.Close()
}
