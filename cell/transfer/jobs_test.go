package transfer_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/jobs"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
)

// fired takes what jobs did, as often as they did it.
const fired = `
	CREATE SCHEMA app;
	GRANT USAGE ON SCHEMA app TO cell_app;
	CREATE TABLE app.fired (tenant_id bigint NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), what text NOT NULL, PRIMARY KEY (tenant_id, id))`

// work runs a cell's jobs until the test ends. A job's effect takes a moment.
func (c *cell) work(t *testing.T) {
	t.Helper()
	r, err := jobs.NewRunner(c.app, []jobs.Kind{{Name: "test.fire", Handle: func(ctx context.Context, tx *store.Tx, j jobs.Job) error {
		_, err := tx.Exec(ctx, `INSERT INTO app.fired (tenant_id, what)
			SELECT $1, $2::json #>> '{}' || coalesce(nullif($3, ''), '') FROM pg_sleep(0.02)`, tx.Tenant, string(j.Payload), j.Key)
		return err
	}}}, jobs.Options{Poll: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// texts reads one column as the owner.
func (c *cell) texts(t *testing.T, sql string) []string {
	t.Helper()
	rows, err := c.owner.Query(t.Context(), sql)
	must(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return out
}

// TestJobsAndSchedulesMoveWithTheirTenant: both cells' workers run all the time,
// jobs fall due before, during and after two moves and an undo, and a schedule
// fires ten times a second: each job has its effect once, and the schedule's jobs
// have no time twice.
func TestJobsAndSchedulesMoveWithTheirTenant(t *testing.T) {
	t.Parallel()
	a, b := newCell(t, "a", fired, "app.fired"), newCell(t, "b", fired, "app.fired")
	if _, err := fence.Admit(t.Context(), a.app.DB(), mover, 1); err != nil {
		t.Fatal(err)
	}
	const n = 150
	must(t, a.app.InTenant(t.Context(), mover, 1, func(ctx context.Context, tx *store.Tx) error {
		for i := range n {
			if _, err := jobs.Enqueue(ctx, tx, jobs.New{
				Kind: "test.fire", Payload: fmt.Sprintf("job %03d", i), At: time.Now().Add(time.Duration(i) * 20 * time.Millisecond), Attempts: 1,
			}); err != nil {
				return err
			}
		}
		return jobs.Plan(ctx, tx, jobs.Schedule{Name: "s", Kind: "test.fire", Payload: "tick ", Every: 100 * time.Millisecond})
	}))
	a.work(t)
	b.work(t)
	await := func(c *cell, least int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); len(c.texts(t, `SELECT what FROM app.fired WHERE what LIKE 'job%'`)) < least; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d jobs were not done in time: %v", least, c.texts(t, `SELECT state || ' ' || count(*) FROM cell.job GROUP BY state`))
			}
		}
	}
	await(a, n/4)
	steps(t, a, b, transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"})
	await(b, n/2)
	steps(t, b, a, transfer.Move{ID: "mv_2", Tenant: mover, Base: 2, Source: "b", Target: "a", Undoes: "mv_1"})
	await(a, n)
	must(t, a.do(t, mover, 3, `DELETE FROM cell.schedule`))
	wantOnce(t, a, n)
}

// wantOnce holds that each job had its effect once, and each time of the schedule
// one job, in step.
func wantOnce(t *testing.T, c *cell, n int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); len(c.texts(t, `SELECT id::text FROM cell.job WHERE state <> 'done'`)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("jobs were not done: %v", c.texts(t, `SELECT state || ' ' || kind || ' ' || error FROM cell.job WHERE state <> 'done'`))
		}
	}
	if got := c.texts(t, `SELECT DISTINCT what FROM app.fired WHERE what LIKE 'job%'`); len(got) != n {
		t.Errorf("%d of %d jobs had their effect", len(got), n)
	}
	if twice := c.texts(t, `SELECT what FROM app.fired GROUP BY what HAVING count(*) > 1`); len(twice) > 0 {
		t.Errorf("had their effect twice: %q", twice)
	}
	ticks := c.texts(t, `SELECT key FROM cell.job WHERE key IS NOT NULL AND NOT EXISTS (SELECT FROM app.fired WHERE what = 'tick ' || key)`)
	if len(ticks) > 0 {
		t.Errorf("times of the schedule without an effect: %q", ticks)
	}
	off := c.texts(t, `SELECT key FROM (SELECT key, due_at - lag(due_at) OVER (ORDER BY due_at) AS step FROM cell.job WHERE key IS NOT NULL) s
		WHERE (extract(epoch FROM step) * 1000)::bigint % 100 <> 0`)
	if len(off) > 0 {
		t.Errorf("times of the schedule out of step: %q", off)
	}
}

// A job that was claimed and not done when its tenant left is done at the target.
func TestAClaimDoesNotSurviveTheMove(t *testing.T) {
	t.Parallel()
	a, b := newCell(t, "a", fired, "app.fired"), newCell(t, "b", fired, "app.fired")
	if _, err := fence.Admit(t.Context(), a.app.DB(), mover, 1); err != nil {
		t.Fatal(err)
	}
	must(t, a.app.InTenant(t.Context(), mover, 1, func(ctx context.Context, tx *store.Tx) error {
		_, err := jobs.Enqueue(ctx, tx, jobs.New{Kind: "test.fire", Payload: "job", Attempts: 1})
		return err
	}))
	// As a worker that stands still after its claim leaves it.
	must(t, a.do(t, mover, 1, `UPDATE cell.job SET state = 'running', attempt = 1, claimed_epoch = 1, claimed_until = now() + interval '1 hour'`))
	steps(t, a, b, transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"})
	b.work(t)
	for end := time.Now().Add(30 * time.Second); len(b.texts(t, `SELECT what FROM app.fired`)) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the job was lost")
		}
	}
	if got := b.texts(t, `SELECT state || attempt FROM cell.job`); len(got) != 1 || got[0] != "done2" {
		t.Errorf("job: got %q, want done by attempt 2", got)
	}
	var at directory.Epoch
	must(t, b.owner.QueryRow(t.Context(), `SELECT claimed_epoch FROM cell.job`).Scan(&at))
	if at != 2 {
		t.Errorf("claimed at epoch %d, want 2", at)
	}
}
