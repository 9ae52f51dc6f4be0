package jobs

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/testkit"
)

// TestTheBacklogReadsOnlyWhatWaits: it is asked for every few seconds. Jobs that were done, of
// which a busy cell has millions, and alarms of later cost nothing.
func TestTheBacklogReadsOnlyWhatWaits(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1, 2)
	const fill = `INSERT INTO cell.job (tenant_id, id, kind, payload, state, max_attempts, due_at, run_at, ended_at, error)
		SELECT $1, gen_random_uuid(), $2, '{}', $3, 1, $4, $5, CASE WHEN $3 IN ('done', 'dead') THEN now() END, $6 FROM generate_series(1, $7)`
	now := time.Now()
	early, late := now.Add(-time.Hour), now.Add(24*time.Hour)
	for _, some := range []struct {
		state, err string
		due, run   time.Time
		n          int
	}{
		{state: "done", due: early, run: early, n: 20_000},
		{state: "available", due: late, run: late, n: 5000},
		{state: "available", due: early, run: early, n: 3},
		{state: "available", due: early, run: late, n: 2},                 // met a fault that is not its own
		{state: "available", err: "its own", due: early, run: late, n: 4}, // has its time before it
		{state: "dead", err: "its own", due: early, run: early, n: 6},
	} {
		w.in(t, 1, 1, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, fill, tx.Tenant, kind, some.state, some.due, some.run, some.err, some.n)
			return err
		})
	}
	if _, err := w.owner.Exec(t.Context(), `ANALYZE cell.job, cell.fence`); err != nil {
		t.Fatal(err)
	}
	var body string
	if err := w.owner.QueryRow(t.Context(), `SELECT pg_get_function_sqlbody('cell.jobs_backlog()'::regprocedure)`).Scan(&body); err != nil {
		t.Fatal(err)
	}
	body = strings.TrimSuffix(strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(body, "BEGIN ATOMIC"), "END")), ";")
	if n, how := testkit.RowsRead(t, w.owner, body); n < 11 || n > 100 {
		t.Errorf("it reads %v rows for 11 jobs of 25,015:\n%s", n, how)
	}
	r := w.runner(t, quick(), noting)
	if err := r.observeOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	due, oldest, dead := testutil.ToFloat64(r.metrics.due), testutil.ToFloat64(r.metrics.oldest), testutil.ToFloat64(r.metrics.dead)
	if due != 5 || oldest < 3600 || dead != 6 {
		t.Errorf("%v jobs are due, the oldest for %v s, %v were given up; want 5, an hour, 6", due, oldest, dead)
	}
}
