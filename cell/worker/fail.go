package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/pg"
)

// maxError bounds the text that is kept of an error.
const maxError = 4000

// failed writes down that the first event of the try failed, and makes it a dead
// letter where that was the last attempt. Where even that cannot be written, the
// fault lies elsewhere and the attempt does not count.
func (g *group) failed(ctx context.Context, j job, t try, cause error) (done int64, wait time.Duration) {
	e, attempt := t.events[0], t.inbox.attempts+1
	dead := attempt >= g.w.o.Attempts
	wait = g.backoff(attempt)
	text := pg.Text(cause.Error(), maxError)
	err := g.w.store.InTenant(ctx, j.tenant, j.epoch, func(ctx context.Context, tx *store.Tx) error {
		in, err := g.lockInbox(ctx, tx)
		if err != nil || in.last != t.inbox.last || in.attempts != t.inbox.attempts {
			return err // somebody else was here; what is so now is read again
		}
		if dead {
			return g.bury(ctx, tx, e, text, attempt)
		}
		_, err = tx.Exec(ctx, `UPDATE cell.inbox SET attempts = $3, error = $4, retry_at = clock_timestamp() + $5::interval
			WHERE tenant_id = $1 AND consumer = $2`, tx.Tenant, g.consumer.Name, attempt, text, wait)
		return err
	})
	if err != nil {
		g.w.o.Log.WarnContext(ctx, "record failure of event", "consumer", g.consumer.Name, "tenant", j.tenant, "error", errors.Join(err, cause))
		return 0, store.Jitter(g.w.o.Sweep)
	}
	g.w.metrics.failures.WithLabelValues(g.consumer.Name).Inc()
	if !dead {
		g.w.o.Log.WarnContext(ctx, "event failed", "consumer", g.consumer.Name, "tenant", j.tenant, "event", e.ID, "attempt", attempt, "error", cause)
		return t.inbox.last, wait
	}
	g.w.o.Log.ErrorContext(ctx, "event is a dead letter", "consumer", g.consumer.Name, "tenant", j.tenant, "event", e.ID, "attempt", attempt, "error", cause)
	g.w.metrics.dead.WithLabelValues(g.consumer.Name).Inc()
	return e.Seq, 0
}

// bury parks the event and goes past it.
func (g *group) bury(ctx context.Context, tx *store.Tx, e outbox.Event, text string, attempts int) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("bury event: %w", err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO cell.dead_letter (tenant_id, consumer, seq, event_id, type, event, error, attempts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id, consumer, seq) DO NOTHING`,
		tx.Tenant, g.consumer.Name, e.Seq, e.ID, e.Type, string(body), text, attempts); err != nil {
		return fmt.Errorf("bury event: %w", err)
	}
	g.moveInbox(tx, e.Seq)
	return nil
}

// backoff doubles with each attempt, up to its bound, and is jittered.
func (g *group) backoff(attempt int) time.Duration {
	d := g.w.o.Backoff
	for range attempt - 1 {
		d = min(2*d, g.w.o.MaxBackoff)
	}
	return store.Jitter(d)
}
