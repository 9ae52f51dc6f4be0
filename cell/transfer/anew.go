package transfer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/problem"
)

// beginAnew forgets what was received, because the source has lost what it knew of
// the changes since: its database was promoted or restored. The next round is a
// whole copy. The error, where it succeeds, is Unavailable: ask again.
func (t *Target) beginAnew(ctx context.Context, s Step, have Received) error {
	err := pgx.BeginFunc(ctx, t.pool, func(tx pgx.Tx) error {
		if err := enterMove(ctx, tx, s, "incoming"); err != nil {
			return err
		}
		const forget = `DELETE FROM cell.received WHERE tenant_id = $1 AND move_id = $2 AND snapshot = $3 AND NOT final`
		_, err := tx.Exec(ctx, forget, s.Tenant, string(s.Move), have.Snapshot)
		return err
	})
	if err != nil {
		return fmt.Errorf("begin the copy anew: %w", err)
	}
	return problem.New(problem.Unavailable, "the source has lost what it knew of the changes: the copy begins anew")
}
