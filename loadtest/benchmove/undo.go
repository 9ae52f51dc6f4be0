package benchmove

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

func undoFigure() *measure {
	return &measure{
		Figure: figure.Figure{
			Name: "undo", Title: "taking a move back after many rows have changed",
			How: "a tenant of 1.2 times as many rows is moved; then the rows, 100,000 unless --changed says otherwise, are updated in one transaction at the " +
				"target, in which the watch notes their keys, and the move is undone while the tenant's clients write, at a fifth of --rate: at all of it " +
				"two cores are full, and the time says how busy they are. The time runs from asking for the undo to its watch. The whole move of the same tenant, just before, stands beside it.",
			Values: []figure.Value{
				figure.Describe("time", "ms", "<= 5000"), figure.Describe("pause", "ms", "<= 100"), figure.Describe("whole move of the same tenant", "ms", ""),
				figure.Describe("rows brought back", "", ""), figure.Describe("client-visible errors", "", "= 0"),
				figure.Describe("attempts aborted by a bound, repeated", "", ""),
			},
		},
		run: undoRun,
	}
}

func undoRun(ctx context.Context, l *lab, m *measure) error {
	w, err := l.running(ctx)
	if err != nil {
		return err
	}
	t, err := w.tenant(ctx, l.slug("undone"), w.cell(0))
	if err != nil {
		return err
	}
	if err := seed(ctx, w.state.Cells[0].DatabaseURL, t.ID, l.o.Changed*6/5, 100); err != nil {
		return err
	}
	for round := range l.o.Rounds {
		if err := w.undone(ctx, m, t); err != nil {
			return err
		}
		l.say("undo: round %d of %d", round+1, l.o.Rounds)
	}
	return nil
}

// undone moves a tenant, changes its rows and takes the move back.
func (w *world) undone(ctx context.Context, m *measure, t *loadtest.Tenant) error {
	there, err := w.move(ctx, directory.NewMove{Tenant: t.ID, Target: w.cell(1)})
	if err != nil {
		return err
	}
	if err := change(ctx, w.state.Cells[1].AppDatabaseURL, t.ID, there.Base+1, w.lab.o.Changed); err != nil {
		return err
	}
	load := write(ctx, max(1, w.lab.o.Rate/5), t)
	if !loadtest.Pause(ctx, settle) {
		return context.Cause(ctx)
	}
	back, err := w.move(ctx, directory.NewMove{Tenant: t.ID, Target: w.cell(0), Undoes: there.ID})
	if err != nil {
		return err
	}
	loadtest.Pause(ctx, settle) // writes at the move's epoch
	load.stop()
	h, err := readHistory(ctx, w.state.Cells[0], t.ID)
	if err != nil {
		return err
	}
	pause, ok := load.pause(h, back.Base+1)
	if !ok {
		return fmt.Errorf("undo %s: no write at its epoch or before", back.ID)
	}
	m.Add("time", ms(back.took))
	m.Add("pause", ms(pause))
	m.Add("whole move of the same tenant", ms(there.took))
	m.Add("rows brought back", float64(back.Rows))
	m.Add("client-visible errors", float64(len(load.faults)))
	m.Add("attempts aborted by a bound, repeated", float64(back.aborted))
	return w.complete(ctx, back.ID)
}

// change updates n of the tenant's seeded tasks in one transaction under its fence.
func change(ctx context.Context, url string, tenant directory.TenantID, epoch directory.Epoch, n int) error {
	return connected(ctx, url, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT cell.enter($1, $2)`, tenant, epoch); err != nil {
				return fmt.Errorf("enter tenant %d: %w", tenant, err)
			}
			tag, err := tx.Exec(ctx, `
				UPDATE projects.tasks SET title = 'changed', version = version + 1
				 WHERE tenant_id = $1 AND id IN (SELECT id FROM projects.tasks WHERE tenant_id = $1 LIMIT $2)`, tenant, n)
			if err != nil {
				return fmt.Errorf("change rows of tenant %d: %w", tenant, err)
			}
			if tag.RowsAffected() != int64(n) {
				return fmt.Errorf("changed %d rows of tenant %d, want %d", tag.RowsAffected(), tenant, n)
			}
			return nil
		})
	})
}
