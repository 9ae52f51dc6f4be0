package projects

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/store"
)

// summaryTTL is how old a summary may be: the contract promises it.
const summaryTTL = 5 * time.Second

// GetProjectSummary serves GET /v1/projects/{project}/summary.
func (h *handlers) GetProjectSummary(ctx context.Context, req GetProjectSummaryRequestObject) (GetProjectSummaryResponseObject, error) {
	var n TaskCounts
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		if _, err = findProject(ctx, tx, req.Project); err != nil {
			return err
		}
		n, err = h.counts(ctx, tx, req.Project)
		return err
	})
	if err != nil {
		return nil, err
	}
	return GetProjectSummary200JSONResponse{
		Project: req.Project, Tasks: n, Total: n.Todo + n.Doing + n.Review + n.Done,
	}, nil
}

// counts looks aside into the cache. It does so within the transaction: only who
// has passed the fence may read what the cell remembers of a tenant.
func (h *handlers) counts(ctx context.Context, tx *store.Tx, project string) (TaskCounts, error) {
	key := cell.NewKey(tx, "projects", "summary", project)
	var n TaskCounts
	if b, ok := h.cache.Get(ctx, key); ok && json.Unmarshal(b, &n) == nil {
		return n, nil
	}
	n, err := countTasks(ctx, tx, project)
	if err != nil {
		return n, err
	}
	if b, err := json.Marshal(n); err == nil {
		h.cache.Set(ctx, key, b, summaryTTL)
	}
	return n, nil
}
