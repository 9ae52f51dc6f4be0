package transfer

import (
	"context"
	"fmt"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

// Digests hashes all of a tenant's rows, by table. Two cells hold the same if and
// (up to a chance of 2^-128) only if their digests are equal.
func Digests(ctx context.Context, db pg.DB, tenant directory.TenantID) (map[string]Digest, error) {
	list, err := Tables(ctx, db)
	if err != nil {
		return nil, err
	}
	out := make(map[string]Digest, len(list))
	for _, t := range list {
		d, err := scanDigest(db.QueryRow(ctx, fmt.Sprintf("SELECT %s FROM %s t WHERE t.tenant_id = $1", t.digest(), t.Name), tenant))
		if err != nil {
			return nil, fmt.Errorf("hash %s: %w", t.Label, err)
		}
		out[t.Label] = d
	}
	return out, nil
}
