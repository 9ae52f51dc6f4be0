package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/telemetry"
)

// rescue frees jobs whose claim is void: its worker is dead or too slow, or the
// claim is of an older epoch, from before the tenant moved or stood still. Only
// the first counts towards giving up: a move is no fault of the job, which has one
// more attempt for it, under a number of its own. SKIP LOCKED leaves alone what is
// being done at this moment.
const rescue = `
	UPDATE cell.job j
	   SET state = CASE WHEN v.given_up THEN 'dead' ELSE 'available' END,
	       ended_at = CASE WHEN v.given_up THEN clock_timestamp() END,
	       error = CASE WHEN v.given_up AND j.error = '' THEN 'its worker did not finish' ELSE j.error END,
	       max_attempts = j.max_attempts + CASE WHEN v.moved THEN 1 ELSE 0 END
	  FROM (SELECT id, claimed_epoch < $2 AS moved, claimed_epoch = $2 AND attempt >= max_attempts AS given_up
	          FROM cell.job
	         WHERE tenant_id = $1 AND state = 'running' AND (claimed_epoch < $2 OR claimed_until <= clock_timestamp())
	           FOR UPDATE SKIP LOCKED) v
	 WHERE j.tenant_id = $1 AND j.id = v.id`

// claim takes the job that has been due for longest.
const claim = `
	UPDATE cell.job j
	   SET state = 'running', attempt = j.attempt + 1, claimed_epoch = $2, claimed_until = clock_timestamp() + $4::interval
	 WHERE j.tenant_id = $1
	   AND j.id = (SELECT id FROM cell.job
	                WHERE tenant_id = $1 AND state = 'available' AND run_at <= clock_timestamp() AND kind = ANY ($3)
	                ORDER BY run_at LIMIT 1
	                  FOR UPDATE SKIP LOCKED)
	RETURNING j.id::text, j.kind, j.attempt, j.max_attempts, j.traceparent, j.claimed_until,
	          extract(epoch FROM clock_timestamp() - j.run_at)::double precision`

// turn does one job of the tenant, if one is due; then there may be more.
func (r *Runner) turn(ctx context.Context, t directory.TenantID, e directory.Epoch) (more bool, err error) {
	j, err := r.claim(ctx, t, e)
	if refused, ok := fence.Refused(err); ok {
		if refused.State == fence.Active && refused.Epoch > e {
			r.line.add(t, refused.Epoch)
		}
		return false, nil // not here, or not now: the scanner finds it when the tenant may act
	}
	if err != nil || j == nil {
		return false, err
	}
	if err := r.hook("claimed"); err != nil {
		return false, err
	}
	err = r.do(ctx, t, e, *j)
	if herr := r.hook("done"); herr != nil {
		return false, herr
	}
	r.settle(ctx, t, e, *j, err)
	return true, nil
}

// claim fires what is due, frees what is void, and takes one job; nil where
// there is none.
func (r *Runner) claim(ctx context.Context, t directory.TenantID, e directory.Epoch) (j *Job, err error) {
	// Also where ctx ends meanwhile: what is claimed is known then, and given back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scanTimeout)
	defer cancel()
	err = r.store.Batch(ctx, t, e, func(b *pgx.Batch) {
		b.Queue(rescue, t, e)
		b.Queue(fire, t, DefaultAttempts, r.names)
		b.Queue(claim, t, e, r.names, r.o.Claim).QueryRow(func(row pgx.Row) error {
			var got Job
			var waited float64
			err := row.Scan(&got.ID, &got.Kind, &got.Attempt, &got.max, &got.traceparent, &got.until, &waited)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			got.waited = time.Duration(waited * float64(time.Second))
			j = &got
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("claim job: %w", err)
	}
	return j, nil
}

// errLost says that the job is no longer the claim's: it was replaced, taken back,
// or freed because its worker was too slow.
var errLost = errors.New("the claim is void")

// hold locks the job for whoever has claimed it.
const hold = `
	SELECT coalesce(key, ''), payload::text, due_at
	  FROM cell.job
	 WHERE tenant_id = $1 AND id = $2 AND state = 'running' AND attempt = $3
	   FOR UPDATE`

const finish = `
	UPDATE cell.job
	   SET state = 'done', ended_at = clock_timestamp(), error = ''
	 WHERE tenant_id = $1 AND id = $2`

// do has the job's effect and ends the job, in one transaction.
func (r *Runner) do(ctx context.Context, t directory.TenantID, e directory.Epoch, j Job) (err error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.HandleTimeout)
	defer cancel()
	ctx, span := j.span(ctx, t, e)
	defer func() { endSpan(span, err) }()
	held := false
	holdIt := func(b *pgx.Batch) {
		b.Queue(hold, t, j.ID, j.Attempt).QueryRow(func(row pgx.Row) error {
			var payload string
			err := row.Scan(&j.Key, &payload, &j.Due)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			held, j.Payload, j.Due = err == nil, []byte(payload), j.Due.UTC()
			return err
		})
	}
	return r.store.InTenantFirst(ctx, t, e, holdIt, func(ctx context.Context, tx *store.Tx) error {
		if !held {
			return errLost
		}
		if err := r.kinds[j.Kind].call(ctx, tx, j); err != nil {
			return &fault{err}
		}
		tx.Queue(finish, t, j.ID)
		return r.hook("handled")
	})
}

// span continues the trace of who asked for the job, if it was traced.
func (j Job) span(ctx context.Context, t directory.TenantID, e directory.Epoch) (context.Context, trace.Span) {
	if j.traceparent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": j.traceparent})
	}
	return otel.Tracer("github.com/cellway/cellway/cell/jobs").Start(ctx, "job "+j.Kind, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("messaging.message.id", j.ID), attribute.Int("cellway.job.attempt", j.Attempt),
			telemetry.TenantKey.Int64(int64(t)), telemetry.EpochKey.Int64(int64(e))))
}

func endSpan(s trace.Span, err error) {
	if err != nil {
		s.RecordError(err)
		s.SetStatus(codes.Error, "")
	}
	s.End()
}
