package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/loadtest"
)

// move asks for a move and waits until it watches.
func (w *world) move(t *testing.T, n directory.NewMove) directory.Move {
	t.Helper()
	var m directory.Move
	w.operator(t, http.MethodPost, "/v1/moves", n, &m)
	return w.settled(t, m.ID)
}

// settled waits until a move, or the one that tries it again, watches or has ended.
func (w *world) settled(t *testing.T, id directory.MoveID) directory.Move {
	t.Helper()
	var m directory.Move
	until(t, "move "+string(id)+" to settle", func() bool {
		m = directory.Move{}
		w.operator(t, http.MethodGet, "/v1/moves/"+string(id), nil, &m)
		if m.RetriedBy != "" {
			id = m.RetriedBy
			return false
		}
		return m.Phase.Ended() || (m.Phase == directory.Watching && m.Wish != directory.Complete)
	})
	return m
}

func wantPhase(t *testing.T, m directory.Move, want directory.Phase) {
	t.Helper()
	if m.Phase != want {
		t.Fatalf("move %s: got %s (%s), want %s", m.ID, m.Phase, m.Error, want)
	}
}

// TestTenantMovesWhileItWorks: tenants that write all the time are moved to another
// cell, taken back, and moved for good; no request goes wrong, every
// acknowledged write is there once, every event is consumed once and in order.
func TestTenantMovesWhileItWorks(t *testing.T) {
	w := rough.alone(t)
	from, to := w.cell(1), w.cell(2)
	c := w.work(t, 2, from, to)
	c.more(t, from, 50)
	for _, tenant := range c.tenants[:2] {
		there := w.move(t, directory.NewMove{Tenant: tenant.ID, Target: to})
		wantPhase(t, there, directory.Watching)
		c.more(t, from, 50)
		back := w.move(t, directory.NewMove{Tenant: tenant.ID, Target: from, Undoes: there.ID})
		wantPhase(t, back, directory.Watching)
		wantPhase(t, w.settled(t, there.ID), directory.Undone)
		c.more(t, from, 50)
		w.operator(t, http.MethodPost, "/v1/moves/"+string(back.ID)+"/wish", map[string]directory.Wish{"wish": directory.Complete}, nil)
		wantPhase(t, w.settled(t, back.ID), directory.Completed)
		again := w.move(t, directory.NewMove{Tenant: tenant.ID, Target: to})
		wantPhase(t, again, directory.Watching)
		t.Logf("moved %s: there %s, back %s, again %s", tenant.Slug, there.Report, back.Report, again.Report)
	}
	c.more(t, from, 50)
	c.wantNoFaults(t, from, to)
	c.rest(t)
	a := ask(t, c.tenants[0], loadtest.Request{Path: "/v1/projects"})
	wantStatus(t, a, http.StatusOK)
}

// TestAKeyIsAnsweredWhereTheTenantIs: a write that is repeated with its Idempotency-Key after a move, and after the
// undo, is answered as it was the first time, whichever cell it was done in, and has one effect.
func TestAKeyIsAnsweredWhereTheTenantIs(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	from, to := w.cell(1), w.cell(2)
	tenant := w.tenant(t, from)
	write := func(key, name string) loadtest.Answer {
		return ask(t, tenant, loadtest.Request{Path: "/v1/projects", Key: key, Body: map[string]string{"name": name}})
	}
	made := map[string]loadtest.Answer{"here": write("here", "here")}
	repeated := func(when string) {
		t.Helper()
		for key, first := range made {
			wantStatus(t, first, http.StatusCreated)
			a := write(key, key)
			if a.Status != first.Status || string(a.Body) != string(first.Body) || a.Header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("%s: got %s, want the first answer again: %s", when, a, first)
			}
			wantProblem(t, write(key, "another"), problem.KeyReused)
		}
	}
	there := w.move(t, directory.NewMove{Tenant: tenant.ID, Target: to})
	wantPhase(t, there, directory.Watching)
	repeated("after the move")
	made["there"] = write("there", "there")
	wantPhase(t, w.move(t, directory.NewMove{Tenant: tenant.ID, Target: from, Undoes: there.ID}), directory.Watching)
	repeated("after the undo")
	if got := names(t, tenant); len(got) != 2 || got["here"] != 1 || got["there"] != 1 {
		t.Errorf("got %v, want each project once", got)
	}
}

// TestMoverIsKilled: the mover is killed at moments spread over the whole move,
// and started again; each move ends, and nothing is lost or doubled.
func TestMoverIsKilled(t *testing.T) {
	w := rough.alone(t)
	from, to := w.cell(1), w.cell(2)
	c := w.work(t, 1, from)
	tenant := c.tenants[0]
	for i := range 6 {
		var m directory.Move
		w.operator(t, http.MethodPost, "/v1/moves", directory.NewMove{Tenant: tenant.ID, Target: to}, &m)
		if !loadtest.Pause(t.Context(), time.Duration(i*60)*time.Millisecond) {
			t.Fatal("no time left")
		}
		if err := w.Kill("mover-1"); err != nil {
			t.Fatal(err)
		}
		if err := w.StartProcess(within(t, patience), "mover-1"); err != nil {
			t.Fatal(err)
		}
		m = w.settled(t, m.ID)
		if m.Phase == directory.Watching {
			w.operator(t, http.MethodPost, "/v1/moves/"+string(m.ID)+"/wish", map[string]directory.Wish{"wish": directory.Complete}, nil)
			wantPhase(t, w.settled(t, m.ID), directory.Completed)
			from, to = to, from
		} else {
			wantPhase(t, m, directory.Aborted) // the pause was too long: it was taken back
		}
	}
	c.rest(t)
}
