package projects

import (
	"context"
	"time"

	"github.com/cellway/cellway/cell/jobs"
	"github.com/cellway/cellway/cell/resource"
	"github.com/cellway/cellway/cell/store"
)

// summaryJob is also the name of the schedule that asks for it.
const summaryJob = "projects.summary"

// planSummary sees to it that the tenant gets a summary every day, the first one
// a day after its first project: tenants do not all get theirs at midnight.
func planSummary(ctx context.Context, tx *store.Tx) error {
	return jobs.Plan(ctx, tx, jobs.Schedule{Name: summaryJob, Kind: summaryJob, Payload: struct{}{}, Every: 24 * time.Hour})
}

// A daily is the data of the event summary.made.
type daily struct {
	TaskCounts
	Projects int64 `json:"projects"`
	Overdue  int64 `json:"overdue"` // tasks that are not done and were due before
}

const countAllSQL = `
	SELECT count(*) FILTER (WHERE state = 'todo') AS todo,
	       count(*) FILTER (WHERE state = 'doing') AS doing,
	       count(*) FILTER (WHERE state = 'review') AS review,
	       count(*) FILTER (WHERE state = 'done') AS done,
	       (SELECT count(*) FROM projects.projects WHERE tenant_id = $1) AS projects,
	       count(*) FILTER (WHERE state <> 'done' AND due_at < $2) AS overdue
	  FROM projects.tasks
	 WHERE tenant_id = $1`

// summarize does the job: it tells how the tenant's work stands. The subject
// names the time, so that each is told once can be seen from outside.
func summarize(ctx context.Context, tx *store.Tx, j jobs.Job) error {
	d, err := resource.One[daily](ctx, tx, "summary", countAllSQL, tx.Tenant, j.Due)
	if err != nil {
		return err
	}
	return announce(ctx, tx, summaryMade, "summary/"+j.Due.Format(time.RFC3339), d)
}
