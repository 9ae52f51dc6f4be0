package projects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cellway/cellway/cell/jobs"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/problem"
)

// taskDueJob has the task's id as its key: a task has one alarm.
const taskDueJob = "projects.task_due"

// A DueChange is the due_at of a change: absent, a time, or null.
type DueChange struct {
	Named bool       // the change names it
	At    *time.Time // nil takes it away
}

// UnmarshalJSON reads a time or null; that it is called says that it was named.
func (d *DueChange) UnmarshalJSON(b []byte) error {
	d.Named = true
	return json.Unmarshal(b, &d.At)
}

// MarshalJSON writes what UnmarshalJSON reads.
func (d DueChange) MarshalJSON() ([]byte, error) { return json.Marshal(d.At) }

// checkDue holds a time within what every clock and format can tell.
func checkDue(at *time.Time) error {
	if at == nil || at.UTC().Year() >= 2000 && at.UTC().Year() <= 9998 {
		return nil
	}
	err := problem.New(problem.Invalid, "the request does not fit its contract")
	err.Fields = []problem.Field{{Pointer: "/due_at", Detail: "must be between the years 2000 and 9998"}}
	return err
}

// An alarm is the payload of taskDueJob.
type alarm struct {
	Task string    `json:"task"`
	Due  time.Time `json:"due"`
}

// setAlarm asks for the job of a task that is due at some time, in place of the
// one that it had.
func setAlarm(ctx context.Context, tx *store.Tx, t Task) error {
	if t.DueAt == nil {
		return nil
	}
	_, err := jobs.Enqueue(ctx, tx, jobs.New{
		Kind: taskDueJob, Key: t.ID, At: *t.DueAt, Payload: alarm{Task: t.ID, Due: *t.DueAt},
	})
	return err
}

// changeAlarm makes the job fit a task that was changed. The same time again is no
// change: what has been told is not told twice.
func changeAlarm(ctx context.Context, tx *store.Tx, was, t Task) error {
	switch {
	case was.DueAt == nil && t.DueAt == nil, was.DueAt != nil && t.DueAt != nil && was.DueAt.Equal(*t.DueAt):
		return nil
	case t.DueAt == nil:
		return jobs.Cancel(ctx, tx, taskDueJob, t.ID)
	}
	return setAlarm(ctx, tx, t)
}

// taskFallsDue does the job: it tells that a task which is not done is due. It
// reads the task without a lock, because who changes a task locks it before its job.
func taskFallsDue(ctx context.Context, tx *store.Tx, j jobs.Job) error {
	var a alarm
	if err := json.Unmarshal(j.Payload, &a); err != nil {
		return fmt.Errorf("read alarm: %w", err)
	}
	t, err := findTask(ctx, tx, a.Task)
	if errors.Is(err, problem.NotFound) || err == nil && (t.State == Done || t.DueAt == nil || !t.DueAt.Equal(a.Due)) {
		return nil // there is nothing to tell any more
	}
	if err != nil {
		return err
	}
	return taskEvent(ctx, tx, taskDue, t.ID, t)
}
