package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/loadtest"
)

// complete ends the watch after a move.
func (w *world) complete(t *testing.T, m directory.Move) {
	t.Helper()
	w.operator(t, http.MethodPost, "/v1/moves/"+string(m.ID)+"/wish", map[string]directory.Wish{"wish": directory.Complete}, nil)
	wantPhase(t, w.settled(t, m.ID), directory.Completed)
}

// hasten makes a tenant's schedules run so often, as nobody can from outside.
func (w *world) hasten(t *testing.T, tenant *loadtest.Tenant, cell directory.CellID, every time.Duration) {
	t.Helper()
	for _, c := range w.State().Cells {
		if directory.CellID(c.ID) != cell {
			continue
		}
		db, err := pg.Open(within(t, patience), c.DatabaseURL, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		until(t, "the tenant's schedule", func() bool {
			tag, err := db.Exec(within(t, patience), `WITH tenant AS MATERIALIZED (SELECT set_config('cell.tenant', $1::bigint::text, false))
				UPDATE cell.schedule SET every = $2, next_run = now() FROM tenant WHERE tenant_id = $1`, int64(tenant.ID), every)
			if err != nil {
				t.Fatal(err)
			}
			return tag.RowsAffected() == 1
		})
	}
}

// TestJobsAndSchedulesMoveAlong: jobs that fall due before, during and after moves
// are done once each, and a schedule that runs all the time has no time twice; so
// too when the cell's worker is killed.
func TestJobsAndSchedulesMoveAlong(t *testing.T) {
	w := rough.alone(t)
	from, to := w.cell(1), w.cell(2)
	tenant := w.tenant(t, from)
	p := project(t, tenant, "with dates")
	const every = 2 * time.Second
	w.hasten(t, tenant, from, every)
	due := map[string]bool{}
	for i := range 60 {
		at := time.Now().Add(time.Duration(i) * 250 * time.Millisecond)
		due["task/"+put(t, tenant, "/v1/projects/"+p+"/tasks", map[string]any{"title": "t", "due_at": at})] = true
	}
	for _, hop := range [][2]directory.CellID{{from, to}, {to, from}} {
		m := w.move(t, directory.NewMove{Tenant: tenant.ID, Target: hop[1]})
		wantPhase(t, m, directory.Watching)
		if err := w.Kill(string(hop[1]) + "-worker"); err != nil {
			t.Fatal(err)
		}
		if err := w.StartProcess(within(t, patience), string(hop[1])+"-worker"); err != nil {
			t.Fatal(err)
		}
		w.complete(t, m)
	}
	var told, summaries map[string]int
	until(t, "all tasks to fall due, and the schedule to go on", func() bool {
		told, summaries = map[string]int{}, map[string]int{}
		activity, err := tenant.Activity(within(t, patience), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range activity {
			switch {
			case strings.Contains(e.Type, ".task.due."):
				told[e.Subject]++
			case strings.Contains(e.Type, ".summary.made."):
				summaries[e.Subject]++
			}
		}
		return len(told) >= len(due) && len(summaries) >= 5
	})
	for task, n := range told {
		if !due[task] || n != 1 {
			t.Errorf("%s fell due %d times", task, n)
		}
	}
	wantInStep(t, summaries, every)
}

// wantInStep holds that a schedule's times were told once each and are in step.
func wantInStep(t *testing.T, told map[string]int, every time.Duration) {
	t.Helper()
	var first time.Time
	for subject, n := range told {
		at, err := time.Parse(time.RFC3339, strings.TrimPrefix(subject, "summary/"))
		if err != nil {
			t.Error(err)
			continue
		}
		if first.IsZero() {
			first = at
		}
		if n != 1 || at.Sub(first)%every != 0 {
			t.Errorf("%s was told %d times; another one was told for %v", subject, n, first)
		}
	}
}
