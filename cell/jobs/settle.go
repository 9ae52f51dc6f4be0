package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// maxError bounds the text that is kept of an error.
const maxError = 4000

// settleTimeout bounds the record of what became of an attempt.
const settleTimeout = 5 * time.Second

// A fault is an error of the handler's doing.
type fault struct{ cause error }

func (f *fault) Error() string { return f.cause.Error() }
func (f *fault) Unwrap() error { return f.cause }

// Outcomes of an attempt: label of cell_jobs_total.
const (
	outcomeDone   = "done"
	outcomeFailed = "failed"
	outcomeDead   = "dead"
	outcomeLost   = "lost"  // its claim was void
	outcomeStale  = "stale" // the tenant may not act here any more; the job goes along
	outcomeFreed  = "freed" // no fault of the job: the process stops, the database or Redis is gone
)

// settle writes down what became of an attempt. What it cannot write down, the
// claim's end will tell.
func (r *Runner) settle(ctx context.Context, t directory.TenantID, e directory.Epoch, j Job, err error) {
	if err == nil {
		r.metrics.wait.WithLabelValues(j.Kind).Observe(j.waited.Seconds())
		r.count(j, outcomeDone)
		return
	}
	stopping, wait := ctx.Err() != nil, r.backoff(j.Attempt)
	if stopping {
		wait = 0
	}
	outcome := judge(err, stopping)
	if outcome == outcomeFailed && j.Attempt >= j.max {
		outcome = outcomeDead
	}
	r.count(j, outcome)
	log := r.o.Log.With("kind", j.Kind, "tenant", t, "job", j.ID, "attempt", j.Attempt, "outcome", outcome)
	switch outcome {
	case outcomeLost, outcomeStale:
		return
	case outcomeDead:
		log.ErrorContext(ctx, "job is given up", "error", err)
	default:
		log.WarnContext(ctx, "job was not done", "error", err)
	}
	// What is no attempt is given back when the database is there again, while the claim lasts:
	// after that it would count. A process that stops tries once, which outlives ctx.
	for end, first := time.Now().Add(r.o.Claim), true; ; first = false {
		rerr := r.record(ctx, t, e, j, outcome, wait, err)
		if rerr == nil || errors.Is(rerr, problem.Stale) {
			return
		}
		if first {
			log.WarnContext(ctx, "record outcome of job", "error", rerr)
		}
		if outcome != outcomeFreed || ctx.Err() != nil || time.Now().After(end) {
			return
		}
		store.Wait(ctx, cannotWork)
	}
}

func (r *Runner) count(j Job, outcome string) {
	r.metrics.attempts.WithLabelValues(j.Kind, outcome).Inc()
}

// judge says whose doing err is. Of what Postgres says, a lost connection or a
// server that stops is nobody's attempt.
func judge(err error, stopping bool) string {
	switch {
	case errors.Is(err, errLost):
		return outcomeLost
	case errors.Is(err, problem.Stale):
		return outcomeStale
	case stopping, errors.Is(err, problem.Unavailable):
		return outcomeFreed
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if e.Code == pg.QueryCanceled { // class 57 as well, but a statement that took too long is the job's
			return outcomeFailed
		}
		switch e.Code[:2] {
		case "08", "53", "57", "58", "XX": // connection, resources, operator, system, internal
			return outcomeFreed
		}
		return outcomeFailed // also at the commit: a constraint that is checked there
	}
	if _, ok := errors.AsType[*fault](err); ok || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrArgument) {
		return outcomeFailed
	}
	return outcomeFreed
}

// free ends the attempt as if it had not been. Where the process does not stop, the
// job waits for $4: the fault may last, and what is due for longest is claimed first,
// again at once and before the tenant's other jobs. It may be sent again after it was
// done, and then the attempt of that number may be somebody else's: its claim ends later.
const free = `
	UPDATE cell.job
	   SET state = 'available', attempt = attempt - 1,
	       run_at = CASE WHEN $4::interval = '0' THEN run_at ELSE clock_timestamp() + $4::interval END
	 WHERE tenant_id = $1 AND id = $2 AND state = 'running' AND attempt = $3 AND claimed_until = $5`

const fail = `
	UPDATE cell.job
	   SET state = CASE WHEN $4 THEN 'dead' ELSE 'available' END,
	       ended_at = CASE WHEN $4 THEN clock_timestamp() END,
	       run_at = clock_timestamp() + $5::interval, error = $6
	 WHERE tenant_id = $1 AND id = $2 AND state = 'running' AND attempt = $3`

func (r *Runner) record(ctx context.Context, t directory.TenantID, e directory.Epoch, j Job, outcome string, wait time.Duration, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return r.store.InTenant(ctx, t, e, func(ctx context.Context, tx *store.Tx) error {
		if outcome == outcomeFreed {
			_, err := tx.Exec(ctx, free, t, j.ID, j.Attempt, wait, j.until)
			return err
		}
		_, err := tx.Exec(ctx, fail, t, j.ID, j.Attempt, outcome == outcomeDead, wait, pg.Text(cause.Error(), maxError))
		return err
	})
}

// backoff doubles with each attempt, up to its bound, and is jittered.
func (r *Runner) backoff(attempt int) time.Duration {
	d := r.o.Backoff
	for range attempt - 1 {
		d = min(2*d, r.o.MaxBackoff)
	}
	return store.Jitter(d)
}
