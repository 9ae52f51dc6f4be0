package projects

import (
	"context"
	"fmt"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
)

// The types of the module's events. The data of created, updated, transitioned and
// due events is the whole thing as it is then; of deleted events the id.
const (
	projectCreated   = "com.cellway.projects.project.created.v1"
	projectUpdated   = "com.cellway.projects.project.updated.v1"
	projectDeleted   = "com.cellway.projects.project.deleted.v1"
	taskCreated      = "com.cellway.projects.task.created.v1"
	taskUpdated      = "com.cellway.projects.task.updated.v1"
	taskTransitioned = "com.cellway.projects.task.transitioned.v1"
	taskDeleted      = "com.cellway.projects.task.deleted.v1"
	taskDue          = "com.cellway.projects.task.due.v1"
	summaryMade      = "com.cellway.projects.summary.made.v1"
)

// deleted is the data of an event that says that something is gone.
type deleted struct {
	ID string `json:"id"`
}

func projectEvent(ctx context.Context, tx *store.Tx, kind, id string, data any) error {
	return announce(ctx, tx, kind, "project/"+id, data)
}

func taskEvent(ctx context.Context, tx *store.Tx, kind, id string, data any) error {
	return announce(ctx, tx, kind, "task/"+id, data)
}

// announce writes an event in the transaction of the change that it tells of.
func announce(ctx context.Context, tx *store.Tx, kind, subject string, data any) error {
	if err := outbox.Append(ctx, tx, outbox.New{Type: kind, Subject: subject, Data: data}); err != nil {
		return fmt.Errorf("append event %s: %w", kind, err)
	}
	return nil
}
