package store

import (
	"cmp"
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
)

const listTenants = selectTenants + `
	 WHERE t.id > $1 AND t.state <> 'deleted' AND ($2 = '' OR t.cell = $2)
	 ORDER BY t.id
	 LIMIT $3`

// tenantWords is what the index tenants_words is made of.
const tenantWords = `to_tsvector('simple', translate(t.slug || ' ' || t.name, '-_./@:+<>&', '          '))`

// findTenants is listTenants of those that have words which begin with each of $4. It reads those
// first: in the order of ids it would go through all that there are, to find one.
const findTenants = selectTenants + `
	 WHERE t.id = ANY (ARRAY(
	       WITH found AS MATERIALIZED (
	            SELECT t.id, t.cell
	              FROM directory.tenants t
	             WHERE t.state <> 'deleted' AND ` + tenantWords + ` @@ to_tsquery('simple', $4))
	     SELECT id FROM found WHERE id > $1 AND ($2 = '' OR cell = $2) ORDER BY id LIMIT $3))
	 ORDER BY t.id`

// ListTenants implements directory.Tenants.
func (s *Store) ListTenants(ctx context.Context, of directory.TenantFilter, after directory.TenantID, limit int) ([]directory.Tenant, error) {
	if err := cmp.Or(directory.CheckLimit(limit), of.Validate()); err != nil {
		return nil, err
	}
	page, args := listTenants, []any{int64(after), string(of.Cell), limit}
	if words := directory.Words(of.Name); len(words) > 0 {
		page, args = findTenants, append(args, strings.Join(words, ":* & ")+":*") // they are letters and digits
	}
	rows, err := s.pool.Query(ctx, page, args...)
	if err != nil {
		return nil, fail(ctx, "list tenants", err)
	}
	list, err := pgx.CollectRows(rows, scanTenant)
	if err != nil {
		return nil, fail(ctx, "list tenants", err)
	}
	out := make([]directory.Tenant, len(list))
	for i, t := range list {
		out[i] = t.Tenant
	}
	return out, nil
}
