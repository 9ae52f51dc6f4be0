package transfer_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/problem"
)

// errUndone is why a part of a writer's transaction is rolled back.
var errUndone = errors.New("undone")

// write inserts, updates, deletes and renames keys until the fence refuses, under
// locks, by a cursor, in savepoints and in some that are rolled back, and
// returns how many transactions were acknowledged.
func write(ctx context.Context, c *cell, w int) (acked int64) {
	levels := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}
	for i := 0; ; i++ {
		err := c.app.InTenantWith(ctx, pgx.TxOptions{IsoLevel: levels[w%3]}, mover, 1, func(ctx context.Context, tx *store.Tx) error {
			err := execAll(ctx, tx, fmt.Sprintf(`
				SELECT v FROM app.counter FOR UPDATE;
				UPDATE app.counter SET v = v + 1;
				INSERT INTO app.event (tenant_id, at, no, what) VALUES (7, '2025-12-01'::date + %[1]d %% 60, 1000 + %[1]d * 10 + %[2]d, 'w');
				UPDATE app.part SET label = 'w%[1]d' WHERE no = %[1]d %% 4 + 1;
				UPDATE app.event SET no = no + 100000, at = at + 1 WHERE no = 1000 + (%[1]d - 3) * 10 + %[2]d;
				DELETE FROM app.event WHERE no = 1000 + (%[1]d - 5) * 10 + %[2]d + 100000`, i, w))
			if err != nil {
				return err
			}
			if err := tx.Savepoint(ctx, func(ctx context.Context, tx *store.Tx) error {
				return execAll(ctx, tx, fmt.Sprintf(`
					DECLARE few CURSOR FOR SELECT FROM app.counter FOR UPDATE;
					FETCH few;
					UPDATE app.counter SET v = v WHERE CURRENT OF few;
					UPDATE app.bucket SET v = v + 20 WHERE v %% 20 = %[1]d %% 20;
					UPDATE app.place SET land = CASE land WHEN 'li' THEN 'lu' ELSE 'li' END WHERE land IN ('li', 'lu') AND no = 7 + %[1]d %% 6;
					UPDATE app.nick SET nick = CASE WHEN nick::text = 'Bob' THEN 'bob' ELSE 'Bob' END WHERE n = 1`, i))
			}); err != nil {
				return err
			}
			undone := tx.Savepoint(ctx, func(ctx context.Context, tx *store.Tx) error {
				if err := execAll(ctx, tx, `UPDATE app.counter SET v = v + 1000; DELETE FROM app.bucket; UPDATE app.nick SET n = n + 2`); err != nil {
					return err
				}
				return errUndone
			})
			if !errors.Is(undone, errUndone) {
				return undone
			}
			return nil
		})
		switch {
		case err == nil:
			acked++
		case errors.Is(err, problem.Stale), ctx.Err() != nil:
			return acked
		}
	}
}

// pour writes by COPY until the fence refuses, and returns how many rows were acknowledged. Row security keeps the
// application from COPY: it is the owner who imports.
func pour(ctx context.Context, owner *pgx.Conn) (acked int64) {
	for i := 0; ; i++ {
		err := pgx.BeginFunc(ctx, owner, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT cell.enter(7, 1)`); err != nil {
				return err
			}
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"app", "place"}, []string{"tenant_id", "land", "no"}, pgx.CopyFromRows([][]any{
				{int64(mover), "li", 100_000 + i}, {int64(mover), "de", 100_000 + i}, {int64(mover), "at", 100_000 + i},
			}))
			return err
		})
		switch {
		case err == nil:
			acked += 3
		case errors.Is(fence.Refusal(err), problem.Stale), ctx.Err() != nil:
			return acked
		}
	}
}
