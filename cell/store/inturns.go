package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// An Owner is a tenant that may act here at an epoch, as what looks for work tells.
type Owner struct {
	Tenant directory.TenantID
	Epoch  directory.Epoch
}

// InTurns runs a statement that changes at most batch rows, each time in a transaction of
// one of the owners, until it has changed fewer for each of them. They take turns: one that
// has very many rows keeps no other waiting. One that may not act here any more is passed
// over. args are those of the owner with that index. It returns how many rows it has changed
// in all, with an error too.
func (s *Store) InTurns(ctx context.Context, owners []Owner, batch int64, sql string, args func(i int) []any) (all int64, err error) {
	turns := make([]int, len(owners))
	for i := range turns {
		turns[i] = i
	}
	for len(turns) > 0 {
		var again []int
		for _, i := range turns {
			var n int64
			err := s.InTenant(ctx, owners[i].Tenant, owners[i].Epoch, func(ctx context.Context, tx *Tx) error {
				tag, err := tx.Exec(ctx, sql, args(i)...)
				n = tag.RowsAffected()
				return err
			})
			switch {
			case errors.Is(err, problem.Stale):
			case err != nil:
				return all, fmt.Errorf("tenant %d: %w", owners[i].Tenant, err)
			case n == batch:
				again = append(again, i)
				all += n
			default:
				all += n
			}
		}
		turns = again
	}
	return all, nil
}
