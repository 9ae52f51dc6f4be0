package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
)

const (
	batch      = 256             // events per XADD pipeline
	turn       = 4               // batches of one tenant before others get their turn
	scanLimit  = 10_000          // tenants per look at the database
	maxBackoff = 5 * time.Second // between tries while Redis or Postgres does not answer
	opTimeout  = 10 * time.Second
)

// RelayOptions say how a Relay runs; the zero value is fit for production.
type RelayOptions struct {
	Poll     time.Duration         // how often to look for events that no notification told of; 0 is 1 s
	MaxLen   int64                 // entries that a stream keeps, about; 0 is 100,000
	Log      *slog.Logger          // nil is slog's default
	Registry prometheus.Registerer // nil keeps the metrics to itself
}

func (o *RelayOptions) defaults() {
	if o.Poll == 0 {
		o.Poll = time.Second
	}
	if o.MaxLen == 0 {
		o.MaxLen = 100_000
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
}

// A Relay publishes the cell's events to its Redis streams. Any number may run;
// a partition is worked by one of them at a time, and if for a moment two do,
// events appear twice, never out of reach of their order.
type Relay struct {
	store   *store.Store
	redis   redis.UniversalClient
	o       RelayOptions
	metrics *metrics
	queues  [Partitions]*queue
	look    chan struct{}           // asks the scanner to look now
	hook    func(step string) error // tests stop the relay between two steps
}

// NewRelay makes a Relay for s's cell.
func NewRelay(s *store.Store, rdb redis.UniversalClient, o RelayOptions) *Relay {
	o.defaults()
	r := &Relay{
		store: s, redis: rdb, o: o, metrics: newMetrics(o.Registry, s.Cell()),
		look: make(chan struct{}, 1), hook: func(string) error { return nil },
	}
	for i := range r.queues {
		r.queues[i] = newQueue()
	}
	return r
}

// Run publishes until ctx ends; then it returns nil.
func (r *Relay) Run(ctx context.Context) error {
	keys := make([]int64, Partitions)
	for i := range keys {
		keys[i] = store.LockKey("relay", uint8(i))
	}
	g := run.NewGroup(telemetry.Untraced(ctx))
	g.Go("own partitions", func(ctx context.Context) error { return r.store.Own(ctx, keys, r.work) })
	g.Go("listen", func(ctx context.Context) error { return r.store.Listen(ctx, channel, r.heard) })
	g.Go("scan", r.scan)
	g.Go("observe", r.observe)
	return g.Wait()
}

// heard takes a notification: one tenant, or "" for look yourself.
func (r *Relay) heard(text string) {
	var t directory.TenantID
	var e directory.Epoch
	if _, err := fmt.Sscanf(text, "%d %d", &t, &e); err != nil || t <= 0 {
		r.lookNow()
		return
	}
	r.queues[Partition(t)].add(t, e)
}

func (r *Relay) lookNow() {
	select {
	case r.look <- struct{}{}:
	default:
	}
}

// scan finds what no notification told of: events from before the start, from a
// process that died after its commit or had too many to tell of, of a tenant that
// was frozen.
func (r *Relay) scan(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := r.scanOnce(ctx); err != nil && ctx.Err() == nil {
			r.o.Log.WarnContext(ctx, "look for events", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-r.look:
		case <-time.After(store.Jitter(r.o.Poll)):
		}
	}
	return nil
}

func (r *Relay) scanOnce(ctx context.Context) error {
	var owned []int32
	for i, q := range r.queues {
		if q.isOpen() {
			owned = append(owned, int32(i))
		}
	}
	if len(owned) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	rows, err := r.store.DB().Query(ctx, `SELECT tenant_id, epoch FROM cell.outbox_pending($1, $2, $3)`, owned, Partitions, scanLimit)
	if err != nil {
		return err
	}
	var t directory.TenantID
	var e directory.Epoch
	_, err = pgx.ForEachRow(rows, []any{&t, &e}, func() error {
		r.queues[Partition(t)].add(t, e)
		return nil
	})
	return err
}

// work publishes the events of one partition while ctx, the lease on it, lasts.
func (r *Relay) work(ctx context.Context, partition int) {
	q := r.queues[partition]
	q.open()
	defer q.close()
	r.lookNow()
	backoff := time.Duration(0)
	for {
		t, epoch, ok := q.next(ctx)
		if !ok {
			return
		}
		more, err := r.publish(ctx, t, epoch)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			backoff = 0
			if more {
				q.add(t, epoch)
			}
		case errors.Is(err, problem.Stale):
			// Not here, or not now: the scanner finds it when the tenant may act again.
		default:
			q.add(t, epoch)
			backoff = min(max(2*backoff, 100*time.Millisecond), maxBackoff)
			r.o.Log.WarnContext(ctx, "publish events", "tenant", t, "error", err)
			store.Wait(ctx, backoff)
		}
	}
}

// publish sends the tenant's events that are not yet published, in order, and
// says whether some may be left. The cursor follows the events: a crash between
// the two repeats them.
func (r *Relay) publish(ctx context.Context, t directory.TenantID, epoch directory.Epoch) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for range turn {
		events, err := r.read(ctx, t, epoch)
		if err != nil || len(events) == 0 {
			return false, err
		}
		if err := r.hook("read"); err != nil {
			return false, err
		}
		if err := r.send(ctx, events); err != nil {
			return false, err
		}
		if err := r.hook("sent"); err != nil {
			return false, err
		}
		if err := r.record(ctx, t, epoch, events[len(events)-1].Seq); err != nil {
			return false, err
		}
		if len(events) < batch {
			return false, nil // what came since, a notification tells of
		}
	}
	return true, nil
}

// read reads what follows the cursor.
func (r *Relay) read(ctx context.Context, t directory.TenantID, epoch directory.Epoch) (events []Event, err error) {
	err = r.store.Batch(ctx, t, epoch, func(b *pgx.Batch) {
		b.Queue(selectEvents+`
			 WHERE tenant_id = $1 AND seq > coalesce((SELECT published FROM cell.outbox_cursor WHERE tenant_id = $1), 0)
			 ORDER BY seq
			 LIMIT $2`, t, batch).Query(func(rows pgx.Rows) (err error) {
			events, err = collect(rows)
			return err
		})
	})
	return events, err
}

// moveCursor never moves back: an older relay may still be at work. A cursor lost
// in a crash of the database costs repetition, so its commit waits for no disk.
const moveCursor = `
	INSERT INTO cell.outbox_cursor AS c (tenant_id, published)
	SELECT $1, $2
	  FROM set_config('synchronous_commit', 'off', true)
	    ON CONFLICT (tenant_id) DO UPDATE SET published = greatest(c.published, excluded.published)`

// record says that events up to seq are published.
func (r *Relay) record(ctx context.Context, t directory.TenantID, epoch directory.Epoch, seq int64) error {
	if err := r.store.Batch(ctx, t, epoch, func(b *pgx.Batch) { b.Queue(moveCursor, t, seq) }); err != nil {
		return fmt.Errorf("move cursor: %w", err)
	}
	return nil
}
