package e2e

import (
	"net/http"
	"syscall"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/loadtest"
)

// TestCellComesAndGoesWithoutARouterRestart: a new cell gets the next tenant that
// signs up; it cannot be removed while it owns one; once it is empty it can, and
// the routers, still the same processes, have not failed anybody meanwhile.
func TestCellComesAndGoesWithoutARouterRestart(t *testing.T) {
	w := rough.alone(t)
	before := w.pids()
	first := []directory.CellID{w.cell(1), w.cell(2), w.cell(3)}
	c := w.work(t, 1, first...)

	added, err := w.AddCell(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	cell := directory.CellID(added.ID)
	tenant, err := loadtest.SignUp(within(t, patience), w.ep, &loadtest.Recorder{}, slug("newcomer"), loadtest.Plan{})
	if err != nil {
		t.Fatal(err)
	}
	if tenant.Cell() != cell {
		t.Errorf("the newcomer landed on %s, want the empty %s", tenant.Cell(), cell)
	}
	project(t, tenant, "first in a new cell")

	path := "/v1/cells/" + string(cell)
	w.operator(t, http.MethodPut, path+"/state", map[string]string{"state": "cordoned"}, nil)
	err = w.console.Call(within(t, patience), http.MethodDelete, path, nil, nil)
	if problem.KindOf(err) != problem.Conflict {
		t.Errorf("remove a cell that owns a tenant: got %v, want a conflict", err)
	}
	wantStatus(t, ask(t, tenant, loadtest.Request{Path: "/v1/projects"}), http.StatusOK)

	w.operator(t, http.MethodDelete, tenantPath(tenant.ID), nil, nil)
	for n := range w.State().Routers {
		until(t, "the deleted tenant to be gone", func() bool {
			a := ask(t, tenant, loadtest.Request{Path: "/v1/projects", Router: n + 1})
			return problem.KindOf(a.Problem()) == problem.TenantNotFound
		})
	}
	for _, name := range []string{string(cell), string(cell) + "-worker"} {
		if err := w.StopProcess(within(t, patience), name); err != nil {
			t.Fatal(err)
		}
	}
	w.operator(t, http.MethodDelete, path, nil, nil)
	for _, cell := range first {
		c.more(t, cell, 30)
	}
	c.rest(t)
	c.wantNoFaults(t, first...)
	for _, r := range w.State().Routers {
		if now := w.pids()[r.ID]; now != before[r.ID] || syscall.Kill(now, 0) != nil {
			t.Errorf("router %s was process %d and is %d", r.ID, before[r.ID], now)
		}
	}
}

func (w *world) pids() map[string]int {
	out := map[string]int{}
	for _, p := range w.State().Processes {
		out[p.Name] = p.PID
	}
	return out
}
