package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
)

// maxBatch is how many events of one tenant share a transaction at most, and maxTime for
// how long others may join the first one: a freeze of the tenant waits for all of them.
const (
	maxBatch = 64
	maxTime  = 50 * time.Millisecond
)

// An inbox is how far the consumer is with a tenant.
type inbox struct {
	last     int64         // the number of the last event done
	attempts int           // failed tries of the one after it
	wait     time.Duration // before the next try
}

// A try is one transaction's worth of events, and what came of it.
type try struct {
	inbox   inbox          // as it was found
	events  []outbox.Event // what was tried
	handled int            // how many of them the consumer took
	ended   bool           // the outbox has nothing after the inbox: what was heard of is not
}

// done is the number up to which all is done after a try that succeeded.
func (t try) done() int64 {
	if len(t.events) == 0 {
		return t.inbox.last
	}
	return t.events[len(t.events)-1].Seq
}

// apply does up to limit events that follow the inbox, with it, in one
// transaction, fewer where they take long. With an error the try tells how far it
// came, and nothing is done.
func (g *group) apply(ctx context.Context, j job, limit int) (t try, err error) {
	var in inbox
	found := false
	var written map[int64]string
	lock := func(b *pgx.Batch) {
		queueWritten(b, j, &written)
		b.Queue(readInbox, j.tenant, g.consumer.Name).QueryRow(func(row pgx.Row) (err error) {
			found, err = in.scan(row)
			return err
		})
	}
	ctx, cancel := context.WithTimeout(ctx, maxTime+2*g.w.o.HandleTimeout) // the last event's, and all that is around them
	defer cancel()
	err = g.w.store.InTenantFirst(ctx, j.tenant, j.epoch, lock, func(ctx context.Context, tx *store.Tx) error {
		t = try{inbox: in}
		if !found {
			if t.inbox, err = g.lockInbox(ctx, tx); err != nil {
				return err
			}
		}
		if t.inbox.wait > 0 {
			return nil
		}
		t.events = follow(t.inbox.last, j, written, limit)
		if len(t.events) == 0 && j.upto > t.inbox.last {
			t.events, err = outbox.After(ctx, tx, t.inbox.last, limit)
			t.ended = err == nil && len(t.events) == 0
		}
		if err != nil || len(t.events) == 0 {
			return err
		}
		began := time.Now()
		for _, e := range t.events {
			if t.handled > 0 && time.Since(began) > maxTime {
				break // the others come with the next transaction
			}
			if err := g.handle(ctx, tx, e); err != nil {
				return fmt.Errorf("consumer %s, event %s: %w", g.consumer.Name, e.ID, err)
			}
			t.handled++
		}
		t.events = t.events[:t.handled]
		if err := g.w.hook("handled"); err != nil {
			return err
		}
		g.moveInbox(tx, t.done())
		return nil
	})
	return t, err
}

// queueWritten reads which of the events that the stream brought the outbox has: ids by number.
// Where the database lost its last commits, the stream may have events of those, under
// numbers that were given again.
func queueWritten(b *pgx.Batch, j job, written *map[int64]string) {
	if len(j.queued) == 0 {
		return
	}
	seqs := make([]int64, len(j.queued))
	for i, e := range j.queued {
		seqs[i] = e.Seq
	}
	const ids = `SELECT seq, id::text FROM cell.outbox WHERE tenant_id = $1 AND seq = ANY ($2)`
	b.Queue(ids, j.tenant, seqs).Query(func(rows pgx.Rows) error {
		*written = make(map[int64]string, len(seqs))
		var seq int64
		var id string
		_, err := pgx.ForEachRow(rows, []any{&seq, &id}, func() error {
			(*written)[seq] = id
			return nil
		})
		return err
	})
}

// follow is the events after last that the stream brought whole, as long as there is no gap.
func follow(last int64, j job, written map[int64]string, limit int) (events []outbox.Event) {
	for _, e := range j.queued {
		if e.Seq == last+int64(len(events))+1 && len(events) < limit && written[e.Seq] == e.ID && e.Data != nil {
			events = append(events, e)
		}
	}
	return events
}

const readInbox = `
	SELECT last_seq, attempts, greatest(extract(epoch FROM retry_at - clock_timestamp()), 0)::double precision
	  FROM cell.inbox
	 WHERE tenant_id = $1 AND consumer = $2
	   FOR UPDATE`

// newInbox begins a consumer with the oldest event that the outbox still has.
const newInbox = `
	INSERT INTO cell.inbox (tenant_id, consumer, last_seq)
	SELECT $1, $2, coalesce((SELECT min(seq) - 1 FROM cell.outbox WHERE tenant_id = $1),
	                        (SELECT last FROM cell.outbox_counter WHERE tenant_id = $1), 0)
	    ON CONFLICT (tenant_id, consumer) DO NOTHING`

// scan reads what readInbox found.
func (in *inbox) scan(row pgx.Row) (found bool, err error) {
	var wait *float64
	err = row.Scan(&in.last, &in.attempts, &wait)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if wait != nil {
		in.wait = time.Duration(*wait * float64(time.Second))
	}
	return err == nil, err
}

// lockInbox reads the inbox, which it makes where there is none, and keeps others
// from it until the transaction ends.
func (g *group) lockInbox(ctx context.Context, tx *store.Tx) (in inbox, err error) {
	found, err := in.scan(tx.QueryRow(ctx, readInbox, tx.Tenant, g.consumer.Name))
	if err == nil && !found {
		if _, err = tx.Exec(ctx, newInbox, tx.Tenant, g.consumer.Name); err == nil {
			_, err = in.scan(tx.QueryRow(ctx, readInbox, tx.Tenant, g.consumer.Name))
		}
	}
	if err != nil {
		return in, fmt.Errorf("lock inbox: %w", err)
	}
	return in, nil
}

// moveInbox says, with the commit, that events up to seq are done.
func (g *group) moveInbox(tx *store.Tx, seq int64) {
	tx.Queue(`UPDATE cell.inbox SET last_seq = $3, attempts = 0, retry_at = NULL, error = ''
		WHERE tenant_id = $1 AND consumer = $2`, tx.Tenant, g.consumer.Name, seq)
}
