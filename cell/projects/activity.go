package projects

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/resource"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/problem"
)

const insertActivity = `
	INSERT INTO projects.activity (tenant_id, seq, type, subject, at, event_id)
	VALUES ($1, $2, $3, $4, $5, $6)`

// recordActivity is the consumer "activity". It does not hide a second delivery
// with ON CONFLICT: that the inbox lets none through is what the table shows.
func recordActivity(ctx context.Context, tx *store.Tx, e outbox.Event) error {
	tx.Queue(insertActivity, tx.Tenant, e.Seq, e.Type, e.Subject, e.Time, e.ID)
	cell.WakeStreams(tx)
	if e.Type == projectCreated {
		return planSummary(ctx, tx)
	}
	return nil
}

const selectActivity = `
	SELECT seq, type, subject, at, event_id
	  FROM projects.activity
	 WHERE tenant_id = $1 AND seq > $2
	 ORDER BY seq
	 LIMIT $3`

func listActivity(ctx context.Context, tx *store.Tx, after int64, limit int) ([]Activity, error) {
	rows, err := tx.Query(ctx, selectActivity, tx.Tenant, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list activity: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Activity])
}

// activityBehind is the page behind a place, and the place behind the page. Gone where the
// place is not of this database's history: what follows it by number need not be what the
// client has not seen.
func activityBehind(ctx context.Context, tx *store.Tx, after cell.Place, limit int) ([]Activity, cell.Place, error) {
	items, err := listActivity(ctx, tx, after.Seq-1, limit+1) // the place itself, too
	if err != nil {
		return nil, after, err
	}
	rest, lost, err := after.Behind(ctx, tx, messages(items))
	switch {
	case err != nil:
		return nil, after, err
	case lost:
		return nil, after, problem.New(problem.Gone,
			"the cell's database has lost what was read up to %s: read anew from the beginning; what is known by its event_id is known", after)
	}
	items = items[len(items)-len(rest):]
	items = items[:min(len(items), limit)]
	if n := len(items); n > 0 {
		after = rest[n-1].Place()
	}
	return items, after, nil
}

// messages are the entries as a stream names them, without what it says of them.
func messages(items []Activity) []cell.Message {
	out := make([]cell.Message, len(items))
	for i, a := range items {
		out[i] = cell.Message{Seq: a.Seq, Event: a.EventID}
	}
	return out
}

// ListActivity serves GET /v1/activity.
func (h *handlers) ListActivity(ctx context.Context, req ListActivityRequestObject) (ListActivityResponseObject, error) {
	after := cell.Place{Seq: resource.Or(req.Params.After, 0)}
	if cursor := req.Params.Cursor; cursor != nil {
		var err error
		if after, err = cell.ParsePlace(*cursor); err != nil {
			return nil, resource.BadCursor()
		}
	}
	var page ActivityPage
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		page.Items, after, err = activityBehind(ctx, tx, after, resource.Or(req.Params.Limit, resource.DefaultLimit))
		return err
	})
	if err != nil {
		return nil, err
	}
	page.NextAfter = after.Seq
	if after.Seq > 0 {
		next := after.String()
		page.NextCursor = &next
	}
	return ListActivity200JSONResponse(page), nil
}
