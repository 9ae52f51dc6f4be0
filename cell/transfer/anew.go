package transfer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// beginAnew forgets what was received, because the source has lost what it knew of
// the changes since: its database was promoted or restored. The next round is a
// whole copy; until that is here, no undo of the same move begins with the copy that
// was kept. The error, where it succeeds, is Unavailable: ask again.
func (t *Target) beginAnew(ctx context.Context, s Step, undoes directory.MoveID, have Received) error {
	err := pgx.BeginFunc(ctx, t.pool, func(tx pgx.Tx) error {
		if err := enterMove(ctx, tx, s, "incoming"); err != nil {
			return err
		}
		const received = ` WHERE tenant_id = $1 AND move_id = $2 AND snapshot = $3 AND NOT final`
		forget, args := `DELETE FROM cell.received`+received, []any{s.Tenant, string(s.Move), have.Snapshot}
		if undoes != "" {
			forget, args = `UPDATE cell.received SET move_id = 'void:' || $4, round = 0`+received, append(args, string(undoes))
		}
		_, err := tx.Exec(ctx, forget, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("begin the copy anew: %w", err)
	}
	return problem.New(problem.Unavailable, "the source has lost what it knew of the changes: the copy begins anew")
}
