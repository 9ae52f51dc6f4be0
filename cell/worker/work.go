package worker

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// work takes lanes in turn and does their events.
func (g *group) work(ctx context.Context) error {
	for {
		j, ok := g.lanes.next(ctx)
		if !ok {
			return nil
		}
		done, wait := g.do(ctx, &j)
		if ctx.Err() != nil {
			return nil // what is not done stays pending
		}
		if err := g.w.hook("applied"); err != nil {
			return err
		}
		stream, ids := outbox.Stream(outbox.Partition(j.tenant)), g.lanes.done(j, done, wait)
		if j.deleted {
			g.erase(ctx, stream, ids)
		}
		g.ack(ctx, stream, ids)
	}
}

// do works on a tenant's events for one transaction, or two where an event in
// the middle fails. It says up to which number all is done, and how long to wait
// before going on; j.epoch is corrected where the fence knows better, and j.ended says
// that there is nothing more.
func (g *group) do(ctx context.Context, j *job) (done int64, wait time.Duration) {
	for limit := maxBatch; ; {
		t, err := g.apply(ctx, *j, limit)
		refused, isRefused := fence.Refused(err)
		switch {
		case err == nil:
			g.count(t)
			j.ended = t.ended
			return t.done(), t.inbox.wait
		case ctx.Err() != nil:
			return 0, 0
		case isRefused && refused.State == fence.Active && refused.Epoch > j.epoch:
			j.epoch = refused.Epoch
		case isRefused && (refused.State == fence.Moved || refused.State == fence.Deleted):
			j.deleted = refused.State == fence.Deleted
			return j.upto, 0 // its rows, and what is to be done, are elsewhere now, or for nobody
		case isRefused:
			return 0, store.Jitter(g.w.o.Sweep) // not an attempt: the tenant may not act at the moment
		case len(t.events) == 0 || !blames(err, t):
			g.w.o.Log.WarnContext(ctx, "work on events", "consumer", g.consumer.Name, "tenant", j.tenant, "error", err)
			return 0, store.Jitter(g.w.o.Sweep)
		case t.handled == len(t.events) && len(t.events) > 1:
			limit = 1 // one of them fails at the end; find out which
		case t.handled > 0 && len(t.events) > 1:
			limit = t.handled // those before the one that failed
		default:
			return g.failed(ctx, *j, t, err)
		}
	}
}

// blames reports whether err is the doing of an event's consumer: what it
// returned, or what Postgres thinks of its statements at the end. A lost
// connection or a server that stops is nobody's attempt.
func blames(err error, t try) bool {
	switch {
	case errors.Is(err, problem.Unavailable):
		return false
	case errors.Is(err, store.ErrArgument), errors.Is(err, context.DeadlineExceeded):
		return true // what hangs with the whole database is not recorded, and so not counted
	}
	e, fromServer := errors.AsType[*pgconn.PgError](err)
	if !fromServer {
		return t.handled < len(t.events)
	}
	if e.Code == pg.QueryCanceled {
		return true
	}
	switch e.Code[:2] {
	case "08", "53", "57", "58", "XX": // connection, resources, operator, system, internal
		return false
	}
	return true
}

func (g *group) count(t try) {
	for _, e := range t.events {
		delay := time.Since(e.Time)
		g.w.metrics.consumed.WithLabelValues(g.consumer.Name).Inc()
		g.w.metrics.delay.WithLabelValues(g.consumer.Name).Observe(delay.Seconds())
		g.w.seen(delay)
	}
}

// sweep looks for events that the streams did not bring.
func (g *group) sweep(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := g.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			g.w.o.Log.WarnContext(ctx, "sweep", "consumer", g.consumer.Name, "error", err)
		}
		store.Wait(ctx, g.w.o.Sweep)
	}
	return nil
}
