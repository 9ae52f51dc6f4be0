package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/propagation"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

// channel is where a commit tells the relays that a tenant has events.
const channel = "cell_outbox"

// maxData bounds an event's data in bytes; larger things belong into a table.
const maxData = 256 << 10

// New is an event as it is written.
type New struct {
	Type    string // "com.cellway.projects.task.created.v1"
	Subject string // "task/0192..."
	Data    any    // becomes JSON
}

// insert takes the tenant's next number and writes the event under it. The row
// of the counter stays locked until the transaction ends.
const insert = `
	WITH next AS (
	    INSERT INTO cell.outbox_counter AS c (tenant_id, last) VALUES ($1, 1)
	        ON CONFLICT (tenant_id) DO UPDATE SET last = c.last + 1
	    RETURNING last)
	INSERT INTO cell.outbox (tenant_id, seq, id, cell, epoch, type, subject, traceparent, data)
	SELECT $1, next.last, $2, $3, $4, $5, $6, $7, $8
	  FROM next`

// Append adds an event to what tx does; it is written with the commit, last of all
// and in the same round trip, and so becomes visible, and is published, if and only
// if tx commits, whatever became of savepoints (but Tx.Savepoint's). Events of a transaction are in the
// order of their Appends. The trace of ctx goes with the event.
func Append(ctx context.Context, tx *store.Tx, n New) error {
	if !typeForm.MatchString(n.Type) {
		return fmt.Errorf("append event: type %q does not match %s", n.Type, typeForm)
	}
	data, err := json.Marshal(n.Data)
	if err != nil {
		return fmt.Errorf("append event %s: %w", n.Type, err)
	}
	if len(data) > maxData {
		return fmt.Errorf("append event %s: data of %d bytes is over %d", n.Type, len(data), maxData)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("append event %s: %w", n.Type, err)
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	tx.QueueLast(insert, tx.Tenant, id.String(), tx.Cell, tx.Epoch, n.Type, n.Subject, carrier["traceparent"], string(data))
	tx.Notify(channel, payload(tx.Tenant, tx.Epoch))
	return nil
}

// payload is what a notification says.
func payload(t directory.TenantID, epoch directory.Epoch) string {
	return strconv.FormatInt(int64(t), 10) + " " + strconv.FormatInt(int64(epoch), 10)
}

// A Position is how far a tenant's events are; 0 is none.
type Position struct {
	Last      int64 // the last one written
	Published int64 // the last one that the relay has published
}

// ReadPosition is how far the events of tx's tenant are.
func ReadPosition(ctx context.Context, tx *store.Tx) (p Position, err error) {
	err = tx.QueryRow(ctx, `
		SELECT c.last, coalesce(p.published, 0)
		  FROM cell.outbox_counter c
		  LEFT JOIN cell.outbox_cursor p ON p.tenant_id = c.tenant_id
		 WHERE c.tenant_id = $1`, tx.Tenant).Scan(&p.Last, &p.Published)
	if errors.Is(err, pgx.ErrNoRows) {
		return Position{}, nil
	}
	if err != nil {
		return Position{}, fmt.Errorf("read outbox position: %w", err)
	}
	return p, nil
}

// Lookup is the number of the last event that was written, 0 where there is none, and
// the id of the event seq, "" where that does not exist or was removed after its time.
func Lookup(ctx context.Context, tx *store.Tx, seq int64) (last int64, id string, err error) {
	err = tx.QueryRow(ctx, `
		SELECT coalesce((SELECT c.last FROM cell.outbox_counter c WHERE c.tenant_id = $1), 0),
		       coalesce((SELECT o.id::text FROM cell.outbox o WHERE o.tenant_id = $1 AND o.seq = $2), '')`,
		tx.Tenant, seq).Scan(&last, &id)
	return last, id, err
}

const selectEvents = `
	SELECT id::text, tenant_id, seq, type, subject, at, data::text, traceparent, epoch, cell
	  FROM cell.outbox`

// After reads the tenant's events that follow seq, in order, at most limit.
// Events that were removed after their time are not among them.
func After(ctx context.Context, tx *store.Tx, seq int64, limit int) ([]Event, error) {
	rows, err := tx.Query(ctx, selectEvents+` WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, tx.Tenant, seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return collect(rows)
}

func collect(rows pgx.Rows) ([]Event, error) {
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Event, err error) {
		var data string
		err = row.Scan(&e.ID, &e.Tenant, &e.Seq, &e.Type, &e.Subject, &e.Time, &data, &e.Traceparent, &e.Epoch, &e.Cell)
		e.Time, e.Data = e.Time.UTC(), json.RawMessage(data)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}
