package projects

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
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

// ListActivity serves GET /v1/activity.
func (h *handlers) ListActivity(ctx context.Context, req ListActivityRequestObject) (ListActivityResponseObject, error) {
	page := ActivityPage{NextAfter: orDefault(req.Params.After, 0)}
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		page.Items, err = listActivity(ctx, tx, page.NextAfter, orDefault(req.Params.Limit, defaultLimit))
		return err
	})
	if err != nil {
		return nil, err
	}
	if n := len(page.Items); n > 0 {
		page.NextAfter = page.Items[n-1].Seq
	}
	return ListActivity200JSONResponse(page), nil
}
