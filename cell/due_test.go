package cell_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/projects"
	"github.com/cellway/cellway/cell/store"
)

// dueAt is a body with a title, or none, and a due_at so long from now.
func dueAt(title string, in time.Duration) string {
	if title != "" {
		title = fmt.Sprintf(`"title":%q,`, title)
	}
	return fmt.Sprintf(`{%s"due_at":%q}`, title, time.Now().Add(in).Format(time.RFC3339Nano))
}

func (h *harness) dueTask(project, title string, in time.Duration) projects.Task {
	h.t.Helper()
	return decode[projects.Task](h.t, h.want(201, request{method: "POST", path: "/v1/projects/" + project + "/tasks", body: dueAt(title, in)}))
}

func (h *harness) patch(task, body string) projects.Task {
	h.t.Helper()
	return decode[projects.Task](h.t, h.want(200, request{
		method: "PATCH", path: "/v1/tasks/" + task, body: body, header: map[string]string{"If-Match": "*"},
	}))
}

// due are the tasks that were told to be due, in order.
func (h *harness) due() (tasks []string) {
	h.t.Helper()
	for _, a := range h.activity(acme) {
		if task, ok := strings.CutPrefix(a, "com.cellway.projects.task.due.v1 task/"); ok {
			tasks = append(tasks, task)
		}
	}
	return tasks
}

func TestATaskFallsDueOnce(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.createProject(acme, "Moon")
	const soon, late = 100 * time.Millisecond, time.Hour
	plain := h.createTask(acme, p.ID, "no date")
	if plain.DueAt != nil {
		t.Errorf("a task without a date is due at %v", plain.DueAt)
	}
	once := h.dueTask(p.ID, "falls due", soon)
	later := h.dueTask(p.ID, "put off", soon)
	cleared := h.dueTask(p.ID, "cleared", soon)
	gone := h.dueTask(p.ID, "deleted", soon)
	done := h.dueTask(p.ID, "done", soon)
	earlier := h.dueTask(p.ID, "brought forward", late)

	if got := h.patch(later.ID, dueAt("", late)); got.DueAt == nil || !got.DueAt.After(*later.DueAt) {
		t.Errorf("put off: due at %v, was %v", got.DueAt, later.DueAt)
	}
	if got := h.patch(cleared.ID, `{"due_at":null}`); got.DueAt != nil {
		t.Errorf("cleared: due at %v", got.DueAt)
	}
	h.want(204, request{method: "DELETE", path: "/v1/tasks/" + gone.ID})
	for _, to := range []string{"doing", "review", "done"} {
		h.want(200, request{method: "POST", path: "/v1/tasks/" + done.ID + "/transition", body: `{"to":"` + to + `"}`})
	}
	h.patch(earlier.ID, dueAt("", soon))
	h.live() // not before: on a busy machine the changes might come too late
	until(t, "both tasks to fall due", func() bool { return slices.Contains(h.due(), earlier.ID) && slices.Contains(h.due(), once.ID) })

	// The same time again is no news; another one is. What is over is due at once.
	h.patch(once.ID, fmt.Sprintf(`{"title":"renamed","due_at":%q}`, once.DueAt.Format(time.RFC3339Nano)))
	h.patch(earlier.ID, dueAt("", -late))
	until(t, "the second time", func() bool { return len(h.due()) >= 3 })
	last := h.dueTask(p.ID, "last", 0)
	until(t, "the last task to fall due", func() bool { return slices.Contains(h.due(), last.ID) })
	if got, want := h.due(), []string{once.ID, earlier.ID, earlier.ID, last.ID}; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("due: got %v, want %v", got, want)
	}
	h.want(204, request{method: "DELETE", path: "/v1/projects/" + p.ID})
	if n := h.rows(`SELECT count(*) FROM cell.job WHERE kind = 'projects.task_due'`); n != 0 {
		t.Errorf("%d jobs are left of a project that is deleted", n)
	}
}

func TestDueDatesAreChecked(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.createProject(acme, "Moon")
	task := h.createTask(acme, p.ID, "t")
	for _, bad := range []string{`"soon"`, `"9999-12-31T23:00:00-05:00"`, `"1999-12-31T23:00:00Z"`, `1`, `""`} {
		h.want(400, request{method: "POST", path: "/v1/projects/" + p.ID + "/tasks", body: `{"title":"t","due_at":` + bad + `}`})
		h.want(400, request{method: "PATCH", path: "/v1/tasks/" + task.ID, body: `{"due_at":` + bad + `}`, header: map[string]string{"If-Match": "*"}})
	}
	h.want(400, request{method: "POST", path: "/v1/projects/" + p.ID + "/tasks", body: `{"title":"t","due_at":null}`})
}

// rows counts, as the tenant acme.
func (h *harness) rows(sql string) (n int) {
	h.t.Helper()
	if err := h.store.InTenant(h.t.Context(), acme, 1, func(ctx context.Context, tx *store.Tx) error {
		return tx.QueryRow(ctx, sql).Scan(&n)
	}); err != nil {
		h.t.Fatal(err)
	}
	return n
}

func TestATenantGetsADailySummary(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.live()
	p := h.createProject(acme, "Moon")
	h.dueTask(p.ID, "overdue", -time.Hour)
	h.createTask(acme, p.ID, "t")
	h.createProject(acme, "Mars")
	until(t, "the schedule", func() bool { return h.rows(`SELECT count(*) FROM cell.schedule`) == 1 })
	if n := h.rows(`SELECT count(*) FROM cell.schedule WHERE next_run BETWEEN now() + '23 hours' AND now() + '24 hours' AND every = '24 hours'`); n != 1 {
		t.Error("the first summary is not due in a day")
	}
	h.rows(`WITH u AS (UPDATE cell.schedule SET next_run = now() - interval '1 hour' RETURNING 1) SELECT count(*) FROM u`)
	summaries := func() (n int) {
		for _, a := range h.activity(acme) {
			if strings.HasPrefix(a, "com.cellway.projects.summary.made.v1 summary/") {
				n++
			}
		}
		return n
	}
	until(t, "the summary", func() bool { return summaries() == 1 })
	var data string
	if err := h.store.InTenant(t.Context(), acme, 1, func(ctx context.Context, tx *store.Tx) error {
		return tx.QueryRow(ctx, `SELECT data::text FROM cell.outbox WHERE type = 'com.cellway.projects.summary.made.v1'`).Scan(&data)
	}); err != nil {
		t.Fatal(err)
	}
	if want := `{"doing":0,"done":0,"review":0,"todo":2,"projects":2,"overdue":1}`; data != want {
		t.Errorf("got %s, want %s", data, want)
	}
}
