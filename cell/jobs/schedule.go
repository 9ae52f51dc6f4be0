package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/cellway/cellway/cell/store"
)

// minEvery is the shortest period of a schedule; the table holds it as well.
const minEvery = 100 * time.Millisecond

// A Schedule makes a job each time that it is due: at First, First + Every,
// First + 2*Every, and so on, whatever the calendar says. Times that pass while
// nobody can act for the tenant are made up for by one job, in the name of the
// first of them; the next one is on time again.
type Schedule struct {
	Name    string // of the tenant's schedules
	Kind    string // of the jobs
	Payload any    // of each job; becomes JSON
	Every   time.Duration
	First   time.Time // zero is one Every from now
}

const plan = `
	INSERT INTO cell.schedule AS s (tenant_id, name, kind, payload, every, next_run)
	VALUES ($1, $2, $3, $4, $5, coalesce($6::timestamptz, clock_timestamp() + $5::interval))
	    ON CONFLICT (tenant_id, name) DO UPDATE
	   SET kind = excluded.kind, payload = excluded.payload, every = excluded.every,
	       next_run = CASE WHEN $6::timestamptz IS NULL THEN least(s.next_run, excluded.next_run) ELSE excluded.next_run END
	 WHERE (s.kind, s.payload::text, s.every) IS DISTINCT FROM (excluded.kind, excluded.payload::text, excluded.every)
	    OR $6::timestamptz IS NOT NULL`

// Plan sets up a schedule of tx's tenant, or changes it. Without First it leaves
// one that is the same as it is, and never puts off what is due earlier.
func Plan(ctx context.Context, tx *store.Tx, s Schedule) error {
	payload, err := encode(s.Kind, s.Payload)
	if err != nil {
		return err
	}
	if s.Every < minEvery {
		return fmt.Errorf("plan %s: every %v is shorter than %v", s.Name, s.Every, minEvery)
	}
	var first *time.Time
	if !s.First.IsZero() {
		first = &s.First
	}
	if _, err := tx.Exec(ctx, plan, tx.Tenant, s.Name, s.Kind, payload, s.Every, first); err != nil {
		return fmt.Errorf("plan %s: %w", s.Name, err)
	}
	return nil
}

// Unplan ends a schedule. Jobs that it has made stay.
func Unplan(ctx context.Context, tx *store.Tx, name string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM cell.schedule WHERE tenant_id = $1 AND name = $2`, tx.Tenant, name); err != nil {
		return fmt.Errorf("unplan %s: %w", name, err)
	}
	return nil
}

// fire makes the jobs of the schedules that are due, of the kinds that the worker knows,
// and moves these on, in one statement. The job's key is the schedule and its time, so that one time has
// one job even where two fire at once.
const fire = `
	WITH due AS (
	    SELECT name, kind, payload, every, next_run, clock_timestamp() AS now
	      FROM cell.schedule
	     WHERE tenant_id = $1 AND next_run <= clock_timestamp() AND kind = ANY ($3)
	       FOR UPDATE SKIP LOCKED),
	made AS (
	    INSERT INTO cell.job (tenant_id, id, kind, key, payload, max_attempts, due_at, run_at)
	    SELECT $1, gen_random_uuid(), kind, name || '@' || extract(epoch FROM next_run), payload, $2, next_run, next_run
	      FROM due
	        ON CONFLICT (tenant_id, kind, key) DO NOTHING)
	UPDATE cell.schedule s
	   SET next_run = due.next_run + due.every
	                  * (1 + floor(extract(epoch FROM due.now - due.next_run) / extract(epoch FROM due.every)))::double precision
	  FROM due
	 WHERE s.tenant_id = $1 AND s.name = due.name`
